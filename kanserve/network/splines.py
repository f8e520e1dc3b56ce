"""B-splines of one variable: knots, basis, derivatives, least-squares fit and conversion to local polynomials.

B_m,k is the B-spline of order k (degree k) on knots t_m .. t_(m+k+1), by the recursion of Cox and de Boor in which
0/0 counts as 0. A grid of G intervals has G + 2k + 1 knots: the G + 1 interior ones, t_k to t_(G+k), span the
range of the spline, and k more lie on either side. There are G + k basis functions.

Arrays: x (N,) or (N, I); knots (T,) or (I, T); coefficients (O, I, G+k). Everything is float64.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Extrapolation = Literal["linear", "zero"]


def uniform_knots(low: float, high: float, intervals: int, order: int) -> Array:
    """The G + 2k + 1 equally spaced knots of a range, including the extended ones."""
    return extend_knots(np.linspace(low, high, intervals + 1), order)


def extend_knots(interior: Array, order: int) -> Array:
    """Extend interior knots (G+1,) by `order` knots on either side, spaced like the outermost intervals."""
    steps = np.arange(1, order + 1)
    left = interior[0] - steps[::-1] * (interior[1] - interior[0])
    right = interior[-1] + steps * (interior[-1] - interior[-2])
    return np.concatenate([left, interior, right])


def basis(x: Array, knots: Array, order: int, derivative: int = 0) -> Array:
    """All basis functions at x (N,), or a derivative of them: (N, G+k). Zero outside the knots. Intervals are
    half-open, so that a point on a knot belongs to one piece; the end of the range belongs to the last interval."""
    count = len(knots) - order - 1
    if derivative > order:
        return np.zeros((len(x), count))
    end = knots[count]  # t_(G+k)
    last = int(np.searchsorted(knots, end, side="left")) - 1  # the last interval of the range that has a width
    at_end = (x == end)[:, None]
    inside = (knots[:-1] <= x[:, None]) & (x[:, None] < knots[1:])
    inside = np.where(at_end, np.arange(len(knots) - 1) == last, inside)
    values = inside.astype(np.float64)
    for degree in range(1, order - derivative + 1):
        left, right = _reciprocal_widths(knots, degree)
        rising = (x[:, None] - knots[: -degree - 1]) * left
        falling = (knots[degree + 1 :] - x[:, None]) * right
        values = rising * values[:, :-1] + falling * values[:, 1:]
    for degree in range(order - derivative + 1, order + 1):
        left, right = _reciprocal_widths(knots, degree)
        values = degree * (left * values[:, :-1] - right * values[:, 1:])
    return values


def _reciprocal_widths(knots: Array, degree: int) -> tuple[Array, Array]:
    """1/(t_(m+d) - t_m) and 1/(t_(m+d+1) - t_(m+1)) for every m, 0 if the knots coincide."""
    width = knots[degree:] - knots[:-degree]
    inverse = np.divide(1.0, width, out=np.zeros_like(width), where=width > 0)
    return inverse[:-1], inverse[1:]


def design(x: Array, knots: Array, order: int, extrapolation: Extrapolation, derivative: int = 0) -> Array:
    """The matrix (N, G+k) that maps coefficients to the spline's values at x, also outside its range: "linear"
    extrapolates with the slope at the end, with "zero" the basis falls to zero on the extended knots. `derivative` 1
    gives slopes, 2 and more higher derivatives. Rows for NaN and infinity are meaningless."""
    if extrapolation == "zero":
        inside = (knots[0] <= x) & (x <= knots[-1])
        # Points outside are moved to a knot: far away the recursion would give 0·infinity.
        within: Array = basis(np.where(inside, x, knots[0]), knots, order, derivative) * inside[:, None]
        return within
    low, high = span(knots, order)
    clamped = np.clip(x, low, high)
    if derivative > 1:
        bent: Array = basis(clamped, knots, order, derivative) * (clamped == x)[:, None]
        return bent
    if derivative:
        return basis(clamped, knots, order, 1)
    at_low, at_high = basis(np.array([low, high]), knots, order, 1)
    beyond: Array = (x - clamped)[:, None] * np.where((x < low)[:, None], at_low, at_high)
    return basis(clamped, knots, order) + beyond


def span(knots: Array, order: int) -> tuple[float, float]:
    """The range of a spline: its first and last interior knot."""
    return float(knots[order]), float(knots[-order - 1])


def fit_coefficients(x: Array, y: Array, knots: Array, order: int, ridge: float = 1e-12) -> Array:
    """The coefficients (G+k, ...) of the least-squares spline for y (N, ...) at x (N,). The ridge is relative to the
    mean diagonal of the normal matrix: basis functions without points get zero, and duplicate points do no harm."""
    matrix = design(x, knots, order, "linear")
    normal = matrix.T @ matrix
    strength = max(ridge * float(np.trace(normal)) / len(normal), np.finfo(np.float64).tiny)
    stacked = np.vstack([matrix, np.sqrt(strength) * np.eye(len(normal))])
    padded = np.concatenate([y, np.zeros((len(normal), *y.shape[1:]))])
    solution: Array = np.linalg.lstsq(stacked, padded, rcond=None)[0]
    return solution


@dataclass(frozen=True, eq=False)
class Pieces:
    """A layer's splines as local polynomials. Input i at x lies in piece p, the number of breaks[i] ≤ x; there the
    spline of edge (j, i) is Σ_r coefficients[j, i, p, r]·(x - origins[i, p])^r. The first and last piece lie outside
    the range. Inputs with fewer knots have spare breaks at +infinity and repeat the last piece."""

    breaks: Array  # (I, P-1), non-decreasing
    origins: Array  # (I, P)
    coefficients: Array  # (O, I, P, k+1)


def pieces(knots: Array, coefficients: Array, order: int, extrapolation: Extrapolation) -> Pieces:
    """The local polynomials of all splines of a layer: knots (I, G+2k+1), coefficients (O, I, G+k)."""
    per_input = [_pieces_of_input(knots[i], coefficients[:, i], order, extrapolation) for i in range(knots.shape[0])]
    most = max((len(origins) for _, origins, _ in per_input), default=2)
    breaks = np.full((len(per_input), most - 1), np.inf)
    origins = np.zeros((len(per_input), most))
    local = np.zeros((coefficients.shape[0], len(per_input), most, order + 1))
    for i, (own_breaks, own_origins, own) in enumerate(per_input):
        breaks[i, : len(own_breaks)] = own_breaks
        origins[i, : len(own_origins)] = own_origins
        origins[i, len(own_origins) :] = own_origins[-1]
        local[:, i, : own.shape[1]] = own
        local[:, i, own.shape[1] :] = own[:, -1:]
    return Pieces(breaks, origins, local)


def about(polynomials: Array, by: Array) -> Array:
    """Re-expand polynomials (O, I, P, k+1) about origins moved by (I, P). After rounding origins to float32, this keeps
    the spline unchanged."""
    moved = np.zeros_like(polynomials)
    for power in range(polynomials.shape[-1]):
        for r in range(power + 1):
            moved[..., r] += math.comb(power, r) * by ** (power - r) * polynomials[..., power]
    return moved


def _pieces_of_input(
    knots: Array, coefficients: Array, order: int, extrapolation: Extrapolation
) -> tuple[Array, Array, Array]:
    """Breaks (P-1,), origins (P,) and local polynomials (O, P, k+1) of the splines of one input."""
    count = len(knots) - order - 1
    first, stop = (order, count) if extrapolation == "linear" else (0, len(knots) - 1)
    intervals = [j for j in range(first, stop) if knots[j] < knots[j + 1]]
    inner = np.stack([coefficients @ _local_basis(knots, order, j) for j in intervals], axis=1)
    starts = knots[intervals]
    end = knots[intervals[-1] + 1]
    outputs = coefficients.shape[0]
    before = np.zeros((outputs, 1, order + 1))
    after = np.zeros((outputs, 1, order + 1))
    if extrapolation == "linear":
        before[:, 0, :2] = inner[:, 0, :2]
        powers = (end - starts[-1]) ** np.arange(order + 1)
        after[:, 0, 0] = inner[:, -1] @ powers
        after[:, 0, 1] = (inner[:, -1, 1:] * np.arange(1, order + 1)) @ powers[:-1]
    breaks = np.append(starts, end)
    origins = np.concatenate([starts[:1], starts, [end]])
    return breaks, origins, np.concatenate([before, inner, after], axis=1)


def _local_basis(knots: Array, order: int, interval: int) -> Array:
    """All basis functions on one interval as polynomials in x - knots[interval]: (G+k, k+1)."""
    origin = knots[interval]
    first, stop = max(interval - order, 0), min(interval + order + 2, len(knots))
    near = knots[first:stop]  # the knots of the basis functions that are not 0 on the interval
    values = np.zeros((len(near) - 1, order + 1))
    values[interval - first, 0] = 1.0
    for degree in range(1, order + 1):
        left, right = _reciprocal_widths(near, degree)
        shifted = np.zeros_like(values)
        shifted[:, 1:] = values[:, :-1]  # multiplied by (x - origin)
        rising = (origin - near[: -degree - 1])[:, None] * values[:-1] + shifted[:-1]
        falling = (near[degree + 1 :] - origin)[:, None] * values[1:] - shifted[1:]
        values = left[:, None] * rising + right[:, None] * falling
    every = np.zeros((len(knots) - order - 1, order + 1))
    every[first : first + len(values)] = values
    return every
