"""A picture as plain data: strokes, areas, circles, labels and tinted grids, in CSS pixels, with y downwards. Each part
has a role of the palette instead of a colour. `matplotlib_scene` draws a scene on Axes, `svg` writes it as text."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kanserve.plot.palette import Role

Array = NDArray[np.float64]
Dash = Literal["", "dashed", "dotted"]
Anchor = Literal["start", "middle", "end"]

BEHIND, EDGES, TILES, SHADES, CURVES, NODES = range(6)  # the order in which parts are drawn; labels come last
BEZIER_POINTS = 25


@dataclass(frozen=True, eq=False)
class Stroke:
    """A line through points (N, 2), or with `bezier` the cubic curve of its four control points."""

    points: Array
    role: Role
    width: float = 1.0
    opacity: float = 1.0
    dash: Dash = ""
    level: int = CURVES
    bezier: bool = False

    @property
    def polyline(self) -> Array:
        """Points on the line, close enough to look smooth."""
        if not self.bezier:
            return self.points
        return _on_curve(self.points, BEZIER_POINTS)


@dataclass(frozen=True, eq=False)
class Area:
    """A polygon with points (N, 2), with a fill and a frame; the role "" means none."""

    points: Array
    fill: Role | Literal[""]
    opacity: float = 1.0
    frame: Role | Literal[""] = ""
    width: float = 1.0
    level: int = SHADES
    radius: float = 0.0  # of the corners of a box

    @property
    def outline(self) -> Array:
        """Points on the outline, with the corners of a box rounded."""
        if not self.radius:
            return self.points
        (left, top), (right, bottom) = self.points[0], self.points[2]
        r = min(self.radius, (right - left) / 2, (bottom - top) / 2)
        angles = np.linspace(0, np.pi / 2, 5)
        arc = r * np.stack([1 - np.sin(angles), 1 - np.cos(angles)], axis=1)  # from the top to the left side
        turns = ((left, top, 1, 1), (left, bottom, 1, -1), (right, bottom, -1, -1), (right, top, -1, 1))
        parts = [np.array([x, y]) + np.array([sx, sy]) * (arc if sx * sy > 0 else arc[::-1]) for x, y, sx, sy in turns]
        return np.concatenate(parts)


@dataclass(frozen=True)
class Circle:
    """A circle, for a node."""

    x: float
    y: float
    radius: float
    fill: Role | Literal[""]
    frame: Role


@dataclass(frozen=True)
class Label:
    """Text, vertically centred at y."""

    x: float
    y: float
    text: str
    size: float = 11.0
    role: Role = "ink"
    anchor: Anchor = "start"
    italic: bool = False
    bold: bool = False


@dataclass(frozen=True, eq=False)
class Grid:
    """Cells (H, W) tinted by values from 0 to 1."""

    x: float
    y: float
    width: float
    height: float
    values: Array
    role: Role = "snapped"


@dataclass
class Scene:
    """The parts of a picture; `title` is for screen readers."""

    title: str
    width: float = 0.0
    height: float = 0.0
    strokes: list[Stroke] = field(default_factory=list)
    areas: list[Area] = field(default_factory=list)
    circles: list[Circle] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)
    grids: list[Grid] = field(default_factory=list)

    def line(
        self,
        points: Sequence[tuple[float, float]] | Array,
        role: Role,
        width: float = 1.0,
        opacity: float = 1.0,
        dash: Dash = "",
        level: int = CURVES,
    ) -> None:
        self.strokes.append(Stroke(np.asarray(points, np.float64), role, width, opacity, dash, level))

    def flow(
        self, start: tuple[float, float], end: tuple[float, float], role: Role, width: float, opacity: float
    ) -> None:
        """A smooth line that leaves and arrives horizontally."""
        points = controls(start, end)
        self.strokes.append(Stroke(points, role, width, opacity, "", EDGES, bezier=True))

    def area(self, points: Sequence[tuple[float, float]] | Array, fill: Role) -> None:
        self.areas.append(Area(np.asarray(points, np.float64), fill, level=SHADES))

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        fill: Role | Literal[""],
        opacity: float = 1.0,
        frame: Role | Literal[""] = "",
        line: float = 1.0,
        level: int = TILES,
        radius: float = 0.0,
    ) -> None:
        corners = np.array([(x, y), (x + width, y), (x + width, y + height), (x, y + height)], np.float64)
        self.areas.append(Area(corners, fill, opacity, frame, line, level, radius))

    def label(self, x: float, y: float, text: str, **style: object) -> None:
        self.labels.append(Label(x, y, text, **style))  # type: ignore[arg-type]  # Label's own fields


def controls(start: tuple[float, float], end: tuple[float, float]) -> Array:
    """The control points (4, 2) of a curve that leaves and arrives horizontally."""
    middle = (start[0] + end[0]) / 2
    return np.array([start, (middle, start[1]), (middle, end[1]), end], np.float64)


def bezier(start: tuple[float, float], end: tuple[float, float]) -> Array:
    """Points (97, 2) on the curve with the control points of `controls`."""
    return _on_curve(controls(start, end), 97)


def _on_curve(four: Array, count: int) -> Array:
    t = np.linspace(0, 1, count)[:, None]
    a, b, c, d = four
    result: Array = (1 - t) ** 3 * a + 3 * t * (1 - t) ** 2 * b + 3 * t**2 * (1 - t) * c + t**3 * d
    return result


def short(name: str, width: float, size: float = 11.0) -> str:
    """A name on one line, shortened to about a width in pixels."""
    text = " ".join("".join(c if c.isprintable() else " " for c in name).split())
    most = max(int(width / (0.55 * size)), 2)
    return text if len(text) <= most else text[: most - 1] + "…"


def percent(share: float) -> str:
    """A share as a percentage with two digits: 68%, 3.6%, 0.2%."""
    if share >= 0.0995 or share == 0:
        return f"{share:.0%}"
    return f"{share:.1%}" if share >= 0.0005 else "<0.1%"


def number(value: float) -> str:
    """A number with three digits, or four from 1000 on, without an exponent up to a million: 0.123, 1994, 54650."""
    text = f"{float(f'{value:.4g}'):.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"
    return text.replace("e+0", "e").replace("e-0", "e-").replace("e+", "e").replace("-", "−")
