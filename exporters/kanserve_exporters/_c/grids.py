"""The splines of a layer as tables for C: the coefficients, and how an input finds its rows of coefficients. The
contribution of an input x is a sum of k + 1 rows of coefficients, those of the basis functions that are not 0 at x,
each times the function's value. On equidistant knots the values are polynomials of the position t between two knots,
the same for all inputs; on other knots each interval has its own polynomials."""

import math
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from kanserve.network.export_options import Precision
from kanserve.network.kan import Layer
from kanserve.network.splines import Extrapolation, pieces
from kanserve_exporters._shared.layer_tables import Splines

Array = NDArray[np.float64]

LEADING = 14  # leading bits of a step; a float holds their product with an interval's number exactly
EQUAL = 1e-13  # of a step: the allowed deviation of a knot from an equidistant grid


@dataclass(frozen=True, eq=False)
class Even:
    """Equally spaced knots, with linear or zero extrapolation."""

    # (4 or 5, I): the first and the last knot; 1 / step, rounded such that the last knot is in the last interval or,
    # for zero extrapolation, behind it; then in double 1 / step unchanged, in float a step's leading bits and its rest.
    steps: Array
    last: int  # the number of the last interval


@dataclass(frozen=True, eq=False)
class Uneven:
    """Arbitrary knots: P pieces per input, including those beyond the ends."""

    breaks: Array  # (P - 1, I): the number of x's piece is the number of breaks ≤ x
    origins: Array  # (I, P)
    first: NDArray[np.int64]  # (I, P): the first basis function that is not 0
    polynomials: Array  # (I, P, k + 1, k + 1): of x - origin, by power and function
    ends: NDArray[np.int64]  # (I,): the piece that begins at the end of the range


@dataclass(frozen=True, eq=False)
class Rows:
    """The splines of a layer: I inputs, F = G + k basis functions, O subnodes. The row of input i and function m is
    table[front + i·each + m]; its base weights are at m = F."""

    order: int
    extrapolation: Extrapolation
    functions: int
    front: int  # rows of zeros at the start: with zero extrapolation, rows before and behind those of an input are read
    each: int  # rows per input
    table: Array  # (rows, O)
    grid: Even | Uneven

    @property
    def base(self) -> int:
        """The row of the first input's base weights."""
        return self.front + self.functions

    @property
    def runs_out(self) -> bool:
        """Whether rows before the first and after the last of an input may be read, with weight 0."""
        return isinstance(self.grid, Even) and self.extrapolation == "zero"

    @property
    def kind(self) -> str:
        """The name, without `@`, of the C function that finds an input's rows."""
        if isinstance(self.grid, Uneven):
            return f"uneven_{self.order}"
        return f"even_{self.order}" + ("_zero" if self.extrapolation == "zero" else "")


def rows(layer: Layer, splines: Splines, precision: Precision) -> Rows:
    """Arrange the splines of a layer in rows."""
    knots, order = layer.knots[splines.inputs], layer.order
    coefficients = layer.coefficients[np.ix_(splines.subnodes, splines.inputs)].transpose(1, 2, 0)
    _, functions, outputs = coefficients.shape
    even = _even(knots, order, layer.extrapolation, precision)
    grid = even or _uneven(knots, order, functions, layer.extrapolation, precision)
    own = [coefficients] if splines.base == "zero" else [coefficients, splines.base_weight[:, None]]
    each = functions + len(own) - 1
    # With zero extrapolation, missing functions have weight 0, so their rows may contain any numbers.
    around = even is not None and layer.extrapolation == "zero"
    front, behind = (order, max(0, order + functions + 1 - each)) if around else (0, 0)
    table = np.concatenate(own, axis=1).reshape(-1, outputs)
    padded = np.pad(table, ((front, behind), (0, 0)))
    return Rows(order, layer.extrapolation, functions, front, each, padded, grid)


def _even(knots: Array, order: int, extrapolation: Extrapolation, precision: Precision) -> Even | None:
    """The grids if all are equally spaced, up to rounding of the knots to the precision, else None."""
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
        # The product of an interval's number and the leading bits is exact, so that a knot is rounded only once.
        mantissa, exponent = np.frexp(step)
        leading = np.ldexp(np.round(mantissa * 2**LEADING), exponent - LEADING)
        numbers += [leading, step - leading]
    else:
        numbers.append(1 / step)
    return Even(np.stack(numbers), intervals - 1)


def _per_step(low: Array, high: Array, step: Array, intervals: int, precision: Precision, behind: bool) -> Array | None:
    """1 / step, reduced a little so that its product with high - low is less than `intervals` (or, if `behind`,
    increased so that the last knot is after the last interval); None if not finite."""
    away = 1 if behind else -1
    type = np.float32 if precision == "float" else np.float64
    with np.errstate(all="ignore"):
        span = high.astype(type) - low.astype(type)
        # A margin for rounding of the product, which some processors do with more precision.
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
    breaks = np.minimum(local.breaks, float(largest))  # unused ones are infinite, which has no literal
    ends = (local.breaks <= knots[:, functions, None]).sum(axis=1)
    return Uneven(np.ascontiguousarray(breaks.T), local.origins, first, polynomials.transpose(1, 2, 3, 0), ends)


@dataclass(frozen=True)
class Functions:
    """The k + 1 basis functions on an interval of an even grid, as polynomials of t in [0, 1] in rising powers."""

    polynomials: tuple[tuple[Fraction, ...], ...]

    @property
    def at_start(self) -> tuple[Fraction, ...]:
        """The derivatives of the basis functions at t = 0."""
        return tuple(polynomial[1] for polynomial in self.polynomials)

    @property
    def at_end(self) -> tuple[Fraction, ...]:
        """The derivatives of the basis functions at t = 1."""
        return tuple(
            sum((n * factor for n, factor in enumerate(polynomial)), Fraction(0)) for polynomial in self.polynomials
        )

    def derivatives(self, order: int) -> tuple[tuple[Fraction, ...], ...]:
        return tuple(
            tuple(math.perm(n, order) * factor for n, factor in enumerate(polynomial))[order:]
            for polynomial in self.polynomials
        )


def functions(order: int) -> Functions:
    """The basis functions by the Cox-de Boor recursion B_m = ((t + d - m)·B_(m-1) + (m + 1 - t)·B_m) / d, exactly."""
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
    return Functions(tuple(tuple(polynomial) for polynomial in current))


def _at(polynomial: list[Fraction], power: int) -> Fraction:
    return polynomial[power] if 0 <= power < len(polynomial) else Fraction(0)


def factorial(order: int) -> Fraction:
    """1 / k!, the factor of the outermost functions (1 - t)^k / k! and t^k / k!."""
    return Fraction(1, math.factorial(order))
