"""Polynomials and rational functions with few terms, when a law is exactly one.

The terms of a total degree are fitted by least squares, degree by degree. Terms that add nothing but rounding are then
left out. A rational function P/Q is the null vector of [P(x), -y·Q(x)], found by singular value decomposition.

A smooth function is close to a polynomial of a high degree, term by term ever closer. So a polynomial counts as exact
only when its error is far below its smallest term.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from kanserve.search.regression.bases import total_degree
from kanserve.search.regression.rivals import RIVALS_FALL, chebyshev_columns, falls_at_once

Array = NDArray[np.float64]
Powers = tuple[int, ...]

NEAR_TERMS = 3  # terms of these polynomials, at most
RIVALS_SINGULAR = 3e-15  # largest singular value, for columns of length 1, that is rounding
POLYNOMIAL_TERMS = 130  # terms before any is left out, at most; a fit takes time in proportion to their square
POLYNOMIAL_DEGREES = MappingProxyType({1: 10, 2: 8, 3: 6, 4: 5})  # highest total degree by the number of inputs
POLYNOMIAL_OTHER_DEGREE = 3  # highest total degree with more inputs than those
POLYNOMIAL_ROWS_PER_TERM = 2  # rows needed per term: with fewer, any values are a polynomial
# Relative error up to which a polynomial is exact: high powers lose digits to one another.
POLYNOMIAL_EXACT_ERROR = 1e-10
# Smallest term over the error, at least. A series that was cut off has less: its terms shrink step by step.
POLYNOMIAL_GAP = 1e8
# Largest sum of the degrees of P and Q by the number of inputs.
QUOTIENT_DEGREES = MappingProxyType({1: 12, 2: 8, 3: 6})
QUOTIENT_OTHER_DEGREES = 4  # largest sum of the degrees with more inputs than those
# Relative error of P - y·Q up to which P/Q is exact: its many terms come close to any smooth function.
QUOTIENT_EXACT_ERROR = 1e-13
# Smallest term of P or y·Q over the largest: a Padé approximant, exact to rounding too, has far smaller ones.
QUOTIENT_LEAST_TERM = 1e-3


@dataclass(frozen=True, eq=False)
class Polynomial:
    """A polynomial Σ coefficient · Π x_i^power_i."""

    powers: tuple[Powers, ...]
    coefficients: tuple[float, ...]

    def __call__(self, x: Array) -> Array:
        result: Array = monomials(x, self.powers) @ np.array(self.coefficients)
        return result


def powers_of(inputs: int, degree: int) -> tuple[Powers, ...]:
    """The exponents of every monomial up to a total degree, the constant first."""
    return tuple(tuple(powers) for powers in total_degree(inputs, degree).tolist())


def _freedom(x: Array) -> list[int]:
    """The highest power of each input that its distinct values can test: one more passes through all of them."""
    return [max(1, len(np.unique(column)) - 2) for column in x.T]


def _within(powers: Sequence[Powers], highest: Sequence[int]) -> tuple[Powers, ...]:
    return tuple(own for own in powers if all(power <= most for power, most in zip(own, highest, strict=True)))


def monomials(x: Array, powers: Sequence[Powers]) -> Array:
    """The monomials (N, terms) at rows x (N, d)."""
    highest = max((max(each) for each in powers), default=0)
    table = np.ones((highest + 1, *x.shape))
    for n in range(1, highest + 1):
        table[n] = table[n - 1] * x
    columns = [np.prod([table[p, :, i] for i, p in enumerate(own) if p] or [table[0, :, 0]], axis=0) for own in powers]
    return np.stack(columns, axis=1)


def near_polynomial(x: Array, y: Array, units: Array, degree: int, worst: float) -> Polynomial | None:
    """The sparsest polynomial of a total degree whose root mean square error, times `units` (N,), is at most `worst`;
    None if it has many terms."""
    powers = powers_of(x.shape[1], degree)
    columns, targets = monomials(x, powers) * units[:, None], y * units
    if not (np.isfinite(columns).all() and np.isfinite(targets).all()):
        return None
    for count in range(1, NEAR_TERMS + 1):
        best, least = None, worst
        for kept in combinations(range(len(powers)), count):
            own = columns[:, kept]
            coefficients = np.linalg.lstsq(own, targets, rcond=None)[0]
            error = float(np.sqrt(np.mean((targets - own @ coefficients) ** 2)))
            if error < least:
                best, least = Polynomial(tuple(powers[k] for k in kept), tuple(coefficients.tolist())), error
        if best is not None:
            return best
    return None


def sparse_polynomial(x: Array, y: Array, highest: int | None = None) -> Polynomial | None:
    """The polynomial of total degree `highest` at most that equals y (N,) at x (N, d) up to rounding, else None."""
    scale = float(np.sqrt(np.mean((y - y.mean()) ** 2)))
    if not scale:
        return None
    inputs, freedom = x.shape[1], _freedom(x)
    most = POLYNOMIAL_DEGREES.get(inputs, POLYNOMIAL_OTHER_DEGREE) if highest is None else highest
    for degree in range(1, most + 1):
        powers = _within(powers_of(inputs, degree), freedom)
        if not has_enough_rows(len(powers), len(y)):
            return None
        with np.errstate(all="ignore"):
            columns = monomials(x, powers)
        if not np.isfinite(columns).all():
            return None
        coefficients, error = _least_squares(columns, y)
        if equals(error, scale):
            if not falls_at_once(x, y, degree):
                return None
            return _eliminate(columns, y, powers, coefficients, scale)
    return None


def equals(error: float, scale: float) -> bool:
    """Whether a polynomial, or a function of some, with this error has values of this scale up to rounding."""
    return error < POLYNOMIAL_EXACT_ERROR * scale


def has_enough_rows(terms: int, rows: int) -> bool:
    """Whether there are enough rows for this many terms, and not too many terms."""
    return terms <= POLYNOMIAL_TERMS and POLYNOMIAL_ROWS_PER_TERM * terms <= rows


def _least_squares(columns: Array, y: Array) -> tuple[Array, float]:
    """Least-squares coefficients and error, with columns scaled and one step of iterative refinement."""
    sizes = np.sqrt(np.mean(columns**2, axis=0))
    sizes[sizes == 0] = 1.0
    scaled = columns / sizes
    first = np.linalg.lstsq(scaled, y, rcond=1e-15)[0]
    second = np.linalg.lstsq(scaled, y - scaled @ first, rcond=1e-15)[0]
    found = first + second
    return found / sizes, float(np.sqrt(np.mean((y - scaled @ found) ** 2)))


def _eliminate(
    columns: Array, y: Array, powers: Sequence[Powers], coefficients: Array, scale: float
) -> Polynomial | None:
    """Drop the smallest terms one by one while the error stays that of an exact polynomial."""
    kept = list(range(len(powers)))
    sizes = np.sqrt(np.mean(columns**2, axis=0))
    limit = POLYNOMIAL_EXACT_ERROR * scale
    _, error = _least_squares(columns, y)
    while len(kept) > 1:
        smallest = min(kept, key=lambda k: abs(coefficients[k]) * sizes[k])
        rest = [k for k in kept if k != smallest]
        found, left = _least_squares(columns[:, rest], y)
        if left > limit:
            break
        kept, error = rest, left
        coefficients = np.zeros(len(powers))
        coefficients[kept] = found
    least = min(abs(coefficients[k]) * sizes[k] for k in kept)
    if least < POLYNOMIAL_GAP * error:
        return None
    return Polynomial(tuple(powers[k] for k in kept), tuple(float(coefficients[k]) for k in kept))


@dataclass(frozen=True, eq=False)
class Rational:
    """A quotient of two polynomials; the denominator's largest coefficient is 1."""

    numerator: Polynomial
    denominator: Polynomial


