"""Exact derivatives of a network by its raw inputs, to the third order. A node carries its jet: value, gradient,
Hessian and third derivatives. An edge φ maps it by the chain rule, (φ(v), φ'·v_a, φ''·v_a·v_b + φ'·v_ab, ..), a product
by the Leibniz rule. This is the slow, plain reference for the jets of `kanserve.pde`."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kanserve.errors import InputError
from kanserve.network import dual_numbers, evaluate
from kanserve.network.functions import FUNCTIONS
from kanserve.network.kan import Kan, Layer
from kanserve.network.splines import design

Array = NDArray[np.float64]
Jet = tuple[Array, ...]
"""Value (N, n), first (N, n, I), second (N, n, I, I) and third derivatives (N, n, I, I, I), up to the order wanted."""

NUMBERS = 4e6  # numbers of a layer's highest derivative at once


def derivatives(kan: Kan, x: ArrayLike, order: int = 1) -> Array:
    """The exact derivatives of this order of the outputs by the inputs, at rows x (N, inputs) of raw features.

    Order 1 gives (N, outputs, inputs), order 2 (N, outputs, inputs, inputs) with the mixed ones, order 3 one axis more;
    in units of the output per units of the inputs. A classifier's outputs are its scores. Derivatives with respect to
    an input that is categorical, or missing in that row, are 0.

    Rows are NaN where `evaluate` gives NaN; where a function has a value but no finite slope, such as a root at 0,
    entries are infinite or NaN. A spline of order k has k - 1 continuous derivatives; on a knot, the k-th is that of
    the point's interval. Outside a grid with linear extrapolation second derivatives are 0 (except the base
    function's).

    Parameters
    ----------
    kan : Kan
        The network.
    x : array_like of shape (n_samples, n_inputs)
        Samples in raw units.
    order : {1, 2, 3}, default=1
        The order of the derivatives.

    Returns
    -------
    ndarray of shape (n_samples, n_outputs, n_inputs, ...)
        One axis of inputs for each order.

    Raises
    ------
    InputError
        Another order.
    DataError
        x is not numbers, or has another number of columns.

    Examples
    --------
    >>> import kanserve
    >>> kan = kanserve.from_formula("x^3", ranges={"x": (0, 2)})
    >>> kanserve.derivatives(kan, [[1.0]], order=2).tolist()
    [[[[6.0]]]]
    """
    if order == 1:
        return evaluate.jacobian(kan, x)
    if order not in (2, 3):
        raise InputError(f"Derivatives are of order 1, 2 or 3, got {order!r}.")
    rows = evaluate.as_rows(kan, x)
    inputs = len(kan.inputs)
    widest = max(layer.subnodes for layer in kan.layers)
    count = max(int(NUMBERS / (widest * inputs**order)), 1)
    result = np.empty((len(rows), len(kan.outputs), *[inputs] * order))
    for start in range(0, len(rows), count):
        part = rows[start : start + count]
        result[start : start + count] = _highest(kan, part, order)
    return result


def _highest(kan: Kan, rows: Array, order: int) -> Array:
    values = evaluate.activations(kan, rows)
    n, inputs = rows.shape
    with np.errstate(all="ignore"):
        first = evaluate.input_slopes(kan, rows)
        jet: Jet = (values[0], first, *(np.zeros((n, inputs, *[inputs] * r)) for r in range(2, order + 1)))
        for layer, v in zip(kan.layers, values, strict=False):
            jet = _nodes(layer, _subnodes(layer, (v, *jet[1:])))
        result: Array = jet[-1] * kan.output_scale.reshape(-1, *[1] * order)
    result[np.isnan(values[-1]).any(axis=1)] = np.nan
    return result


def _edge_derivatives(layer: Layer, v: Array, order: int) -> tuple[Array, ...]:
    """All edges at the layer's inputs v (N, I), and their derivatives up to this order, each (N, O, I)."""
    result = [evaluate.edges(layer, v), evaluate.edge_slopes(layer, v)][: order + 1]
    result += [np.zeros_like(result[0]) for _ in range(2, order + 1)]
    with np.errstate(all="ignore"):
        for r in range(2, order + 1):
            for i in np.flatnonzero(layer.spline_mask.any(axis=0)):
                matrix = design(v[:, i], layer.knots[i], layer.order, layer.extrapolation, derivative=r)
                result[r][:, :, i] = matrix @ layer.coefficients[:, i].T
        for r, base in enumerate(_base_derivatives(layer, v, order)[2:], start=2):
            result[r] += base[:, None, :] * layer.base_weight
        for j, i in np.argwhere(layer.symbolic_mask):
            a, b, c, _ = layer.affine[j, i]
            every = dual_numbers.derivatives(FUNCTIONS[layer.functions[j, i]], a * v[:, i] + b, order)
            for r in range(2, order + 1):
                result[r][:, j, i] += c * a**r * every[r]
    return tuple(result)


