"""Solve the damped linear systems of least-squares steps, by Cholesky factorisation if possible."""

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanserve import native

Array = NDArray[np.float64]

MANY_PARAMETERS = 3  # per residual: from here on a system of the residuals is faster than one of the parameters
SMALL = 150  # up to this size NumPy is as fast as SciPy, which is slow to load


def by_residuals(residuals: int, parameters: int) -> bool:
    """Whether parameters outnumber residuals so much that a step should solve a system of the size of the residuals."""
    return residuals * MANY_PARAMETERS < parameters


def solve_damped(matrix: Array, added: Array, right: Array) -> Array:
    """The solution x of (matrix + diag(added))·x = right, NaN if singular. Only the lower triangle of the matrix is
    read, and it is not changed."""
    library = native.library()
    if library is not None:
        return _compile(library, matrix, added, right)
    damped = matrix.copy()
    damped.flat[:: len(damped) + 1] += added
    factorise = _lapack() if len(damped) > SMALL else None
    if factorise is not None:
        # LAPACK expects columns in memory, so it gets the transpose; its upper triangle is our lower one.
        _, x, failed = factorise(damped.T, right, lower=0, overwrite_a=1)
        return np.asarray(x) if failed == 0 else np.full(len(right), np.nan)
    try:
        return np.linalg.solve(damped, right).astype(np.float64, copy=False)
    except np.linalg.LinAlgError:
        return np.full(len(right), np.nan)


def _compile(library: ctypes.CDLL, matrix: Array, added: Array, right: Array) -> Array:
    size = len(right)
    library.kanserve_cholesky_work.restype = ctypes.c_int64
    work = np.empty(library.kanserve_cholesky_work(ctypes.c_int64(size)))
    matrix, added, right = (np.ascontiguousarray(array) for array in (matrix, added, right))
    x = np.full(size, np.nan)
    library.kanserve_cholesky_solve(
        ctypes.c_int64(size),
        ctypes.c_void_p(matrix.ctypes.data),
        ctypes.c_int64(size),
        *(ctypes.c_void_p(array.ctypes.data) for array in (added, right, x, work)),
    )
    return x


@cache
def _lapack() -> Callable[..., Any] | None:
    try:
        from scipy.linalg.lapack import dposv
    except ImportError:
        return None
    return dposv  # type: ignore[no-any-return]  # SciPy has no types