def rational_function(x: Array, y: Array, highest: int | None = None) -> Rational | None:
    """The quotient of polynomials that equals y (N,) at rows x (N, d) up to rounding, with the sum of degrees as small
    as possible and at most `highest`, else None."""
    scale = float(np.sqrt(np.mean((y - y.mean()) ** 2)))
    if not scale:
        return None
    inputs, freedom = x.shape[1], _freedom(x)
    most = QUOTIENT_DEGREES.get(inputs, QUOTIENT_OTHER_DEGREES) if highest is None else highest
    for top, bottom in _degrees(inputs, len(y), most):
        below = _within(powers_of(inputs, bottom), freedom)
        above = _within(powers_of(inputs, top), [max(0, most - min(bottom, most)) for most in freedom])
        with np.errstate(all="ignore"):
            columns = np.concatenate([monomials(x, above), -y[:, None] * monomials(x, below)], axis=1)
        if not np.isfinite(columns).all():
            return None
        found = _null_vector(columns, len(above), x, y, above, below, scale)
        if found is not None:
            return found
    return None


def _degrees(inputs: int, rows: int, most: int) -> Iterator[tuple[int, int]]:
    for total in range(2, most + 1):
        for bottom in range(1, total + 1):
            top = total - bottom
            count = len(powers_of(inputs, top)) + len(powers_of(inputs, bottom))
            if has_enough_rows(count, rows):
                yield top, bottom


