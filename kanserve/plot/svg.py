"""Scenes as inline SVG, small and without matplotlib: parts that look alike share a group and one path. Each group has
the colours of `AUTO`, which show on any background, and a class by which a page's style sheet (`page_style`) replaces
them."""

import base64
import struct
import zlib
from collections.abc import Iterable
from html import escape
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from kanserve.plot.palette import AUTO, SHADE_ON_AUTO, Palette
from kanserve.plot.scene import BEHIND, EDGES, NODES, Area, Circle, Grid, Label, Scene, Stroke

Array = NDArray[np.float64]

DASHES = {"dashed": "5 3", "dotted": "1.5 2.5"}
LEVELS = range(BEHIND, NODES + 1)
TINTS = 16


def svg(scene: Scene) -> str:
    """The scene as an <svg> element in its own size, at most as wide as the page."""
    parts = [_grid(grid) for grid in scene.grids]
    for level in LEVELS:
        parts += _areas(area for area in scene.areas if area.level == level)
        parts += _strokes(stroke for stroke in scene.strokes if stroke.level == level)
    parts += [_circle(circle) for circle in scene.circles]
    parts += _labels(scene.labels)
    size = f'width="{scene.width:.0f}" height="{scene.height:.0f}" viewBox="0 0 {scene.width:.0f} {scene.height:.0f}"'
    title = escape(scene.title)
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{title}">{"".join(parts)}</svg>'


def svg_file(scene: Scene, palette: Palette) -> str:
    """The scene as a whole SVG file with a palette's background and colours, and text as text."""
    margin = 12.0
    wide, tall = scene.width + 2 * margin, scene.height + 2 * margin
    rules = "".join(
        f".s-{role}{{stroke:{palette.of(role)}}}.f-{role}{{fill:{palette.of(role)}}}"
        for role, colour in palette.roles.items()
        if colour
    )
    rules += ".f-density{fill-opacity:1}text{font-family:Inter,Helvetica,Arial,sans-serif}"
    inner = svg(scene).replace("<svg ", f'<svg x="{margin:g}" y="{margin:g}" ', 1)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide:.0f}" height="{tall:.0f}" '
        f'viewBox="0 0 {wide:.0f} {tall:.0f}"><style>{rules}</style>'
        f'<rect width="100%" height="100%" fill="{palette.paper or "none"}"/>{inner}</svg>\n'
    )


def _strokes(strokes: Iterable[Stroke]) -> list[str]:
    def look(stroke: Stroke) -> tuple[str, float, float, str]:
        return stroke.role, round(stroke.width, 1), round(stroke.opacity, 2), stroke.dash

    made = []
    for (role, width, opacity, dash), alike in groupby(sorted(strokes, key=look), look):
        own = list(alike)
        extra = f' stroke-dasharray="{DASHES[dash]}"' if dash else ""
        extra += f' stroke-opacity="{opacity:g}"' if opacity < 1 else ""
        extra += ' stroke-linecap="round"' if own[0].level > EDGES and not dash else ""
        path = "".join(_path(stroke.points, bezier=stroke.bezier) for stroke in own)
        made.append(
            f'<path class="s-{role}" fill="none" stroke="{AUTO.of(role)}" stroke-width="{width:g}"{extra} d="{path}"/>'  # type: ignore[arg-type]  # a role
        )
    return made


def _areas(areas: Iterable[Area]) -> list[str]:
    def look(area: Area) -> tuple[str, str, float, float, float]:
        return area.fill, area.frame, round(area.opacity, 2), area.width, area.radius

    made = []
    for (fill, frame, opacity, width, radius), alike in groupby(sorted(areas, key=look), look):
        if fill == "paper" and not frame:
            continue  # nothing to draw: the ground is the page's
        colours = _paint(fill, frame, width, opacity * (SHADE_ON_AUTO if fill == "density" else 1))
        if radius:
            boxes = "".join(_box(area, radius) for area in alike)
            made.append(f"<g {colours}>{boxes}</g>")
        else:
            made.append(f'<path {colours} d="{"".join(_path(area.points) + "z" for area in alike)}"/>')
    return made


def _paint(fill: str, frame: str, width: float, opacity: float = 1.0) -> str:
    """The attributes of a shape with this fill and frame; "" means none."""
    kinds = " ".join([*([f"f-{fill}"] if fill else []), *([f"s-{frame}"] if frame else [])])
    text = f'class="{kinds}" fill="{AUTO.of(fill) if fill else "none"}"'  # type: ignore[arg-type]  # a role
    text += f' fill-opacity="{opacity:g}"' if fill and opacity < 1 else ""
    return text + (f' stroke="{AUTO.of(frame)}" stroke-width="{width:g}"' if frame else "")  # type: ignore[arg-type]  # a role


