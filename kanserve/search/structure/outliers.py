"""Outliers: samples whose output is far from those of all their neighbours. A polynomial is fitted with Tukey's
biweight, which ignores far samples. A sample is off if its residual is far from the median residual of its neighbours;
near a pole or a jump, which the polynomial does not follow, the neighbours are off too. Outliers must be separated from
all other samples by a gap."""

import numpy as np
from numpy.typing import NDArray

from kanserve.data.row_weights import square_roots
from kanserve.search.regression.bases import Basis, coordinate, terms_up_to, total_degree
from kanserve.search.regression.neighbours import nearest, neighbours

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

OUTLIER_MOST_ROWS = 3000  # samples among which outliers are looked for; the others are compared with these
OUTLIER_BLOCK = 10_000  # samples that are compared at once
OUTLIER_TERMS = 130  # terms of the polynomial, at most
OUTLIER_RIDGE = 1e-12  # added to the normal equations, relative to their diagonal
OUTLIER_ROWS = 50  # samples that are needed to tell outliers
OUTLIER_DEGREE = 8  # degree of the polynomial, at most
OUTLIER_ROWS_PER_TERM = 8  # samples for each of its terms, at least
OUTLIER_STEPS = 12  # steps of the iteratively reweighted least squares
OUTLIER_BIWEIGHT = 4.685  # deviations beyond which a sample has no weight: Tukey's constant
OUTLIER_NEIGHBOURS = 5  # neighbours that a sample is compared with
OUTLIER_DEVIATIONS = 10.0  # deviations from the neighbours that make a sample an outlier
OUTLIER_LEAST_SCALE = 1e-3  # least deviation that is told from 0, relative to that of the outputs
OUTLIER_GAP = 2.0  # ratio of the smallest outlier to the largest other deviation, at least
# Share of outliers among the samples, at most, and among the neighbours of a sample that is off alone.
OUTLIER_SHARE = 0.1
TOGETHER = 0.4  # share of the outliers that may have another one for a neighbour: more are a part of the law


def outliers(x: Array, y: Array, seed: int = 0, weights: Array | None = None) -> Mask:
    """Mask of the outliers among samples x (N, d), y (N,). All False if there are too many or they are clustered, since
    they may then be real. For large data a subset is searched first. Samples with a small weight may deviate more."""
    off = np.zeros(len(y), np.bool_)
    varying = [i for i in range(x.shape[1]) if x[:, i].min() < x[:, i].max()]
    if not varying or len(y) < OUTLIER_ROWS or y.min() == y.max():
        return off
    x = x[:, varying]
    some = np.arange(len(y))
    if len(y) > OUTLIER_MOST_ROWS:
        some = np.sort(np.random.default_rng(seed).permutation(len(y))[:OUTLIER_MOST_ROWS])
    roots = np.ones(len(y)) if weights is None else square_roots(weights)
    fit = RobustFit(x[some], y[some], roots[some])
    near = neighbours(fit.ranks, OUTLIER_NEIGHBOURS)
    around = np.median(fit.residuals[near], axis=1)
    alone = roots[some] * (fit.residuals - around)
    scale = max(_deviation(alone), OUTLIER_LEAST_SCALE * _deviation(y[some] - np.median(y[some])))
    limit = max(OUTLIER_DEVIATIONS * scale, _gap(np.abs(alone)))
    found = np.abs(alone) > limit
    together = found & (found[near].mean(axis=1) > OUTLIER_SHARE)
    if not found.any() or together.sum() > TOGETHER * found.sum():
        return off
    if len(some) == len(y):
        return np.asarray(found)
    # What is left of neighbours is no more than this, so that few samples need to be compared with theirs.
    most = float(np.abs(around).max())
    for start in range(0, len(y), OUTLIER_BLOCK):
        block = np.arange(start, min(start + OUTLIER_BLOCK, len(y)))
        block = block[np.abs(fit.left(x[block], y[block])) > limit / roots[block] - most]
        if len(block):
            off[block] = np.abs(fit.alone(x[block], y[block])) > limit / roots[block]
    off[some] = found
    return off


def _gap(sizes: Array) -> float:
    """The lower end of the widest ratio between the largest values; infinity if it is no wider than chance."""
    largest = np.sort(sizes)[::-1][: int(OUTLIER_SHARE * len(sizes)) + 1]
    with np.errstate(over="ignore"):
        ratios = largest[:-1] / np.maximum(largest[1:], 1e-300)
    return float(largest[np.argmax(ratios) + 1]) if ratios.max() > OUTLIER_GAP else np.inf


class RobustFit:
    """A polynomial fitted with Tukey's biweight, and each sample's nearest neighbours by rank."""

    def __init__(self, x: Array, y: Array, roots: Array) -> None:
        inputs, terms = x.shape[1], min(OUTLIER_TERMS, len(y) // OUTLIER_ROWS_PER_TERM)
        degree = 1
        while degree < OUTLIER_DEGREE and terms_up_to(inputs, degree + 1) <= terms:
            degree += 1
        self.basis = Basis(tuple(coordinate(column) for column in x.T), total_degree(inputs, degree))
        self.sorted = np.sort(x, axis=0)
        self.ranks = self._ranks(x)
        matrix = self.basis.design(x)
        self.residuals = y - np.median(y)
        for _ in range(OUTLIER_STEPS):
            sizes = np.abs(self.residuals) * roots
            limit = OUTLIER_BIWEIGHT * (_deviation(sizes) or float(sizes.max()) or 1.0)
            weights = (roots * np.maximum(1 - (sizes / limit) ** 2, 0)) ** 2
            gram = (matrix * weights[:, None]).T @ matrix
            gram[np.diag_indices_from(gram)] += OUTLIER_RIDGE * np.trace(gram) / len(gram)
            self.coefficients = np.linalg.solve(gram, matrix.T @ (weights * y))
            self.residuals = y - matrix @ self.coefficients

    def left(self, x: Array, y: Array) -> Array:
        """The residuals (N,) of the polynomial."""
        return np.asarray(y - self.basis.design(x) @ self.coefficients)

    def alone(self, x: Array, y: Array) -> Array:
        """The residuals of further samples, minus the median residual of their neighbours."""
        near = nearest(self._ranks(x), self.ranks, OUTLIER_NEIGHBOURS)
        return self.left(x, y) - np.median(self.residuals[near], axis=1)

    def _ranks(self, x: Array) -> Array:
        return np.stack([np.searchsorted(*pair) for pair in zip(self.sorted.T, x.T, strict=True)], axis=1).astype(float)


def _deviation(values: Array) -> float:
    """Robust standard deviation, from the median absolute deviation."""
    return 1.4826 * float(np.median(np.abs(values)))
