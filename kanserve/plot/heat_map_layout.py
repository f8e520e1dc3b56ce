"""Draw a network with too many edges for a graph: a heat map of each layer's shares, and its largest edges as tiles."""

import numpy as np
from numpy.typing import NDArray

from kanserve.network.edge_names import node_name, subnode_names
from kanserve.network.kan import Kan
from kanserve.plot.flow_layout import LEGEND, MARGIN, legend
from kanserve.plot.network_view import NetworkView
from kanserve.plot.scene import Grid, Scene, percent, short
from kanserve.plot.tiles import tile

Array = NDArray[np.float64]

TILES_SHOWN = 200
TILE = (84.0, 50.0)
NAME = 14.0
GAP = 8.0
WIDTH = 1040.0
TALLEST = 150.0
MOST_CELLS = (320, 100)  # across and down; more are shown by the largest of each few


def heat_maps(
    view: NetworkView, width: float | None = None, tiles: int = TILES_SHOWN, cells: tuple[int, int] = MOST_CELLS
) -> Scene:
    """Heat maps, inputs across and sums down, tinted by the root of an edge's share; below, the largest edges."""
    kan = view.kan
    wide = max(width or WIDTH, 420.0)
    scene = Scene(f"Shares of the signal of {kan.edges:,} edges", wide)
    groups = view.largest(tiles)
    places = [place for group in groups for place in group]
    said = f"showing {len(places)} of {kan.edges:,} edges, {percent(view.signal(places))} of the signal"
    scene.label(MARGIN, LEGEND + 2, said, size=11.5)
    y = LEGEND + 22
    for depth in range(len(kan.layers)):
        y = _map(scene, view, depth, y, wide, cells) + GAP
        y = _tiles(scene, view, groups[depth], y, wide) + 14
    scene.height = y
    shown = [bool(view.snapped[depth][j, i]) for depth, j, i in places]
    legend(scene, any(shown), not all(shown), gone=False, said="tint: share of the layer")
    return scene


def _tiles(scene: Scene, view: NetworkView, places: list[tuple[int, int, int]], y: float, width: float) -> float:
    """Draw a layer's largest edges. Returns where they end."""
    across = max(1, int((width - 2 * MARGIN + GAP) / (TILE[0] + GAP)))
    step = (width - 2 * MARGIN + GAP) / across
    peak = max((float(view.shares.edges[depth][j, i]) for depth, j, i in places), default=1.0) or 1.0
    for number, (depth, j, i) in enumerate(places):
        left, top = MARGIN + number % across * step, y + number // across * (TILE[1] + NAME + GAP)
        edge = view.edge(depth, j, i)
        name = short(f"{edge.source} → {edge.target}", step - GAP, 11)
        scene.label(left, top + 5, name, size=11.0, role="second")
        tile(scene, edge, left, top + NAME, step - GAP, TILE[1], peak=peak)
    return y + -(-len(places) // across) * (TILE[1] + NAME + GAP)


def _map(scene: Scene, view: NetworkView, depth: int, y: float, width: float, most: tuple[int, int]) -> float:
    """Draw the heat map of one layer. Returns where it ends."""
    kan, layer = view.kan, view.kan.layers[depth]
    shares = view.shares.edges[depth]
    sources, targets = (f"{layer.inputs} inputs" if depth == 0 else _range(kan, depth)), subnode_names(kan, depth)
    known = f"{layer.subnodes} sums, {targets[0]} to {targets[-1]}" if layer.subnodes > 1 else targets[0]
    scene.label(MARGIN, y + 2, short(f"{sources} across, {known} down", width - 160, 11), size=11.0, role="second")
    scene.label(width - MARGIN, y + 2, f"largest {percent(float(shares.max()))}", size=11.0, role="third", anchor="end")
    peak, height = float(shares.max()) or 1.0, min(max(layer.subnodes * 3.0, 14.0), TALLEST)
    cells = np.sqrt(_largest_of_each(shares, most[::-1]) / peak)
    scene.grids.append(Grid(MARGIN, y + 14, width - 2 * MARGIN, height, cells))
    scene.box(MARGIN, y + 14, width - 2 * MARGIN, height, "", 1.0, "line")
    return y + 14 + height


def _range(kan: Kan, depth: int) -> str:
    names = [node_name(kan, depth, q) for q in (0, kan.layers[depth].inputs - 1)]
    return f"{names[0]} to {names[1]}"


def _largest_of_each(values: Array, most: tuple[int, int]) -> Array:
    """The values (H, W), reduced to maxima of neighbouring cells if there are more than `most`."""
    for axis in (0, 1):
        if values.shape[axis] > most[axis]:
            starts = np.unique(np.linspace(0, values.shape[axis], most[axis], endpoint=False).astype(int))
            values = np.maximum.reduceat(values, starts, axis=axis)
    return values
