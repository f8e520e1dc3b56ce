"""Draw a network as tables of tiles, one per layer, with a row per input and a column per sum."""

import numpy as np

from kanserve.network.edge_names import node_name, subnode_names
from kanserve.plot.flow_layout import LEGEND, MARGIN, legend
from kanserve.plot.network_view import NetworkView
from kanserve.plot.scene import Scene, percent, short
from kanserve.plot.tiles import draw_pruned, tile

ROOMY, SNUG, SMALL = (77.0, 46.0), (46.0, 32.0), (26.0, 20.0)  # cells
MANY, VERY_MANY = 120, 600  # cells of a layer
NAMES = 78.0  # width of the inputs' names
HEAD = 24.0
BETWEEN = 28.0
WIDEST = 1500.0


def matrix(view: NetworkView, width: float | None = None) -> Scene:
    """Lay out the tables next to each other, in several lines if they are wide."""
    kan = view.kan
    scene = Scene(f"Edges of a network of {kan.edges} edges, as tables")
    cells = [layer.subnodes * layer.inputs for layer in kan.layers]
    size = ROOMY if max(cells) <= MANY else SNUG if max(cells) <= VERY_MANY else SMALL
    most = max(width or WIDEST, 300.0)
    x, y, tallest = MARGIN, LEGEND, 0.0
    for depth in range(len(kan.layers)):
        rows = _rows(view, depth)
        wide, tall = NAMES + kan.layers[depth].subnodes * size[0], HEAD + len(rows) * size[1]
        if x > MARGIN and x + wide > most:
            x, y, tallest = MARGIN, y + tallest + BETWEEN, 0.0
        _table(scene, view, depth, rows, (x, y), size)
        x += wide + BETWEEN
        tallest = max(tallest, tall)
        scene.width = max(scene.width, x - BETWEEN + MARGIN)
    scene.height = y + tallest + MARGIN
    snapped = any((s & a).any() for s, a in zip(view.snapped, view.alive, strict=True))
    free = any((~s & a).any() for s, a in zip(view.snapped, view.alive, strict=True))
    legend(scene, snapped, free, not all(alive.all() for alive in view.alive), "tint: share of the layer")
    return scene


def _rows(view: NetworkView, depth: int) -> list[int]:
    """The inputs of a layer in order of their shares, largest first."""
    return [int(i) for i in np.argsort(-view.shares.nodes[depth], kind="stable")]


def _table(
    scene: Scene, view: NetworkView, depth: int, rows: list[int], place: tuple[float, float], size: tuple[float, float]
) -> None:
    kan, (x, y), (wide, tall) = view.kan, place, size
    left, top = x + NAMES, y + HEAD
    peak = float(view.shares.edges[depth].max()) or 1.0
    for j, name in enumerate(subnode_names(kan, depth)):
        if wide > 40 or j % max(1, int(40 / wide)) == 0:
            text = short(name, max(wide, 40.0) - 2, 11)
            scene.label(left + (j + 0.5) * wide, y + HEAD - 9, text, size=11.0, role="second", anchor="middle")
    for row, i in enumerate(rows):
        at = top + row * tall
        share = percent(float(view.shares.nodes[depth][i]))
        name = short(node_name(kan, depth, i), NAMES - 8, 11)
        if tall >= 30:
            scene.label(left - 7, at + tall / 2 - 6, name, size=11.0, anchor="end")
            scene.label(left - 7, at + tall / 2 + 7, share, size=11.0, role="third", anchor="end")
        else:
            scene.label(left - 7, at + tall / 2, name, size=11.0, anchor="end")
        for j in range(kan.layers[depth].subnodes):
            box = (left + j * wide + 1.5, at + 1.5, wide - 3, tall - 3)
            if view.alive[depth][j, i]:
                tile(scene, view.edge(depth, j, i), *box, words=tall >= ROOMY[1], peak=peak)
            else:
                draw_pruned(scene, *box)
