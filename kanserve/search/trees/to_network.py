"""From a KAN tree to a network, and back with the fitted parameters. A node is in the layer after its deepest operand;
identity edges, which a fit does not change, carry values to later layers."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kanserve.network.edge_names import EdgeIndex
from kanserve.network.kan import Kan, Layer, Symbolic
from kanserve.network.powers import NAMES
from kanserve.network.splines import uniform_knots
from kanserve.search.trees.nodes import IDENTITY, Curve, Node, Product, Sum, curves, map_curves

Array = NDArray[np.float64]
Source = "int | Node"

ORDER = 3


@dataclass(frozen=True, eq=False)
class Network:
    """A tree as a network with one output, and the edge (layer, subnode, input) of each of its curves."""

    tree: Node
    kan: Kan
    places: Mapping[Curve, EdgeIndex]

    @property
    def fixed(self) -> frozenset[tuple[int, int, int, int]]:
        """The constants that a fit must not change, as (layer, subnode, input, index among a, b, c, d)."""
        return frozenset((*place, 3) for curve, place in self.places.items() if curve.without_constant)


def network(tree: Node, inputs: int, intervals: int = 1, scale: float = 1.0) -> Network:
    """The network of a tree with this number of inputs. Splines without coefficients start as 1 on [-1, 1], with
    `intervals` intervals or as many as the fitted ones. `scale` is the unit of the output."""
    tree = _apart(tree)
    found = [len(curve.coefficients) - ORDER for curve in curves(tree) if curve.coefficients is not None]
    intervals = found[0] if found else intervals
    depths: dict[object, int] = {}
    _deepen(tree, depths)
    count = depths[tree]
    held = _layer_values(tree, depths, inputs, count)
    layers, places = [], {}
    for n in range(1, count + 1):
        layer, own = _layer(n, held[n - 1], held[n], depths, intervals)
        layers.append(layer)
        places.update(own)
    kan = Kan(tuple(layers), output_scale=np.array([scale]))
    return Network(tree, kan, places)


def _apart(node: Node) -> Node:
    """Separate two curves of one variable in a sum by moving them a layer deeper: a network has one edge there."""
    if isinstance(node, Sum):
        return _apart_sum(node)
    factors = tuple(_apart_sum(factor) for factor in node.factors)
    return node if factors == node.factors else replace(node, factors=factors)


def _apart_sum(total: Sum) -> Sum:
    parts: list[Curve] = []
    for curve in total.parts:
        inner = curve if isinstance(curve.of, int) else _of(curve, _apart(curve.of))
        taken = any(part.of == inner.of for part in parts)
        parts.append(Curve(Sum((inner,)), IDENTITY) if taken else inner)
    return total if tuple(parts) == total.parts else Sum(tuple(parts))


def _of(curve: Curve, node: Node) -> Curve:
    return curve if node is curve.of else replace(curve, of=node)


def take_back(net: Network, kan: Kan) -> Network:
    """Copy the parameters of a network of the same shape back into the tree and its network."""
    changed: dict[Curve, Curve] = {}

    def change(curve: Curve) -> Curve:
        n, j, i = net.places[curve]
        layer = kan.layers[n]
        if curve.symbolic is None:
            return replace(curve, knots=layer.knots[i], coefficients=layer.coefficients[j, i])
        a, b, c, d = (float(constant) for constant in layer.affine[j, i])
        return replace(curve, symbolic=Symbolic(curve.symbolic.function, a, b, c, d))

    before = list(curves(net.tree))
    tree = map_curves(net.tree, change)
    if isinstance(tree, Product):
        tree = replace(tree, bias=float(kan.layers[-1].node_bias[0]))
    changed = dict(zip(before, curves(tree), strict=True))
    return Network(tree, kan, {changed[curve]: place for curve, place in net.places.items()})


def _deepen(node: Node, depths: dict[object, int]) -> int:
    """Record the layer of a node and of all nodes in it, and return it; inputs are in layer 0."""
    deepest = 0
    for total in _sums(node):
        for curve in total.parts:
            if not isinstance(curve.of, int):
                deepest = max(deepest, _deepen(curve.of, depths))
    depths[node] = deepest + 1
    return deepest + 1


def _sums(node: Node) -> tuple[Sum, ...]:
    return (node,) if isinstance(node, Sum) else node.factors


def _layer_values(tree: Node, depths: dict[object, int], inputs: int, count: int) -> "list[list[int | Node]]":
    """The values in each layer: inputs, nodes computed there, and values passed through to later layers."""
    last_use: dict[int | Node, int] = {tree: count}
    waiting: list[Node] = [tree]
    while waiting:
        node = waiting.pop()
        for total in _sums(node):
            for curve in total.parts:
                last_use[curve.of] = max(last_use.get(curve.of, 0), depths[node] - 1)
                if not isinstance(curve.of, int):
                    waiting.append(curve.of)
    held: list[list[int | Node]] = [list(range(inputs))]
    for n in range(1, count + 1):
        held.append([key for key, use in last_use.items() if depths.get(key, 0) <= n <= use])
    return held


def _layer(
    n: int, before: "list[int | Node]", after: "list[int | Node]", depths: dict[object, int], intervals: int
) -> tuple[Layer, dict[Curve, EdgeIndex]]:
    column = {node: i for i, node in enumerate(before)}
    rows: list[tuple[Curve, ...] | int | Node] = []
    arity = []
    bias = [node.bias if isinstance(node, Product) and depths[node] == n else 0.0 for node in after]
    for node in after:
        if depths.get(node, 0) == n and not isinstance(node, int):
            sums = _sums(node)
            rows += [total.parts for total in sums]
            arity.append(len(sums))
        else:
            rows.append(node)
            arity.append(1)
    shape = len(rows), len(before)
    coefficients = np.zeros((*shape, intervals + ORDER))
    knots = np.tile(uniform_knots(-1, 1, intervals, ORDER), (shape[1], 1))
    functions = np.full(shape, "", dtype=NAMES)
    affine = np.tile([1.0, 0.0, 1.0, 0.0], (*shape, 1))
    places: dict[Curve, EdgeIndex] = {}
    for j, row in enumerate(rows):
        if not isinstance(row, tuple):
            functions[j, column[row]] = "x"
            continue
        for curve in row:
            i = column[curve.of]
            places[curve] = n - 1, j, i
            if curve.symbolic is not None:
                functions[j, i] = curve.symbolic.function
                affine[j, i] = curve.symbolic.a, curve.symbolic.b, curve.symbolic.c, curve.symbolic.d
            elif curve.coefficients is None:
                coefficients[j, i] = 1.0
            else:
                coefficients[j, i] = curve.coefficients
                knots[i] = curve.knots
    neutral = np.ones(shape[0])
    made = Layer(
        knots=knots,
        coefficients=coefficients,
        base_weight=np.zeros(shape),
        functions=functions,
        affine=affine,
        subnode_scale=neutral,
        subnode_bias=np.zeros(shape[0]),
        arity=np.array(arity),
        node_scale=np.ones(len(arity)),
        node_bias=np.array(bias),
        order=ORDER,
        base="zero",
        extrapolation="linear",
    )
    return made, places
