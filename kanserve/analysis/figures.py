"""Plots of results: a matrix of shares, and values against a prediction."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kanserve.plot import BLUE, INK, PALE, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]

_CELL = 0.72  # inches
_UPRIGHT = 6  # characters of a name up to which it is not rotated
_DARK = 0.55  # share above which a cell's number is white


def draw_matrix(
    values: Array,
    rows: Sequence[str],
    columns: Sequence[str],
    title: str,
    ax: "Axes | None",
) -> "Axes":
    """A matrix of cells tinted by values from 0 to 1, each with its number; NaN cells are empty."""
    height, width = values.shape
    longest = max(len(_word(row)) for row in [*rows, *columns])
    axes = new_axes(ax, (_CELL * width + 1.6 + 0.08 * longest, _CELL * height + 1.2 + 0.06 * longest))
    tints = np.linspace([1, 1, 1], [int(BLUE[at : at + 2], 16) / 255 for at in (1, 3, 5)], 256)
    shown = np.where(np.isfinite(values), np.clip(values, 0, 1), 0)
    axes.imshow(tints[(shown * 255).astype(int)], aspect="equal")
    for (row, column), value in np.ndenumerate(values):
        if np.isnan(value):
            continue
        text = _number(float(value))
        axes.text(column, row, text, ha="center", va="center", fontsize=8, color="white" if value > _DARK else INK)
    axes.set_xticks(range(width), labels=[_word(column) for column in columns], fontsize=9)
    if longest > _UPRIGHT:
        for label in axes.get_xticklabels():
            label.set(rotation=45, ha="right")
    axes.set_yticks(range(height), labels=[_word(row) for row in rows], fontsize=9)
    axes.set_xticks(np.arange(width + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(height + 1) - 0.5, minor=True)
    axes.grid(which="minor", color=PALE, linewidth=1)
    axes.tick_params(which="both", length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.set_title(title, fontsize=10)
    return axes


def draw_against(guess: Array, values: Array, labels: tuple[str, str], title: str, ax: "Axes | None") -> "Axes":
    """Values plotted against a prediction, with the diagonal on which they lie if it is right."""
    axes = new_axes(ax, (4.4, 3.6))
    ends = [float(min(guess.min(), values.min())), float(max(guess.max(), values.max()))]
    axes.plot(ends, ends, color=PALE, linewidth=3, zorder=0)
    axes.plot(guess, values, ".", color=BLUE, markersize=3, alpha=0.6)
    axes.set_xlabel(_word(labels[0], 60), fontsize=9)
    axes.set_ylabel(_word(labels[1]), fontsize=9)
    axes.set_title(title, fontsize=10)
    return axes


def _number(value: float) -> str:
    return "0" if abs(value) < 0.0005 else f"{value:.3f}" if value < 0.9995 else "1"


def _word(name: str, longest: int = 24) -> str:
    """A name for matplotlib: short, with $ escaped."""
    return (name if len(name) <= longest else name[: longest - 1] + "…").replace("$", r"\$")
