"""Equivalent forms of polynomials: over a common denominator, and by identities of sines and exponentials. They are
equal on the rows of the algebra."""

import math
from collections.abc import Iterator

from kanserve.formula.algebra.factoring import quotient
from kanserve.formula.algebra.identities import apply_identities
from kanserve.formula.algebra.polynomials import ONE, Algebra, Polynomial, Product, inverse, sum_of, times

SAME = 1e-9  # coefficients this close, relatively, are equal

# f² = constant + factor·g²
_SQUARES = (
    ("sin", "cos", 1.0, -1.0),
    ("cos", "sin", 1.0, -1.0),
    ("sinh", "cosh", -1.0, 1.0),
    ("cosh", "sinh", 1.0, 1.0),
)


def together(algebra: Algebra, polynomial: Polynomial) -> Polynomial:
    """Bring the polynomial over a common denominator, expand the numerator and cancel common factors."""
    opened = sum_of(_open(algebra, product, c) for product, c in polynomial.items())
    below: dict[int, float] = {}
    for product in opened:
        for number, exponent in product:
            if algebra.atoms[number].kind == "sum" and exponent < 0:
                below[number] = min(below.get(number, 0.0), exponent)
    if not below:
        return algebra.expand(opened)
    denominator = tuple(sorted(below.items()))
    above = sum_of(algebra.single(c, algebra.merge(product, inverse(denominator))) for product, c in opened.items())
    above = algebra.expand(above)
    for number, exponent in denominator:
        for _ in range(int(-exponent)):
            divided = quotient(algebra, above, algebra.atoms[number].flat)
            if divided is None:
                break
            above = divided
            denominator = algebra.merge(denominator, ((number, 1.0),))
    return algebra.multiply(above, algebra.single(1.0, denominator))


def _open(algebra: Algebra, product: Product, coefficient: float) -> Polynomial:
    """Bring nested brackets of a term over a common denominator, and expand single brackets."""
    result: Polynomial = {ONE: coefficient}
    for number, exponent in product:
        atom = algebra.atoms[number]
        factor: Polynomial = {((number, exponent),): 1.0}
        if atom.kind == "sum" and any(algebra.atoms[n].kind == "sum" for term in atom.polynomial for n, _ in term):
            factor = algebra.power(together(algebra, atom.polynomial), exponent)
        result = algebra.multiply(result, factor)
    return result


def in_other_words(algebra: Algebra, polynomial: Polynomial) -> Iterator[Polynomial]:
    """Equivalent forms of the polynomial, each by one identity of sines, cosines or exponentials."""
    if len(polynomial) > 1:
        yield from _squares_of(algebra, polynomial)
        yield from _pairs(algebra, polynomial)


def _squares_of(algebra: Algebra, polynomial: Polynomial) -> Iterator[Polynomial]:
    """Write sin² as 1 - cos², sinh² as cosh² - 1, and the reverse."""
    for name, partner, constant, factor in _SQUARES:
        result: list[Polynomial] = []
        for product, coefficient in polynomial.items():
            term: Polynomial = {ONE: coefficient}
            for number, exponent in product:
                atom = algebra.atoms[number]
                pairs = exponent // 2 if atom.name == name and exponent.is_integer() and exponent > 1 else 0.0
                if pairs:
                    square = algebra.power(apply_identities(algebra, partner, atom.polynomial), 2.0)
                    for _ in range(int(pairs)):
                        term = algebra.distribute(term, sum_of([{ONE: constant}, times(square, factor)]))
                if exponent != 2 * pairs:
                    term = algebra.distribute(term, {((number, exponent - 2 * pairs),): 1.0})
            result.append(term)
        changed = sum_of(result)
        if changed != polynomial:
            yield changed


def _pairs(algebra: Algebra, polynomial: Polynomial) -> Iterator[Polynomial]:
    """Merge two terms: a·sin + b·cos with a phase, sines of sums, exponentials as cosh and sinh."""
    products = list(polynomial)
    for n, first in enumerate(products):
        for second in products[n + 1 :]:
            algebra.spend(1)
            for joined in _join(algebra, first, polynomial[first], second, polynomial[second]):
                rest = {product: c for product, c in polynomial.items() if product not in (first, second)}
                yield sum_of([rest, joined])


def _join(algebra: Algebra, p: Product, a: float, q: Product, b: float) -> Iterator[Polynomial]:
    """a·p + b·q as one term, by each identity that applies."""
    common = tuple(sorted(set(p) & set(q)))
    left, right = algebra.merge(p, inverse(common)), algebra.merge(q, inverse(common))
    rest: Polynomial = algebra.single(1.0, common)
    yield from (algebra.multiply(rest, term) for term in _with_phase(algebra, left, a, right, b))
    if abs(abs(a) - abs(b)) <= SAME * abs(a):
        yield from (algebra.multiply(rest, term) for term in _of_sums(algebra, left, a, right, b))
        yield from (algebra.multiply(rest, term) for term in _hyperbolic(algebra, left, a, right, b))
        yield from (algebra.multiply(rest, term) for term in _half_angle(algebra, left, a, right, b))
    yield from (algebra.multiply(rest, term) for term in _double_angle(algebra, left, a, right, b))


