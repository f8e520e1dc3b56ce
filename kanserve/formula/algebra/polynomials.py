"""Sums of products of real powers: the algebra in which formulas are simplified.

A polynomial here is Σ coefficient·Π atom^exponent with real exponents. An atom is a column, a function of a polynomial,
exp of one product (exp(2·x + y) is the atom exp(x) to the power 2 times exp(y)), or a polynomial of several terms in
brackets. Two atoms are the same when their arguments are equal after expansion.

Everything holds on given rows, where the formula is used: an atom that is positive on all of them counts as positive,
and its powers merge. sqrt(c^2) is c where c > 0, x/x is 1.
"""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import FormulaError
from kanserve.network.functions import FUNCTIONS
from kanserve.network.powers import real_power, takes_negative

Array = NDArray[np.float64]
Product = tuple[tuple[int, float], ...]  # (atom, exponent), in the order of the atoms; () is 1
Polynomial = dict[Product, float]  # not changed once it is made; {} is 0

MOST_TERMS = 60  # of a polynomial that is multiplied out
MOST_WORK = 200_000  # products of terms in all
CANCELS = 1e-12  # relative to the larger: two coefficients whose sum is below this cancel
ALGEBRA_VANISHES = 1e-11  # relative to a sum: a term below this on every row is dropped
WHOLE = 1e-9  # an exponent this close to a multiple of 1/12 is rounded to it
KEY_DIGITS = 10  # significant digits of coefficients when polynomials are compared

SQUARES = {"cos": ("sin", -1.0), "cosh": ("sinh", 1.0)}  # cos^2 is 1 - sin^2, cosh^2 is 1 + sinh^2

ONE: Product = ()


class TooLargeError(FormulaError):
    """Simplifying would take too long; the formula stays unchanged."""


@dataclass(frozen=True, eq=False)
class Atom:
    """`kind` is "var", "call" or "sum". `value` (R,) are its values on the rows and `sign` their common sign: 1, -1, or
    0 if signs differ or a value is 0. `flat` is the expanded polynomial. `exponential`: exp of a single product."""

    kind: str
    name: str
    column: int
    polynomial: Polynomial
    flat: Polynomial
    value: Array = field(repr=False)
    sign: int
    exponential: bool = False


