"""The knots of the first layer: even, or closer where most values of an input are.

The values of an income or a count lie in a small part of their range, where an even grid has one interval for nearly
all rows. Such an input has its knots near the quantiles of its values; finer grids divide these intervals. Of all
others the grid is even. Equal values count once: many zeros need no fine grid there.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kanserve.data.dataset import Dataset
from kanserve.network.kan import Kan
from kanserve.network.splines import extended_knots, uniform_knots

Array = NDArray[np.float64]

ROWS = 20_000  # enough to place knots by
# Times the range of the middle nine tenths from which on an input has uneven knots: 1.1 for a uniform distribution, 2
# to 2.5 for a normal one, 2.4 to 3.5 for an exponential one, of 1000 to 20,000 rows.
CROWDED = 4.0
SHARE = 0.9  # of the quantiles in the knots; the rest is an even grid, which keeps them apart


def with_first_knots(kan: Kan, data: Dataset, intervals: int, seed: int) -> Kan:
    """A normalised network whose first layer has grids of so many intervals for these samples; its coefficients, which
    are to be drawn anew, are 1 or 0."""
    first = kan.layers[0]
    rows = data.sample(ROWS, seed)
    even = uniform_knots(-1, 1, intervals, first.order)
    knots = np.tile(even, (first.inputs, 1))
    for i in range(first.inputs):
        values = (np.unique(rows.x[:, i]) - kan.input_shift[i]) / kan.input_scale[i]
        if is_crowded(values):
            knots[i] = _near_quantiles(values, intervals, first.order)
    coefficients = np.where(first.spline_mask[:, :, None], np.ones(intervals + first.order), 0.0)
    return replace(kan, layers=(replace(first, knots=knots, coefficients=coefficients), *kan.layers[1:]))


def is_crowded(values: Array) -> bool:
    """Whether the middle nine tenths of different values lie in a small part of their range."""
    low, high = np.quantile(values, [0.05, 0.95])
    return bool(np.ptp(values) > CROWDED * (high - low))


def _near_quantiles(values: Array, intervals: int, order: int) -> Array:
    share = SHARE
    places = np.linspace(0, 1, intervals + 1)
    even = np.linspace(-1, 1, intervals + 1)
    inner = share * np.quantile(values, places) + (1 - share) * even
    inner[0], inner[-1] = -1.0, 1.0  # the rows may be a sample
    return extended_knots(inner, order)
