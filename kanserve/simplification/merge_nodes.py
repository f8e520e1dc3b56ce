"""Merge two hidden nodes that share the work of one. Removal stops where two nodes have divided the work of one and
neither can go alone. So one node is removed and the other, which has all of its inputs, restarted as a sum of random
lines, a few times, while the rest of the network stays."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations

import numpy as np

from kanserve.network.kan import Kan, Layer
from kanserve.network.splines import span, uniform_knots
from kanserve.simplification.edge_removal import no_edges, without_dead_nodes, without_edges
from kanserve.simplification.validation import Array, Judge

RESTARTS = 12  # restarts of merged nodes, at most
NOISE = 0.02  # standard deviation of the noise in the coefficients of a restarted node's lines
OUTGOING_SPREAD = 0.1  # standard deviation of the coefficients of its outgoing edges


def propose_merges(kan: Kan, judge: Judge, seed: int) -> Iterator[Kan]:
    """Up to 12 networks with one hidden node less, to be refitted; none if no node has all inputs of another."""
    pairs = [(depth, *pair) for depth in range(len(kan.layers) - 1) for pair in _mergeable(kan.layers[depth])]
    for attempt in range(RESTARTS if pairs else 0):
        depth, kept, dropped = pairs[attempt % len(pairs)]
        generator = np.random.default_rng([seed, attempt])
        gone = no_edges(kan)
        gone[depth + 1][:, dropped] = True
        fresh = _begin_again(kan, depth, kept, generator)
        yield without_dead_nodes(without_edges(fresh, gone, judge.learn.x))


def _mergeable(layer: Layer) -> list[tuple[int, int]]:
    """Pairs (kept, dropped) of sum nodes of splines: `kept` has all inputs of `dropped`, the first of equals."""
    if (layer.arity > 1).any() or layer.symbolic_mask.any():
        return []
    alive = layer.alive
    return [
        (kept, dropped)
        for kept, dropped in permutations(range(layer.nodes), 2)
        if alive[dropped].any()
        and (alive[dropped] <= alive[kept]).all()
        and (kept < dropped or (alive[dropped] != alive[kept]).any())
    ]


def _begin_again(kan: Kan, depth: int, node: int, generator: np.random.Generator) -> Kan:
    """Restart one node as a sum of random lines on [-1, 1], with small random outgoing edges."""
    layer, after = kan.layers[depth], kan.layers[depth + 1]
    coefficients, base_weight = np.array(layer.coefficients), np.array(layer.base_weight)
    inputs = np.flatnonzero(layer.alive[node])
    for i in inputs:
        line = generator.choice([-1.0, 1.0]) * _line(layer, int(i)) / len(inputs)
        coefficients[node, i] = line + generator.normal(0, NOISE, len(line))
    base_weight[node] = 0.0
    bias = np.array(layer.subnode_bias)
    bias[node] = 0.0
    out, out_base, knots = np.array(after.coefficients), np.array(after.base_weight), np.array(after.knots)
    out[:, node] = np.where(after.alive[:, node, None], generator.normal(0, OUTGOING_SPREAD, out[:, node].shape), 0.0)
    out_base[:, node] = 0.0
    knots[node] = uniform_knots(-1, 1, after.intervals, after.order)
    first = replace(layer, coefficients=coefficients, base_weight=base_weight, subnode_bias=bias)
    second = replace(after, coefficients=out, base_weight=out_base, knots=knots)
    return replace(kan, layers=(*kan.layers[:depth], first, second, *kan.layers[depth + 2 :]))


def _line(layer: Layer, i: int) -> Array:
    """The coefficients of the straight line from -1 to 1 over the range of input i."""
    knots, k = layer.knots[i], layer.order
    low, high = span(knots, k)
    # A spline whose coefficients are the Greville abscissae is the identity.
    places = np.convolve(knots[1:-1], np.full(k, 1 / k), mode="valid")
    line: Array = (2 * places - low - high) / (high - low)
    return line