def _box(area: Area, radius: float) -> str:
    (x, y), (right, bottom) = area.points[0], area.points[2]
    size = f'width="{_short(right - x)}" height="{_short(bottom - y)}"'
    return f'<rect x="{_short(x)}" y="{_short(y)}" {size} rx="{radius:g}"/>'


def _circle(circle: Circle) -> str:
    colours = _paint(circle.fill if circle.fill != "paper" else "", circle.frame, 1.4)  # the page is the paper
    return f'<circle {colours} cx="{_short(circle.x)}" cy="{_short(circle.y)}" r="{circle.radius:g}"/>'


def _labels(labels: Iterable[Label]) -> list[str]:
    def look(label: Label) -> tuple[str, float, str, bool, bool]:
        return label.role, round(label.size, 1), label.anchor, label.italic, label.bold

    made = []
    for (role, size, anchor, italic, bold), alike in groupby(sorted(labels, key=look), look):
        style = f'class="f-{role}" fill="{AUTO.of(role)}" font-size="{size:g}"'  # type: ignore[arg-type]  # a role
        style += f' text-anchor="{anchor}"' if anchor != "start" else ""
        style += ' font-style="italic"' if italic else ""
        style += ' font-weight="600"' if bold else ""
        texts = "".join(
            f'<text x="{_short(label.x)}" y="{_short(label.y + 0.35 * label.size)}">{escape(label.text)}</text>'
            for label in alike
        )
        made.append(f"<g {style}>{texts}</g>")
    return made


def _path(points: Array, *, bezier: bool = False) -> str:
    """Path data: the first point, then the steps between the points, with one decimal."""
    tenths = np.rint((points if bezier else simplify(points)) * 10).astype(int)
    steps = (tenths[1:] - tenths[:1]) if bezier else np.diff(tenths, axis=0)
    start = f"M{_join(tenths[0].tolist())}"
    return start + ("c" if bezier else "l") + _join(steps.ravel().tolist())


def simplify(points: Array, tolerance: float = 0.15) -> Array:
    """Drop points that are nearly on the line between others (Ramer, Douglas and Peucker)."""
    kept = np.zeros(len(points), bool)
    kept[[0, -1]] = True
    left = [(0, len(points) - 1)]
    while left:
        first, last = left.pop()
        if last - first < 2:
            continue
        along, inner = points[last] - points[first], points[first + 1 : last] - points[first]
        length = float(np.hypot(*along))
        away = np.abs(inner @ (along[1], -along[0])) / length if length else np.hypot(*inner.T)
        farthest = int(away.argmax())
        if away[farthest] > tolerance:
            kept[first + 1 + farthest] = True
            left += [(first, first + 1 + farthest), (first + 1 + farthest, last)]
    return points[kept]


def _join(tenths: list[int]) -> str:
    """Numbers in tenths, with as few separators as SVG needs."""
    text = ""
    for value in tenths:
        written = _short(value / 10)
        text += written if not text or written[0] == "-" else f" {written}"
    return text


def _short(value: float) -> str:
    """A number with at most one decimal, and no zero before the point."""
    text = f"{value:.1f}".removesuffix(".0")
    if text in ("-0", "0"):
        return "0"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


def _grid(grid: Grid) -> str:
    image = base64.b64encode(_png(grid)).decode()
    place = f'x="{grid.x:g}" y="{grid.y:g}" width="{grid.width:g}" height="{grid.height:g}"'
    return (
        f'<image {place} preserveAspectRatio="none" style="image-rendering:pixelated" '
        f'href="data:image/png;base64,{image}"/>'
    )


def _png(grid: Grid) -> bytes:
    """The cells as a PNG of one colour with 16 levels of opacity."""
    height, width = grid.values.shape
    levels = np.rint(np.clip(grid.values, 0, 1) * (TINTS - 1)).astype(np.uint8)
    padded = np.pad(levels, ((0, 0), (0, width % 2)))
    packed = (padded[:, ::2] << 4) | padded[:, 1::2]
    rows = np.pad(packed, ((0, 0), (1, 0)))  # each row begins with its filter: none
    colour = bytes.fromhex(AUTO.of(grid.role)[1:])
    opacity = bytes(round(255 * level / (TINTS - 1)) for level in range(TINTS))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 4, 3, 0, 0, 0)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", head),
            chunk(b"PLTE", colour * TINTS),
            chunk(b"tRNS", opacity),
            chunk(b"IDAT", zlib.compress(rows.astype(np.uint8).tobytes(), 9)),
            chunk(b"IEND", b""),
        ]
    )
