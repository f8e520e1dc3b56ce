"""Test whether the residuals of a formula are only noise; it replaces the test for exactness on noisy rows. A wrong
formula leaves smooth residuals: either a polynomial explains some of them (lack of fit), or neighbouring residuals are
correlated."""

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from kanserve.search.regression.bases import Basis, coordinate, total_degree
from kanserve.search.regression.least_squares import fit
from kanserve.search.regression.neighbours import neighbours

Array = NDArray[np.float64]

LEAST_ERROR = 1e-6  # least error that may be noise, relative to the outputs' spread: less is rounding or approximation
# Largest error that may be noise, relative to the outputs' spread: more explains too little.
RESIDUAL_TEST_LARGEST_ERROR = 0.7
LACK_OF_FIT_LIMIT = 3.0  # standard errors by which the F statistic of a polynomial may exceed 1, its value for noise
CORRELATION_LIMIT = 3.5  # largest correlation of neighbours' residuals for noise, in standard errors, 1/sqrt(rows)
BINS = 30  # bins of one input
ROWS_PER_BIN = 30  # rows that a bin needs: with fewer, there are fewer bins
PAIR_INPUTS = 10  # inputs up to which pairs of inputs are binned too
# Standard errors by which the binned residuals of a formula may deviate from noise before they refute it.
DEVIATION_LIMIT = 5.0
NEIGHBOUR_ROWS = 4000  # rows on which neighbours are compared
# Growth of the distance from a line through two neighbours if they are twice as far: 1 for noise, 4 for smooth outputs.
NOISE_GROWTH = 2.0

DEGREES = {1: 12, 2: 6, 3: 4, 4: 3}


def adequate(residuals: Array, x: Array, spread: float) -> bool:
    """Whether residuals (N,) at rows x (N, d) are only noise, for outputs with this standard deviation. With weights,
    residuals must be multiplied by their square roots, so that their noise is equal."""
    error = float(np.sqrt(np.mean(residuals**2))) / spread
    if not LEAST_ERROR < error < RESIDUAL_TEST_LARGEST_ERROR:
        return False
    return lack_of_fit(residuals, x) < LACK_OF_FIT_LIMIT and _likeness(residuals, x) < CORRELATION_LIMIT / np.sqrt(
        len(x)
    )


def is_scattered(x: Array, y: Array) -> bool:
    """Whether y (N,) at x (N,) scatter about a curve. Exact values get closer to a line as samples get closer."""
    order = np.argsort(x, kind="stable")
    near, far = (_from_line(x[order], y[order], apart) for apart in (1, 2))
    return not far >= NOISE_GROWTH * near  # without a number, too: all samples are at few places


def _from_line(x: Array, y: Array, apart: int) -> float:
    """The median distance of samples from the line through their `apart`-th neighbours on both sides."""
    with np.errstate(all="ignore"):
        share = (x[apart:-apart] - x[: -2 * apart]) / (x[2 * apart :] - x[: -2 * apart])
        off = y[apart:-apart] - (1 - share) * y[: -2 * apart] - share * y[2 * apart :]
        off = np.abs(off) / np.sqrt(1 + share**2 + (1 - share) ** 2)  # of equal size for noise at any place between
    usable = off[np.isfinite(off)]
    return float(np.median(usable)) if len(usable) else np.nan


def refutes(residuals: Array, x: Array) -> bool:
    """Whether residuals (N,) at rows x (N, d) depend on the inputs more than by chance."""
    limit = DEVIATION_LIMIT
    if not residuals.any():
        return False
    if deviation_of_bins(residuals, x) > limit:
        return True
    return bool(_likeness(residuals, x) > limit / np.sqrt(min(len(x), NEIGHBOUR_ROWS)))


def lack_of_fit(residuals: Array, x: Array) -> float:
    """The excess over 1 of the F statistic of a polynomial in x fitted to residuals (N,), in standard errors."""
    varying = [i for i in range(x.shape[1]) if x[:, i].min() < x[:, i].max()]
    if not varying:
        return 0.0
    degree = DEGREES.get(len(varying), 2)
    basis = Basis(tuple(coordinate(x[:, i]) for i in varying), total_degree(len(varying), degree))
    design = basis.design(x[:, varying])
    centred = residuals - residuals.mean()
    freedom = len(x) - design.shape[1]
    if freedom < 1:
        return np.inf
    rest = float((fit(design, centred[:, None]).residuals ** 2).sum())
    explained = float(centred @ centred) - rest
    terms = design.shape[1] - 1
    return float((explained / terms / max(rest / freedom, 1e-300) - 1) / np.sqrt(2 / terms))


def _likeness(residuals: Array, x: Array) -> float:
    """The correlation between the residuals of nearest neighbours; on a subset if there are many rows."""
    most = NEIGHBOUR_ROWS
    if len(x) > most:
        some = np.linspace(0, len(x) - 1, most).astype(int)
        residuals, x = residuals[some], x[some]
    width = np.ptp(x, axis=0)
    u = x / np.where(width > 0, width, 1.0)
    centred = residuals - residuals.mean()
    return float(np.mean(centred * centred[neighbours(u, 1)[:, 0]]) / np.mean(centred**2))


def deviation_of_bins(residuals: Array, x: Array) -> float:
    """The largest deviation from noise of residuals (N,), binned by one or two inputs of rows x (N, d), in standard
    deviations. Bin means are compared with 0 by the deviations within the bin, so that unequal noise does not matter.
    Time and memory are proportional to the rows."""
    bins = min(BINS, len(x) // ROWS_PER_BIN)
    if bins < 2:
        return 0.0
    coarse = max(2, int(bins**0.5))
    varying = [i for i in range(x.shape[1]) if x[:, i].min() < x[:, i].max()]
    fine_bins = {i: _bins(x[:, i], bins) for i in varying}
    deviations = [_deviation(residuals, own) for own in fine_bins.values()]
    if len(varying) <= PAIR_INPUTS:
        coarse_bins = {i: _bins(x[:, i], coarse) for i in varying}
        deviations += [
            _deviation(residuals, coarse_bins[i] * coarse + coarse_bins[j]) for i, j in combinations(varying, 2)
        ]
    return max(deviations, default=0.0)


def _bins(values: Array, count: int) -> NDArray[np.int64]:
    """Assign each value to one of `count` bins of about equal size; equal values share a bin."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, count + 1)[1:-1]))
    return np.searchsorted(edges, values, side="right").astype(np.int64)


def _deviation(residuals: Array, bins: NDArray[np.int64]) -> float:
    rows = np.bincount(bins).astype(float)
    sums, squares = np.bincount(bins, residuals), np.bincount(bins, residuals**2)
    kept = rows >= ROWS_PER_BIN // 2
    rows, sums, squares = rows[kept], sums[kept], squares[kept]
    if len(rows) < 2:
        return 0.0
    means, freedom = sums / rows, rows - 1
    variances = np.maximum(squares / rows - means**2, 1e-300) * rows / freedom
    # The square of Student's t has this mean; cube roots of such sums are nearly normal (Wilson and Hilferty, 1931).
    with np.errstate(over="ignore"):
        squares_of_t = rows * means**2 / variances * (freedom - 2) / freedom
    spread = 2 / (9 * len(rows))
    return float((np.mean(squares_of_t) ** (1 / 3) - (1 - spread)) / np.sqrt(spread))
