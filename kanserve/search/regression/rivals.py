"""Whether a form is exact because it is the law, or because any smooth law is close to a form with so many constants.
It is told by the errors of polynomials of rising degree (in Chebyshev's basis): those of an approximation shrink by a
factor of 10 to 1000 per degree, that of the law falls to rounding at once."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from kanserve.data.row_weights import square_roots
from kanserve.search.regression.bases import Basis, Indices, coordinate, terms_up_to, total_degree

Array = NDArray[np.float64]

RIVALS_FALL = 1e-5  # ratio of the error of a law to that of the polynomials that are its rivals, at most
ROUNDING = 1e-15  # errors relative to the largest output that are rounding
QUOTIENT_STEPS = 8  # linear fits of a quotient
SMALLEST_ERROR = 1e-300  # whose logarithm is finite: a law may be exact to the last bit


def chebyshev_columns(x: Array, indices: Indices) -> Array:
    """Products of Chebyshev polynomials (N, terms) at rows x (N, d), with each input scaled to [-1, 1]."""
    return Basis(tuple(coordinate(column) for column in x.T), indices).design(x)


def falls_at_once(x: Array, y: Array, degree: int) -> bool:
    """Whether polynomials of this total degree fit y (N,) to rounding while one degree less is far worse."""
    if degree < 1:
        return True
    here = _error(x, y, total_degree(x.shape[1], degree))
    before = _error(x, y, total_degree(x.shape[1], degree - 1))
    rounding = ROUNDING * float(np.abs(y).max())
    return here < RIVALS_FALL * before or before < rounding


def outdoes_polynomials(x: Array, y: Array, constants: int, error: float) -> bool:
    """Whether a form's root mean square error is far below that of a polynomial with as many constants."""
    inputs, degree = x.shape[1], 0
    while terms_up_to(inputs, degree + 1) <= constants:
        degree += 1
    rival = _error(x, y, total_degree(inputs, degree))
    floor = ROUNDING * float(np.abs(y).max())
    return max(error, floor) < RIVALS_FALL * rival


def ahead_of_approximations(x: Array, y: Array, numbers: int, error: float, weights: Array | None = None) -> float:
    """By how many nats a form with `numbers` fitted numbers and this root mean square error beats the best general
    approximation with no more numbers: polynomials of full degree and, with one input, quotients of polynomials."""
    roots = np.ones(len(y)) if weights is None else square_roots(weights)
    most, price = min(numbers, len(y) // 2), 0.5 * float(np.log(len(y)))
    found = [*_polynomial_errors(x, y, roots, most), *(_quotient_errors(x, y, roots, most) if x.shape[1] == 1 else ())]
    lengths = [len(y) * np.log(max(other, SMALLEST_ERROR)) + price * count for count, other in found]
    return float(min(lengths) - len(y) * np.log(max(error, SMALLEST_ERROR)) - price * numbers)


def _polynomial_errors(x: Array, y: Array, roots: Array, most: int) -> Iterator[tuple[int, float]]:
    """For each total degree with at most `most` coefficients: their number and the error of the fit."""
    degree = 0
    while terms_up_to(x.shape[1], degree) <= most:
        design = chebyshev_columns(x, total_degree(x.shape[1], degree)) * roots[:, None]
        residuals = y * roots - design @ np.linalg.lstsq(design, y * roots, rcond=1e-15)[0]
        yield design.shape[1], float(np.sqrt(np.mean(residuals**2)))
        degree += 1


def _quotient_errors(x: Array, y: Array, roots: Array, most: int) -> Iterator[tuple[int, float]]:
    """Like `_polynomial_errors`, for quotients of polynomials without a pole among the samples: repeated linear fits,
    each weighted by the previous divisor (Sanathanan and Koerner, IEEE Transactions on Automatic Control 8, 1963)."""
    columns = chebyshev_columns(x, total_degree(1, most))
    for low in range(1, most // 2 + 1):
        high = most - low
        divisor = np.ones(len(y))
        for _ in range(QUOTIENT_STEPS):
            beside = columns[:, 1 : low + 1] * -y[:, None]
            design = np.concatenate([columns[:, :high], beside], axis=1) * (roots / divisor)[:, None]
            coefficients = np.linalg.lstsq(design, y * roots / divisor, rcond=1e-13)[0]
            divisor = 1.0 + columns[:, 1 : low + 1] @ coefficients[high:]
            if not divisor.min() > 0:
                break
            residuals = (y - columns[:, :high] @ coefficients[:high] / divisor) * roots
            yield most, float(np.sqrt(np.mean(residuals**2)))


def _error(x: Array, y: Array, indices: Indices) -> float:
    columns = chebyshev_columns(x, indices)
    solution = np.linalg.lstsq(columns, y, rcond=1e-15)[0]
    return float(np.sqrt(np.mean((y - columns @ solution) ** 2)))
