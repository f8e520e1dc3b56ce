"""Equivalent forms of products: identities for quotients and products of sines, cosines and exponentials."""

import math
from collections.abc import Iterator

from kanserve.formula.algebra.identities import apply_identities
from kanserve.formula.algebra.polynomials import ONE, Algebra, Polynomial, Product, inverse, sum_of, times

_QUOTIENTS = (("sin", "cos", "tan"), ("sinh", "cosh", "tanh"))


def quotients(algebra: Algebra, product: Product) -> tuple[list[tuple[str, Polynomial, int]], Product]:
    """Replace sin/cos by tan and sinh/cosh by tanh: (name, argument, exponent) of each, and the remaining factors."""
    left = dict(product)
    made: list[tuple[str, Polynomial, int]] = []
    for sine, cosine, name in _QUOTIENTS:
        for sine_atom, cosine_atom in _of_one_argument(algebra, left, sine, cosine):
            p, q = left[sine_atom], left[cosine_atom]
            if p * q < 0 and p.is_integer() and q.is_integer():
                exponent = math.copysign(min(abs(p), abs(q)), p)
                made.append((name, algebra.atoms[sine_atom].polynomial, int(exponent)))
                left[sine_atom], left[cosine_atom] = p - exponent, q + exponent
    return made, tuple((n, e) for n, e in left.items() if e)


def in_other_words(algebra: Algebra, coefficient: float, product: Product) -> Iterator[tuple[float, Product]]:
    """Equivalent forms (coefficient, product), each by one identity."""
    powers = dict(product)
    for number, partner in _of_one_argument(algebra, powers, "sin", "cos"):
        if powers[number] == powers[partner] and powers[number].is_integer():
            rest = _without(product, number, partner)
            double = apply_identities(algebra, "sin", times(algebra.atoms[number].polynomial, 2.0))
            yield from _with_power(algebra, coefficient, rest, times(double, 0.5), powers[number])
    for number, exponent in product:
        if algebra.atoms[number].name in ("sin", "cos") and exponent == 2:
            yield from _half(algebra, coefficient, product, number)
    for number, partner in _opposite_brackets(algebra, powers):
        rest = _without(product, number, partner)
        tangent = _tangent(algebra, algebra.atoms[number].polynomial, algebra.atoms[partner].polynomial)
        if tangent is not None:
            yield from _with_power(algebra, coefficient, rest, tangent, powers[number])


def _with_power(
    algebra: Algebra, coefficient: float, rest: Product, factor: Polynomial, exponent: float
) -> Iterator[tuple[float, Product]]:
    """coefficient·rest·factor^exponent, if the factor is a single term."""
    if len(factor) == 1:
        ((wave, c),) = factor.items()
        yield coefficient * c**exponent, algebra.merge(rest, algebra.to_power(wave, exponent))


def _half(algebra: Algebra, coefficient: float, product: Product, number: int) -> Iterator[tuple[float, Product]]:
    """sin²(u) as (1 - cos(2·u))/2, and cos²(u) as (1 + cos(2·u))/2."""
    sign = -1.0 if algebra.atoms[number].name == "sin" else 1.0
    double = apply_identities(algebra, "cos", times(algebra.atoms[number].polynomial, 2.0))
    c, bracket = algebra.term(sum_of([{ONE: 1.0}, times(double, sign)]))
    yield coefficient * c / 2, algebra.merge(_without(product, number), bracket)


def _opposite_brackets(algebra: Algebra, powers: dict[int, float]) -> list[tuple[int, int]]:
    """Pairs of two-term brackets with opposite exponents."""
    brackets = [n for n in powers if algebra.atoms[n].kind == "sum" and len(algebra.atoms[n].polynomial) == 2]
    return [(n, m) for n in brackets for m in brackets if n != m and powers[n] == -powers[m] and powers[n].is_integer()]


def _tangent(algebra: Algebra, above: Polynomial, below: Polynomial) -> Polynomial | None:
    """(exp(u) - exp(v))/(exp(u) + exp(v)) as tanh((u - v)/2), or None."""
    if set(above) != set(below) or any(not algebra.atoms[n].exponential for product in above for n, _ in product):
        return None
    first, second = above
    unlike = above[first] * above[second] < 0 < below[first] * below[second]
    ratio = above[first] / below[first]
    if not unlike or abs(below[first] / below[second] - 1) > 1e-9 or abs(ratio + above[second] / below[second]) > 1e-9:
        return None
    half = algebra.to_power(algebra.merge(first, inverse(second)), 0.5)
    argument = sum_of(times(algebra.atoms[n].polynomial, e) for n, e in half)
    return times(apply_identities(algebra, "tanh", argument), ratio)


def _without(product: Product, *numbers: int) -> Product:
    return tuple(power for power in product if power[0] not in numbers)


def _of_one_argument(algebra: Algebra, powers: dict[int, float], first: str, second: str) -> list[tuple[int, int]]:
    atoms = algebra.atoms
    return [
        (n, m)
        for n in powers
        for m in powers
        if atoms[n].name == first and atoms[m].name == second and algebra.same(atoms[n].polynomial, atoms[m].polynomial)
    ]
