"""Grids that follow the data: ranges of every layer's inputs, and finer intervals, with the function kept.

A grid with every old knot in it has the old spline too, exactly. On any other the new spline is the one closest to the
old, in least squares, on points spread over the new range. Layers change from the first to the last, each on the
values that the changed ones before it give.
"""

from dataclasses import replace
from math import comb

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kanserve.errors import DataError, NetworkError
from kanserve.network import evaluate
from kanserve.network.kan import Kan, Layer
from kanserve.network.splines import design, extended_knots, fit_coefficients, pieces, span

Array = NDArray[np.float64]

PAD = 0.02  # of the width, on either side of what hidden nodes give; the first layer's grid is exactly the data's range
NARROW = 1e-9  # a narrower range, in units of its values, is a constant
WIDE = 1e-6  # of a constant's value at least, is the half-width of its range
POINTS = 4  # of the refit, for each coefficient
RIDGE = 1e-22  # of the refit: no more than makes it possible where no point meets a function of an uneven grid


def set_ranges(kan: Kan, x: ArrayLike) -> Kan:
    """The network with the range of every grid set to what its input gives on the rows x (N, inputs), raw features.

    Hidden ranges get 2 % more on either side. An input that is constant gets a range of half-width 1 around it, or of
    a millionth of its value.
    """
    return _along(kan, x, None)


def regrid(kan: Kan, x: ArrayLike | None, intervals: int) -> Kan:
    """The network on grids of so many intervals, with ranges set to the rows x, or as they are when x is None.

    An uneven grid stays as uneven as it was. Fewer intervals than before lose detail.
    """
    if intervals < 1:
        raise NetworkError(f"A grid needs at least one interval, got {intervals}.")
    if x is None:
        return replace(kan, layers=tuple(_moved(layer, _spans(layer), intervals) for layer in kan.layers))
    return _along(kan, x, intervals)


def _along(kan: Kan, x: ArrayLike, intervals: int | None) -> Kan:
    rows = evaluate.as_rows(kan, x)
    layers: list[Layer] = []
    with np.errstate(all="ignore"):
        v = (rows - kan.input_shift) / kan.input_scale
        for index, layer in enumerate(kan.layers):
            v = v[np.isfinite(v).all(axis=1)]
            if len(v) == 0:
                raise DataError("Ranges need at least one row that the network is finite on; there is none.")
            layers.append(_moved(layer, _ranges(v, PAD if index else 0.0), intervals or layer.intervals))
            if index < len(kan.layers) - 1:
                v = evaluate.nodes(layers[-1], evaluate.subnodes(layers[-1], evaluate.edges(layers[-1], v)))
    return replace(kan, layers=tuple(layers))


def _ranges(v: Array, pad: float) -> Array:
    """Low and high (I, 2) of values v (N, I)."""
    low, high = v.min(axis=0), v.max(axis=0)
    constant = high - low <= NARROW * np.maximum(np.abs(low), np.abs(high)) + np.finfo(np.float64).tiny
    margin = np.where(constant, np.maximum(1.0, WIDE * np.abs(low)), pad * (high - low))
    return np.stack([low - margin, high + margin], axis=1)


def _spans(layer: Layer) -> Array:
    return np.array([span(row, layer.order) for row in layer.knots])


def _moved(layer: Layer, ranges: Array, intervals: int) -> Layer:
    """The layer on grids over these ranges (I, 2)."""
    spans = _spans(layer)
    if intervals == layer.intervals and np.allclose(ranges, spans, rtol=1e-12, atol=0):
        return layer
    moved = [_moved_input(layer, i, ranges[i], intervals) for i in range(layer.inputs)]
    coefficients = np.stack([pair[1] for pair in moved], axis=1)
    # An edge without coefficients stays so, whatever rounding says.
    coefficients = np.where((layer.coefficients != 0).any(axis=2)[:, :, None], coefficients, 0.0)
    return replace(layer, knots=np.stack([pair[0] for pair in moved]), coefficients=coefficients)


def _moved_input(layer: Layer, i: int, wanted: Array, intervals: int) -> tuple[Array, Array]:
    """The knots of input i on the range `wanted` (2,), and the coefficients (O, intervals + k) of its splines."""
    old, order = layer.knots[i], layer.order
    low, high = span(old, order)
    start, end = float(wanted[0]), float(wanted[1])
    places = np.linspace(0, layer.intervals, intervals + 1)
    interior = np.interp(places, np.arange(layer.intervals + 1), old[order:-order])
    if np.allclose([start, end], [low, high], rtol=1e-12, atol=1e-12 * (high - low)):
        knots = extended_knots(interior, order)
        if intervals % layer.intervals == 0:
            return knots, _inserted(layer, i, knots)
    else:
        interior = start + (interior - low) / (high - low) * (end - start)
        interior[0], interior[-1] = start, end
        knots = extended_knots(interior, order)
    points = np.linspace(knots[order], knots[-order - 1], POINTS * (intervals + order))
    values = design(points, old, order, layer.extrapolation) @ layer.coefficients[:, i].T
    return knots, fit_coefficients(points, values, knots, order, RIDGE).T


def _inserted(layer: Layer, i: int, knots: Array) -> Array:
    """The coefficients (O, G+k) of the splines of input i on knots that hold all of theirs in the range.

    Each is the blossom of the local polynomial of an interval under the basis function, at the function's inner knots
    (de Boor, A Practical Guide to Splines, 2001, chapter IX): Σ_r a_r·e_r(u_1, .., u_k) / C(k, r), where a_r are the
    polynomial's coefficients and e_r the elementary symmetric functions.
    """
    order = layer.order
    count = len(knots) - order - 1
    low, high = span(layer.knots[i], order)
    # In units of the range: the third power of a width of 1e294 is no number.
    knots = (knots - low) / (high - low)
    old = (layer.knots[i] - low) / (high - low)
    local = pieces(old[None], layer.coefficients[:, i : i + 1], order, "linear")
    wide = np.array([n for n in range(order, count) if knots[n] < knots[n + 1]])
    coefficients = np.empty((layer.subnodes, count))
    for m in range(count):
        under = wide[np.abs(wide - m - order / 2).argmin()]
        middle = (knots[under] + knots[under + 1]) / 2
        piece = int(np.searchsorted(local.breaks[0], middle, side="right"))
        symmetric = np.zeros(order + 1)
        symmetric[0] = 1.0
        for u in knots[m + 1 : m + order + 1] - local.origins[0, piece]:
            symmetric[1:] += u * symmetric[:-1]
        shares = symmetric / [comb(order, r) for r in range(order + 1)]
        coefficients[:, m] = local.coefficients[:, 0, piece] @ shares
    return coefficients
