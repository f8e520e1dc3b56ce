"""Where a network was trained: the range of each input, rows drawn from it, and rows that fall outside."""

import numpy as np
from numpy.typing import NDArray

from kanserve.ir import Kan
from kanserve.reference import evaluate
from kanserve.splines import span

Array = NDArray[np.float64]


def ranges(kan: Kan) -> Array:
    """The training range of each input, (inputs, 2); where it is not known, the range of the first layer's splines."""
    first = kan.layers[0]
    known = np.array([(one.low, one.high) for one in kan.inputs])
    spans = np.array([span(first.knots[i], first.order) for i in range(first.inputs)])
    grid = np.sort(spans * kan.input_scale[:, None] + kan.input_shift[:, None], axis=1)
    return np.where(np.isfinite(known).all(axis=1, keepdims=True), known, grid)


def sample(kan: Kan, count: int, seed: int = 0) -> Array:
    """`count` raw feature rows, uniform in the ranges."""
    low, high = ranges(kan).T
    return np.random.default_rng(seed).uniform(low, high, (count, len(low)))


def finite_rows(kan: Kan, count: int, seed: int = 0) -> Array:
    """Up to `count` rows from the ranges on which the network is finite: golden rows, self-tests."""
    rows = sample(kan, 4 * count, seed)
    return rows[np.isfinite(evaluate(kan, rows)).all(axis=1)][:count]


def outside(kan: Kan, x: Array) -> NDArray[np.bool_]:
    """Which rows (N,) have an input outside the training range; NaN counts as outside."""
    low, high = ranges(kan).T
    within: NDArray[np.bool_] = ((x >= low) & (x <= high)).all(axis=1)
    return ~within
