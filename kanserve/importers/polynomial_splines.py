"""Families of polynomials by their recurrences, and their exact values as splines on [-1, 1].

p_0 = 1 and p_n = (a_n·x + b_n)·p_(n-1) + c_n·p_(n-2); two families begin otherwise. All is computed in fractions and
rounded once, so that the splines are the polynomials up to the rounding of a float.

One interval is exact in theory, but its coefficients and its powers of (x + 1) grow with the degree and cancel. Above
degree 4 there is one interval for each degree, closer at the ends, as the zeros of Chebyshev's polynomials are. Up to
degree 12 the error is then below 1e-12 of the sum of the terms' largest values, in the B-spline form and in the local
polynomials that exports use: 6e-15 and 3e-13 for Chebyshev's. Degree 16 has 5e-12 in the latter.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from kanserve.importers.conversion import Basis

Array = NDArray[np.float64]
Polynomial = list[Fraction]  # coefficients of 1, x, x² and so on

LARGEST_DEGREE = 12
_ONE_INTERVAL = 4  # the largest degree for which one interval is enough
_KNOT_STEPS = 4096  # knots are multiples of 1/4096, so that fractions stay short

Step = Callable[[int, tuple[Fraction, ...]], tuple[Fraction | int, Fraction | int, Fraction | int]]
"""a_n, b_n and c_n from n and the constants of the family."""


@dataclass(frozen=True)
class Family:
    """A family of polynomials: its recurrence, its constants with their usual values, and p_0 and p_1 if special."""

    step: Step
    constants: tuple[str, ...] = ()
    usual: tuple[float, ...] | None = ()
    first: tuple[tuple[int, ...], tuple[int, ...]] | None = None


def _jacobi(n: int, constants: tuple[Fraction, ...]) -> tuple[Fraction, Fraction, Fraction]:
    a, b = constants
    if n == 1:  # where the general form may divide 0 by 0
        return (a + b + 2) / 2, (a - b) / 2, Fraction(0)
    both = 2 * n + a + b
    below = 2 * n * (n + a + b) * (both - 2)
    return (
        (both - 1) * both / (2 * n * (n + a + b)),
        (both - 1) * (a * a - b * b) / below,
        -2 * (n + a - 1) * (n + b - 1) * both / below,
    )


FAMILIES: Mapping[Basis, Family] = {
    "chebyshev": Family(lambda n, _: (1 if n == 1 else 2, 0, -1)),
    "chebyshev2": Family(lambda n, _: (2, 0, -1)),
    "legendre": Family(lambda n, _: (Fraction(2 * n - 1, n), 0, -Fraction(n - 1, n))),
    "hermite": Family(lambda n, _: (2, 0, -2 * (n - 1))),
    "jacobi": Family(_jacobi, ("a", "b"), (1.0, 1.0)),
    "gegenbauer": Family(lambda n, own: (2 * (n + own[0] - 1) / n, 0, -(n + 2 * own[0] - 2) / n), ("alpha",), None),
    "laguerre": Family(
        lambda n, own: (-Fraction(1, n), (2 * n - 1 + own[0]) / n, -(n - 1 + own[0]) / n), ("alpha",), None
    ),
    "bessel": Family(lambda n, _: (2 * n - 1, 1 if n == 1 else 0, 1)),
    "fibonacci": Family(lambda n, _: (1, 0, 1), first=((0,), (1,))),
    "lucas": Family(lambda n, _: (1, 0, 1), first=((2,), (0, 1))),
}


def polynomials(basis: Basis, degree: int, constants: tuple[float, ...]) -> list[Polynomial]:
    """p_0 to p_degree. Raises ZeroDivisionError for constants for which the recurrence divides by zero."""
    family, exact = FAMILIES[basis], tuple(map(Fraction, constants))
    found: list[Polynomial] = [[Fraction(value) for value in start] for start in family.first or ((1,),)]
    for n in range(len(found), degree + 1):
        a, b, c = family.step(n, exact)
        before = found[n - 2] if n > 1 else []
        found.append(
            [
                a * _at(found[n - 1], power - 1) + b * _at(found[n - 1], power) + c * _at(before, power)
                for power in range(n + 1)
            ]
        )
    return found[: degree + 1]


def _at(polynomial: Polynomial, power: int) -> Fraction:
    return polynomial[power] if 0 <= power < len(polynomial) else Fraction(0)


def knots_of(degree: int) -> Array:
    """The knots on [-1, 1] of splines of this order (1 for a constant), repeated at the ends."""
    order = max(degree, 1)
    intervals = 1 if order <= _ONE_INTERVAL else order
    inner = np.round(-np.cos(np.pi * np.arange(intervals + 1) / intervals) * _KNOT_STEPS) / _KNOT_STEPS
    return np.concatenate([np.full(order, -1.0), inner, np.full(order, 1.0)])


def spline_coefficients(series: list[Polynomial], knots: Array) -> Array:
    """The B-spline coefficients (G+k, degree + 1) of each polynomial: its blossom at each k consecutive knots."""
    order = max(len(series) - 1, 1)
    exact = [Fraction(knot) for knot in knots]
    rows = []
    for m in range(len(knots) - order - 1):
        # The sums of all products of r of the knots, for r = 0, 1, ...
        symmetric = [Fraction(1)] + [Fraction(0)] * order
        for knot in exact[m + 1 : m + order + 1]:
            for r in range(order, 0, -1):
                symmetric[r] += knot * symmetric[r - 1]
        means = [value / math.comb(order, r) for r, value in enumerate(symmetric)]
        rows.append([float(sum(a * mean for a, mean in zip(own, means, strict=False))) for own in series])
    return np.array(rows)
