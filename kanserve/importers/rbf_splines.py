"""Sums of Gaussians as splines: Σ_g weights[g]·exp(-((x - centres[g])/denominator)²) on each edge of a layer. Quintic
splines of interval h have an error of order h⁶. Edges with the same centres share the Gaussians' coefficients, which
are fitted once."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import CheckpointError
from kanserve.network.splines import basis, uniform_knots

Array = NDArray[np.float64]

ORDER = 5  # the highest order for which every exporter has a fast form
MOST_INTERVALS = 10_000
_POINTS = 16  # Chebyshev points of each interval, for fitting and for measuring errors
_DEGREE = 6
_BLOCK = 1 << 22  # numbers at a time
_LOCAL = np.arange(-ORDER, ORDER + 2, dtype=np.float64)  # the knots around an interval from 0 to 1


@dataclass(frozen=True, eq=False)
class Refit:
    """A layer's edges as splines that are zero outside their range, and a bound on the error of any edge, relative to
    its largest absolute value; the bound also holds between the measured points."""

    knots: Array  # (G + 11,), or (I, G + 11) where inputs have centres of their own
    coefficients: Array  # (O, I, G + 5)
    error: float

    @property
    def intervals(self) -> int:
        return int(self.coefficients.shape[-1]) - ORDER

    def __call__(self, x: Array) -> Array:
        """The sums (R, O) of the splines at x (R, I), from the six active basis functions of each point."""
        first, last = self.knots[..., 0], self.knots[..., -1]
        count = self.intervals + 2 * ORDER
        steps = (x - first) * (count / (last - first))
        inside = (steps >= 0) & (steps < count)
        piece = np.where(inside, steps, 0).astype(np.int64)
        parts: Array = np.where(inside, steps, 0) - piece
        values = basis(np.reshape(parts, -1), _LOCAL, ORDER).reshape(*x.shape, ORDER + 1) * inside[:, :, None]
        padded = np.pad(self.coefficients, ((0, 0), (0, 0), (ORDER, ORDER)))
        total = np.zeros((len(x), len(padded)))
        for i in range(x.shape[1]):
            own = padded[:, i, piece[:, i, None] + np.arange(ORDER + 1)]  # (O, R, 6)
            total += np.einsum("orm,rm->ro", own, values[:, i])
        return total


def refit(weights: Array, centres: Array, denominator: float, tolerance: float) -> Refit:
    """The splines with the fewest intervals that are within the tolerance, for weights (O, I, N). Centres are (N,), or
    (I, N) if each input has its own."""
    if not 0 < tolerance <= 1:
        raise CheckpointError(f"the tolerance of a refit must be above 0 and at most 1, got {tolerance}.")
    distinct, which = np.unique(np.atleast_2d(centres), axis=0, return_inverse=True)
    which = np.broadcast_to(which.ravel(), weights.shape[1])
    own = [weights[:, which == number] for number in range(len(distinct))]
    problems = [_problem(*edges, denominator, tolerance) for edges in zip(own, distinct, strict=True)]
    found = [_fewest(problem, rows, tolerance) for problem, rows in problems]
    intervals = max(count for count, _ in found)
    error = 0.0
    for (problem, rows), (count, least) in zip(problems, found, strict=True):
        error = max(error, least if count == intervals else float(problem.errors(intervals, rows).max(initial=0)))
    knots = np.stack([uniform_knots(problem.low, problem.high, intervals, ORDER) for problem, _ in problems])
    coefficients = np.empty((*weights.shape[:2], intervals + ORDER))
    with np.errstate(all="ignore"):  # weights near the largest number become coefficients that a layer refuses
        for number, (problem, _) in enumerate(problems):
            coefficients[:, which == number] = own[number] @ problem.coefficients(intervals)
    return Refit(knots[0] if len(knots) == 1 else knots[which], coefficients, error)


def _problem(weights: Array, centres: Array, denominator: float, tolerance: float) -> tuple["_Problem", Array]:
    """The range of the splines for edges that share their centres (N,), and the edges' relative weights (E, N)."""
    first, last = float(centres.min()), float(centres.max())
    # In units of the denominator: too wide a range is refused before its arrays are made.
    if not ((last - first) / denominator <= MOST_INTERVALS and math.isfinite(100 * denominator + last - first)):
        raise CheckpointError(
            f"its Gaussians, {denominator:.3g} wide and centred between {first:.3g} and {last:.3g}, need more than "
            f"{MOST_INTERVALS} intervals, which is the most."
        )
    rows = _relative(weights, centres, denominator)
    heaviest = float(np.abs(rows).sum(axis=1).max(initial=1.0))
    # Beyond this reach the Gaussians are negligible, and the basis falls to zero on the extended knots.
    reach = denominator * math.sqrt(math.log(4 * heaviest / tolerance))
    return _Problem(centres, denominator, first - reach, last + reach), rows


