"""How sure the constants of a fitted formula are, and what it predicts.

    found = uncertainty(tree, x, y)
    found.values, found.standard_errors       # (P,) each
    low, high = found.interval(x, 0.95)       # where a further measurement lies, 95 times in 100

The theory is that of nonlinear least squares, linearised at the best constants: errors of the data are independent,
normal and of one size (Seber and Wild, Nonlinear Regression, 1989, chapter 5).
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kanserve.errors import DataError, InputError
from kanserve.formula.constants.nonlinear_fit import Constants, checked_data
from kanserve.formula.constants.student_t import student_quantile
from kanserve.formula.expressions.formula import Formula
from kanserve.formula.expressions.tree import Tree

Array = NDArray[np.float64]

_UNDETERMINED = 1e-10  # of the largest singular value: data say nothing about a direction below this
_TAKES_PART = 1e-6  # of a direction of length 1: a constant with a smaller share is not moved by it


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """The constants of a formula as estimates from data.

    `values` (P,) in the order in which they stand in `tree`; `standard_errors` (P,), infinite where the data do not
    determine a constant; `covariance` (P, P) in the directions that they determine; `sigma` is the standard deviation
    of the data's errors and `degrees` the number of rows less the number of directions.
    """

    tree: Tree
    places: tuple[int, ...]
    values: Array
    standard_errors: Array
    covariance: Array
    sigma: float
    degrees: int
    _constants: Constants = field(repr=False)

    def interval(self, x: ArrayLike, level: float = 0.95) -> tuple[Array, Array]:
        """(low, high), (N,) each: a further measurement at a row of x lies between them with this probability."""
        return self._around(x, level, self.sigma**2)

    def mean_interval(self, x: ArrayLike, level: float = 0.95) -> tuple[Array, Array]:
        """(low, high), (N,) each: the formula with the true constants lies between them with this probability."""
        return self._around(x, level, 0.0)

    def _around(self, x: ArrayLike, level: float, noise: float) -> tuple[Array, Array]:
        if not 0 < level < 1:
            raise InputError(f"A level is a probability between 0 and 1, got {level!r}.")
        rows = np.asarray(x, dtype=np.float64)
        if rows.ndim != 2:
            raise DataError(f"Rows must have shape (N, inputs), got {rows.shape}.")
        value, jacobian = self._constants.derivatives(self.values, rows)
        variance = np.einsum("np,pq,nq->n", jacobian, self.covariance, jacobian) + noise
        half = student_quantile((1 + level) / 2, self.degrees) * np.sqrt(np.maximum(variance, 0.0))
        return value - half, value + half


def uncertainty(
    formula: Formula | Sequence[Sequence[Any]], x: ArrayLike, y: ArrayLike, known: Collection[int] = ()
) -> Uncertainty:
    """What the data, y (N,) at rows x (N, inputs), say about the constants of a closed form that was fitted to them.

    `known` are positions in the tree of numbers that are known and not estimated: they are no part of the result.
    DataError when there are no more rows than constants, or the formula is not finite on one of them.
    """
    constants = Constants(formula.tree if isinstance(formula, Formula) else formula, known)
    rows, wanted = checked_data(x, y)
    values = constants.values
    got, jacobian = constants.derivatives(values, rows)
    if not (np.isfinite(got).all() and np.isfinite(jacobian).all()):
        raise DataError("The formula, or a derivative of it by a constant, is not finite on some of these rows.")
    inverse, determined, rank = _inverse(jacobian)
    degrees = len(rows) - rank
    if degrees < 1:
        raise DataError(f"{len(rows)} rows cannot tell the errors of {len(values)} constants; more rows are needed.")
    residual = wanted - got
    sigma = math.sqrt(float(residual @ residual) / degrees)
    covariance = sigma**2 * inverse
    errors = np.where(determined, np.sqrt(np.maximum(np.diag(covariance), 0.0)), np.inf)
    return Uncertainty(constants.tree, constants.places, values, errors, covariance, sigma, degrees, constants)


def _inverse(jacobian: Array) -> tuple[Array, NDArray[np.bool_], int]:
    """The pseudo-inverse of J'J (P, P), which constants it determines (P,), and its rank."""
    count = jacobian.shape[1]
    if not count:
        return np.zeros((0, 0)), np.zeros(0, np.bool_), 0
    sizes = np.sqrt(np.einsum("np,np->p", jacobian, jacobian))
    scale = 1 / np.where(sizes > 0, sizes, 1.0)
    _, s, vt = np.linalg.svd(np.linalg.qr(jacobian * scale, mode="r"))
    kept = np.zeros(count, np.bool_)
    kept[: len(s)] = s > _UNDETERMINED * s[0]
    along = vt[kept] * scale / s[kept[: len(s)], None]
    free = np.abs(vt[~kept]).max(axis=0, initial=0.0) > _TAKES_PART
    return along.T @ along, ~free, int(kept.sum())
