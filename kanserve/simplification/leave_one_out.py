"""Leave-one-out residuals of a network, r / (1 - h), from the leverage h of each row.

With few rows, a held-out set is too small to show whether an edge is needed. For least squares, the leave-one-out
residual is r / (1 - h) with h = J_n (JᵀJ + R)⁻¹ J_nᵀ, where J_n is the row of the Jacobian. For a network this holds to
first order. So all rows are used both for training and for validation.
"""

import numpy as np
from numpy.typing import NDArray

from kanserve.data.dataset import Dataset
from kanserve.network.kan import Kan
from kanserve.train.lm import jacobian
from kanserve.train.lm.parameter_vector import free_parameters, gather, penalty

Array = NDArray[np.float64]

# Lower bound of 1 - h: a row with h near 1 is fitted exactly whatever its output, and carries no information.
LEAST_DENOMINATOR = 1e-3
JITTER = 1e-13  # added to the diagonal, relative to its largest element, so that the system is solvable


def loo_factor(kan: Kan, data: Dataset, goal: Array, smooth: float, ridge: float) -> Array:
    """1 / (1 - h) of each row and output, (N, outputs), for a network fitted to the goal (N, outputs) on these rows."""
    free = free_parameters(kan)
    if sum(group.size for group in free) == 0:
        return np.ones(goal.shape)
    problem = jacobian.problem(kan, data.x, goal, data.weights)
    vector = gather(kan, free)
    rows = jacobian.jacobian(problem, vector)
    normal = rows.T @ rows
    penalty(kan, free, ridge, smooth).add_to(normal, np.zeros(len(vector)), vector)
    normal.flat[:: len(normal) + 1] += JITTER * np.diag(normal).max() + np.finfo(np.float64).tiny
    leverage = np.einsum("np,pn->n", rows, np.linalg.solve(normal, rows.T))
    result: Array = 1 / np.maximum(1 - leverage, LEAST_DENOMINATOR).reshape(goal.shape)
    return result
