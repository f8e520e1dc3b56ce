"""Draw a network as a graph from left to right: inputs with their data, a tile for each edge, nodes, outputs."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kanserve.data.near_names import first_names
from kanserve.network.edge_names import node_name, subnode_names
from kanserve.plot.network_view import NetworkView
from kanserve.plot.palette import Role
from kanserve.plot.scene import EDGES, Circle, Scene, bezier, number, percent, short
from kanserve.plot.tiles import state_of, tile

Array = NDArray[np.float64]

MOST_PRUNED = 60  # dotted lines
NAMED_UNUSED = 4


@dataclass(frozen=True)
class Sizes:
    """Lengths in pixels: of an input, a tile, the distance between two rows, and the gaps, which may be stretched."""

    input: float
    tile: tuple[float, float]
    row: float
    node_row: float
    gap: float
    output: float
    compact: bool


ROOMY = Sizes(input=132, tile=(94, 50), row=58, node_row=60, gap=62, output=84, compact=False)
COMPACT = Sizes(input=64, tile=(72, 42), row=48, node_row=48, gap=26, output=40, compact=True)
NODE, SUBNODE = 11.0, 8.0  # radii
MARGIN = 12.0
PRODUCT = 42.0  # from the sums of a product to its node
LEGEND = 34.0
WIDEST_GAP = 120.0


def flow(view: NetworkView, width: float | None = None) -> Scene:
    """Lay out the graph. If a width in pixels is given, only the gaps are stretched or shrunk towards it."""
    sizes = COMPACT if width is not None and width < 440 else ROOMY
    kan = view.kan
    fixed = 2 * MARGIN + sizes.input + _output_width(view, sizes)
    fixed += len(kan.layers) * (sizes.tile[0] + 2 * NODE) + PRODUCT * sum(
        _has_products(view, n) for n in range(_depth(view))
    )
    gaps = 2 * len(kan.layers)
    gap = sizes.gap if width is None else min(max((width - fixed) / gaps, 22.0), WIDEST_GAP)
    return _Flow(view, sizes, gap, fixed + gaps * gap).scene


def _depth(view: NetworkView) -> int:
    return len(view.kan.layers)


def _has_products(view: NetworkView, layer: int) -> bool:
    return bool((view.kan.layers[layer].arity > 1).any())


def _output_width(view: NetworkView, sizes: Sizes) -> float:
    longest = max(len(short(output.name, sizes.output, 12)) for output in view.kan.outputs)
    return 12 + min(6.8 * longest, sizes.output)


class _Flow:
    """The scene, and the y of each layer's nodes and subnodes, inputs first; NaN for those not drawn."""

    def __init__(self, view: NetworkView, sizes: Sizes, gap: float, width: float) -> None:
        self.view, self.sizes, self.gap = view, sizes, gap
        self.kept = [np.argwhere(alive) for alive in view.alive]
        shown = [np.unique(pairs[:, 1]) for pairs in self.kept]
        rows = max(len(pairs) * sizes.row for pairs in self.kept)
        nodes = max([len(shown[0]) * (sizes.row + 8)] + [layer.subnodes * sizes.node_row for layer in view.kan.layers])
        body = max(rows, nodes, 2 * sizes.row)
        self.top = LEGEND
        names = ", ".join(output.name for output in view.kan.outputs[:4])
        title = f"Network of {view.kan.edges} edges from {len(view.kan.inputs)} inputs to {names}"
        self.scene = Scene(title, width, self.top + body + MARGIN)
        self.body = body
        self.names = [subnode_names(view.kan, depth) for depth in range(_depth(view))]
        self.nodes = self._node_rows(shown)
        x = self._inputs(MARGIN, shown[0])
        for depth in range(len(view.kan.layers)):
            x = self._layer(depth, x)
        self._outputs(x)
        self._legend()
        self._draw_unused()

    def _node_rows(self, shown: list[NDArray[np.int64]]) -> list[Array]:
        """The y of every node that is drawn: those with an edge, and all outputs."""
        layers, found = self.view.kan.layers, []
        for depth in range(len(layers) + 1):
            count = layers[depth].inputs if depth < len(layers) else layers[-1].nodes
            drawn = np.zeros(count, bool)
            if depth < len(layers):
                drawn[shown[depth]] = True
            else:
                drawn[:] = True
            rows = np.full(count, np.nan)
            rows[drawn] = self._spread(int(drawn.sum()))
            found.append(rows)
        return found

    def _spread(self, count: int) -> Array:
        """Evenly spread heights, centred; close together if they are few."""
        step = min(self.body / max(count, 1), 2.4 * self.sizes.row)
        return self._rows(count, step)

    def _rows(self, count: int, step: float) -> Array:
        return np.asarray(self.top + self.body / 2 + (np.arange(count) - (count - 1) / 2) * step, np.float64)

    def _inputs(self, x: float, shown: NDArray[np.int64]) -> float:
        """Draw names, shares, data and training ranges of the inputs. Returns where their lines start."""
        scene, sizes, view = self.scene, self.sizes, self.view
        kan, right = view.kan, x + sizes.input
        for i in shown.tolist():
            y, variable = float(self.nodes[0][i]), kan.inputs[i]
            share = float(view.shares.nodes[0][i])
            wide = sizes.input - 12
            name = variable.name if not variable.unit else f"{variable.name} ({variable.unit})"
            if sizes.compact:
                scene.label(x, y - 8, short(name, wide, 11.5), size=11.5)
                scene.label(x, y + 7, percent(share), size=11.0, role="second")
            else:
                scene.label(x, y - 16, short(name, wide - 36, 12), size=12.0)
                scene.label(x + wide, y - 16, percent(share), size=11.0, role="second", anchor="end")
                self._strip(i, x, y + 8, wide)
            tall = 6 + 34 * np.sqrt(share)
            scene.box(right - 5, y - tall / 2, 3.5, tall, "second")
        return right

    def _strip(self, i: int, x: float, y: float, width: float) -> None:
        """Draw the density of an input along its axis, and its training range below."""
        scene, view = self.scene, self.view
        density = view.densities[0][:, i]
        if density.any():
            at = np.linspace(x, x + width, len(density))
            outline = np.concatenate([np.stack([at, y - 15 * density], axis=1), [(x + width, y), (x, y)]])
            scene.area(outline, "density")
        scene.line([(x, y), (x + width, y)], "third", 1.0)
        span = view.input_range(i)
        low, high = view.limits[0][:, i] * view.kan.input_scale[i] + view.kan.input_shift[i]
        start, stop = span or (min(low, high), max(low, high))
        variable = view.kan.inputs[i]
        texts = [number(start), number(stop)]
        if variable.categories:  # the network's numbers for them say nothing: the first and the last by name
            order = np.argsort(variable.category_values, kind="stable")
            texts = [short(variable.categories[k], width / 2 - 4, 11) for k in (order[0], order[-1])]
        for end, text, anchor in ((x, texts[0], "start"), (x + width, texts[1], "end")):
            scene.line([(end, y - 3), (end, y + 3)], "third", 1.0)
            scene.label(end, y + 10, text, size=11.0, role="third", anchor=anchor)

    def _layer(self, depth: int, x: float) -> float:
        """Draw the edges and nodes of a layer whose lines start at x. Returns where the next ones start."""
        scene, view, sizes = self.scene, self.view, self.sizes
        layer, (tile_width, tile_height) = view.kan.layers[depth], sizes.tile
        left = x + self.gap
        end = left + tile_width + self.gap + NODE
        node_x = end + (PRODUCT if _has_products(view, depth) else 0.0)
        sums = self._subnodes(depth)
        pairs = self.kept[depth]
        order = np.lexsort(
            (self.nodes[depth][pairs[:, 1]], np.nan_to_num(sums[pairs[:, 0]]) + self.nodes[depth][pairs[:, 1]])
        )
        rows = np.empty(len(pairs))
        spread = min(self.body / max(len(pairs), 1), 1.5 * sizes.row)
        rows[order] = self._rows(len(pairs), spread)
        for y, (j, i) in zip(rows.tolist(), pairs.tolist(), strict=True):
            edge = view.edge(depth, j, i)
            role: Role = state_of(edge.function)
            thick, opacity = line_of(edge.share, role)
            scene.flow((x, float(self.nodes[depth][i])), (left, y), role, thick, opacity)
            if np.isfinite(sums[j]):
                radius = SUBNODE if layer.arity.max() > 1 and _arity(layer.arity, j) > 1 else NODE
                arrival = end if _arity(layer.arity, j) > 1 else node_x
                scene.flow((left + tile_width, y), (arrival - radius, float(sums[j])), role, thick, opacity)
            tile(scene, edge, left, y - tile_height / 2, tile_width, tile_height)
        self._draw_pruned(depth, x, node_x, sums, rows)
        self._nodes(depth, end, node_x, sums)
        return node_x + NODE

    def _subnodes(self, depth: int) -> Array:
        """The y of each sum: that of its node, or around it in a product."""
        layer, nodes = self.view.kan.layers[depth], self.nodes[depth + 1]
        found = []
        for q, group in enumerate(layer.groups):
            offsets = (np.arange(len(group)) - (len(group) - 1) / 2) * min(36.0, self.body / max(layer.subnodes, 1))
            found.append(nodes[q] + offsets)
        return np.concatenate(found)

    def _draw_pruned(self, depth: int, x: float, end: float, sums: Array, rows: Array) -> None:
        """Draw dotted lines for pruned edges between nodes that still exist."""
        gone = np.argwhere(~self.view.alive[depth])
        ends = [(float(self.nodes[depth][i]), float(sums[j])) for j, i in gone.tolist()]
        ends = [pair for pair in ends if np.isfinite(pair).all()]
        if len(ends) > MOST_PRUNED:
            return
        left, (wide, tall) = x + self.gap, self.sizes.tile
        for start, stop in ends:
            line = bezier((x, start), (end - NODE, stop))
            inside = (np.abs(line[:, 0] - left - wide / 2) < wide / 2 + 1) & (
                np.abs(line[:, 1, None] - rows).min(axis=1, initial=np.inf) < tall / 2 + 1
            )
            # Not behind tiles, which have no ground if the picture has none.
            for piece in np.split(np.arange(len(line)), np.flatnonzero(np.diff(inside)) + 1):
                if len(piece) > 1 and not inside[piece[0]]:
                    self.scene.line(line[piece], "ghost", 1.0, 0.9, "dotted", EDGES)

    def _nodes(self, depth: int, sum_x: float, node_x: float, sums: Array) -> None:
        layer = self.view.kan.layers[depth]
        for q, group in enumerate(layer.groups):
            y = float(self.nodes[depth + 1][q])
            if not np.isfinite(y):
                continue
            if len(group) > 1:
                for j in group:
                    self.scene.flow((sum_x + SUBNODE, float(sums[j])), (node_x - NODE, y), "second", 1.0, 0.8)
                    node(self.scene, sum_x, float(sums[j]), SUBNODE, "Σ")
                    name = self.names[depth][j]
                    self.scene.label(
                        sum_x - SUBNODE, float(sums[j]) + 13, name, size=11.0, role="third", anchor="middle"
                    )
            node(self.scene, node_x, y, NODE, "Π" if len(group) > 1 else "Σ")
            if depth + 1 < len(self.view.kan.layers):
                name = node_name(self.view.kan, depth + 1, q)
                self.scene.label(node_x, y + NODE + 9, name, size=11.0, role="second", anchor="middle", italic=True)

    def _outputs(self, x: float) -> None:
        for q, output in enumerate(self.view.kan.outputs):
            y = float(self.nodes[-1][q])
            self.scene.label(x + 7, y, short(output.name, self.sizes.output, 12), size=12.0)
            if output.unit:
                self.scene.label(x + 7, y + 15, short(output.unit, self.sizes.output, 11), size=11.0, role="third")

    def _legend(self) -> None:
        view, scene = self.view, self.scene
        snapped = any((s & a).any() for s, a in zip(view.snapped, view.alive, strict=True))
        free = any((~s & a).any() for s, a in zip(view.snapped, view.alive, strict=True))
        gone = any(stroke.dash == "dotted" for stroke in scene.strokes)
        legend(scene, snapped, free, gone, "" if self.sizes.compact else "width and %: share of the signal")

    def _draw_unused(self) -> None:
        unused = np.flatnonzero(~np.isfinite(self.nodes[0]))
        if not len(unused):
            return
        names = first_names([short(self.view.kan.inputs[i].name, 90) for i in unused.tolist()], NAMED_UNUSED, ", …")
        said = "1 input is not used" if len(unused) == 1 else f"{len(unused)} inputs are not used"
        self.scene.height += 14
        y = self.scene.height - MARGIN
        self.scene.label(MARGIN, y, f"{said}: {names}", size=11.0, role="third")


