"""Residual test: whether the residuals of a formula are only noise. For noisy rows it replaces the test for exactness.

It has two parts: whether a polynomial explains some of the residuals (lack of fit), and whether the residuals of
neighbours are correlated. A wrong formula leaves smooth residuals, which fail one or the other.
"""

import numpy as np
from numpy.typing import NDArray

from kanserve.search.regression.bases import Basis, coordinate, total_degree
from kanserve.search.regression.least_squares import fit
from kanserve.search.search_settings import SEARCH

Array = NDArray[np.float64]

DEGREES = {1: 12, 2: 6, 3: 4, 4: 3}


def adequate(residuals: Array, x: Array, spread: float) -> bool:
    """Whether residuals (N,) at rows x (N, d) are only noise, for outputs with this standard deviation."""
    settings = SEARCH.get()
    error = float(np.sqrt(np.mean(residuals**2))) / spread
    if not settings.residual_test_least_error < error < settings.residual_test_largest_error:
        return False
    return lack_of_fit(residuals, x) < settings.residual_test_lack_of_fit_limit and _likeness(
        residuals, x
    ) < settings.residual_test_correlation_limit / np.sqrt(len(x))


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
    """The correlation between the residuals of nearest neighbours."""
    width = np.ptp(x, axis=0)
    u = x / np.where(width > 0, width, 1.0)
    square = (u**2).sum(axis=1)
    distance = square[:, None] - 2 * u @ u.T + square
    np.fill_diagonal(distance, np.inf)
    centred = residuals - residuals.mean()
    return float(np.mean(centred * centred[np.argmin(distance, axis=1)]) / np.mean(centred**2))
