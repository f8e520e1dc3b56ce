"""Draw scenes on matplotlib's Axes with a few collections per level, so that 50,000 edges take seconds."""

from typing import TYPE_CHECKING

from kanserve.plot.palette import Palette

if TYPE_CHECKING:
    from matplotlib.axes import Axes

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import InputError, MissingDependencyError
from kanserve.plot.palette import AUTO, SHADE_ON_AUTO, Role, Theme, palette
from kanserve.plot.scene import EDGES, NODES, Area, Scene, Stroke

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]

PIXELS, POINTS = 96.0, 72.0  # in an inch
WIDTHS = {"column": 3.5, "page": 7.2}  # inches: one and two columns of most journals
DASHES: dict[str, Any] = {"": "-", "dashed": (0, (4, 2.5)), "dotted": (0, (1, 2.2))}
SMALLEST = 4.0  # points of a label

Width = float | str | None


def inches(width: Width) -> float | None:
    """A width in inches: "column", "page" or a number."""
    if width is None:
        return None
    known = WIDTHS.get(width) if isinstance(width, str) else width
    if known is None or isinstance(known, bool) or not 1 <= known <= 60:
        raise InputError(f"width is 'column', 'page' or inches from 1 to 60, got {width!r:.60}.")
    return float(known)


def pixels(width: Width) -> float | None:
    """Like `inches`, in CSS pixels."""
    found = inches(width)
    return None if found is None else found * PIXELS


def colours(theme: Theme, ax: "Axes | None") -> Palette:
    """The palette; on the user's own Axes, "auto" adapts to their background."""
    if ax is None:
        return palette(theme)
    from matplotlib.colors import to_hex, to_rgba

    grounds = (*([ax.get_facecolor()] if ax.axison else []), ax.figure.get_facecolor())
    return palette(theme, next((to_hex(ground) for ground in grounds if to_rgba(ground)[3] > 0.5), ""))


def new_axes(ax: "Axes | None", size: tuple[float, float], tones: Palette, *, whole: bool = False) -> "Axes":
    """The Axes passed in, or a new figure's of this size in inches on the palette's ground; `whole`: no margins."""
    if ax is not None:
        return ax
    try:
        from kanserve.plot.picture import Picture, PictureAxes
    except ImportError:
        raise MissingDependencyError("matplotlib", "plot") from None
    figure = Picture(tones, size)
    if whole:
        return figure.add_axes((0.0, 0.0, 1.0, 1.0), axes_class=PictureAxes)
    figure.set_layout_engine("constrained", w_pad=0.07, h_pad=0.07)
    return figure.add_subplot(axes_class=PictureAxes)


def draw(scene: Scene, tones: Palette, ax: "Axes | None", width: Width = None) -> "Axes":
    """Draw a scene in its own size, scaled to a width, or into Axes of any size."""
    wide = inches(width) or scene.width / PIXELS
    axes = new_axes(ax, (wide, wide * scene.height / scene.width), tones, whole=True)
    axes.set_axis_off()
    axes.set_xlim(0, scene.width)
    axes.set_ylim(scene.height, 0)
    axes.set_aspect("equal")
    box = axes.get_window_extent()
    scale = min(box.width / scene.width, box.height / scene.height) * POINTS / axes.figure.dpi  # points in a pixel
    for grid in scene.grids:
        _grid(axes, grid, tones)
    for level in sorted({stroke.level for stroke in scene.strokes} | {area.level for area in scene.areas}):
        _areas(axes, [area for area in scene.areas if area.level == level], tones, level, scale)
        _strokes(axes, [stroke for stroke in scene.strokes if stroke.level == level], tones, level, scale)
    _circles(axes, scene, tones, scale)
    for label in scene.labels:
        axes.text(
            label.x,
            label.y,
            label.text,
            fontsize=max(label.size * scale, SMALLEST),
            color=tones.of(label.role),
            ha={"start": "left", "middle": "center", "end": "right"}[label.anchor],
            va="center",
            style="italic" if label.italic else "normal",
            weight="bold" if label.bold else "normal",
            zorder=NODES + 1,
            parse_math=False,
        )
    return axes


def shade(tones: Palette, role: Role, opacity: float = 1.0) -> Any:
    """The colour of an area; transparent for the background of a picture without one."""
    from matplotlib.colors import to_rgba

    colour = tones.of(role)
    if not colour:
        return (0.0, 0.0, 0.0, 0.0)
    return to_rgba(colour, opacity * (SHADE_ON_AUTO if tones is AUTO and role == "density" else 1.0))


def _strokes(axes: "Axes", strokes: list[Stroke], tones: Palette, level: int, scale: float) -> None:
    from matplotlib.collections import LineCollection

    for dash in sorted({stroke.dash for stroke in strokes}):
        alike = [stroke for stroke in strokes if stroke.dash == dash]
        lines = LineCollection(
            [stroke.polyline for stroke in alike],
            colors=[shade(tones, stroke.role, stroke.opacity) for stroke in alike],
            linewidths=[stroke.width * scale for stroke in alike],
            linestyles=[DASHES[dash]],
            capstyle="butt" if dash or level == EDGES else "round",
            joinstyle="round",
            zorder=level + 0.5,
        )
        axes.add_collection(lines, autolim=False)


def _areas(axes: "Axes", areas: list[Area], tones: Palette, level: int, scale: float) -> None:
    from matplotlib.collections import PolyCollection

    if not areas:
        return
    none = (0.0, 0.0, 0.0, 0.0)
    polygons = PolyCollection(
        [area.outline for area in areas],
        facecolors=[shade(tones, area.fill, area.opacity) if area.fill else none for area in areas],
        edgecolors=[shade(tones, area.frame) if area.frame else none for area in areas],
        linewidths=[area.width * scale if area.frame else 0.0 for area in areas],
        zorder=level + 0.2,
    )
    axes.add_collection(polygons, autolim=False)


def _circles(axes: "Axes", scene: Scene, tones: Palette, scale: float) -> None:
    from matplotlib.collections import EllipseCollection

    if not scene.circles:
        return
    sizes = [2 * circle.radius for circle in scene.circles]
    circles = EllipseCollection(
        sizes,
        sizes,
        np.zeros(len(sizes)),
        units="x",
        offsets=[(circle.x, circle.y) for circle in scene.circles],
        offset_transform=axes.transData,
        facecolors=[shade(tones, circle.fill) if circle.fill else (0, 0, 0, 0) for circle in scene.circles],
        edgecolors=[shade(tones, circle.frame) for circle in scene.circles],
        linewidths=1.4 * scale,
        zorder=NODES,
    )
    axes.add_collection(circles, autolim=False)


def _grid(axes: "Axes", grid: Any, tones: Palette) -> None:
    red, green, blue, _ = shade(tones, grid.role)
    tints = np.empty((*grid.values.shape, 4))
    tints[...] = red, green, blue, 1.0
    tints[..., 3] = np.clip(grid.values, 0, 1)
    extent = (grid.x, grid.x + grid.width, grid.y + grid.height, grid.y)
    axes.imshow(tints, extent=extent, aspect="auto", interpolation="nearest", zorder=0)


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
    """Set a logarithmic vertical scale with plain numbers, at 1, 2 and 5 if it is short."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 300 * low else (1.0,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def word(name: str, longest: int = 28) -> str:
    """A name on one line, shortened if it is long. Use parse_math=False for texts with names, so that $ stays $."""
    text = " ".join("".join(c if c.isprintable() else " " for c in name).split())
    return text if len(text) <= longest else text[: longest - 1] + "…"
