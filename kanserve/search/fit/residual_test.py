"""Whether a formula leaves nothing but noise: what an exact error is for exact rows, this is for noisy ones.

Two questions are asked of the residuals: whether a polynomial explains any of them (lack of fit), and whether
neighbours have like ones. What a wrong formula leaves is smooth, so it fails one or the other.
"""

import numpy as np
from numpy.typing import NDArray

from kanserve.search.regression.bases import Basis, coordinate, total_degree
from kanserve.search.regression.least_squares import fit

Array = NDArray[np.float64]

LEAST, MOST = 1e-6, 0.7
"""Of the answers' deviation: a smaller error is rounding or an approximation, a larger one explains too little."""
DEGREES = {1: 12, 2: 6, 3: 4, 4: 3}
UNLIKELY = 3.0
"""Standard errors by which the F statistic of the polynomial may be above 1, what it is for noise."""
UNLIKE = 3.5
"""Standard errors of the correlation of neighbours."""


def adequate(residuals: Array, x: Array, spread: float) -> bool:
    """Whether residuals (N,) at rows x (N, d) are noise, of answers with this standard deviation."""
    error = float(np.sqrt(np.mean(residuals**2))) / spread
    if not LEAST < error < MOST:
        return False
    return lack_of_fit(residuals, x) < UNLIKELY and _likeness(residuals, x) < UNLIKE / np.sqrt(len(x))


def lack_of_fit(residuals: Array, x: Array) -> float:
    """How far the F statistic of a polynomial in x on residuals (N,) is above 1, in standard errors."""
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
    """The correlation of the residuals of nearest neighbours."""
    width = np.ptp(x, axis=0)
    u = x / np.where(width > 0, width, 1.0)
    square = (u**2).sum(axis=1)
    distance = square[:, None] - 2 * u @ u.T + square
    np.fill_diagonal(distance, np.inf)
    centred = residuals - residuals.mean()
    return float(np.mean(centred * centred[np.argmin(distance, axis=1)]) / np.mean(centred**2))
