"""Laws that are a root of a quadratic equation a·y² + b·y + c = 0, whose coefficients are low polynomials of the
inputs, or of a function of each. The coefficients of a, b and c are the null vector of one matrix: the columns of a
times y², of b times y, and of c."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from kanserve.search.regression.least_squares import root_mean_square
from kanserve.search.regression.rivals import RIVALS_FALL
from kanserve.search.regression.sparse_polynomial import (
    QUOTIENT_EXACT_ERROR,
    Polynomial,
    Powers,
    equals,
    has_enough_rows,
    monomials,
    powers_of,
    sparse_null_vector,
)
from kanserve.search.structure.affine import INNER

Array = NDArray[np.float64]

DEGREES = ((0, 1, 2), (1, 1, 2))  # of a, b and c, one choice after another
ROOT_ROWS = 120  # rows, at most, on which an equation is looked for
MOST_CHOICES = 100  # choices of functions, at most, those with fewest other than the straight line first
NEGLIGIBLE_TERM = 1e-9  # of the discriminant, relative to its largest, that is rounding


@dataclass(frozen=True, eq=False)
class QuadraticRoot:
    """(level + sign·sqrt(discriminant)) / divisor. The three are polynomials of the functions of `INNER` with these
    names, one for each input."""

    functions: tuple[str, ...]
    level: Polynomial
    discriminant: Polynomial
    divisor: Polynomial
    sign: float

    def __call__(self, x: Array) -> Array:
        z = _variables(x, self.functions)
        with np.errstate(all="ignore"):
            return np.asarray((self.level(z) + self.sign * np.sqrt(self.discriminant(z))) / self.divisor(z))


def quadratic_root(x: Array, y: Array) -> QuadraticRoot | None:
    """The root of a quadratic equation that equals y (N,) at rows x (N, d) up to rounding, or None. Without it, one of
    twenty synthetic laws is lost: the side of a triangle from two sides and an angle."""
    some = np.linspace(0, len(x) - 1, min(ROOT_ROWS, len(x))).astype(int)
    spread = float(y.std())
    if not spread:
        return None
    for functions, degrees in product(_choices(x), DEGREES):
        found = _of_equation(functions, degrees, x[some], y[some])
        if found is not None and equals(root_mean_square(found(x) - y), spread):
            return found
    return None


def _choices(x: Array) -> list[tuple[str, ...]]:
    """Every choice of a function for each input (such as x, x² or log x), those with fewest nonlinear ones first."""
    usable: list[list[str]] = []
    with np.errstate(all="ignore"):
        for column in x.T:
            values = {name: function(column) for name, function in INNER.items()}
            usable.append([name for name, own in values.items() if np.isfinite(own).all() and np.ptp(own)])
    return sorted(product(*usable), key=_count_functions)[:MOST_CHOICES]


def _count_functions(functions: Sequence[str]) -> int:
    return sum(name != "identity" for name in functions)


def _variables(x: Array, functions: Sequence[str]) -> Array:
    return np.column_stack([INNER[name](column) for name, column in zip(functions, x.T, strict=True)])


def _of_equation(functions: tuple[str, ...], degrees: Sequence[int], x: Array, y: Array) -> QuadraticRoot | None:
    z = _variables(x, functions)
    terms = [
        (factor, powers)
        for factor, degree in zip((2, 1, 0), degrees, strict=True)
        for powers in powers_of(z.shape[1], degree)
    ]
    if not has_enough_rows(len(terms), len(y)):
        return None
    with np.errstate(over="ignore"):
        columns = np.column_stack([y**factor * monomials(z, [powers])[:, 0] for factor, powers in terms])
    sizes = np.abs(columns).max(axis=0)  # an exponential of 700 has no square
    if not np.isfinite(sizes).all() or not sizes.all():
        return None
    columns = columns / sizes

    def allowed(kept: Sequence[int]) -> bool:
        return any(terms[k][0] == 2 for k in kept)

    sparse = sparse_null_vector(columns, allowed, lambda: _is_unique(columns))
    if sparse is None or not allowed(sparse[0]):
        return None
    a, b, c = (
        {terms[k][1]: float(v / sizes[k]) for k, v in zip(*sparse, strict=True) if terms[k][0] == n} for n in (2, 1, 0)
    )
    return _solve(functions, z, y, a, b, c)


def _is_unique(columns: Array) -> bool:
    """Whether the null space of the columns has one dimension: one combination is zero, and no other close to it."""
    values = np.linalg.svd(np.linalg.qr(columns / np.sqrt(np.sum(columns**2, axis=0)), mode="r"), compute_uv=False)
    return bool(values[-1] < max(RIVALS_FALL * values[-2], QUOTIENT_EXACT_ERROR) < values[-2])


Terms = Mapping[Powers, float]


def _solve(functions: tuple[str, ...], z: Array, y: Array, a: Terms, b: Terms, c: Terms) -> QuadraticRoot | None:
    """The root (-b ± sqrt(b² - 4·a·c)) / (2·a) that equals y, normalised so that the largest coefficient of a is 1."""
    unit = max(a.values(), key=abs)
    a, b, c = ({powers: value / unit for powers, value in terms.items()} for terms in (a, b, c))
    half = {powers: value / 2 for powers, value in b.items()}
    discriminant = _sum(_multiply(half, half), {powers: -value for powers, value in _multiply(a, c).items()})
    if not discriminant:
        return None
    divisor, level = (
        _polynomial(a),
        _polynomial({powers: -value for powers, value in half.items()} or {(0,) * z.shape[1]: 0.0}),
    )
    signs = np.sign(divisor(z) * y - level(z))
    sign = float(np.sign(signs.sum()))
    if not sign or (signs == -sign).any():
        return None
    return QuadraticRoot(functions, level, _polynomial(discriminant), divisor, sign)


def _multiply(first: Terms, second: Terms) -> dict[Powers, float]:
    found: dict[Powers, float] = {}
    for (one, own), (other, theirs) in product(first.items(), second.items()):
        powers = tuple(p + q for p, q in zip(one, other, strict=True))
        found[powers] = found.get(powers, 0.0) + own * theirs
    return found


def _sum(first: Terms, second: Terms) -> dict[Powers, float]:
    found = {powers: first.get(powers, 0.0) + second.get(powers, 0.0) for powers in {**first, **second}}
    largest = max(map(abs, [*first.values(), *second.values()]), default=0.0)
    return {powers: value for powers, value in found.items() if abs(value) > NEGLIGIBLE_TERM * largest}


def _polynomial(terms: Terms) -> Polynomial:
    return Polynomial(tuple(terms), tuple(terms.values()))
