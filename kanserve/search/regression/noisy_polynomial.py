"""Sparse polynomials for noisy outputs, by backward elimination."""

from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from kanserve.data.row_weights import square_roots
from kanserve.search.regression.sparse_polynomial import Polynomial, monomials, powers_of

Array = NDArray[np.float64]

# Highest total degree by the number of inputs: with more, the terms of noisy samples cannot be told apart.
NOISY_POLYNOMIAL_DEGREES = MappingProxyType({1: 9, 2: 5, 3: 4, 4: 3})
NOISY_POLYNOMIAL_ROWS_PER_TERM = 5  # rows for each term before any is left out, at least
# Nats by which a term must lower N·log(error), beside log(N)/2 for its coefficient: about what its text costs.
TERM_PRICE = 8.0


@dataclass(frozen=True, eq=False)
class NoisyPolynomial:
    """A polynomial and its criterion, N·log(error) plus the price of its terms; lower is better."""

    polynomial: Polynomial
    criterion: float


def noisy_polynomial(x: Array, y: Array, weights: Array | None = None) -> Polynomial | None:
    """The sparse polynomial that describes y (N,) at x (N, d) best; None with too few rows or too many inputs."""
    found = list(_of_each_degree(x, y, weights))
    return min(found, key=lambda candidate: candidate.criterion).polynomial if found else None


def _of_each_degree(x: Array, y: Array, weights: Array | None) -> Iterator[NoisyPolynomial]:
    for degree in range(1, NOISY_POLYNOMIAL_DEGREES.get(x.shape[1], 0) + 1):
        powers = powers_of(x.shape[1], degree)
        if len(powers) * NOISY_POLYNOMIAL_ROWS_PER_TERM > len(y):
            return
        columns = monomials(x, powers)
        roots = np.ones(len(y)) if weights is None else square_roots(weights)
        sizes = np.sqrt(np.mean(columns**2, axis=0))
        design = columns / np.where(sizes > 0, sizes, 1.0) * roots[:, None]
        if not np.isfinite(design).all():
            return
        kept, coefficients, criterion = _eliminate(design, y * roots)
        if len(kept):
            own = tuple(powers[k] for k in kept)
            yield NoisyPolynomial(Polynomial(own, tuple((coefficients / sizes[kept]).tolist())), criterion)


def _eliminate(design: Array, y: Array) -> tuple[NDArray[np.int64], Array, float]:
    """Backward elimination. Returns the columns whose gain exceeds their price, coefficients and the criterion."""
    kept = np.arange(design.shape[1])
    rows, price = len(y), 0.5 * np.log(len(y)) + TERM_PRICE
    while True:
        basis, triangle = np.linalg.qr(design[:, kept])
        inverse = np.linalg.pinv(triangle, rcond=1e-14)
        coefficients = inverse @ (basis.T @ y)
        residuals = y - design[:, kept] @ coefficients
        squares = max(float(residuals @ residuals), 1e-300)
        criterion = 0.5 * rows * np.log(squares / rows) + price * len(kept)
        rises = coefficients**2 / np.maximum(np.sum(inverse**2, axis=1), 1e-300)
        least = int(np.argmin(rises)) if len(kept) else 0
        if not len(kept) or 0.5 * rows * np.log1p(rises[least] / squares) > price:
            return kept, coefficients, float(criterion)
        kept = np.delete(kept, least)
