"""Forward and backward passes of jets through a network: the fast version of `network.derivatives`, with a Jacobian.

Forward, each layer maps jets (S, I, N) to jets (S, Q, N). Backward, a functional of the outputs' jets at each point is
pulled back to each layer's sums of edges, and gives the row of the Jacobian: the derivative by a coefficient c_k of
edge (o, i) is w·B_k(v_i) + w'·B_k'(v_i) + w''·B_k''(v_i) with the factors w of `jet_arithmetic.pull_back`.
"""

from dataclasses import dataclass
from math import perm

import numpy as np
from numpy.typing import NDArray

from kanserve.network import dual_numbers
from kanserve.network.functions import FUNCTIONS
from kanserve.network.kan import Kan, Layer
from kanserve.network.splines import span
from kanserve.pde.jet_arithmetic import Slots, adjoint, compose, product, product_adjoint, pull_back
from kanserve.train.lm import active_basis as bases
from kanserve.train.lm.parameter_vector import Free, Weights

Array = NDArray[np.float64]
Indices = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Part:
    """One layer of the problem, and where its parameters start in the vector."""

    layer: Layer
    basis: bases.ActiveBasis | None
    ends: Array  # (I, 1), of the ranges
    free: Free
    start: int
    symbolic: tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class Pass:
    """What the forward pass of a layer stores for the Jacobian."""

    v: Array  # (S, I, N)
    active: bases.Active | None
    phi: tuple[Array, ...]  # (O, I, N) each, to one order more than carried; in the first layer to the same order
    z: Array  # (S, O, N), the subnodes
    base: tuple[Array, ...]  # (I, N) each
    named: tuple[tuple[Array, ...], ...]  # f, f', .. at a·v + b of each symbolic edge, (N,) each


@dataclass(frozen=True, eq=False)
class Row:
    """The derivatives of a functional at each of N points with respect to the parameters of each layer."""

    windows: tuple[tuple[Array, ...], ...]  # by the coefficients of the k + 1 active functions, (O, I, N) each
    first: tuple[Indices, ...]  # (I, N), the number of the first of them
    rest: tuple[Array, ...]  # by base weights, constants of named functions and biases, (R, N)


def parts(kan: Kan, free: tuple[Free, ...]) -> tuple[Part, ...]:
    starts = np.cumsum([0, *(layer.size for layer in free)])
    return tuple(
        Part(
            layer,
            bases.active_basis(layer) if layer.spline_mask.any() else None,
            np.array([[span(knots, layer.order)[1]] for knots in layer.knots]),
            free_layer,
            int(start),
            tuple((int(j), int(i)) for j, i in np.argwhere(layer.symbolic_mask)),
        )
        for layer, free_layer, start in zip(kan.layers, free, starts, strict=False)
    )


def input_jet(kan: Kan, which: Slots, points: Array) -> Array:
    """The jets (S, I, N) of the normalised inputs."""
    result = np.zeros((which.count, points.shape[1], len(points)))
    result[0] = ((points - kan.input_shift) / kan.input_scale).T
    for s, i in enumerate(which.directions, start=1):
        result[s, i] = 1 / kan.input_scale[i]
    return result


def forward(which: Slots, every: tuple[Part, ...], weights: tuple[Weights, ...], v: Array) -> tuple[list[Pass], Array]:
    """The forward passes of all layers, and the jets of the last nodes."""
    passes: list[Pass] = []
    for part, own in zip(every, weights, strict=True):
        # No parameters come before the first layer, so it needs no adjoint and no extra order.
        passes.append(_layer_pass(which, part, own, v, which.order + bool(passes)))
        v = _nodes(which, part.layer, own, passes[-1].z)
    return passes, v


def backward(
    which: Slots, every: tuple[Part, ...], weights: tuple[Weights, ...], passes: list[Pass], bar: Array
) -> Row:
    """The derivatives of the functional `bar` (S, Q, N) of the outputs' jets."""
    windows: list[tuple[Array, ...]] = []
    first: list[Indices] = []
    rest: list[Array] = []
    for n in range(len(every) - 1, -1, -1):
        part, own, done = every[n], weights[n], passes[n]
        sums = _sums_adjoint(which, part.layer, done.z, bar)
        factors = pull_back(which, sums, done.v)
        windows.append(_windows(part, done, factors))
        first.append(part.basis.first[done.active.piece] if part.basis and done.active else np.empty((0, 0), np.intp))
        rest.append(_rest(part, own, done, bar, factors))
        if n > 0:
            bar = adjoint(which, sums, factors, done.phi, done.v)
    return Row(tuple(reversed(windows)), tuple(reversed(first)), tuple(reversed(rest)))


