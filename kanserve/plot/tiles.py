"""The small picture of an edge: its curve, the density of the data, its state and its share of the signal."""

import numpy as np
from numpy.typing import NDArray

from kanserve.plot.network_view import EdgeView
from kanserve.plot.palette import Role
from kanserve.plot.scene import CURVES, SHADES, TILES, Scene, Stroke, percent, short

Array = NDArray[np.float64]

CORNER = 4.0
HATCH = 5.0  # between two lines


def state_of(function: str) -> Role:
    """The role of an edge's colour."""
    return "snapped" if function else "spline"


def tile(
    scene: Scene,
    edge: EdgeView,
    x: float,
    y: float,
    width: float,
    height: float,
    words: bool = True,
    peak: float = 1.0,
) -> None:
    """Draw an edge into a box, tinted by its share of `peak`, with its name and share above the curve if `words`."""
    state = state_of(edge.function)
    round_by = CORNER if words else CORNER / 2
    scene.box(x, y, width, height, "paper", radius=round_by)
    tint = (0.2 if state == "snapped" else 0.1) * float(np.sqrt(edge.share / peak))
    if tint > 0.01:
        scene.box(x, y, width, height, state, tint, radius=round_by)
    head = 15.0 if words else 3.0
    pad = 6.0 if words else 3.0
    left, top, across, up = x + pad, y + head, width - 2 * pad, height - head - (5.0 if words else 3.0)
    bottom = top + up
    _density(scene, edge.density, left, bottom, across, 0.4 * up)
    if edge.trained != (0.0, 1.0):
        for start, stop in ((0.0, edge.trained[0]), (edge.trained[1], 1.0)):
            hatch(scene, left + start * across, top, (stop - start) * across, up)
    if state == "spline":
        for knot in edge.knots.tolist():
            scene.line([(left + knot * across, bottom), (left + knot * across, bottom + 2.5)], "third", 0.8)
    curve(scene, edge.curve, left, top, across, up, state, 1.7 if words else 1.2)
    # The frame comes last, so that it stays whole; solid and blue, or a hairline.
    frame: Role = "snapped" if state == "snapped" else "line"
    scene.box(x, y, width, height, "", 1.0, frame, 1.4 if state == "snapped" else 1.0, CURVES, round_by)
    if words:
        share = percent(edge.share)
        room = width - 2 * pad - 6.5 * len(share)
        scene.label(
            x + pad,
            y + 9,
            short(edge.label, room, 11),
            size=11.0,
            role=state if state == "snapped" else "ink",
            italic=state == "spline",
        )
        scene.label(x + width - pad, y + 9, share, size=11.0, role="second", anchor="end")


def curve(
    scene: Scene, points: Array, x: float, y: float, width: float, height: float, role: Role, line: float
) -> None:
    """Draw a curve of the unit square, in pieces where it has gaps."""
    across, up = points
    placed = np.stack([x + across * width, y + (1 - up) * height], axis=1)
    gone = np.flatnonzero(np.isnan(up))
    for piece in np.split(placed, gone):
        kept = piece[~np.isnan(piece[:, 1])]
        if len(kept) > 1:
            scene.strokes.append(Stroke(kept, role, line, level=CURVES))


def _density(scene: Scene, density: Array, x: float, bottom: float, width: float, height: float) -> None:
    if not density.any():
        return
    across = x + width * (np.arange(len(density)) + 0.5) / len(density)
    across[0], across[-1] = x, x + width
    up = bottom - height * density
    points = np.concatenate([np.stack([across, up], axis=1), [(x + width, bottom), (x, bottom)]])
    scene.area(points, "density")


def hatch(scene: Scene, x: float, y: float, width: float, height: float) -> None:
    """Draw diagonal lines over a part of an axis without training samples, and a line where it begins."""
    if width < 1.0:
        return
    for start in np.arange(-height, width, HATCH).tolist():
        low, high = max(start, 0.0), min(start + height, width)
        if high > low:
            ends = [(x + low, y + height - (low - start)), (x + high, y + height - (high - start))]
            scene.line(ends, "outside", 0.7, 0.8, level=SHADES)


def pruned(scene: Scene, x: float, y: float, width: float, height: float) -> None:
    """A dotted frame: there is no edge."""
    middle = y + height / 2
    scene.line([(x + width * 0.36, middle), (x + width * 0.64, middle)], "ghost", 1.2, dash="dotted", level=TILES)
