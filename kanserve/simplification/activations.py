"""Activations of a network on some rows in one pass: a faster `evaluate.activations`, with statistics of each edge. The
basis functions of an input are computed once for all of its edges, from training's local polynomials."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kanserve.network import evaluate
from kanserve.network.encoding import encode
from kanserve.network.functions import FUNCTIONS
from kanserve.network.kan import Kan, Layer
from kanserve.train.lm import active_basis as bases

Array = NDArray[np.float64]

# Values of all edges of a layer together, at most, for statistics of edges; for more, fewer rows are used.
MOST_VALUES = 1e7
FEWEST_ROWS = 200  # rows that are used even for larger layers, if there are as many


@dataclass(frozen=True, eq=False)
class Signals:
    """The inputs (N, I) of each layer, the outputs (N, outputs), and each edge's mean and deviation (O, I)."""

    values: tuple[Array, ...]
    answers: Array
    means: tuple[Array, ...]
    spreads: tuple[Array, ...]


def answers(kan: Kan, x: Array) -> Array:
    """Like `network.evaluate.evaluate`, up to rounding, for rows x (N, inputs) of finite numbers."""
    return values(kan, x)[-1]


def values(kan: Kan, x: Array) -> tuple[Array, ...]:
    """Like `network.evaluate.activations`, up to rounding, for rows x (N, inputs) of finite numbers."""
    found = [((encode(kan, x) - kan.input_shift) / kan.input_scale).T]
    with np.errstate(all="ignore"):
        for layer in kan.layers:
            found.append(_nodes(layer, _sums(layer, found[-1])))
        given = kan.output_scale * found[-1].T + kan.output_shift
    if not np.isfinite(given).all() or not all(np.isfinite(array).all() for array in found):
        return evaluate.activations(kan, x)
    return (*(array.T for array in found[:-1]), given)


def signals(kan: Kan, x: Array, shares: Array | None = None) -> Signals:
    """Compute the signals on rows x (N, inputs) with weights `shares` (N,). Means and deviations need finite rows."""
    every = values(kan, x)
    finite = np.flatnonzero(np.isfinite(every[-1]).all(axis=1))
    largest = max(layer.subnodes * layer.inputs for layer in kan.layers)
    most = max(FEWEST_ROWS, int(MOST_VALUES / largest))
    if len(finite) > most:
        finite = finite[np.linspace(0, len(finite) - 1, most).astype(int)]
    if len(finite) == 0:
        nothing = tuple(np.zeros((layer.subnodes, layer.inputs)) for layer in kan.layers)
        return Signals(every[:-1], every[-1], nothing, nothing)
    weights = np.full(len(finite), 1 / len(finite)) if shares is None else shares[finite] / shares[finite].sum()
    means, spreads = [], []
    for layer, v in zip(kan.layers, every, strict=False):
        given = _edges(layer, v[finite].T)
        mean = given @ weights
        means.append(mean.T)
        spreads.append(np.sqrt(((given - mean[:, :, None]) ** 2) @ weights).T)
    return Signals(every[:-1], every[-1], tuple(means), tuple(spreads))


def _sums(layer: Layer, v: Array) -> Array:
    """The sum of the edges into each subnode (O, N), for v (I, N)."""
    total = np.zeros((layer.subnodes, v.shape[1]))
    if layer.spline_mask.any():
        splines = _splines(layer, v)
        total += layer.coefficients.reshape(layer.subnodes, -1) @ splines.reshape(-1, v.shape[1])
        if layer.base != "zero":
            total += layer.base_weight @ evaluate.base(layer, v)
    for j, i in np.argwhere(layer.symbolic_mask):
        total[j] += _name(layer, int(j), int(i), v[i])
    return total


def _edges(layer: Layer, v: Array) -> Array:
    """The value of every edge (I, O, N)."""
    if layer.spline_mask.any():
        given = layer.coefficients.transpose(1, 0, 2) @ _splines(layer, v)
        if layer.base != "zero":
            given += layer.base_weight.T[:, :, None] * evaluate.base(layer, v)[:, None]
    else:
        given = np.zeros((layer.inputs, layer.subnodes, v.shape[1]))
    for j, i in np.argwhere(layer.symbolic_mask):
        given[i, j] += _name(layer, int(j), int(i), v[i])
    return given


def _splines(layer: Layer, v: Array) -> Array:
    basis = bases.active_basis(layer)
    return bases.values(basis, bases.locate(basis, v))


def _name(layer: Layer, j: int, i: int, v: Array) -> Array:
    a, b, c, d = layer.affine[j, i]
    result: Array = c * FUNCTIONS[str(layer.functions[j, i])].numpy(a * v + b) + d
    return result


def _nodes(layer: Layer, sums: Array) -> Array:
    z = layer.subnode_scale[:, None] * sums + layer.subnode_bias[:, None]
    products = z if layer.nodes == layer.subnodes else np.multiply.reduceat(z, np.cumsum(layer.arity) - layer.arity)
    result: Array = layer.node_scale[:, None] * products + layer.node_bias[:, None]
    return result
