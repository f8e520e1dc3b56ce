"""Draw the tile of an edge: its curve, the density of the data, its state and its share of the signal."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kanserve.plot.network_view import EdgeView
from kanserve.plot.palette import Role
from kanserve.plot.scene import CURVES, SHADES, TILES, Scene, Stroke, percent, short

Array = NDArray[np.float64]

CORNER = 4.0
HATCH = 5.0  # between two lines


@dataclass(frozen=True)
class _Sizes:
    """Sizes of a tile: its corners, the space above, next to and below the curve, and the curve's width."""

    corner: float
    head: float
    pad: float
    foot: float
    line: float


_WITH_WORDS = _Sizes(corner=CORNER, head=15.0, pad=6.0, foot=5.0, line=1.7)
_BARE = _Sizes(corner=CORNER / 2, head=3.0, pad=3.0, foot=3.0, line=1.2)


def state_of(function: str) -> Role:
    """The role of an edge's colour."""
    return "snapped" if function else "spline"


def tile(
    scene: Scene, edge: EdgeView, x: float, y: float, width: float, height: float, words: bool = True, peak: float = 1.0
) -> None:
    """Draw an edge into a box, tinted by its share of `peak`; with `words`, its name and share are above the curve."""
    state, snapped, size = state_of(edge.function), bool(edge.function), _WITH_WORDS if words else _BARE
    scene.box(x, y, width, height, "paper", radius=size.corner)
    tint = (0.2 if snapped else 0.1) * float(np.sqrt(edge.share / peak))
    if tint > 0.01:
        scene.box(x, y, width, height, state, tint, radius=size.corner)
    left, across = x + size.pad, width - 2 * size.pad
    top, up = y + size.head, height - size.head - size.foot
    bottom = top + up
    _density(scene, edge.density, left, bottom, across, 0.4 * up)
    if edge.trained != (0.0, 1.0):
        for start, stop in ((0.0, edge.trained[0]), (edge.trained[1], 1.0)):
            hatch(scene, left + start * across, top, (stop - start) * across, up)
    for knot in [] if snapped else edge.knots.tolist():
        scene.line([(left + knot * across, bottom), (left + knot * across, bottom + 2.5)], "third", 0.8)
    curve(scene, edge.curve, left, top, across, up, state, size.line)
    # The frame comes last, so that it stays whole; solid and blue, or a hairline.
    frame: tuple[Role, float] = ("snapped", 1.4) if snapped else ("line", 1.0)
    scene.box(x, y, width, height, "", 1.0, *frame, CURVES, size.corner)
    if words:
        share = percent(edge.share)
        text = short(edge.label, across - 6.5 * len(share), 11)
        scene.label(left, y + 9, text, size=11.0, role=state if snapped else "ink", italic=not snapped)
        scene.label(left + across, y + 9, share, size=11.0, role="second", anchor="end")


def curve(
    scene: Scene, points: Array, x: float, y: float, width: float, height: float, role: Role, line: float
) -> None:
    """Draw a curve of the unit square, in pieces if it has gaps."""
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
    """Draw diagonal lines over a part of an axis without training samples, and a line where it starts."""
    if width < 1.0:
        return
    for start in np.arange(-height, width, HATCH).tolist():
        low, high = max(start, 0.0), min(start + height, width)
        if high > low:
            ends = [(x + low, y + height - (low - start)), (x + high, y + height - (high - start))]
            scene.line(ends, "outside", 0.7, 0.8, level=SHADES)


def draw_pruned(scene: Scene, x: float, y: float, width: float, height: float) -> None:
    """Draw a dotted line for a pruned edge."""
    middle = y + height / 2
    scene.line([(x + width * 0.36, middle), (x + width * 0.64, middle)], "ghost", 1.2, dash="dotted", level=TILES)
