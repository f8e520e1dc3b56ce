"""What "agrees with the reference" means in numbers, for every exporter and backend.

An error is counted in units of scale(want): for each element the larger of its own size and the typical size of its
output (the median of |want| over the finite rows). Not the largest value of an output: a row far outside the ranges
may be a thousand times larger than the rest and would hide everything else. Not the element alone: a sum that
happens to come near zero keeps the absolute error of its terms.

- double: 1e-12. An output is a sum of a few hundred terms, each right to some 1e-15 of the terms' size, through up
  to six layers that may each lose a digit.
- float: 1e-5, or twice the error of the plainest float32 evaluation (`eager_float32`) where that is larger: rounding
  the inputs and the knots to float32 alone may cost more than 1e-5 on a fine grid, in any form.

Rows of NaN must be the same rows, exactly.
"""

import numpy as np
from numpy.typing import NDArray

from kanserve.network.encoding import encode
from kanserve.network.functions import FUNCTIONS
from kanserve.network.kan import Kan, Layer

Array = NDArray[np.float64]
Array32 = NDArray[np.float32]
DOUBLE, FLOAT = 1e-12, 1e-5


def assert_agrees(
    got: NDArray[np.floating],
    want: Array,
    *,
    eager: NDArray[np.floating] | None = None,
    tolerance: float | None = None,
) -> None:
    """Fail unless got (N, outputs) is want but for rounding: double's, or with `eager` (see above) float's."""
    allowed = tolerance if tolerance is not None else DOUBLE if eager is None else FLOAT
    if eager is not None:
        assert_same_rows_are_nan(eager, want)
        allowed = max(allowed, 2 * error(eager, want))
    assert got.shape == want.shape, f"shape {got.shape}, wanted {want.shape}"
    assert_same_rows_are_nan(got, want)
    found = error(got, want)
    assert found <= allowed, f"error {found:.3g} of scale, allowed {allowed:.3g}"


def assert_same_rows_are_nan(got: NDArray[np.floating], want: Array) -> None:
    """Fail unless got is finite where want is, and NaN in all outputs of every other row."""
    fine = np.isfinite(want).all(axis=1)
    assert np.isfinite(got[fine]).all(), f"rows {np.flatnonzero(fine & ~np.isfinite(got).all(axis=1))} not finite"
    assert np.isnan(got[~fine]).all(), f"rows {np.flatnonzero(~fine & ~np.isnan(got).all(axis=1))} not NaN"


def assert_grouped_rows_agree(got: Array, want: Array) -> None:
    """Fail unless got (N, ...) is want but for how rows were grouped: what is not finite is the same, and every other
    number within 1e-12 of the largest of its row or, if that is larger, of the typical row's.

    A product of one row, of a few and of many is computed by other kernels, which add in another order.
    """
    assert got.shape == want.shape, f"shape {got.shape}, wanted {want.shape}"
    finite = np.isfinite(want)
    np.testing.assert_array_equal(got[~finite], want[~finite])
    if not finite.any():
        return
    rows = (len(want), -1)
    size = np.where(finite, np.abs(want), 0.0).reshape(rows).max(axis=1)
    wrong = np.abs(np.subtract(got, want, out=np.zeros_like(want), where=finite)).reshape(rows).max(axis=1)
    assert (wrong <= DOUBLE * np.maximum(size, np.median(size))).all(), f"off by {wrong.max():.3g} of {size.max():.3g}"


def error(got: NDArray[np.floating], want: Array) -> float:
    """The largest error on the finite rows, in units of scale; 0 without such rows."""
    fine = np.isfinite(want).all(axis=1)
    if not fine.any():
        return 0.0
    size = np.abs(want[fine])
    scale = np.maximum(size, np.median(size, axis=0))
    return float(np.max(np.abs(got[fine].astype(np.float64) - want[fine]) / np.where(scale > 0, scale, 1.0)))


def eager_float32(kan: Kan, x: Array) -> Array32:
    """The network computed plainly in float32 from weights and rows rounded to float32, as torch would."""
    with np.errstate(all="ignore"):
        v = (_single(encode(kan, x)) - _single(kan.input_shift)) / _single(kan.input_scale)
        bad = ~np.isfinite(v).all(axis=1)
        for layer in kan.layers:
            v = _nodes(layer, v)
            bad |= ~np.isfinite(v).all(axis=1)
        y = _single(kan.output_scale) * v + _single(kan.output_shift)
        y[bad | ~np.isfinite(y).all(axis=1)] = np.nan
    assert y.dtype == np.float32
    return y


def _single(values: NDArray[np.floating]) -> Array32:
    return values.astype(np.float32)


def _nodes(layer: Layer, v: Array32) -> Array32:
    z = np.zeros((len(v), layer.subnodes), np.float32)
    for i in range(layer.inputs):
        z += _design(v[:, i], _single(layer.knots[i]), layer) @ _single(layer.coefficients[:, i].T)
        if layer.base != "zero":
            base = FUNCTIONS["silu" if layer.base == "silu" else "x"].numpy(v[:, i])  # type: ignore[arg-type]  # float32 works as well
            z += base[:, None] * _single(layer.base_weight[:, i])
    for j, i in np.argwhere(layer.symbolic_mask):
        a, b, c, d = _single(layer.affine[j, i])
        z[:, j] += c * FUNCTIONS[layer.functions[j, i]].numpy(a * v[:, i] + b) + d
    z = _single(layer.subnode_scale) * z + _single(layer.subnode_bias)
    products = np.multiply.reduceat(z, np.cumsum(layer.arity) - layer.arity, axis=1)
    return _single(layer.node_scale) * products + _single(layer.node_bias)


def _design(x: Array32, knots: Array32, layer: Layer) -> Array32:
    """The basis matrix as splines.design makes it, with every intermediate in float32."""
    if layer.extrapolation == "zero":
        return _basis(x, knots, layer.order)
    inside = np.clip(x, knots[layer.order], knots[-layer.order - 1])
    slope = _basis(inside, knots, layer.order, derivative=1)
    return _basis(inside, knots, layer.order) + (x - inside)[:, None] * slope


def _basis(x: Array32, knots: Array32, order: int, derivative: int = 0) -> Array32:
    end = knots[len(knots) - order - 1]
    last = int(np.searchsorted(knots, end)) - 1
    inside = (knots[:-1] <= x[:, None]) & (x[:, None] < knots[1:])
    values = np.where((x == end)[:, None], np.arange(len(knots) - 1) == last, inside).astype(np.float32)
    for degree in range(1, order + 1):
        width = knots[degree:] - knots[:-degree]
        inverse = np.divide(np.float32(1), width, out=np.zeros_like(width), where=width > 0)
        if degree <= order - derivative:
            rising = (x[:, None] - knots[: -degree - 1]) * inverse[:-1]
            falling = (knots[degree + 1 :] - x[:, None]) * inverse[1:]
            values = rising * values[:, :-1] + falling * values[:, 1:]
        else:
            values = np.float32(degree) * (inverse[:-1] * values[:, :-1] - inverse[1:] * values[:, 1:])
    return values
