"""Standard errors of the constants of a fitted formula, and prediction and confidence intervals.

    found = uncertainty(tree, x, y)
    found.values, found.standard_errors       # (P,) each
    low, high = found.interval(x, 0.95)       # 95% prediction interval of a new measurement

This is nonlinear least squares, linearised at the best constants: the errors of the data are assumed independent,
normal and of equal variance, or of variance 1/weight up to a factor (Seber and Wild, Nonlinear Regression, 1989,
chapter 5).
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kanserve.errors import DataError, InputError
from kanserve.formula.constants.nonlinear_fit import Constants, FitData, check_data
from kanserve.formula.constants.student_t import student_quantile
from kanserve.formula.expressions.formula import Formula
from kanserve.formula.expressions.tree import Tree

Array = NDArray[np.float64]

# Relative to the largest singular value: the data do not determine a direction below this.
UNCERTAINTY_UNDETERMINED = 1e-10
TAKES_PART = 1e-6  # in a unit vector: a constant with a smaller component is not affected by the direction


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """The constants of a formula as estimates from data.

    `values` (P,) are in the order of `tree`; `standard_errors` (P,) are infinite where the data do not determine a
    constant; `covariance` (P, P) covers the directions that the data determine. `sigma` is the standard deviation of
    the data's errors, and `degrees` the number of rows minus the number of directions. With `errors` (N,), the sizes of
    those of the data, prediction intervals hold as large a share of these, whatever their distribution.
    """

    tree: Tree
    places: tuple[int, ...]
    values: Array
    standard_errors: Array
    covariance: Array
    sigma: float
    degrees: int
    _constants: Constants = field(repr=False)
    errors: Array | None = field(default=None, repr=False)

    def interval(self, x: ArrayLike, level: float = 0.95) -> tuple[Array, Array]:
        """The prediction interval (low, high), each (N,), for a new measurement at each row of x."""
        if self.errors is None or not 0 < level < 1:
            return self._around(x, level, self.sigma**2)
        low, high = self._around(x, level, 0.0)
        middle, half = (low + high) / 2, np.hypot((high - low) / 2, np.quantile(self.errors, level))
        return middle - half, middle + half

    def mean_interval(self, x: ArrayLike, level: float = 0.95) -> tuple[Array, Array]:
        """The confidence interval (low, high), each (N,), for the true formula at each row of x."""
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
    formula: Formula | Sequence[Sequence[Any]],
    x: ArrayLike,
    y: ArrayLike,
    known: Collection[int] = (),
    weights: ArrayLike | None = None,
    errors: Array | None = None,
) -> Uncertainty:
    """The uncertainty of the constants of a closed form that was fitted to y (N,) at rows x (N, inputs).

    `known` are positions in the tree of numbers that are known and not estimated; the result leaves them out. With
    `weights` (N,), a measurement of weight w has errors of variance sigma²/w, for a mean weight of 1: only the ratios
    of the weights matter. DataError if there are no more rows than constants, or the formula is not finite on one of
    the rows.
    """
    constants = Constants(formula.tree if isinstance(formula, Formula) else formula, known)
    return replace(uncertainty_of(constants, check_data(x, y, weights)), errors=errors)


def uncertainty_of(constants: Constants, data: FitData) -> Uncertainty:
    rows, wanted = data.x, data.y
    values = constants.values
    got, jacobian = constants.derivatives(values, rows)
    if not (np.isfinite(got).all() and np.isfinite(jacobian).all()):
        raise DataError("The formula, or its derivative by a constant, is not finite on some of these rows.")
    inverse, determined, rank = _inverse(data.weight_rows(jacobian))
    degrees = len(rows) - rank
    if degrees < 1:
        raise DataError(f"{len(rows)} rows are too few for {len(values)} constants; more rows are needed.")
    residual = data.weight_rows(wanted - got)
    sigma = math.sqrt(float(residual @ residual) / degrees)
    covariance = sigma**2 * inverse
    errors = np.where(determined, np.sqrt(np.maximum(np.diag(covariance), 0.0)), np.inf)
    return Uncertainty(constants.tree, constants.places, values, errors, covariance, sigma, degrees, constants)


def _inverse(jacobian: Array) -> tuple[Array, NDArray[np.bool_], int]:
    """The pseudo-inverse of JᵀJ (P, P), which constants are determined (P,), and the rank."""
    count = jacobian.shape[1]
    if not count:
        return np.zeros((0, 0)), np.zeros(0, np.bool_), 0
    sizes = np.sqrt(np.einsum("np,np->p", jacobian, jacobian))
    scale = 1 / np.where(sizes > 0, sizes, 1.0)
    _, s, vt = np.linalg.svd(np.linalg.qr(jacobian * scale, mode="r"))
    kept = np.zeros(count, np.bool_)
    kept[: len(s)] = s > UNCERTAINTY_UNDETERMINED * s[0]
    along = vt[kept] * scale / s[kept[: len(s)], None]
    free = np.abs(vt[~kept]).max(axis=0, initial=0.0) > TAKES_PART
    with np.errstate(over="ignore"):
        return along.T @ along, ~free, int(kept.sum())
