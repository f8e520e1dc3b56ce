"""A function of functions on an edge: the inner functions, or their product, become a node of the layer before, or of a
new layer, through which identity edges carry the other values."""

from dataclasses import replace

import numpy as np

from kanserve.network.edge_names import EdgeIndex
from kanserve.network.kan import Kan, Layer, Symbolic, make_layer
from kanserve.network.powers import NAMES
from kanserve.simplification.symbolic_edges import name_edges
from kanserve.train.lm.parameter_vector import carriers

_NEUTRAL = (1.0, 0.0, 1.0, 0.0)


def with_inner(kan: Kan, place: EdgeIndex, outer: Symbolic, inner: tuple[Symbolic, ...]) -> tuple[Kan, EdgeIndex, bool]:
    """Insert outer(Π inner(z)) as an edge. Returns the network, the new place of the outer edge, and whether a layer
    was inserted, which is not needed if the previous layer just passes the input on."""
    depth, j, i = place
    source = _carry(kan.layers[depth - 1], i) if depth > 0 else None
    layers = list(kan.layers)
    inserted = source is None
    if inserted:
        layers.insert(depth, _carrying(layers[depth].inputs))
        depth, source = depth + 1, i
    assert source is not None
    if len(inner) == 1 and int(layers[depth].alive[:, i].sum()) == 1:
        inside = depth - 1, layers[depth - 1].groups[i].start, source
        layers = list(name_edges(replace(kan, layers=tuple(layers)), {inside: inner[0]}).layers)
    else:
        layers[depth - 1] = _with_node(layers[depth - 1], source, inner)
        layers[depth] = _with_input(_without(layers[depth], j, i))
        i = layers[depth].inputs - 1
    return name_edges(replace(kan, layers=tuple(layers)), {(depth, j, i): outer}), (depth, j, i), inserted


def _carry(before: Layer, node: int) -> int | None:
    """The input that a node passes on unchanged; None if it computes something else."""
    j = before.groups[node].start
    return int(np.flatnonzero(before.alive[j])[0]) if carriers(before)[j] else None


def _carrying(count: int) -> Layer:
    """A layer of identities, one node per input."""
    functions = np.full((count, count), "", dtype=NAMES)
    np.fill_diagonal(functions, "x")
    return make_layer(functions=functions, base="zero")


def _with_node(layer: Layer, source: int, factors: tuple[Symbolic, ...]) -> Layer:
    """Add a node that is a product of named functions of one input."""
    count = len(factors)
    functions = np.full((count, layer.inputs), "", dtype=NAMES)
    affine = np.tile(_NEUTRAL, (count, layer.inputs, 1))
    for n, factor in enumerate(factors):
        functions[n, source], affine[n, source] = factor.function, (factor.a, factor.b, factor.c, factor.d)
    return replace(
        layer,
        coefficients=np.concatenate([layer.coefficients, np.zeros((count, *layer.coefficients.shape[1:]))]),
        base_weight=np.concatenate([layer.base_weight, np.zeros((count, layer.inputs))]),
        functions=np.concatenate([layer.functions, functions]),
        affine=np.concatenate([layer.affine, affine]),
        subnode_scale=np.append(layer.subnode_scale, np.ones(count)),
        subnode_bias=np.append(layer.subnode_bias, np.zeros(count)),
        arity=np.append(layer.arity, count),
        node_scale=np.append(layer.node_scale, 1.0),
        node_bias=np.append(layer.node_bias, 0.0),
    )


def _with_input(layer: Layer) -> Layer:
    """Add an unused input, on the grid of the first."""
    rows = layer.subnodes, 1
    return replace(
        layer,
        knots=np.concatenate([layer.knots, layer.knots[:1]]),
        coefficients=np.concatenate([layer.coefficients, np.zeros((*rows, layer.coefficients.shape[2]))], axis=1),
        base_weight=np.concatenate([layer.base_weight, np.zeros(rows)], axis=1),
        functions=np.concatenate([layer.functions, np.full(rows, "")], axis=1),
        affine=np.concatenate([layer.affine, np.tile(_NEUTRAL, (*rows, 1))], axis=1),
    )


def _without(layer: Layer, j: int, i: int) -> Layer:
    coefficients, base_weight = np.array(layer.coefficients), np.array(layer.base_weight)
    functions, affine = np.array(layer.functions), np.array(layer.affine)
    coefficients[j, i], base_weight[j, i], functions[j, i], affine[j, i] = 0.0, 0.0, "", _NEUTRAL
    return replace(layer, coefficients=coefficients, base_weight=base_weight, functions=functions, affine=affine)