class Algebra:
    """Polynomials over the atoms seen so far, and the rows (R, inputs) on which they are compared."""

    def __init__(self, rows: Array) -> None:
        self.rows = rows
        self.atoms: list[Atom] = []
        self.divisors: set[int] = set()
        self._values: dict[Product, Array] = {}
        self._peaks: dict[Product, float] = {}
        self._numbers: dict[object, int] = {}
        self._work = 0

    def spend(self, work: int) -> None:
        self._work += work
        if self._work > MOST_WORK:
            raise TooLargeError("This formula is too large to simplify.")

    def variable(self, column: int) -> Polynomial:
        key = ("var", column)
        if key not in self._numbers:
            value = self.rows[:, column]
            self._add(key, Atom("var", "", column, {}, {}, value, _sign(value)))
        return {((self._numbers[key], 1.0),): 1.0}

    def call(self, name: str, argument: Polynomial) -> Polynomial:
        """A named function as an atom, without applying identities."""
        flat = self.expand(argument)
        key = ("call", name, _key(flat))
        if key not in self._numbers:
            with np.errstate(all="ignore"):
                value = FUNCTIONS[name].numpy(self.value(argument))
            exponential = name == "exp" and len(argument) == 1 and set(argument.values()) == {1.0}
            sign = 1 if name in ("exp", "cosh") else _sign(value)
            self._add(key, Atom("call", name, -1, argument, flat, value, sign, exponential))
        return {((self._numbers[key], 1.0),): 1.0}

    def same(self, left: Polynomial, right: Polynomial) -> bool:
        """Whether two polynomials are equal after expansion."""
        return _key(self.expand(left)) == _key(self.expand(right))

    def bracket(self, polynomial: Polynomial) -> int:
        """The atom for a polynomial in brackets, which should be normalised as by `term`."""
        flat = self.expand(polynomial)
        key = ("sum", _key(flat))
        if key not in self._numbers:
            value = self.value(polynomial)
            self._add(key, Atom("sum", "", -1, polynomial, flat, value, _sign(value)))
        return self._numbers[key]

    def divides(self, product: Product) -> bool:
        """Whether dividing by this adds no singularity: the formula divides by it already, or it is an exponential."""
        return all(number in self.divisors or self.atoms[number].exponential for number, _ in product)

    def is_positive(self, product: Product) -> bool:
        return all(self.atoms[number].sign > 0 for number, _ in product)

    def note_divisors(self, polynomial: Polynomial) -> None:
        """Record the atoms that a formula divides by."""
        for product in polynomial:
            for number, exponent in product:
                if exponent < 0:
                    self.divisors.add(number)

    def _add(self, key: object, atom: Atom) -> None:
        self._numbers[key] = len(self.atoms)
        self.atoms.append(atom)

    def value(self, polynomial: Polynomial) -> Array:
        """The values (R,) on the rows; some may not be finite."""
        with np.errstate(all="ignore"):
            total = np.zeros(len(self.rows))
            for product, coefficient in polynomial.items():
                total += coefficient * self.product_value(product)
        return total

    def product_value(self, product: Product) -> Array:
        """The values (R,) of a product, cached: do not modify."""
        if product not in self._values:
            value = np.ones(len(self.rows))
            with np.errstate(all="ignore"):
                for number, exponent in product:
                    atom = self.atoms[number]
                    if atom.exponential:  # exp(-x/100) is finite where exp(x) overflows
                        value *= np.exp(exponent * self.value(atom.polynomial))
                    else:
                        value *= atom.value if exponent == 1 else real_power(atom.value, exponent)
            self._values[product] = value
        return self._values[product]

    def _peak(self, product: Product) -> float:
        """The largest absolute value of a product on the rows; it may not be finite."""
        if product not in self._peaks:
            self._peaks[product] = float(np.abs(self.product_value(product)).max())
        return self._peaks[product]

    # Sums, products and powers.

    def multiply(self, left: Polynomial, right: Polynomial) -> Polynomial:
        """The product; a sum stays in brackets."""
        if not left or not right:
            return {}
        for factor, polynomial in ((left, right), (right, left)):
            if len(factor) == 1 and ONE in factor:
                return times(polynomial, factor[ONE])
        (c, p), (d, q) = self.term(left), self.term(right)
        return self.single(c * d, self.merge(p, q))

    def merge(self, p: Product, q: Product) -> Product:
        self.spend(1)
        exponents = dict(p)
        for number, exponent in q:
            before = exponents.get(number, 0.0)
            cancels = abs(before + exponent) <= CANCELS * abs(before)
            exponents[number] = 0.0 if cancels else self._exponent(number, before + exponent)
        return tuple(sorted((number, e) for number, e in exponents.items() if e != 0))

    def _exponent(self, number: int, exponent: float) -> float:
        twelfth = round(12 * exponent) / 12
        if twelfth == 0 and number >= 0 and self.atoms[number].exponential:
            return exponent  # the exponent of exp(P) is a factor of P, of any size
        return twelfth if abs(exponent - twelfth) < WHOLE else exponent

    def single(self, coefficient: float, product: Product) -> Polynomial:
        """coefficient·product; a single bracket is expanded."""
        if len(product) == 1 and product[0][1] == 1 and self.atoms[product[0][0]].kind == "sum":
            return times(self.atoms[product[0][0]].polynomial, coefficient)
        for number, exponent in product:
            atom = self.atoms[number]
            if atom.kind == "sum" and len(atom.polynomial) == 1 and exponent.is_integer():
                # A product that was bracketed to fix its sign.
                rest = tuple(power for power in product if power[0] != number)
                ((inner, c),) = atom.polynomial.items()
                raised = tuple((n, e * exponent) for n, e in inner)
                return self.single(coefficient * c**exponent, self.merge(rest, raised))
        return {product: coefficient} if coefficient else {}

    def term(self, polynomial: Polynomial) -> tuple[float, Product]:
        """Write the polynomial as coefficient·product; the coefficient may be 0. A polynomial of several terms
        becomes their common factors times a bracket. The bracket is scaled so that its most frequent coefficient is
        ±1, and so that it is positive if its sign is known."""
        if len(polynomial) > 1:
            flat = self.expand(polynomial)
            if len(flat) <= 1 or len(flat) < len(polynomial):
                polynomial = flat
        if not polynomial:
            return 0.0, ONE
        if len(polynomial) == 1:
            ((product, coefficient),) = polynomial.items()
            return coefficient, product
        common = self.content(polynomial)
        inner = sum_of(self.single(c, self.merge(p, inverse(common))) for p, c in polynomial.items())
        if len(inner) < 2 or self.content(inner):
            coefficient, product = self.term(inner)
            return coefficient, self.merge(common, product)
        lead = _lead(inner)
        lead = math.copysign(lead, _sign(self.value(inner)) or lead)
        inner = times(inner, 1 / lead)
        return lead, self.merge(common, ((self.bracket(inner), 1.0),))

    def content(self, polynomial: Polynomial) -> Product:
        """The factors common to all terms, and the denominators of some of them."""
        products = list(polynomial)
        result: list[tuple[int, float]] = []
        for number in sorted({n for product in products for n, _ in product}):
            exponents = [dict(product).get(number, 0.0) for product in products]
            least = min(exponents)
            atom = self.atoms[number]
            if atom.exponential:
                least = least if max(exponents) == least else 0.0
            elif atom.kind == "sum" and 0.0 in exponents:
                least = 0.0
            if least != 0:
                result.append((number, least))
        return tuple(result)

    def power(self, polynomial: Polynomial, exponent: float) -> Polynomial:
        """The polynomial to a power. Raises ZeroDivisionError for 0 to a negative power, FormulaError if not real."""
        exponent = self._exponent(-1, exponent)
        if exponent == 0:
            return {ONE: 1.0}
        if exponent == 1 or not polynomial:
            if exponent < 0:
                raise ZeroDivisionError
            return polynomial
        coefficient, product = self.term(polynomial)
        if exponent.is_integer():
            raised = tuple((n, self._exponent(n, e * exponent)) for n, e in product)
            return self.single(_real(coefficient**exponent), raised)
        if takes_negative(exponent) and all(self._real_everywhere(n, e) for n, e in product):
            raised = tuple((n, self._exponent(n, e * exponent)) for n, e in product)
            return self.single(_real(float(real_power(np.array(coefficient), exponent))), raised)
        return self._root(coefficient, product, exponent)

    def _real_everywhere(self, number: int, exponent: float) -> bool:
        atom = self.atoms[number]
        return atom.sign > 0 or atom.exponential or takes_negative(exponent)

    def _root(self, coefficient: float, product: Product, exponent: float) -> Polynomial:
        """A fractional power: separately of each positive factor, jointly of the remaining ones."""
        taken: Product = ONE
        left: list[tuple[int, float]] = []
        for number, e in product:
            positive = self._positive_base(number, e, exponent)
            if positive is None:
                left.append((number, e))
                continue
            if self.atoms[number].sign < 0 and e % 2:
                coefficient = -coefficient
            taken = self.merge(taken, ((positive, self._exponent(number, e * exponent)),))
        if left:
            sign = math.copysign(1.0, coefficient)
            ready = len(left) == 1 and left[0][1] == 1 and sign > 0
            number = left[0][0] if ready else self.bracket({tuple(left): sign})
            taken = self.merge(taken, ((number, exponent),))
        elif coefficient < 0:
            raise FormulaError("The root of an expression that is negative on all rows.")
        return self.single(_real(abs(coefficient) ** exponent), taken)

    def _positive_base(self, number: int, e: float, exponent: float) -> int | None:
        """The atom whose power e·exponent is the size of (atom^e)^exponent; None if atom^e may change sign."""
        atom = self.atoms[number]
        if atom.sign > 0 or atom.exponential:
            return number
        if atom.sign < 0 and e.is_integer():
            return self.bracket({((number, 1.0),): -1.0})
        if e % 2:
            return None
        if self._exponent(number, e * exponent) % 2 == 0:
            return number
        ((size, _),) = next(iter(self.call("abs", {((number, 1.0),): 1.0})))
        return size

    def expand(self, polynomial: Polynomial) -> Polynomial:
        """Expand brackets with positive integer powers; write squares of cos and cosh by those of sin and sinh."""
        result: Polynomial = {}
        parts: list[Polynomial] = []
        for product, coefficient in polynomial.items():
            parts.append(self._open(product, coefficient))
            if sum(len(part) for part in parts) > MOST_TERMS:
                return polynomial
        result = sum_of(parts)
        return result if len(result) <= MOST_TERMS else polynomial

    def _open(self, product: Product, coefficient: float) -> Polynomial:
        kept: list[tuple[int, float]] = []
        factors: list[tuple[Polynomial, int]] = []
        for number, exponent in product:
            factor, count, rest = self._sum_power(number, exponent)
            if count:
                factors.append((factor, count))
            if rest:
                kept.append((number, rest))
        if not factors:
            return {product: coefficient}
        result: Polynomial = {tuple(kept): coefficient}
        for factor, count in factors:
            if len(factor) ** count * len(result) > MOST_TERMS:
                return {product: coefficient}
            for _ in range(count):
                result = self.distribute(result, factor)
        return result

    def _sum_power(self, number: int, exponent: float) -> tuple[Polynomial, int, float]:
        """A power of an atom as a sum, how many times it is a factor (0: not at all), and the remaining exponent."""
        atom = self.atoms[number]
        if exponent < 1 or not exponent.is_integer():
            return {}, 0, exponent
        if atom.kind == "sum" and len(atom.flat) > 1:
            return atom.flat, int(exponent), 0.0
        if atom.name not in SQUARES or exponent == 1:
            return {}, 0, exponent
        partner, sign = SQUARES[atom.name]
        square = {ONE: 1.0, self.to_power(next(iter(self.call(partner, atom.polynomial))), 2.0): sign}
        return square, int(exponent) // 2, exponent % 2

    def to_power(self, product: Product, exponent: float) -> Product:
        return tuple((n, self._exponent(n, e * exponent)) for n, e in product)

    def distribute(self, left: Polynomial, right: Polynomial) -> Polynomial:
        """Multiply term by term."""
        return sum_of(self.single(c * d, self.merge(p, q)) for p, c in left.items() for q, d in right.items())

    def trim(self, polynomial: Polynomial) -> Polynomial:
        """Drop the terms that are negligible compared with the median size of the sum."""
        if len(polynomial) < 2:
            return polynomial
        largest = [abs(c) * self._peak(product) for product, c in polynomial.items()]
        if min(largest) >= ALGEBRA_VANISHES * sum(largest):  # never of an infinite sum, or of NaN
            return polynomial
        with np.errstate(all="ignore"):
            values = np.array([c * self.product_value(product) for product, c in polynomial.items()])
            whole = values.sum(axis=0)
            finite = np.isfinite(whole)
            if not finite.any():
                return polynomial
            scale = float(np.median(np.abs(whole[finite])))  # not the mean, which a pole would dominate
            small = np.abs(values[:, finite]).max(axis=1) < ALGEBRA_VANISHES * scale
        if not small.any():
            return polynomial
        return {product: c for (product, c), vanishes in zip(polynomial.items(), small, strict=True) if not vanishes}


