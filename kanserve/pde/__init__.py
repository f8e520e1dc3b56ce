"""Solve differential equations: fit a network so that residuals are zero, by exact derivatives and Levenberg-Marquardt.

    def poisson(x, u):
        return u.dd(0, 0) + u.dd(1, 1) - source(x)

    inside = Residual(poisson, interior, weight=0.01)
    edge = Residual(lambda x, u: u.value, boundary)
    kan = solve([2, 10, 1], [inside, edge])

Only NumPy is needed. The result is a network like any other: evaluate, prune, export or serve it.
"""

from kanserve.pde.residuals import Residual
from kanserve.pde.solver import defects, refine, solve
from kanserve.pde.unknown_function import Field, Fields

__all__ = ["Field", "Fields", "Residual", "defects", "refine", "solve"]
