"""Splines with repeated knots, as pykan evaluates them, rewritten on ordinary knots.

pykan's recursion divides by the widths of the two halves of a basis function. If either is 0, the whole function
becomes 0, and the other half is lost:

    B_m,d = 0                      where t_(m+d) = t_m or t_(m+d+1) = t_(m+1)

Every function of degree 1 is then a hat or 0. The result is continuous and a polynomial between neighbouring knots, but
its slope may jump at any knot, so it is not a spline on these knots, but on knots with each distinct knot k times.
"""

import numpy as np
from numpy.typing import NDArray

from kanserve.network.splines import basis

Array = NDArray[np.float64]

FEWEST = 3  # intervals: the first and the last lie outside the new spline's range, whose width must not be 0


def coincide(knots: Array) -> NDArray[np.bool_]:
    """Mask (I,) of the inputs with two equal knots, for knots (I, T)."""
    result: NDArray[np.bool_] = (np.diff(knots, axis=1) == 0).any(axis=1)
    return result


def rewritten(knots: Array, coefficients: Array, order: int) -> tuple[Array, Array, float]:
    """The new knots (I, T'), coefficients (O, I, n') and the largest relative error, which is only rounding. Inputs
    with fewer distinct knots get further ones after their last, where the spline is 0."""
    distinct = [np.unique(row) for row in knots]
    intervals = max(FEWEST, *(len(row) - 1 for row in distinct))
    new_knots, columns = [], []
    worst = largest = 0.0
    for i, own in enumerate(distinct):
        breaks = _lengthen(own, intervals)
        repeated = np.repeat(breaks, order)
        inner = breaks[:-1, None] + np.diff(breaks)[:, None] * np.arange(1, order) / order
        sites = np.sort(np.concatenate([inner.ravel(), breaks[1:-1]]))
        wanted = _as_pykan(sites, knots[i], order) @ coefficients[:, i].T
        solved = np.linalg.solve(basis(sites, repeated, order), wanted)
        between = (breaks[:-1, None] + np.diff(breaks)[:, None] * (np.arange(2 * order) + 0.5) / (2 * order)).ravel()
        there = _as_pykan(between, knots[i], order) @ coefficients[:, i].T
        worst = max(worst, float(np.abs(basis(between, repeated, order) @ solved - there).max()))
        largest = max(largest, float(np.abs(there).max()))
        new_knots.append(repeated)
        columns.append(solved.T)
    return np.stack(new_knots), np.stack(columns, axis=1), worst / largest if largest else worst


def _lengthen(distinct: Array, intervals: int) -> Array:
    """Extend the distinct knots (P,) to intervals + 1 knots."""
    step = (distinct[-1] - distinct[0]) / (len(distinct) - 1) if len(distinct) > 1 else max(1.0, abs(distinct[0]))
    more = np.arange(1, intervals + 2 - len(distinct))
    return np.concatenate([distinct, distinct[-1] + step * more])


def _as_pykan(x: Array, knots: Array, order: int) -> Array:
    """All basis functions (N, n) at x (N,) by pykan's recursion."""
    values = ((knots[:-1] <= x[:, None]) & (x[:, None] < knots[1:])).astype(np.float64)
    for degree in range(1, order + 1):
        width = knots[degree:] - knots[:-degree]
        left, right = width[:-1], width[1:]
        whole = (left > 0) & (right > 0)
        rising = np.divide(x[:, None] - knots[: -degree - 1], left, out=np.zeros((len(x), len(left))), where=whole)
        falling = np.divide(knots[degree + 1 :] - x[:, None], right, out=np.zeros((len(x), len(left))), where=whole)
        values = rising * values[:, :-1] + falling * values[:, 1:]
    return values
