"""Grids that follow the data: ranges of every layer's inputs, and finer intervals, with the function kept.

A spline on a new grid is the one closest to the old, in least squares, on points spread over the new range. Layers
change from the first to the last, each on the values that the changed ones before it give.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kanserve import reference
from kanserve.errors import DataError, NetworkError
from kanserve.ir import Kan, Layer
from kanserve.splines import design, extended_knots, fit_coefficients, span

Array = NDArray[np.float64]

PAD = 0.02  # of the width, on either side of what hidden nodes give; the first layer's grid is exactly the data's range
NARROW = 1e-9  # a narrower range, in units of its values, is a constant
POINTS = 4  # of the refit, for each coefficient


def set_ranges(kan: Kan, x: ArrayLike) -> Kan:
    """The network with the range of every grid set to what its input gives on the rows x (N, inputs), raw features.

    Hidden ranges get 2 % more on either side. An input that is constant gets a range of half-width 1 around it.
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
    rows = reference.as_rows(kan, x)
    layers: list[Layer] = []
    with np.errstate(all="ignore"):
        v = (rows - kan.input_shift) / kan.input_scale
        for index, layer in enumerate(kan.layers):
            v = v[np.isfinite(v).all(axis=1)]
            if len(v) == 0:
                raise DataError("Ranges need at least one row that the network is finite on; there is none.")
            layers.append(_moved(layer, _ranges(v, PAD if index else 0.0), intervals or layer.intervals))
            if index < len(kan.layers) - 1:
                v = reference.nodes(layers[-1], reference.subnodes(layers[-1], reference.edges(layers[-1], v)))
    return replace(kan, layers=tuple(layers))


def _ranges(v: Array, pad: float) -> Array:
    """Low and high (I, 2) of values v (N, I)."""
    low, high = v.min(axis=0), v.max(axis=0)
    constant = high - low <= NARROW * np.maximum(np.abs(low), np.abs(high)) + np.finfo(np.float64).tiny
    margin = np.where(constant, 1.0, pad * (high - low))
    return np.stack([low - margin, high + margin], axis=1)


def _spans(layer: Layer) -> Array:
    return np.array([span(row, layer.order) for row in layer.knots])


def _moved(layer: Layer, ranges: Array, intervals: int) -> Layer:
    """The layer on grids over these ranges (I, 2)."""
    if intervals == layer.intervals and np.allclose(ranges, _spans(layer), rtol=1e-12, atol=0):
        return layer
    knots, coefficients = [], []
    for i in range(layer.inputs):
        old = layer.knots[i]
        low, high = span(old, layer.order)
        start, end = float(ranges[i, 0]), float(ranges[i, 1])
        places = np.linspace(0, layer.intervals, intervals + 1)
        relative = np.interp(places, np.arange(layer.intervals + 1), old[layer.order : -layer.order])
        interior = start + (relative - low) / (high - low) * (end - start)
        interior[0], interior[-1] = start, end
        knots.append(extended_knots(interior, layer.order))
        points = np.linspace(start, end, POINTS * (intervals + layer.order))
        wanted = design(points, old, layer.order, layer.extrapolation) @ layer.coefficients[:, i].T
        coefficients.append(fit_coefficients(points, wanted, knots[-1], layer.order).T)
    # An edge without coefficients stays so, whatever rounding says.
    splines = np.where((layer.coefficients != 0).any(axis=2)[:, :, None], np.stack(coefficients, axis=1), 0.0)
    return replace(layer, knots=np.stack(knots), coefficients=splines)
