"""Outliers: samples whose output is far from what all others around them say.

A polynomial is fitted by Tukey's biweight, which gives far samples no weight. What it leaves of a sample, less the
median of what it leaves of the neighbours, shows whether that sample alone is off: where the polynomial does not follow
the law, as at a pole or a jump, the neighbours are off too. Outliers are set apart from all others by a gap.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from kanserve.search.regression.bases import Basis, coordinate, total_degree
from kanserve.search.search_settings import SEARCH

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


def outliers(x: Array, y: Array) -> Mask:
    """Which of the samples x (N, d), y (N,) are outliers; none if they are many, or lie together."""
    settings = SEARCH.get().evidence
    none = np.zeros(len(y), np.bool_)
    varying = [i for i in range(x.shape[1]) if x[:, i].min() < x[:, i].max()]
    if not varying or len(y) < settings.outlier_rows or y.min() == y.max():
        return none
    x = x[:, varying]
    residuals = _robust_residuals(x, y)
    ranks = np.argsort(np.argsort(x, axis=0, kind="stable"), axis=0, kind="stable").astype(float)
    near = KDTree(ranks).query(ranks, settings.outlier_neighbours + 1)[1][:, 1:]
    alone = residuals - np.median(residuals[near], axis=1)
    scale = max(_deviation(alone), settings.outlier_least_scale * _deviation(y - np.median(y)))
    found: Mask = np.abs(alone) > max(settings.outlier_deviations * scale, _gap(np.abs(alone)))
    together = found & (found[near].mean(axis=1) > settings.outlier_share)
    return none if together.sum() > settings.outliers_together * found.sum() else found


def _gap(sizes: Array) -> float:
    """The lower end of the widest gap, as a ratio, among the largest sizes; infinity if it is no wider than chance."""
    settings = SEARCH.get().evidence
    largest = np.sort(sizes)[::-1][: int(settings.outlier_share * len(sizes)) + 1]
    ratios = largest[:-1] / np.maximum(largest[1:], 1e-300)
    return float(largest[np.argmax(ratios) + 1]) if ratios.max() > settings.outlier_gap else np.inf


def _robust_residuals(x: Array, y: Array) -> Array:
    settings = SEARCH.get().evidence
    degree = 1
    while len(total_degree(x.shape[1], degree + 1)) * settings.outlier_rows_per_term <= len(y):
        degree += 1
        if degree == settings.outlier_degree:
            break
    matrix = Basis(tuple(coordinate(column) for column in x.T), total_degree(x.shape[1], degree)).design(x)
    residuals = y - np.median(y)
    for _ in range(settings.outlier_steps):
        limit = settings.outlier_biweight * (_deviation(residuals) or float(np.abs(residuals).max()) or 1.0)
        weights = np.maximum(1 - (residuals / limit) ** 2, 0)
        coefficients = np.linalg.lstsq(matrix * weights[:, None], y * weights, rcond=1e-12)[0]
        residuals = y - matrix @ coefficients
    return residuals


def _deviation(values: Array) -> float:
    """The standard deviation that normal values of this median absolute deviation have."""
    return 1.4826 * float(np.median(np.abs(values)))