def dense(every: tuple[Part, ...], row: Row) -> Array:
    """A row in the order of the parameter vector (P, N)."""
    count = row.rest[0].shape[1]
    result = np.zeros((sum(part.free.size for part in every), count))
    for part, windows, first, rest in zip(every, row.windows, row.first, row.rest, strict=True):
        free = part.free
        start = part.start + free.splines
        result[start : start + len(rest)] = rest
        if free.splines:
            j, i = free.edges.T
            flat = result[part.start : start].reshape(-1)
            # The place of each edge's first active function.
            edges = np.arange(len(i))[:, None] * (free.functions * count)
            places = edges + first[i] * count + np.arange(count)
            for r, window in enumerate(windows):
                flat[places + r * count] = window[j, i]
    return result


def _layer_pass(which: Slots, part: Part, own: Weights, v: Array, order: int) -> Pass:
    """The forward pass of a layer; `order` is the highest derivative of its edges."""
    layer, values = part.layer, v[0]
    active = None
    base: tuple[Array, ...] = ()
    if part.basis is None:
        phi = [np.zeros((layer.subnodes, *values.shape)) for _ in range(order + 1)]
    else:
        active = _locate(part, values)
        phi = _edge_polynomials(part.basis, own.coefficients, active, order)
        if layer.base != "zero":
            base = (
                _silu(values, order)
                if layer.base == "silu"
                else dual_numbers.derivatives(FUNCTIONS["x"], values, order)
            )
            for r, derivative in enumerate(base):
                phi[r] += own.base_weight[:, :, None] * derivative
    named = []
    for j, i in part.symbolic:
        a, b, c, d = own.affine[j, i]
        # The derivatives by a and b need one order more than the edge itself.
        named.append(
            dual_numbers.derivatives(FUNCTIONS[str(layer.functions[j, i])], a * values[i] + b, which.order + 1)
        )
        for r, derivative in enumerate(named[-1][: order + 1]):
            phi[r][j, i] += c * a**r * derivative
        phi[0][j, i] += d
    z = layer.subnode_scale[:, None] * compose(which, tuple(phi), v)
    z[0] += layer.subnode_bias[:, None]
    return Pass(v, active, tuple(phi), z, base, tuple(named))


def _silu(x: Array, order: int) -> tuple[Array, ...]:
    """SiLU and its derivatives up to this order, at most 3: dual numbers would be too slow for the usual base."""
    s = FUNCTIONS["sigmoid"].numpy(x)
    slope = s * (1 - s)
    result = [x * s, s + x * slope]
    if order >= 2:
        bend = slope * (1 - 2 * s)
        result.append(2 * slope + x * bend)
    if order == 3:
        result.append(3 * bend + x * slope * (1 - 6 * slope))
    return tuple(result[: order + 1])


def _locate(part: Part, values: Array) -> bases.Active:
    """The active functions; the end of a range belongs to its last interval, where the second derivative is not 0."""
    assert part.basis is not None
    active = bases.locate(part.basis, values)
    at_end = values == part.ends
    if at_end.any():
        piece = active.piece - at_end
        places = part.basis.first[piece] + np.arange(len(values))[:, None] * part.basis.functions
        places = places * values.shape[1] + np.arange(values.shape[1])
        return bases.Active(places, piece, values - part.basis.origins[piece])
    return active


def _edge_polynomials(basis: bases.ActiveBasis, coefficients: Array, active: bases.Active, order: int) -> list[Array]:
    """All splines at the located values and their derivatives up to this order, (O, I, N) each."""
    per_input = len(basis.origins) // basis.inputs
    inputs = np.repeat(np.arange(basis.inputs), per_input)
    window = basis.first[:, None] + np.arange(len(basis.polynomials))
    local = np.einsum("srp,opr->sop", basis.polynomials, coefficients[:, inputs[:, None], window])
    powers = local.take(active.piece, axis=2)  # (k+1, O, I, N)
    return [_horner(powers, active.offset, r) for r in range(order + 1)]