def sum_of(polynomials: Iterable[Polynomial]) -> Polynomial:
    """The sum; terms that cancel up to rounding are dropped."""
    result: dict[Product, float] = {}
    for polynomial in polynomials:
        for product, coefficient in polynomial.items():
            before = result.get(product, 0.0)
            total = before + coefficient
            if abs(total) <= CANCELS * max(abs(before), abs(coefficient)):
                result.pop(product, None)
            else:
                result[product] = total
    return result


def times(polynomial: Polynomial, factor: float) -> Polynomial:
    if factor == 1:
        return polynomial
    return {product: factor * c for product, c in polynomial.items()} if factor else {}


def inverse(product: Product) -> Product:
    return tuple((number, -exponent) for number, exponent in product)


def is_number(polynomial: Polynomial) -> bool:
    return not polynomial or (len(polynomial) == 1 and ONE in polynomial)


def number_of(polynomial: Polynomial) -> float:
    return polynomial.get(ONE, 0.0)


def _lead(polynomial: Polynomial) -> float:
    """The coefficient to divide by: the most frequent absolute value among the non-constant terms."""
    terms = [polynomial[product] for product in sorted(polynomial) if product != ONE]
    counts = Counter(f"{abs(c):.{KEY_DIGITS - 1}e}" for c in terms)
    most = max(counts.values())
    return next(c for c in terms if counts[f"{abs(c):.{KEY_DIGITS - 1}e}"] == most)


def _key(polynomial: Polynomial) -> object:
    """A key that is equal for polynomials that differ only by rounding."""
    return frozenset((product, float(f"{c:.{KEY_DIGITS - 1}e}")) for product, c in polynomial.items())


def _sign(values: Array) -> int:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return 0
    return 1 if (finite > 0).all() else -1 if (finite < 0).all() else 0


def _real(value: float | complex) -> float:
    if isinstance(value, complex) or not math.isfinite(value):
        raise FormulaError("A constant is not a finite real number.")
    return float(value)
