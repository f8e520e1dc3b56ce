"""Skewed inputs, such as incomes, counts and concentrations, and the scales of their logarithms arcsinh(x/scale).
`hidden_choice` adds a layer of these before the network (`with_arcsinh_inputs`) if they predict unseen rows better."""

import numpy as np
from numpy.typing import NDArray

from kanserve.data.dataset import Dataset
from kanserve.data.row_weights import quantiles

Array = NDArray[np.float64]

SKEWED = 1.5  # skewness from which on a logarithm is tried; that of an exponential distribution is 2
FEWEST_VALUES = 10  # different ones, up to which a curve has one place for each, on any scale
SCALE = 0.1  # quantile of the sizes of an input, without zeros: nine tenths are where arcsinh is a logarithm


def log_scales(data: Dataset) -> tuple[float, ...]:
    """The scale of each skewed input, 0 for the others; () if none is skewed."""
    found = [
        0.0 if name in data.categories else _scale(column, data.weights)
        for name, column in zip(data.inputs, data.x.T, strict=True)
    ]
    return tuple(found) if any(found) else ()


def _scale(column: Array, weights: Array | None) -> float:
    there = np.isfinite(column)
    values, shares = column[there], None if weights is None else weights[there]
    if len(np.unique(values)) <= FEWEST_VALUES:
        return 0.0
    centred = values - np.average(values, weights=shares)
    spread = np.sqrt(np.average(centred**2, weights=shares))
    skewness = np.average((centred / spread) ** 3, weights=shares)
    if not abs(skewness) > SKEWED:
        return 0.0
    sizes = np.abs(values[values != 0])
    return float(quantiles(sizes, None if shares is None else shares[values != 0], (SCALE,))[0])
