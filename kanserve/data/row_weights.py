"""Row weights for least squares. Only their ratios matter, so the functions here scale them to mean 1."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def square_roots(weights: Array) -> Array:
    """The square roots (N,) of the weights (N,), after scaling these to mean 1."""
    relative = weights / weights.max()  # so that a sum of huge weights does not overflow
    roots: Array = np.sqrt(relative / relative.mean())
    return roots


def weight_rows(values: Array, weights: Array | None) -> Array:
    """Multiply values (N, ...) by the square roots of the weights, so that least squares becomes weighted."""
    return values if weights is None else (values.T * square_roots(weights)).T


def root_mean_square(values: Array, weights: Array | None = None) -> float:
    """The root of the weighted mean square of values (N,)."""
    return float(np.sqrt(np.average(values**2, weights=weights)))


def deviation(values: Array, weights: Array | None = None) -> float:
    """The weighted standard deviation of values (N,)."""
    return (
        float(values.std())
        if weights is None
        else root_mean_square(values - np.average(values, weights=weights), weights)
    )


def join_weights(*weights: Array | None) -> Array | None:
    """Concatenate the weights of several parts; None if no part has weights."""
    given = [part for part in weights if part is not None]
    return np.concatenate(given) if given else None


def scale_weights(weights: Array) -> Array:
    """Scale the weights by a power of two, the largest to between ½ and 1: sums of huge weights would overflow."""
    result: Array = np.ldexp(weights, -np.frexp(weights.max())[1])
    return result


def quantiles(values: Array, weights: Array | None, at: tuple[float, ...]) -> Array:
    """Weighted quantiles of values (N,)."""
    if weights is None or (weights == weights[0]).all():
        return np.asarray(np.quantile(values, at))
    order = np.argsort(values, kind="stable")
    total = np.cumsum(scale_weights(weights)[order])
    return np.asarray(values[order][np.searchsorted(total, np.array(at) * total[-1]).clip(0, len(values) - 1)])


def mean_difference(losses: Array, others: Array, shares: Array | None = None) -> tuple[float, float]:
    """The mean difference between losses (N,) and others on the same rows, and its standard error, from the row-by-row
    differences: rows that are hard for one network are hard for the other. The `shares` (N,) sum to 1."""
    worse = losses - others
    if shares is None:
        return float(worse.mean()), float(worse.std() / np.sqrt(len(worse)))
    mean = float(shares @ worse)
    return mean, float(np.linalg.norm(shares * (worse - mean)))