def _horner(powers: Array, offset: Array, derivative: int) -> Array:
    """Σ_s powers[s]·offset^s, or its derivative."""
    if derivative >= len(powers):
        return np.zeros_like(powers[0])
    result: Array = perm(len(powers) - 1, derivative) * powers[-1]
    for s in range(len(powers) - 2, derivative - 1, -1):
        result *= offset
        result += powers[s] if derivative == 0 else perm(s, derivative) * powers[s]
    return result


def _nodes(which: Slots, layer: Layer, own: Weights, z: Array) -> Array:
    products = z
    if layer.nodes < layer.subnodes:
        products = np.stack([_product_of(which, z[:, list(group)]) for group in layer.groups], axis=1)
    result: Array = layer.node_scale[:, None] * products
    result[0] += own.node_bias[:, None]
    return result


def _product_of(which: Slots, factors: Array) -> Array:
    """The jet (S, N) of a product of the jets (S, m, N)."""
    result: Array = factors[:, 0]
    for m in range(1, factors.shape[1]):
        result = product(which, result, factors[:, m])
    return result


def _sums_adjoint(which: Slots, layer: Layer, z: Array, bar: Array) -> Array:
    """Pull a functional of the nodes' jets (S, Q, N) back to the jets of the sums of edges (S, O, N)."""
    scaled = layer.node_scale[:, None] * bar
    if layer.nodes < layer.subnodes:
        result = np.empty_like(z)
        for q, group in enumerate(layer.groups):
            for j in group:
                others = [factor for factor in group if factor != j]
                own = scaled[:, q]
                result[:, j] = product_adjoint(which, own, _product_of(which, z[:, others])) if others else own
        scaled = result
    pulled_back: Array = layer.subnode_scale[:, None] * scaled
    return pulled_back


def _windows(part: Part, done: Pass, factors: tuple[Array, ...]) -> tuple[Array, ...]:
    """The derivatives by the coefficients of every edge's active functions, (O, I, N) for each of the k + 1."""
    if part.basis is None or done.active is None:
        return ()
    table = part.basis.polynomials.take(done.active.piece, axis=2)  # (powers, functions, I, N)
    functions = [_horner(table, done.active.offset, r) for r in range(len(factors))]
    result = []
    for r in range(len(table)):
        values = factors[0] * functions[0][r]
        for factor, function in zip(factors[1:], functions[1:], strict=True):
            values += factor * function[r]
        result.append(values)
    return tuple(result)


def _rest(part: Part, own: Weights, done: Pass, bar: Array, factors: tuple[Array, ...]) -> Array:
    """The derivatives with respect to a layer's base weights, constants of named functions and biases."""
    free = part.free
    rows = np.empty((free.size - free.splines, done.v.shape[2]))
    at = len(free.base)
    if at:
        j, i = free.base.T
        rows[:at] = sum(factor[j, i] * done.base[r][i] for r, factor in enumerate(factors))
    for j, i, slot in free.affine.tolist():
        every = _affine_derivatives(own.affine[j, i], done.v[0, i], done.named[part.symbolic.index((j, i))], slot)
        rows[at] = sum(factor[j, i] * derivative for factor, derivative in zip(factors, every, strict=False))
        at += 1
    rows[at:] = bar[0][free.bias]
    return rows


def _affine_derivatives(affine: Array, v: Array, named: tuple[Array, ...], slot: int) -> list[Array]:
    """The derivative of c·f(a·v + b) + d by a, b, c or d, and the derivatives of that by v."""
    a, _, c, _ = affine
    match slot:
        case 3:
            return [np.ones_like(v), *(np.zeros_like(v) for _ in named[2:])]
        case 2:
            return [a**r * derivative for r, derivative in enumerate(named[:-1])]
        case 1:
            return [c * a**r * derivative for r, derivative in enumerate(named[1:])]
        case _:
            return [
                c * (v * a**r * named[r + 1] + (r * a ** (r - 1) * named[r] if r else 0.0))
                for r in range(len(named) - 1)
            ]
