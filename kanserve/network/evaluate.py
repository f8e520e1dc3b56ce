"""The reference evaluation of a network: slow, plain NumPy in float64. Everything else is tested against it.

Inputs are encoded first (`network.encoding`): a missing value becomes the input's fill value, if it has one, and the
code of a category becomes its number. Three rules hold in every backend:

- outside its range a spline is extrapolated as the layer's `extrapolation` says;
- a row in which anything is not finite (an encoded input, a node, an output) is NaN in all of its outputs;
- a row never affects another, and nothing raises or warns.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kanserve.data.dataset import Dataset
from kanserve.data.frames import as_table, input_columns, is_frame
from kanserve.errors import DataError
from kanserve.network.encoding import encode, encodes, has_no_slope, in_codes_of
from kanserve.network.functions import FUNCTIONS
from kanserve.network.kan import Kan, Layer, require_kan
from kanserve.network.splines import design

Array = NDArray[np.float64]
Rows = ArrayLike | Dataset
"""The types of rows to evaluate: an array or a DataFrame, or samples, of which the inputs count."""

_VALUES_AT_ONCE = 2**14


def evaluate(kan: Kan, x: Rows) -> Array:
    """The outputs of a network by the reference evaluation, which is plain and slow.

    `kan(x)` is the same. For fast predictions, publish the network and run it with `kanserve.load_model`, whose
    compiled backend takes a microsecond or two for one sample of a small network.

    Parameters
    ----------
    kan : Kan
        The network.
    x : array_like of shape (n_samples, n_inputs), DataFrame or Dataset
        Samples in raw units.

    Returns
    -------
    ndarray of shape (n_samples, n_outputs)
        The outputs in raw units; the scores of a classifier. A sample in which anything is not finite is NaN in all
        of its outputs.

    Raises
    ------
    DataError
        x is not numbers, or has another number of columns.

    Examples
    --------
    >>> import kanserve
    >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
    >>> kanserve.evaluate(kan, [[0.0], [0.5]]).tolist()
    [[1.0], [2.0]]
    """
    return activations(kan, x)[-1]


def probabilities(kan: Kan, x: Rows) -> Array:
    """The probabilities (N, classes) of a classifier: the softmax of its scores.

    Parameters
    ----------
    kan : Kan
        A classifier.
    x : array_like of shape (n_samples, n_inputs), DataFrame or Dataset
        Samples in raw units.

    Returns
    -------
    ndarray of shape (n_samples, n_classes)
        They add up to 1 in each sample.

    Raises
    ------
    DataError
        The data are of another shape, or not numbers.

    Examples
    --------
    >>> import kanserve
    >>> scores = kanserve.from_formula({"a": "x", "b": "0*x"}, ranges={"x": (-1, 1)})
    >>> kanserve.probabilities(scores, [[0.0]]).tolist()
    [[0.5, 0.5]]
    """
    return softmax(evaluate(kan, x))


def softmax(scores: Array) -> Array:
    """exp(s) / Σ exp(s) along the last axis, without overflow."""
    with np.errstate(all="ignore"):
        shifted = np.exp(scores - scores.max(axis=-1, keepdims=True))
        result: Array = shifted / shifted.sum(axis=-1, keepdims=True)
    return result


def activations(kan: Kan, x: Rows) -> tuple[Array, ...]:
    """All intermediate values: normalised inputs, nodes of each layer except the last, raw outputs."""
    rows = encode(kan, as_rows(kan, x))
    with np.errstate(all="ignore"):
        values = [(rows - kan.input_shift) / kan.input_scale]
        for layer in kan.layers:
            bad = ~np.isfinite(values[-1]).all(axis=1)
            values[-1][bad] = np.nan
            values.append(nodes(layer, subnodes(layer, edges(layer, values[-1]))))
            values[-1][bad] = np.nan  # also where no edge reads the value that is not finite
        result = kan.output_scale * values[-1] + kan.output_shift
        result[~np.isfinite(result).all(axis=1)] = np.nan
    return (*values[:-1], result)


def edges(layer: Layer, v: Array) -> Array:
    """The values (N, O, I) of every edge at the layer's inputs v (N, I)."""
    total = np.zeros((len(v), layer.subnodes, layer.inputs))
    with np.errstate(all="ignore"):
        beside = base(layer, v)
        for i, matrix in _designs(layer, v):
            total[:, :, i] = matrix @ layer.coefficients[:, i].T + beside[:, i, None] * layer.base_weight[:, i]
        for j, i in np.argwhere(layer.symbolic_mask):
            a, b, c, d = layer.affine[j, i]
            total[:, j, i] += c * FUNCTIONS[layer.functions[j, i]].numpy(a * v[:, i] + b) + d
    return total


