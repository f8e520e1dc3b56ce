"""Axes with scales, in the colours of a palette: hairlines, small text, no box; and names on them."""

from typing import TYPE_CHECKING

from kanserve.plot.palette import Palette

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plain_axes(axes: "Axes", palette: Palette, *, grid: bool = True) -> None:
    """Colour the scales, titles and hairlines of Axes."""
    axes.set_facecolor("none" if not palette.paper else palette.paper)
    for name, side in axes.spines.items():
        side.set_visible(name in ("left", "bottom"))
        side.set_color(palette.of("line"))
        side.set_linewidth(0.8)
    axes.tick_params(
        which="both", colors=palette.of("line"), labelcolor=palette.of("second"), labelsize=8, length=3, width=0.8
    )
    axes.xaxis.label.set_color(palette.of("ink"))
    axes.yaxis.label.set_color(palette.of("ink"))
    axes.xaxis.label.set_fontsize(9)
    axes.yaxis.label.set_fontsize(9)
    axes.title.set_color(palette.of("ink"))
    if grid:
        axes.grid(axis="y", color=palette.of("line"), linewidth=0.5, alpha=0.6 if palette.paper else 0.3)
        axes.set_axisbelow(True)


def log_scale(axes: "Axes", low: float, high: float) -> None:
    """A logarithmic vertical scale with plain numbers, at 1, 2 and 5 if it is short."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 300 * low else (1.0,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def word(name: str, longest: int = 28) -> str:
    """A name on one line, not too long. Texts with names take parse_math=False, so that $ stays $."""
    text = " ".join("".join(c if c.isprintable() else " " for c in name).split())
    return text if len(text) <= longest else text[: longest - 1] + "…"
