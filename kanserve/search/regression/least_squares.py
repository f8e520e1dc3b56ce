"""Linear least squares with leave-one-out errors, on which all tests of the search are based."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kanserve.search.regression import budget

Array = NDArray[np.float64]

# Relative error below which the parts of a law cannot be told from rounding.
ROUNDING = 1e-9
# Ridge per column, relative to the column's square: allows equal columns; the refinement removes its bias.
RIDGE = 1e-13
# Upper bound of leverages: above it, a row determines its own fit, and its leave-one-out error nears 0/0.
HIGHEST_LEVERAGE = 0.98
REFINEMENTS = 2  # steps of iterative refinement, which restores the digits that the normal equations lose


@dataclass(frozen=True, eq=False)
class Fit:
    """A least-squares fit of targets (N, K) to a design (N, P): coefficients (P, K), residuals, leverages (N,)."""

    coefficients: Array
    residuals: Array
    leverages: Array

    @property
    def left_out(self) -> Array:
        """The leave-one-out residuals r / (1 - h): (N, K)."""
        return self.residuals / (1 - self.leverages)[:, None]


def fit(design: Array, targets: Array, gram: Array | None = None) -> Fit:
    """Solve the normal equations; `gram` is designᵀ·design, if already computed."""
    budget.count_fit()
    gram = design.T @ design if gram is None else gram
    scale = np.sqrt(np.diagonal(gram))
    scale = np.where(scale > 0, scale, 1.0)
    scaled = gram / scale / scale[:, None]
    scaled[np.diag_indices_from(scaled)] += RIDGE * len(gram)
    inverse = np.linalg.inv(scaled) / scale / scale[:, None]
    influence = design @ inverse
    coefficients = influence.T @ targets
    residuals = targets - design @ coefficients
    for _ in range(REFINEMENTS):  # the normal equations square the condition number; refinement restores the digits
        coefficients = coefficients + influence.T @ residuals
        residuals = targets - design @ coefficients
    leverages = np.clip(np.einsum("np,np->n", influence, design), 0, HIGHEST_LEVERAGE)
    return Fit(coefficients, residuals, leverages)


def lack_of_fit(residuals: Array, design: Array, block: Array) -> float:
    """The F statistic of adding the columns `block` to a fit with `residuals` (N,), scaled so that 1 is the 4-sigma
    limit of chance for any width."""
    count, terms = design.shape
    joined = np.concatenate([design, block], axis=1)
    width = block.shape[1]
    freedom = count - terms - width
    before = float(residuals @ residuals)
    if freedom < 1 or before == 0:
        return 0.0
    after = fit(joined, residuals[:, None]).residuals[:, 0]
    rest = float(after @ after)
    statistic = (before - rest) / width / max(rest / freedom, 1e-300)
    return float(statistic / (1 + 4 * np.sqrt(2 / width)))


def root_mean_square(values: Array) -> float:
    return float(np.sqrt(np.mean(values * values)))