def _relative(weights: Array, centres: Array, denominator: float) -> Array:
    """The weights (E, N) of all nonzero edges, each divided by the largest absolute value of its edge."""
    rows: Array = weights.reshape(-1, len(centres))
    rows = rows[(rows != 0).any(axis=1)]
    rows /= np.abs(rows).max(axis=1, keepdims=True)  # first, so that tiny weights do not underflow
    low, high = centres.min() - 2 * denominator, centres.max() + 2 * denominator
    points = np.linspace(low, high, min(16 * math.ceil((high - low) / denominator), 16 * MOST_INTERVALS))
    largest = np.zeros(len(rows))
    for some in np.array_split(points, 1 + len(points) * len(centres) // _BLOCK):
        np.maximum(largest, _largest(rows, _gaussians(some, centres, denominator)), out=largest)
    # If the Gaussians of an edge cancel up to rounding, its error is relative to the weights.
    rows /= np.maximum(largest, 1e-12)[:, None]
    return rows


def _gaussians(x: Array, centres: Array, denominator: float) -> Array:
    """The Gaussians (N, P) at points x (P,)."""
    result: Array = np.exp(-np.square((x - centres[:, None]) / denominator))
    return result


def _largest(rows: Array, functions: Array) -> Array:
    """The largest absolute value (E,) of each linear combination, rows (E, N), of functions (N, P)."""
    parts = np.array_split(rows, 1 + len(rows) * functions.shape[1] // _BLOCK)
    return np.concatenate([np.abs(part @ functions).max(axis=1, initial=0.0) for part in parts])


@dataclass(frozen=True, eq=False)
class _Problem:
    """The Gaussians of a layer, and the range on which they become splines."""

    centres: Array
    denominator: float
    low: float
    high: float

    def coefficients(self, intervals: int) -> Array:
        """Each Gaussian (N,) as a spline (N, G+5), by least squares at the points of all intervals. With periodic ends,
        so far out that the Gaussians vanish, the normal equations are a convolution, solved by a Fourier transform."""
        around = intervals + 2 * ORDER
        kernel = np.zeros((_POINTS, around))
        kernel[:, np.arange(ORDER, -1, -1)] = _local_basis()
        kernel_transform = np.fft.rfft(kernel, axis=1)
        power = np.square(np.abs(kernel_transform)).sum(axis=0)
        fitted = []
        for some in np.array_split(self.centres, 1 + len(self.centres) * around * _POINTS // _BLOCK):
            values = _gaussians(self._points(intervals, 0, around), some, self.denominator)
            values = values.reshape(len(some), around, _POINTS)
            product = np.einsum("sf,nfs->nf", kernel_transform.conj(), np.fft.rfft(values, axis=1))
            fitted.append(np.fft.irfft(product / power, around, axis=1)[:, : intervals + ORDER])
        return np.concatenate(fitted)

    def errors(self, intervals: int, rows: Array) -> Array:
        """Bounds (E,) on the error of each combination (E, N) of the splines. Within an interval a Gaussian is a
        polynomial of degree 6 plus a remainder, bounded by its seventh derivative (Cramér's inequality); a polynomial
        of degree n, measured at m Chebyshev points, is at most the largest measurement / cos(nπ/2m) (Ehlich and Zeller,
        1964)."""
        padded = np.pad(self.coefficients(intervals), ((0, 0), (ORDER, ORDER)))
        pieces = np.lib.stride_tricks.sliding_window_view(padded, ORDER + 1, axis=1)
        measured = np.zeros(len(rows))
        block = max(1, _BLOCK // (_POINTS * len(self.centres)))
        for start in range(0, pieces.shape[1], block):
            stop = min(start + block, pieces.shape[1])
            splines = (pieces[:, start:stop] @ _local_basis().T).reshape(len(self.centres), -1)
            wrong = splines - _gaussians(self._points(intervals, start, stop), self.centres, self.denominator)
            np.maximum(measured, _largest(rows, wrong), out=measured)
        width = (self.high - self.low) / intervals
        heavy = np.abs(rows).sum(axis=1)
        rest = _remainder(width / self.denominator) * heavy
        between = 1 / math.cos(math.pi * _DEGREE / (2 * _POINTS))
        outside = heavy * math.exp(-(((self.centres.min() - self.low + ORDER * width) / self.denominator) ** 2))
        bound: Array = np.maximum(between * (measured + rest) + rest, outside)
        return bound

    def _points(self, intervals: int, start: int, stop: int) -> Array:
        """The Chebyshev points of the intervals `start` to `stop` of the extended knots."""
        width = (self.high - self.low) / intervals
        steps = (np.arange(start, stop) - ORDER)[:, None] + _chebyshev()
        points: Array = (self.low + width * steps).ravel()
        return points


def _chebyshev() -> Array:
    """The Chebyshev points on [0, 1]."""
    points: Array = (1 - np.cos(math.pi * (np.arange(_POINTS) + 0.5) / _POINTS)) / 2
    return points


def _local_basis() -> Array:
    """The six basis functions that are nonzero on an interval, at its points (16, 6)."""
    return basis(_chebyshev(), _LOCAL, ORDER)


def _remainder(width: float) -> float:
    """A bound on the error of interpolating exp(-t²) by degree 6 on an interval of this width."""
    count = _DEGREE + 1
    derivative = 1.09 * math.sqrt(2.0**count * math.factorial(count))
    return 2 * (width / 4) ** count / math.factorial(count) * derivative


def _fewest(problem: _Problem, rows: Array, tolerance: float) -> tuple[int, float]:
    """The fewest intervals with which every edge is within the tolerance, and the largest error."""
    if not len(rows):
        return 1, 0.0
    widths = (problem.high - problem.low) / problem.denominator
    guess = min(MOST_INTERVALS, max(8, math.ceil(widths * (0.004 / tolerance) ** (1 / ORDER))))
    # The worst edges on one grid are the worst on the next; the others are checked again at the end.
    errors = problem.errors(min(guess, 256), rows)
    found = _search(problem, rows[errors >= errors.max() / 2], tolerance, guess)
    while (error := float(problem.errors(found, rows).max())) > tolerance:
        found = _search(problem, rows, tolerance, min(found + 1, MOST_INTERVALS))
    return found, error


def _search(problem: _Problem, rows: Array, tolerance: float, guess: int) -> int:
    """Bisection from a guess; the error falls with the sixth power of the number of intervals."""
    low, high, best = 0, guess, math.inf
    while (error := float(problem.errors(high, rows).max())) > tolerance:
        # A small error that no longer falls is rounding; on coarse grids the error may rise before it falls.
        if high == MOST_INTERVALS or 0.9 * best < error < 1e-9:
            reason = f"on {high} intervals" if high == MOST_INTERVALS else "because of rounding"
            raise CheckpointError(
                f"a refit of its Gaussians within {tolerance:.2g} is not possible {reason};"
                f" {1.5 * min(error, best):.1g} can be met: give that as tolerance."
            )
        low, best = high, error
        high = min(MOST_INTERVALS, math.ceil(high * min(2.0, max(1.1, (error / tolerance) ** (1 / 6)))))
    while high - low > 1:
        middle = (low + high) // 2
        if float(problem.errors(middle, rows).max()) > tolerance:
            low = middle
        else:
            high = middle
    return high
