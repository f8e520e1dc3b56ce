"""Screening: which of many inputs matter, and which columns follow from others, before any fit in several variables.
Each input is tested through its Legendre polynomials, by what they explain of y and of |y| (an input that only scales
the others), and through products with those of other inputs. It is kept if any of these is beyond chance. The other
inputs are then tested on the residuals of a polynomial in the kept ones, repeatedly."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kanserve.search.regression.surrogates import surrogates

Array = NDArray[np.float64]

FEWEST_INPUTS = 4  # inputs up to which all are kept: the decomposition finds idle ones itself, and surer
LONE_DEGREE = 8  # degree of the polynomials of each input alone
DEGREE = 3  # degree of those whose products with others are tried
DEVIATIONS = 5.0  # deviations from chance at which an input matters
PAIR_DEVIATIONS = 1.0  # added to them for a pair of inputs, of which there are many more
MOST_INPUTS = 12  # inputs that are kept before others are tried on what a polynomial in them leaves, at most
DEPENDENT_ERROR = 1e-9  # what is left of a column that follows from others, relative to it, at most


def independent_columns(x: Array) -> tuple[int, ...]:
    """The columns of x (N, d) that are not linear combinations, or products of powers, of earlier ones. With as many
    columns as half the rows, further ones are kept, since any is near a combination."""
    left = _independent(x - x.mean(axis=0))
    if left and (x[:, left] > 0).all():
        logarithms = np.log(x[:, left])
        left = [left[k] for k in _independent(logarithms - logarithms.mean(axis=0))]
    return tuple(left)


def _independent(centred: Array) -> list[int]:
    """The linearly independent columns, by Gram-Schmidt applied twice against rounding."""
    basis = np.zeros((len(centred), 0))
    kept: list[int] = []
    for i, column in enumerate(centred.T):
        size = float(np.linalg.norm(column))
        if not size:
            continue
        if 2 * basis.shape[1] >= len(centred):
            kept.append(i)
            continue
        rest = column - basis @ (basis.T @ column)
        rest = rest - basis @ (basis.T @ rest)
        if np.linalg.norm(rest) > DEPENDENT_ERROR * size:
            kept.append(i)
            basis = np.column_stack([basis, rest / np.linalg.norm(rest)])
    return kept


def influential(x: Array, y: Array) -> tuple[int, ...]:
    """The inputs of rows x (N, d) that y (N,) depends on beyond chance, judged by polynomials and pairs of them; all of
    them if there are few, or none is found."""
    inputs = x.shape[1]
    if inputs <= FEWEST_INPUTS:
        return tuple(range(inputs))
    lone, count = _legendre(x, LONE_DEGREE), len(x)  # (N, d, degree)
    score = np.zeros(inputs)
    for target in (_scores(y), _scores(np.abs(y - np.median(y)))):
        alone = (lone.reshape(count, -1).T @ target).reshape(inputs, -1) ** 2 / count
        score = np.maximum(score, _excess(alone.sum(axis=1), LONE_DEGREE))
    kept = [int(i) for i in np.flatnonzero(score > DEVIATIONS)]
    features = lone[:, :, :DEGREE]
    # What is explained by inputs alone would make noise of the products of others.
    rest = _scores(_residuals_of(lone[:, kept].reshape(count, -1), y))
    kept += _pairs(features, [rest], [])
    found = sorted(set(kept))
    while 0 < len(found) < min(inputs, MOST_INPUTS):
        further = _further(features, x, y, found)
        if not further:
            break
        found = sorted([*found, *further])
    return tuple(found) or tuple(range(inputs))


def _further(features: Array, x: Array, y: Array, found: list[int]) -> list[int]:
    """Further inputs that, alone or together with those found, explain the residuals of a polynomial in those found."""
    surrogate = surrogates(x[:, found], y)[0]
    left = y - surrogate.value(x[:, found])
    if not np.isfinite(left).all():
        return []
    rest = _scores(left)
    count, inputs, degree = features.shape
    known = features[:, found].reshape(count, -1)
    beside = np.column_stack([np.ones(count), known])
    gains = (beside * rest[:, None]).T @ features.reshape(count, -1)
    statistic = (gains**2 / count).reshape(beside.shape[1], inputs, degree).sum(axis=(0, 2))
    score = _excess(statistic, beside.shape[1] * degree)
    score[found] = 0.0
    alone = [int(i) for i in np.flatnonzero(score > DEVIATIONS)]
    return alone or _pairs(features, [rest * column for column in beside.T], found)


def _pairs(features: Array, targets: Sequence[Array], known: Sequence[int]) -> list[int]:
    """The inputs of pairs whose products explain one of the targets (N,), without the known inputs."""
    count, inputs, degree = features.shape
    flat = features.reshape(count, -1)
    found: set[int] = set()
    for target in targets:
        products = (flat * target[:, None]).T @ flat
        statistic = (products**2 / count).reshape(inputs, degree, inputs, degree).sum(axis=(1, 3))
        np.fill_diagonal(statistic, 0.0)
        score = _excess(statistic, degree**2)
        score[known], score[:, known] = 0.0, 0.0
        found |= set(np.argwhere(score > DEVIATIONS + PAIR_DEVIATIONS).ravel().tolist())
    return sorted(found)


def _scores(values: Array) -> Array:
    """The ranks of the values, standardised, so that a few large values do not hide the others."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - 0.5 * (counts + 1))[place.ravel()]  # equal values share their mean rank
    centred: Array = ranks - ranks.mean()
    return centred / (float(centred.std()) or 1.0)


def _residuals_of(columns: Array, y: Array) -> Array:
    if not columns.shape[1] or columns.shape[1] >= len(y) / 2:
        return y
    design = np.column_stack([np.ones(len(y)), columns])
    residuals: Array = y - design @ np.linalg.lstsq(design, y, rcond=1e-10)[0]
    return residuals


def _legendre(x: Array, degree: int) -> Array:
    """Legendre polynomials of each input's ranks, with mean 0 and variance 1: (N, d, degree)."""
    ranks = np.argsort(np.argsort(x, axis=0, kind="stable"), axis=0, kind="stable")
    u = 2 * (ranks + 0.5) / len(x) - 1
    table = np.stack(
        [np.polynomial.legendre.Legendre.basis(n)(u) * np.sqrt(2 * n + 1) for n in range(1, degree + 1)], axis=2
    )
    return np.asarray(table)


def _excess(statistic: Array, freedom: int) -> Array:
    """How far χ² statistics with these degrees of freedom are above their mean, in normal deviations (Wilson and
    Hilferty's cube root, 1931)."""
    spread = 2 / (9 * freedom)
    return np.asarray(((statistic / freedom) ** (1 / 3) - (1 - spread)) / np.sqrt(spread))
