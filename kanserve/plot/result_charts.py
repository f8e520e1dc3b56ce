"""Plots of results: a matrix of shares, and values against a prediction."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kanserve.plot.matplotlib_scene import Width, colours, inches, new_axes, plain_axes, word
from kanserve.plot.palette import LIGHT, Theme, contrast

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]

_CELL = 0.72  # inches
_UPRIGHT = 6  # characters of a name up to which it is not rotated
_STRONGEST = 0.9  # opacity of a cell of value 1
_WHITE, _BLACK = "#FFFFFF", "#10151A"


def draw_matrix(
    values: Array,
    rows: Sequence[str],
    columns: Sequence[str],
    title: str,
    ax: "Axes | None",
    *,
    theme: Theme = "auto",
    width: Width = None,
    tints: Array | None = None,
    framed: NDArray[np.bool_] | None = None,
) -> "Axes":
    """A matrix of cells with their numbers, empty for NaN, tinted by `tints` or by the square roots of the values, from
    0 to 1. `framed` cells have a solid frame and bold numbers."""
    from matplotlib.colors import to_hex, to_rgb
    from matplotlib.patches import Rectangle

    height, across = values.shape
    longest = max((len(word(row)) for row in [*rows, *columns]), default=1)
    tones = colours(theme, ax)
    natural = (_CELL * across + 1.6 + 0.08 * longest, _CELL * height + 1.2 + 0.06 * longest)
    wide = inches(width) or natural[0]
    axes = new_axes(ax, (wide, natural[1] * wide / natural[0]), tones)
    plain_axes(axes, tones, grid=False)
    shown = np.sqrt(np.clip(values, 0, 1)) if tints is None else np.clip(tints, 0, 1)
    opacity = np.where(np.isfinite(shown), shown, 0.0) * _STRONGEST
    # The cells are opaque, so that their numbers can be read on any ground; on an unknown one they are light.
    inside = tones if tones.paper else LIGHT
    blue, part = np.array(to_rgb(inside.snapped)), opacity[..., None]
    cells = part * blue + (1 - part) * np.array(to_rgb(inside.paper))
    axes.imshow(cells, aspect="equal")
    for (row, column), value in np.ndenumerate(values):
        if np.isnan(value):
            continue
        ink = max((_WHITE, _BLACK), key=partial(contrast, to_hex(cells[row, column])))
        strong = framed is not None and bool(framed[row, column])
        weight = "bold" if strong else "normal"
        axes.text(column, row, _number(float(value)), ha="center", va="center", fontsize=8, color=ink, weight=weight)
        if strong:
            corner = (column - 0.47, row - 0.47)
            axes.add_patch(Rectangle(corner, 0.94, 0.94, facecolor="none", edgecolor=inside.snapped, linewidth=1.6))
    axes.set_xticks(range(across), labels=[word(column, 24) for column in columns], fontsize=9, parse_math=False)
    if longest > _UPRIGHT:
        for label in axes.get_xticklabels():
            label.set(rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(height), labels=[word(row, 24) for row in rows], fontsize=9, parse_math=False)
    axes.set_xticks(np.arange(across + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(height + 1) - 0.5, minor=True)
    axes.grid(which="minor", color=tones.of("line"), linewidth=0.8)
    axes.tick_params(which="both", length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.set_title(title, fontsize=10, parse_math=False)
    return axes


def draw_against(
    guess: Array,
    values: Array,
    labels: tuple[str, str],
    title: str,
    ax: "Axes | None",
    *,
    theme: Theme = "auto",
    width: Width = None,
) -> "Axes":
    """Plot values against a prediction, with the diagonal where they are equal."""
    tones = colours(theme, ax)
    wide = inches(width) or 4.4
    axes = new_axes(ax, (wide, 0.82 * wide), tones)
    plain_axes(axes, tones)
    ends = [float(min(guess.min(), values.min())), float(max(guess.max(), values.max()))]
    axes.plot(ends, ends, color=tones.of("candidate"), linestyle=(0, (4, 2.5)), linewidth=1.2, zorder=3)
    axes.plot(guess, values, ".", color=tones.of("ink"), markersize=3, alpha=0.5)
    axes.set_xlabel(word(labels[0], 60), fontsize=9, parse_math=False)
    axes.set_ylabel(word(labels[1]), fontsize=9, parse_math=False)
    axes.set_title(title, fontsize=10, parse_math=False)
    return axes


def _number(value: float) -> str:
    return "0" if abs(value) < 0.0005 else f"{value:.3f}" if value < 0.9995 else "1"