def _base_derivatives(layer: Layer, v: Array, order: int) -> tuple[Array, ...]:
    """The layer's base function at v and its derivatives up to this order, each with the shape of v."""
    if layer.base == "zero":
        return (np.zeros_like(v),) * (order + 1)
    return dual_numbers.derivatives(FUNCTIONS["silu" if layer.base == "silu" else "x"], v, order)


def _subnodes(layer: Layer, jet: Jet) -> Jet:
    """The jets of the subnodes (n = O) from those of the layer's inputs (n = I)."""
    order = len(jet) - 1
    phi = _edge_derivatives(layer, jet[0], order)
    first, second = jet[1], jet[2]
    sums = [
        phi[0].sum(axis=2),
        np.einsum("noi,nia->noa", phi[1], first),
        np.einsum("noi,nia,nib->noab", phi[2], first, first) + np.einsum("noi,niab->noab", phi[1], second),
    ]
    if order == 3:
        mixed = np.einsum("noi,nia,nibc->noabc", phi[2], first, second)
        sums.append(
            np.einsum("noi,nia,nib,nic->noabc", phi[3], first, first, first)
            + mixed
            + mixed.transpose(0, 1, 3, 2, 4)
            + mixed.transpose(0, 1, 3, 4, 2)
            + np.einsum("noi,niabc->noabc", phi[1], jet[3])
        )
    scaled = [total * layer.subnode_scale.reshape(-1, *[1] * r) for r, total in enumerate(sums)]
    return (scaled[0] + layer.subnode_bias, *scaled[1:])


def _nodes(layer: Layer, jet: Jet) -> Jet:
    """The jets of the nodes (n = Q): products of subnodes in their groups, scaled and shifted."""
    products = []
    for group in layer.groups:
        product = tuple(tensor[:, group[0]] for tensor in jet)
        for j in group[1:]:
            product = _product(product, tuple(tensor[:, j] for tensor in jet))
        products.append(product)
    every = [np.stack(parts, axis=1) for parts in zip(*products, strict=True)]
    scaled = [tensor * layer.node_scale.reshape(-1, *[1] * r) for r, tensor in enumerate(every)]
    return (scaled[0] + layer.node_bias, *scaled[1:])


def _product(p: Jet, q: Jet) -> Jet:
    """The jet of a product of two quantities, each (N,), (N, I), (N, I, I), .."""

    def times(a: Array, b: Array, letters: str) -> Array:
        result: Array = np.einsum(letters, a, b)
        return result

    result = [
        p[0] * q[0],
        times(p[0], q[1], "n,na->na") + times(q[0], p[1], "n,na->na"),
        times(p[0], q[2], "n,nab->nab")
        + times(p[1], q[1], "na,nb->nab")
        + times(q[1], p[1], "na,nb->nab")
        + times(q[0], p[2], "n,nab->nab"),
    ]
    if len(p) == 4:
        mixed = times(p[1], q[2], "na,nbc->nabc") + times(q[1], p[2], "na,nbc->nabc")
        result.append(
            times(p[0], q[3], "n,nabc->nabc")
            + times(q[0], p[3], "n,nabc->nabc")
            + mixed
            + mixed.transpose(0, 2, 1, 3)
            + mixed.transpose(0, 2, 3, 1)
        )
    return tuple(result)
