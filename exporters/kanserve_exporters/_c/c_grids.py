"""The splines of a layer as the numbers that C reads: coefficients as they are, and how an input finds its rows.

An input at x is a sum of k + 1 rows of coefficients, those of the basis functions that are not 0 there, each times the
function's value. On knots at equal steps the values are polynomials of the place t between two knots that every input
shares; on others each piece has its own. Rows instead of local polynomials, because these are (k + 1)·G numbers an
edge where the coefficients are G + k.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from kanserve.network.kan import Layer
from kanserve.network.splines import Extrapolation, pieces
from kanserve.options import Precision
from kanserve_exporters._shared.layer_tables import Splines

Array = NDArray[np.float64]

LEADING = 14  # bits of a step, of which a float holds the product with an interval's number
EQUAL = 1e-13  # of a step: how far a knot may be from its place on a grid of equal steps


@dataclass(frozen=True, eq=False)
class Even:
    """Knots at equal steps, straight or 0 beyond their ends."""

    # (4 or 5, I): the first and the last knot, 1 / step so rounded that the last knot is in the last interval or, where
    # splines run out, behind it; then in double 1 / step as it is, in float a step's leading bits and the others.
    steps: Array
    last: int  # the number of the last interval


@dataclass(frozen=True, eq=False)
class Uneven:
    """Any knots: P pieces to an input, what lies beyond the ends among them."""

    breaks: Array  # (P - 1, I): x lies in the piece whose number is how many breaks are ≤ x
    origins: Array  # (I, P)
    first: NDArray[np.int64]  # (I, P): the first basis function that is not 0
    polynomials: Array  # (I, P, k + 1, k + 1): of x - origin, by power and function


@dataclass(frozen=True, eq=False)
class Rows:
    """The spline parts of a layer: I inputs, F = G + k functions, O subnodes.

    The row of input i and function m is table[front + i·each + m]; that of its base weights is m = F.
    """

    order: int
    extrapolation: Extrapolation
    functions: int
    front: int  # rows of zeros before the first: a spline that runs out has functions before and behind its own
    each: int  # rows of an input
    table: Array  # (rows, O)
    grid: Even | Uneven

    @property
    def base(self) -> int:
        """The row of the first input's base weights."""
        return self.front + self.functions

    @property
    def runs_out(self) -> bool:
        """Whether rows before the first and behind the last of an input count 0 times."""
        return isinstance(self.grid, Even) and self.extrapolation == "zero"

    @property
    def kind(self) -> str:
        """What the C function that finds an input's rows is called, `@` left out."""
        if isinstance(self.grid, Uneven):
            return f"uneven_{self.order}"
        return f"even_{self.order}" + ("_zero" if self.extrapolation == "zero" else "")


def rows(layer: Layer, splines: Splines, precision: Precision) -> Rows:
    """The splines of a layer in rows."""
    knots, order = layer.knots[splines.inputs], layer.order
    coefficients = layer.coefficients[np.ix_(splines.subnodes, splines.inputs)].transpose(1, 2, 0)
    _, functions, outputs = coefficients.shape
    even = _even(knots, order, layer.extrapolation, precision)
    grid = even or _uneven(knots, order, functions, layer.extrapolation, precision)
    own = [coefficients] if splines.base == "zero" else [coefficients, splines.base_weight[:, None]]
    each = functions + len(own) - 1
    # Of a spline that runs out, functions that are not there count 0 times whatever number lies there.
    around = even is not None and layer.extrapolation == "zero"
    front, behind = (order, max(0, order + functions + 1 - each)) if around else (0, 0)
    table = np.concatenate(own, axis=1).reshape(-1, outputs)
    padded = np.pad(table, ((front, behind), (0, 0)))
    return Rows(order, layer.extrapolation, functions, front, each, padded, grid)