def _waves(algebra: Algebra, product: Product) -> dict[str, Polynomial] | None:
    """The arguments of the sine and the cosine in a product; None if it has any other factor."""
    result: dict[str, Polynomial] = {}
    for number, exponent in product:
        atom = algebra.atoms[number]
        if atom.name not in ("sin", "cos") or exponent != 1 or atom.name in result:
            return None
        result[atom.name] = atom.polynomial
    return result


def _with_phase(algebra: Algebra, p: Product, a: float, q: Product, b: float) -> Iterator[Polynomial]:
    """a·sin(u) + b·cos(u) as r·sin(u + phase)."""
    sine, cosine = _waves(algebra, p), _waves(algebra, q)
    if sine is None or cosine is None or len(sine) != 1 or len(cosine) != 1 or set(sine) == set(cosine):
        return
    if "cos" in sine:
        sine, cosine, a, b = cosine, sine, b, a
    if not algebra.same(cosine["cos"], sine["sin"]):
        return
    moved = sum_of([sine["sin"], {ONE: math.atan2(b, a)}])
    yield times(apply_identities(algebra, "sin", moved), math.hypot(a, b))


def _of_sums(algebra: Algebra, p: Product, a: float, q: Product, b: float) -> Iterator[Polynomial]:
    """sin(u)·cos(v) ± cos(u)·sin(v) and cos(u)·cos(v) ∓ sin(u)·sin(v) as one function; a and b may differ in sign."""
    left, right = _waves(algebra, p), _waves(algebra, q)
    if not left or not right or len(left) != 2 or len(right) != 2:
        pass
    elif algebra.same(left["sin"], right["cos"]) and algebra.same(left["cos"], right["sin"]):
        angle = sum_of([left["sin"], times(left["cos"], math.copysign(1.0, a * b))])
        yield times(apply_identities(algebra, "sin", angle), a)
    cosines, sines = _two(algebra, p, "cos"), _two(algebra, q, "sin")
    if cosines is None or sines is None:
        cosines, sines, a, b = _two(algebra, q, "cos"), _two(algebra, p, "sin"), b, a
    if cosines is not None and sines is not None:
        straight = algebra.same(cosines[0], sines[0]) and algebra.same(cosines[1], sines[1])
        if straight or (algebra.same(cosines[0], sines[1]) and algebra.same(cosines[1], sines[0])):
            angle = sum_of([cosines[0], times(cosines[1], -math.copysign(1.0, a * b))])
            yield times(apply_identities(algebra, "cos", angle), a)


def _two(algebra: Algebra, product: Product, name: str) -> tuple[Polynomial, Polynomial] | None:
    if len(product) != 2 or any(algebra.atoms[n].name != name or e != 1 for n, e in product):
        return None
    return algebra.atoms[product[0][0]].polynomial, algebra.atoms[product[1][0]].polynomial


def _half_angle(algebra: Algebra, p: Product, a: float, q: Product, b: float) -> Iterator[Polynomial]:
    """a ± a·cos(u) as 2·a·cos²(u/2) or 2·a·sin²(u/2)."""
    if p != ONE:
        p, a, q, b = q, b, p, a
    waves = _waves(algebra, q)
    if p == ONE and waves is not None and set(waves) == {"cos"}:
        half = apply_identities(algebra, "cos" if a * b > 0 else "sin", times(waves["cos"], 0.5))
        yield times(algebra.power(half, 2.0), 2 * a)


def _double_angle(algebra: Algebra, p: Product, a: float, q: Product, b: float) -> Iterator[Polynomial]:
    """a - 2·a·sin²(u) as a·cos(2·u), and a - 2·a·cos²(u) as -a·cos(2·u)."""
    if p != ONE:
        p, a, q, b = q, b, p, a
    if p != ONE or len(q) != 1 or q[0][1] != 2 or abs(b + 2 * a) > SAME * abs(b):
        return
    atom = algebra.atoms[q[0][0]]
    if atom.name in ("sin", "cos"):
        double = apply_identities(algebra, "cos", times(atom.polynomial, 2.0))
        yield times(double, a if atom.name == "sin" else -a)


def _hyperbolic(algebra: Algebra, p: Product, a: float, q: Product, b: float) -> Iterator[Polynomial]:
    """exp(u) ± exp(v) as 2·exp((u + v)/2) times cosh or sinh of (u - v)/2."""
    if not all(algebra.atoms[n].exponential for n, _ in (*p, *q)):
        return
    half = algebra.merge(algebra.to_power(p, 0.5), algebra.to_power(q, -0.5))
    middle = algebra.merge(algebra.to_power(p, 0.5), algebra.to_power(q, 0.5))
    angle = sum_of(times(algebra.atoms[n].polynomial, e) for n, e in half)
    if angle:
        wave = apply_identities(algebra, "cosh" if a * b > 0 else "sinh", angle)
        yield algebra.multiply(times(wave, 2 * a), algebra.single(1.0, middle))