def _stands_alone(x: Array, y: Array, above: Sequence[Powers], below: Sequence[Powers]) -> bool:
    """Whether P - y·Q = 0 has one solution up to scale, and none comes close; tested in a well-conditioned basis."""
    top, bottom = (chebyshev_columns(x, np.array(powers, np.int64)) for powers in (above, below))
    columns = np.concatenate([top, -y[:, None] * bottom], axis=1)
    columns = columns / np.sqrt(np.sum(columns**2, axis=0))
    values = np.linalg.svd(np.linalg.qr(columns, mode="r"), compute_uv=False)
    return bool(values[-1] < min(RIVALS_SINGULAR, RIVALS_FALL * values[-2]))


def sparse_null_vector(
    columns: Array, allowed: Callable[[Sequence[int]], bool], unique: Callable[[], bool]
) -> tuple[list[int], Array] | None:
    """A sparse null vector of the columns (N, m): the indices of the columns it uses, and its entries. None if there is
    none up to rounding, if it is not `unique`, or if it needs terms far smaller than the others."""
    exact = QUOTIENT_EXACT_ERROR
    sizes = np.sqrt(np.mean(columns**2, axis=0))
    sizes[sizes == 0] = 1.0
    triangle = np.linalg.qr(columns / sizes, mode="r") / np.sqrt(len(columns))

    def smallest(which: Sequence[int]) -> tuple[float, Array]:
        values, vectors = np.linalg.svd(triangle[:, which])[1:]
        return float(values[-1]) if len(values) == len(which) else 0.0, vectors[-1]

    kept = list(range(columns.shape[1]))
    size, vector = smallest(kept)
    if size > exact or not unique():
        return None
    while len(kept) > 2:
        order = np.argsort(np.abs(vector))
        for k in order[: max(1, len(order) // 2)]:
            rest = [term for n, term in enumerate(kept) if n != k]
            left, other = smallest(rest)
            if left <= exact and allowed(rest):
                kept, size, vector = rest, left, other
                break
        else:
            break
    if np.abs(vector).min() < max(QUOTIENT_LEAST_TERM * np.abs(vector).max(), POLYNOMIAL_GAP * size):
        return None
    return kept, vector / sizes[kept]


def _null_vector(
    columns: Array, split: int, x: Array, y: Array, above: Sequence[Powers], below: Sequence[Powers], scale: float
) -> Rational | None:
    """The sparsest null vector as a quotient; None if there is none, or if the quotient does not equal y."""

    def allowed(kept: Sequence[int]) -> bool:
        return any(term < split for term in kept) and any(term >= split for term in kept)

    sparse = sparse_null_vector(columns, allowed, lambda: _stands_alone(x, y, above, below))
    if sparse is None:
        return None
    kept, values = sparse
    top = [(above[k], v) for k, v in zip(kept, values, strict=True) if k < split]
    bottom = [(below[k - split], v) for k, v in zip(kept, values, strict=True) if k >= split]
    if len(bottom) == 1 and not any(bottom[0][0]):
        return None  # a polynomial
    unit = max((v for _, v in bottom), key=abs)
    numerator = Polynomial(tuple(p for p, _ in top), tuple(float(v / unit) for _, v in top))
    denominator = Polynomial(tuple(p for p, _ in bottom), tuple(float(v / unit) for _, v in bottom))
    with np.errstate(all="ignore"):
        divisor = denominator(x)
        error = float(np.sqrt(np.mean((numerator(x) / divisor - y) ** 2)))
    if not equals(error, scale):
        return None
    return Rational(numerator, denominator)
