"""Whether a form is exact because the law has it, or because any smooth law is close to a form of so many constants.

On a short range every smooth function is a polynomial of a low degree but for rounding, and a quotient, or a sum of
functions with free constants, still sooner. The errors of polynomials in Chebyshev's basis, which lose no digits, show
it: those of an approximation shrink from degree to degree by a factor of 10 to 1000, that of the law falls to rounding
at once.
"""

import numpy as np
from numpy.typing import NDArray

from kanserve.search.regression.bases import Basis, Indices, coordinate, terms_up_to, total_degree

Array = NDArray[np.float64]

RIVALS_FALL = 1e-5  # ratio of the error of a law to that of the polynomials that are its rivals, at most
ROUNDING = 1e-15  # errors relative to the largest output that are rounding


def chebyshev_columns(x: Array, indices: Indices) -> Array:
    """Products of Chebyshev polynomials (N, terms) at rows x (N, d), in coordinates from -1 to 1."""
    return Basis(tuple(coordinate(column) for column in x.T), indices).design(x)


def falls_at_once(x: Array, y: Array, degree: int) -> bool:
    """Whether polynomials of this total degree fit y (N,) to rounding, and those of one degree less not nearly."""
    if degree < 1:
        return True
    here = _error(x, y, total_degree(x.shape[1], degree))
    before = _error(x, y, total_degree(x.shape[1], degree - 1))
    rounding = ROUNDING * float(np.abs(y).max())
    return here < RIVALS_FALL * before or before < rounding


def outdoes_polynomials(x: Array, y: Array, constants: int, error: float) -> bool:
    """Whether the root mean square error of a form is far below that of a polynomial with as many constants."""
    inputs, degree = x.shape[1], 0
    while terms_up_to(inputs, degree + 1) <= constants:
        degree += 1
    rival = _error(x, y, total_degree(inputs, degree))
    floor = ROUNDING * float(np.abs(y).max())
    return max(error, floor) < RIVALS_FALL * rival


def _error(x: Array, y: Array, indices: Indices) -> float:
    columns = chebyshev_columns(x, indices)
    solution = np.linalg.lstsq(columns, y, rcond=1e-15)[0]
    return float(np.sqrt(np.mean((y - columns @ solution) ** 2)))
