"""The simplest expression for a product of real powers of atoms."""

import math
from collections.abc import Callable, Iterator, Sequence

from kanserve.formula.algebra.identities import apply_identities
from kanserve.formula.algebra.polynomials import ONE, Algebra, Polynomial, Product, sum_of, times
from kanserve.formula.algebra.quotients import in_other_words, quotients
from kanserve.formula.algebra.rewrites import REWRITES_SAME, Node, Nodes, simplest
from kanserve.formula.expressions.numbers import name_number
from kanserve.network.powers import is_short, power_name


class Products:
    """Writes products. `total` writes a polynomial; `bracket` writes one that is a factor, without factoring it."""

    def __init__(
        self, algebra: Algebra, nodes: Nodes, total: Callable[[Polynomial], Node], bracket: Callable[[Polynomial], Node]
    ) -> None:
        self._algebra = algebra
        self._nodes = nodes
        self._sum = total
        self._bracket = bracket
        self._known: dict[object, Node] = {}

    def best(self, coefficient: float, product: Product) -> Node:
        """The simplest expression for coefficient·product."""
        if not product:
            return self._nodes.number(coefficient)
        key = (coefficient, product)
        if key not in self._known:
            self._algebra.spend(len(product))
            self._known[key] = self._product(coefficient, product)
        return self._known[key]

    def _product(self, coefficient: float, product: Product) -> Node:
        inside: dict[int, Node] = {}
        found = self._write(coefficient, product, inside)
        brackets = [n for n, _ in product if self._algebra.atoms[n].kind == "sum"]
        if product == ((brackets[0], 1.0),) and coefficient == 1 if brackets else True:
            return found
        for number in brackets:
            better: tuple[float, Product, dict[int, Node]] | None = None
            for c, p, node in self._absorb(coefficient, product, number):
                nodes = {**inside, number: node}
                other = self._write(c, p, nodes)
                if other.cost < found.cost - REWRITES_SAME:
                    found, better = other, (c, p, nodes)
            if better is not None:
                coefficient, product, inside = better
        return found

    def _absorb(self, coefficient: float, product: Product, number: int) -> Iterator[tuple[float, Product, Node]]:
        """Equivalent forms of coefficient·product: one of its bracketed factors (atom `number`) is divided by a
        constant or by one of its terms, which moves in front."""
        algebra = self._algebra
        polynomial, exponent = algebra.atoms[number].polynomial, dict(product)[number]
        rest = tuple(power for power in product if power[0] != number)
        for c, term in self._scales(coefficient, rest, polynomial, exponent):
            if c < 0 and not exponent.is_integer():
                continue
            if not (algebra.divides(term) and (exponent.is_integer() or algebra.is_positive(term))):
                continue
            try:
                outer = coefficient * c**exponent
            except OverflowError:
                continue
            if not math.isfinite(outer) or outer == 0:
                continue
            whole = algebra.merge(rest, algebra.to_power(term, exponent))
            lowered = {algebra.merge(p, algebra.to_power(term, -1.0)): value / c for p, value in polynomial.items()}
            yield outer, algebra.merge(whole, ((number, exponent),)), self._bracket(lowered)

    def _scales(
        self, coefficient: float, rest: Product, polynomial: Polynomial, exponent: float
    ) -> Iterator[tuple[float, Product]]:
        """Divisors to try for a bracket: its coefficients and terms, the other factors, and the overall coefficient."""
        for term, c in polynomial.items():
            yield c, ONE
            if term:
                yield c, term
        root = abs(coefficient) ** (-1 / exponent)
        yield (math.copysign(root, coefficient) if exponent % 2 == 1 else root), ONE
        beside = [power for power in rest if self._algebra.atoms[power[0]].kind != "sum"]
        below = tuple(power for power in beside if power[1] * exponent < 0)
        for moved in (*((power,) for power in beside), below, tuple(beside)):
            raised = self._algebra.to_power(moved, -1 / exponent)
            if raised and all(e.is_integer() for _, e in raised):
                yield 1.0, raised

    def _write(self, coefficient: float, product: Product, inside: dict[int, Node]) -> Node:
        """Build coefficient·product, with bracketed factors from `inside` if given, else in the simplest form."""
        # `inside` has brackets in other forms than the atoms of the algebra.
        others = () if inside else in_other_words(self._algebra, coefficient, product)
        return simplest([self._group(c, p, inside) for c, p in ((coefficient, product), *others)])

    def _group(self, coefficient: float, product: Product, inside: dict[int, Node]) -> Node:
        tangents, left = quotients(self._algebra, product)
        whole: list[tuple[int, float]] = []
        roots: list[tuple[int, float]] = []
        powers: Polynomial = {}
        fractional: list[tuple[int, float]] = []
        given: list[Node] = []
        exponential: list[Polynomial] = []
        for number, exponent in left:
            atom = self._algebra.atoms[number]
            if atom.exponential:
                exponential.append(times(atom.polynomial, exponent))
            elif exponent.is_integer():
                whole.append((number, exponent))
            elif (2 * exponent).is_integer():
                roots.append((number, exponent))
            elif is_short(exponent) and power_name(exponent) is not None:
                fractional.append((number, exponent))
            elif number in inside:
                log = self._nodes.call("log", inside[number])
                given.append(self._nodes.call("exp", self._nodes.times(exponent, [log])))
            else:
                logarithm = apply_identities(self._algebra, "log", {((number, 1.0),): 1.0})
                powers = sum_of([powers, times(logarithm, exponent)])
        above, under = self._whole(whole, inside)
        above += given
        above += self._fractional(fractional, inside)
        for name, argument, exponent in tangents:
            above.append(self._nodes.power(self._nodes.call(name, self._sum(argument)), exponent))
        if powers:
            above.append(self._nodes.call("exp", self._sum(powers)))
        if not exponential:
            return self._finish(coefficient, above, under, roots, inside)
        argument = sum_of(exponential)
        outside = self._finish(coefficient, [*above, self._exp(argument)], under, roots, inside)
        if coefficient <= 0 or coefficient == 1 or name_number(math.log(coefficient)) is None:
            return outside
        moved = sum_of([argument, {ONE: math.log(coefficient)}])
        within = self._finish(1.0, [*above, self._exp(moved)], under, roots, inside)
        return simplest([outside, within])

    def _fractional(self, factors: Sequence[tuple[int, float]], inside: dict[int, Node]) -> list[Node]:
        """Factors with fractional exponents such as 5/3; positive ones of equal exponent become a quotient's power."""
        made: list[Node] = []
        for size in sorted({abs(exponent) for _, exponent in factors}):
            own = [(n, exponent) for n, exponent in factors if abs(exponent) == size]
            together = [power for power in own if self._algebra.is_positive((power,))]
            for group in (together, *([power] for power in own if power not in together)):
                top, bottom = self._atoms_by_sign(group, size, inside)
                name = power_name(size if top else -size)
                if group and name is not None:
                    base = self._nodes.times(1.0, top, bottom) if top else self._nodes.times(1.0, bottom)
                    made.append(self._nodes.call(name, base))
        return made

    def _atoms_by_sign(
        self, factors: Sequence[tuple[int, float]], size: float, inside: dict[int, Node]
    ) -> tuple[list[Node], list[Node]]:
        """The factors with exponent `size` and those with -`size`, without their exponents."""
        above, under = ([self._atom(n, inside) for n, e in factors if e == exponent] for exponent in (size, -size))
        return above, under

    def _exp(self, argument: Polynomial) -> Node:
        return self._nodes.call("exp", self._sum(argument))

    def _finish(
        self,
        coefficient: float,
        above: list[Node],
        under: list[Node],
        roots: Sequence[tuple[int, float]],
        inside: dict[int, Node],
    ) -> Node:
        """The product with its roots under one sign, integer powers and the coefficient inside or outside it."""
        if not roots:
            return self._nodes.times(coefficient, above, under)
        made: list[Node] = []
        outside = {n: float(math.trunc(e)) for n, e in roots if abs(e) > 1}
        for outer in ({}, outside) if outside else ({},):
            more_above, more_under = self._whole(list(outer.items()), inside)
            within = [(n, 2 * (e - outer.get(n, 0.0))) for n, e in roots]
            for factor in (1.0, coefficient * coefficient) if coefficient > 0 else (1.0,):
                root = self._root(factor, within, inside)
                c = coefficient if factor == 1 else 1.0
                made.append(self._nodes.times(c, [*above, *more_above, root], [*under, *more_under]))
        return simplest(made)

    def _root(self, factor: float, within: list[tuple[int, float]], inside: dict[int, Node]) -> Node:
        """sqrt(factor·within), or 1/sqrt if all exponents are negative."""
        if all(exponent < 0 for _, exponent in within):
            upside = [(n, -exponent) for n, exponent in within]
            return self._nodes.call("1/sqrt", self._group(1 / factor, tuple(upside), inside))
        return self._nodes.call("sqrt", self._group(factor, tuple(within), inside))

    def _whole(self, factors: Sequence[tuple[int, float]], inside: dict[int, Node]) -> tuple[list[Node], list[Node]]:
        """Factors with integer exponents, above and below; those of equal exponent become one power of a quotient."""
        above: list[Node] = []
        under: list[Node] = []
        sizes = sorted({abs(exponent) for _, exponent in factors})
        for size in sizes:
            top, bottom = self._atoms_by_sign(factors, size, inside)
            if size == 1:
                above += top
                under += bottom
            elif len(top) + len(bottom) == 1 or not top:
                place = above if top else under
                place.append(self._nodes.power(self._nodes.times(1.0, top or bottom), int(size)))
            else:
                above.append(self._nodes.power(self._nodes.times(1.0, top, bottom), int(size)))
        return above, under

    def _atom(self, number: int, inside: dict[int, Node]) -> Node:
        if number in inside:
            return inside[number]
        atom = self._algebra.atoms[number]
        if atom.kind == "var":
            return self._nodes.variable(atom.column)
        if atom.kind == "sum":
            return self._sum(atom.polynomial)
        return self._nodes.call(atom.name, self._sum(atom.polynomial))