def _even(knots: Array, order: int, extrapolation: Extrapolation, precision: Precision) -> Even | None:
    """The grids when all are at equal steps, but for what rounding a knot to the precision moves it."""
    count = knots.shape[1] - 1
    low, step = knots[:, 0], (knots[:, -1] - knots[:, 0]) / count
    places = low[:, None] + step[:, None] * np.arange(count + 1)
    grain = 2.0**-24 if precision == "float" else 2.0**-53
    moved = np.maximum(EQUAL * step, grain * np.abs(knots).max(axis=1))
    if (step <= 0).any() or (np.abs(knots - places) > moved[:, None]).any():
        return None
    inner = order if extrapolation == "linear" else 0
    intervals = count - 2 * inner
    low, high = knots[:, inner], knots[:, count - inner]
    per_step = _per_step(low, high, step, intervals, precision, behind=not inner)
    if per_step is None:
        return None
    numbers = [low, high, per_step]
    if precision == "float":
        # The product of an interval's number and the leading bits is exact, and so a knot is rounded but once.
        mantissa, exponent = np.frexp(step)
        leading = np.ldexp(np.round(mantissa * 2**LEADING), exponent - LEADING)
        numbers += [leading, step - leading]
    else:
        numbers.append(1 / step)
    return Even(np.stack(numbers), intervals - 1)


def _per_step(low: Array, high: Array, step: Array, intervals: int, precision: Precision, behind: bool) -> Array | None:
    """1 / step, or a little less: its product with high - low is less than `intervals`; None when it is no number.

    Or a little more where the last knot is to be `behind` the last interval.
    """
    away = 1 if behind else -1
    type = np.float32 if precision == "float" else np.float64
    with np.errstate(all="ignore"):
        span = high.astype(type) - low.astype(type)
        # As much above as rounding, which some processors do later, may move the product.
        margin = 2 * float(np.finfo(type).eps)
        result = (1 / step * (1 + away * margin)).astype(type)
        usable = np.isfinite(span) & np.isfinite(result) & (result >= np.finfo(type).tiny)
        while (short := usable & (away * (span * result * type(1 - away * margin) - intervals) <= 0)).any():
            result = np.where(short, np.nextafter(result, type(np.inf if behind else 0)), result)
    return result.astype(np.float64) if usable.all() else None


def _uneven(knots: Array, order: int, functions: int, extrapolation: Extrapolation, precision: Precision) -> Uneven:
    every = np.broadcast_to(np.eye(functions)[:, None], (functions, len(knots), functions))
    local = pieces(knots, every, order, extrapolation)
    present = (local.coefficients != 0).any(axis=3)  # (F, I, P)
    first = np.minimum(present.argmax(axis=0), functions - order - 1)
    chosen = first + np.arange(order + 1)[:, None, None]
    polynomials = np.take_along_axis(local.coefficients, chosen[..., None], axis=0)
    largest = np.finfo(np.float32 if precision == "float" else np.float64).max
    breaks = np.minimum(local.breaks, float(largest))  # spare ones are infinite, which is no literal
    return Uneven(np.ascontiguousarray(breaks.T), local.origins, first, polynomials.transpose(1, 2, 3, 0))


@dataclass(frozen=True)
class Functions:
    """The k + 1 basis functions on one interval of equal steps, as polynomials of t from 0 to 1 by rising powers."""

    polynomials: tuple[tuple[Fraction, ...], ...]

    @property
    def at_start(self) -> tuple[Fraction, ...]:
        """Their slopes at t = 0."""
        return tuple(polynomial[1] for polynomial in self.polynomials)

    @property
    def at_end(self) -> tuple[Fraction, ...]:
        """Their slopes at t = 1."""
        return tuple(
            sum((n * factor for n, factor in enumerate(polynomial)), Fraction(0)) for polynomial in self.polynomials
        )

    @property
    def slopes(self) -> tuple[tuple[Fraction, ...], ...]:
        return tuple(tuple(n * factor for n, factor in enumerate(polynomial))[1:] for polynomial in self.polynomials)


def functions(order: int) -> Functions:
    """By the recursion of Cox and de Boor: B_m = ((t + d - m)·B_(m-1) + (m + 1 - t)·B_m) / d, exactly."""
    current = [[Fraction(1)]]
    for degree in range(1, order + 1):
        none = [Fraction(0)] * degree
        before = [none, *current, none]
        current = [
            [
                (_at(left, n - 1) + (degree - m) * _at(left, n) + (m + 1) * _at(right, n) - _at(right, n - 1)) / degree
                for n in range(degree + 1)
            ]
            for m, (left, right) in enumerate(pairwise(before))
        ]
    return Functions(tuple(tuple(one) for one in current))


def _at(polynomial: list[Fraction], power: int) -> Fraction:
    return polynomial[power] if 0 <= power < len(polynomial) else Fraction(0)


def factorial(order: int) -> Fraction:
    """1 / k!, by which the outermost functions begin: (1 - t)^k / k! and t^k / k!."""
    return Fraction(1, math.factorial(order))