def _designs(layer: Layer, v: Array, derivative: int = 0) -> Iterator[tuple[int, Array]]:
    """Each input that has splines, with the matrix (N, G+k) from coefficients to values (or slopes) at v (N, I). Inputs
    with equal knots are computed together, some thousand values at once."""
    used = np.flatnonzero(layer.spline_mask.any(axis=0))
    alike: dict[bytes, list[int]] = {}
    for i in used.tolist():
        alike.setdefault(layer.knots[i].tobytes(), []).append(i)
    at_once = max(1, _VALUES_AT_ONCE // max(len(v), 1))
    for group in alike.values():
        for start in range(0, len(group), at_once):
            own = group[start : start + at_once]
            flat = design(v[:, own].T.ravel(), layer.knots[own[0]], layer.order, layer.extrapolation, derivative)
            yield from zip(own, flat.reshape(len(own), len(v), flat.shape[1]), strict=True)


def edge(layer: Layer, j: int, i: int, u: Array) -> Array:
    """The values (N,) of the edge from input i to subnode j, at values u (N,) of that input."""
    result: Array = edges(single_input(layer, i), u[:, None])[:, j, 0]
    return result


def single_input(layer: Layer, i: int) -> Layer:
    """The layer restricted to input i. With all of 784 inputs, the edges of one would take 300 times as long."""
    return replace(
        layer,
        knots=layer.knots[[i]],
        coefficients=layer.coefficients[:, [i]],
        base_weight=layer.base_weight[:, [i]],
        functions=layer.functions[:, [i]],
        affine=layer.affine[:, [i]],
    )


def edge_slopes(layer: Layer, v: Array) -> Array:
    """The derivative (N, O, I) of every edge with respect to its input."""
    total = np.zeros((len(v), layer.subnodes, layer.inputs))
    with np.errstate(all="ignore"):
        beside = base(layer, v, derivative=1)
        for i, matrix in _designs(layer, v, derivative=1):
            total[:, :, i] = matrix @ layer.coefficients[:, i].T + beside[:, i, None] * layer.base_weight[:, i]
        for j, i in np.argwhere(layer.symbolic_mask):
            a, b, c, _ = layer.affine[j, i]
            total[:, j, i] += a * c * FUNCTIONS[layer.functions[j, i]].derivative(a * v[:, i] + b)
    return total


def base(layer: Layer, v: Array, derivative: int = 0) -> Array:
    """The layer's base function, or its derivative, at v."""
    if layer.base == "zero":
        return np.zeros_like(v)
    row = FUNCTIONS["silu" if layer.base == "silu" else "x"]
    return row.derivative(v) if derivative else row.numpy(v)


def subnodes(layer: Layer, edge_values: Array) -> Array:
    """z (N, O): the sums of edges (N, O, I), scaled and shifted."""
    result: Array = layer.subnode_scale * edge_values.sum(axis=2) + layer.subnode_bias
    return result


def nodes(layer: Layer, z: Array) -> Array:
    """The nodes (N, Q): products of subnodes z (N, O) in their groups, scaled and shifted."""
    products = np.multiply.reduceat(z, np.cumsum(layer.arity) - layer.arity, axis=1)
    result: Array = layer.node_scale * products + layer.node_bias
    return result


def jacobian(kan: Kan, x: Rows) -> Array:
    """The exact first derivatives of the outputs by the inputs; see `derivatives` for higher orders.

    Parameters
    ----------
    kan : Kan
        The network.
    x : array_like of shape (n_samples, n_inputs), DataFrame or Dataset
        Samples in raw units.

    Returns
    -------
    ndarray of shape (n_samples, n_outputs, n_inputs)
        dy/dx in units of the output per units of the input; 0 where that input is missing or categorical. A sample
        where `evaluate` gives NaN is NaN.

    Raises
    ------
    DataError
        x is not numbers, or has another number of columns.

    Examples
    --------
    >>> import kanserve
    >>> kan = kanserve.from_formula("2*x + 3*t", ranges={"x": (0, 1), "t": (0, 1)})
    >>> kanserve.jacobian(kan, [[0.5, 0.5]]).tolist()
    [[[2.0, 3.0]]]
    """
    values = activations(kan, x)
    with np.errstate(all="ignore"):
        jacobian = input_slopes(kan, as_rows(kan, x))
        for layer, v in zip(kan.layers, values, strict=False):
            z = subnodes(layer, edges(layer, v))
            slopes = layer.subnode_scale[:, None] * edge_slopes(layer, v)
            jacobian = (
                np.stack(
                    [
                        layer.node_scale[q]
                        * sum(
                            np.prod(np.delete(z[:, list(group)], n, axis=1), axis=1)[:, None] * slopes[:, j]
                            for n, j in enumerate(group)
                        )
                        for q, group in enumerate(layer.groups)
                    ],
                    axis=1,
                )
                @ jacobian
            )
        jacobian = kan.output_scale[:, None] * jacobian
        jacobian[np.isnan(values[-1]).any(axis=1)] = np.nan
    return jacobian


def input_slopes(kan: Kan, rows: Array) -> Array:
    """The derivatives (N, inputs, inputs) of the normalised inputs with respect to the raw ones."""
    if not encodes(kan):
        return np.broadcast_to(np.diag(1 / kan.input_scale), (len(rows), *[len(kan.inputs)] * 2))
    slopes = np.where(has_no_slope(kan, rows), 0.0, 1 / kan.input_scale)
    return slopes[:, :, None] * np.eye(len(kan.inputs))


def as_rows(kan: Kan, x: Rows) -> Array:
    """x as float64 (N, inputs): columns of a table by name, the inputs of samples (a Dataset or a pair (x, y)), or an
    array. Raises DataError otherwise."""
    require_kan(kan)
    if isinstance(x, Dataset):
        return as_rows(kan, in_codes_of(kan, x).x)
    if isinstance(x, tuple) and len(x) == 2 and (is_frame(x[0]) or np.ndim(x[0]) == 2):
        x = x[0]
    x = as_table(x)
    if is_frame(x):
        return input_columns(x, {variable.name: variable.categories for variable in kan.inputs})
    try:
        rows = np.asarray(x, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError("Rows must be numbers; got something that is not.") from None
    if rows.ndim != 2 or rows.shape[1] != len(kan.inputs):
        raise DataError(f"Rows must have shape (N, {len(kan.inputs)}), got {rows.shape}.")
    return rows
