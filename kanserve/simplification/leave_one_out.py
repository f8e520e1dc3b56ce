"""What a network would err by on each row, had that row been left out of its fit: by the leverage of the row.

Few rows are too few to hold some out and tell from those whether an edge is needed. For least squares the residual of
a row that is left out is r / (1 - h), h = J_n (J'J + R)⁻¹ J_n', where J_n is the row of the Jacobian; for a network
that holds to first order, so all rows judge, and all rows are learned from.
"""

import numpy as np
from numpy.typing import NDArray

from kanserve.data.dataset import Dataset
from kanserve.network.kan import Kan
from kanserve.train.lm import jacobian
from kanserve.train.lm.parameter_vector import free_parameters, gather, penalty

Array = NDArray[np.float64]

LEAST = 1e-3
"""Of 1 - h: a row that the fit goes through whatever its answer says nothing."""
JITTER = 1e-13
"""Of the largest diagonal element, added to all of them so that the system can be solved."""


def loo_factor(kan: Kan, data: Dataset, goal: Array, smooth: float, ridge: float) -> Array:
    """1 / (1 - h) for each row and output, (N, outputs), of a network fitted to the goal (N, outputs) on these rows."""
    free = free_parameters(kan)
    if sum(one.size for one in free) == 0:
        return np.ones(goal.shape)
    problem = jacobian.problem(kan, data.x, goal, data.weights)
    vector = gather(kan, free)
    rows = jacobian.jacobian(problem, vector)
    normal = rows.T @ rows
    penalty(kan, free, ridge, smooth).add_to(normal, np.zeros(len(vector)), vector)
    normal.flat[:: len(normal) + 1] += JITTER * np.diag(normal).max() + np.finfo(np.float64).tiny
    leverage = np.einsum("np,pn->n", rows, np.linalg.solve(normal, rows.T))
    result: Array = 1 / np.maximum(1 - leverage, LEAST).reshape(goal.shape)
    return result