def line_of(share: float, role: Role) -> tuple[float, float]:
    """Width and opacity of an edge's line, by its share of the signal."""
    root = float(np.sqrt(share))
    return 1.0 + 8.5 * root, (0.5 if role == "snapped" else 0.28 + 0.25 * root)


def node(scene: Scene, x: float, y: float, radius: float, sign: str) -> None:
    """Draw a circle with the sign of the node's operation: Σ or Π."""
    scene.circles.append(Circle(x, y, radius, "paper", "ink"))
    scene.label(x, y, sign, size=1.15 * radius, anchor="middle")


def legend(scene: Scene, snapped: bool, free: bool, gone: bool, said: str = "") -> None:
    """Draw the legend above the picture: the states in it, and what width or tint mean. Widens a narrow picture."""
    x, y = MARGIN, 12.0
    entries: list[tuple[str, Role, bool]] = []
    if snapped:
        entries.append(("snapped to a function" if said else "snapped", "snapped", False))
    if free:
        entries.append(("free spline" if said else "spline", "spline", False))
    if gone:
        entries.append(("pruned", "ghost", True))
    for text, role, dotted in entries:
        scene.line([(x, y), (x + 16, y)], role, 1.4 if dotted else 2.4, dash="dotted" if dotted else "")
        scene.label(x + 21, y, text, size=11.0, role="second")
        x += 33 + 6.2 * len(text)
    if said:
        scene.label(x, y, said, size=11.0, role="third")
    scene.width = max(scene.width, x + 6.4 * len(said) + MARGIN)


def _arity(arity: NDArray[np.int64], j: int) -> int:
    return int(np.repeat(arity, arity)[j])
