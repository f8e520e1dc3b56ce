"""Convert a polynomial of the algebra to the simplest expression found for it. `Shaper.best` writes a polynomial in
several ways (as it is, expanded, factored, over a common denominator, by identities) and takes the least complex; among
equals, the one with the simplest numbers."""

import math
from collections.abc import Callable, Iterator, Sequence

from kanserve.errors import FormulaError
from kanserve.formula.algebra import factoring, rational
from kanserve.formula.algebra.polynomials import (
    ONE,
    Algebra,
    Polynomial,
    Product,
    TooLargeError,
    is_number,
    number_of,
    sum_of,
)
from kanserve.formula.algebra.products import Products
from kanserve.formula.algebra.rewrites import REWRITES_SAME, Node, Nodes, simplest
from kanserve.formula.expressions.tree import Tree

MOST_VARIANTS = 12  # ways to write one polynomial that are compared
MOST_TRIED = 100  # polynomials; later ones are written as they are
DEEPEST = 12  # levels of nested polynomials that are simplified; deeper ones are written as they are
LONGEST_SCALED = 6  # terms of a bracket that is simplified again for each way to scale it
MOST_COLLECTED = 3  # factors to collect, the most frequent first
# Times the cost of the simplest form: a polynomial in one input is written as a sum of powers up to this.
SUM_OF_POWERS = 1.15
LARGEST_RATIO = 4  # of the factors of logarithms that are merged
LARGEST_LOGARITHM = 600.0  # of a factor; a double overflows above 709


class Shaper:
    """Finds the simplest expressions for the polynomials of an algebra; results are cached."""

    def __init__(self, algebra: Algebra) -> None:
        self._algebra = algebra
        self._nodes = Nodes()
        self._products = Products(algebra, self._nodes, self.best, self.bracket)
        self._best: dict[object, Node] = {}
        self._open: set[object] = set()
        self._tried = 0

    @property
    def _exhausted(self) -> bool:
        return self._tried > MOST_TRIED

    def tree(self, polynomial: Polynomial) -> Tree:
        """The simplest expression for a polynomial, as the steps of a formula."""
        return self._nodes.tree(self.best(polynomial))

    def best(self, polynomial: Polynomial) -> Node:
        """The simplest expression for a polynomial."""
        polynomial = self._algebra.trim(polynomial)
        if is_number(polynomial):
            return self._nodes.number(number_of(polynomial))
        key = frozenset(polynomial.items())
        if key in self._best:
            return self._best[key]
        if key in self._open:
            return self._plain(polynomial)
        self._open.add(key)
        self._tried += 1
        try:
            found = simplest(list(self._candidates(polynomial)))
        finally:
            self._open.discard(key)
        if not self._open or not self._exhausted:
            found = self._sum_of_powers(polynomial, found)
        self._best[key] = found
        return found

    def _sum_of_powers(self, polynomial: Polynomial, found: Node) -> Node:
        """A polynomial in one input as a sum of powers, unless another form is much simpler, as x*(x + 1)^2 is."""
        expanded = self._algebra.expand(polynomial)
        atoms = factoring.atoms_of(expanded)
        powers = [exponent for product in expanded for _, exponent in product]
        if len(atoms) != 1 or self._algebra.atoms[atoms[0]].kind != "var":
            return found
        if not all(exponent > 0 and exponent.is_integer() for exponent in powers):
            return found
        plain = self._plain(expanded)
        return plain if plain.cost <= SUM_OF_POWERS * found.cost else found

    def _candidates(self, polynomial: Polynomial) -> Iterator[Node]:
        if self._exhausted or len(self._open) > DEEPEST:
            yield self._plain(polynomial)
            return
        for variant in self._variants(polynomial):
            if is_number(variant):
                yield self._nodes.number(number_of(variant))
                return
            yield self._plain(variant)
            if len(variant) > 1:
                yield from self._factor_forms(variant)

    def _variants(self, polynomial: Polynomial) -> list[Polynomial]:
        """The polynomial and its equivalent forms, without duplicates."""
        algebra = self._algebra
        result: list[Polynomial] = []

        def add(make: Callable[[], Polynomial]) -> None:
            try:
                variant = algebra.trim(make())
            except TooLargeError:
                raise
            except (FormulaError, ZeroDivisionError, OverflowError):
                return
            if variant not in result and len(result) < MOST_VARIANTS:
                result.append(variant)

        add(lambda: algebra.expand(polynomial))
        if is_number(result[0]):
            return result
        add(lambda: polynomial)
        add(lambda: rational.together(algebra, polynomial))
        for variant in list(result):
            for rewritten in rational.in_other_words(algebra, variant):
                add(lambda polynomial=rewritten: polynomial)  # type: ignore[misc]  # default argument: binds now, not when called
        return result

    def _factor_forms(self, polynomial: Polynomial) -> Iterator[Node]:
        """Other forms of a sum of several terms, each with parts of fewer terms."""
        algebra = self._algebra
        coefficient, product = algebra.term(polynomial)
        if len(product) != 1 or abs(coefficient) != 1 or product[0][1] != 1:
            yield self._products.best(coefficient, product)
        yield from self._divisions(polynomial)

    def _divisions(self, polynomial: Polynomial) -> Iterator[Node]:
        algebra = self._algebra
        for first, second, constant in factoring.splits(algebra, polynomial):
            yield self._sum_with(self._product_of([first, second]), constant)
        for scale, base, rest in factoring.squares(algebra, polynomial):
            square = self._nodes.times(scale, [self._nodes.power(self.best(base), 2)])
            yield self._nodes.total([square, self.best(rest)]) if rest else square
        factors = factoring.quadratic(algebra, polynomial)
        if factors is not None:
            yield self._product_of(factors)
        parts = factoring.components(polynomial)
        if len(parts) > 1 and any(len(part) > 2 for part in parts):
            yield self._nodes.total([self.best(part) for part in parts])
        collections = [collection for collection in factoring.collections(polynomial) if collection[2]]
        for factor, inside, rest in collections[:MOST_COLLECTED]:
            collected = self._product_of([{factor: 1.0}, inside])
            yield self._nodes.total([collected, self.best(rest)])

    def _sum_with(self, node: Node, constant: float) -> Node:
        return self._nodes.total([node, self._nodes.number(constant)]) if constant else node

    def _product_of(self, factors: Sequence[Polynomial]) -> Node:
        whole: tuple[float, Product] = (1.0, ONE)
        for factor in factors:
            coefficient, product = self._algebra.term(factor)
            whole = (whole[0] * coefficient, self._algebra.merge(whole[1], product))
        return self._products.best(*whole)

    def _plain(self, polynomial: Polynomial) -> Node:
        """The terms in sequence, with logarithms merged."""
        if len(polynomial) == 1:
            ((product, coefficient),) = polynomial.items()
            return self._products.best(coefficient, product)
        rest, logarithms = self._logarithms(polynomial)
        if not logarithms:
            return self._nodes.total(self._terms(rest))
        constant = rest.get(ONE, 0.0)
        others = {product: c for product, c in rest.items() if product != ONE}
        kept = self._nodes.total(self._terms(rest) + [self._logarithm(*logarithm, 0.0) for logarithm in logarithms])
        if not constant or logarithms[0][1] != ONE:
            return kept
        inside = self._logarithm(*logarithms[0], constant)
        more = [self._logarithm(*logarithm, 0.0) for logarithm in logarithms[1:]]
        return simplest([kept, self._nodes.total([*self._terms(others), inside, *more])])

    def _terms(self, polynomial: Polynomial) -> list[Node]:
        ordered = sorted(polynomial, key=lambda product: (product == ONE, product))
        return [self._products.best(polynomial[product], product) for product in ordered]

    def _logarithms(self, polynomial: Polynomial) -> tuple[Polynomial, list[tuple[float, Product, Product]]]:
        """The terms without a logarithm, and (c, rest, u) for each c·rest·log(u) into which the others merge."""
        groups: dict[Product, dict[int, float]] = {}
        for product, coefficient in polynomial.items():
            logs = [n for n, e in product if self._algebra.atoms[n].name == "log" and e == 1]
            if len(logs) == 1:
                rest = tuple(power for power in product if power[0] != logs[0])
                groups.setdefault(rest, {})[logs[0]] = coefficient
        kept = dict(polynomial)
        result: list[tuple[float, Product, Product]] = []
        for rest, group in groups.items():
            unit = min(map(abs, group.values()))
            unit = unit if any(c > 0 for c in group.values()) else -unit
            scale, inside = self._logarithm_argument({number: c / unit for number, c in group.items()})
            if not 0 < scale < math.inf:  # log(-x): the scale is negative as well, and has no logarithm
                continue
            for number in group:
                del kept[self._algebra.merge(rest, ((number, 1.0),))]
            result.append((unit, rest, inside))
            if scale != 1:
                kept = sum_of([kept, {rest: unit * math.log(scale)}])
        return kept, result

    def _logarithm_argument(self, ratios: dict[int, float]) -> tuple[float, Product]:
        """scale and u with Σ ratio·log = log(scale·u). The scale is 0 if the ratios are not small integers."""
        scale, inside = 1.0, ONE
        for ratio in ratios.values():
            if abs(ratio - round(ratio)) > REWRITES_SAME or abs(ratio) > LARGEST_RATIO:
                return 0.0, ONE
        for number, ratio in ratios.items():
            c, factor = self._algebra.term(self._algebra.atoms[number].polynomial)
            inside = self._algebra.merge(inside, self._algebra.to_power(factor, float(round(ratio))))
            scale *= c ** round(ratio)
        return scale, inside

    def _logarithm(self, coefficient: float, rest: Product, inside: Product, constant: float) -> Node:
        """coefficient·rest·log(inside) + constant, with the constant moved into the logarithm."""
        if abs(constant / coefficient) > LARGEST_LOGARITHM:
            raise FormulaError("A constant is outside the range of a double.")
        argument = self._products.best(math.exp(constant / coefficient), inside)
        return self._nodes.times(1.0, [self._products.best(coefficient, rest), self._nodes.call("log", argument)])

    def bracket(self, polynomial: Polynomial) -> Node:
        """The simplest form of a bracket as a sum, without taking out a common factor."""
        if len(polynomial) < 3:
            return self._plain(polynomial)
        key = (frozenset(polynomial.items()), "parts")
        if key not in self._best:
            shapes = [self._plain(polynomial)]
            if not self._exhausted and len(polynomial) <= LONGEST_SCALED:
                shapes += self._divisions(polynomial)
            self._best[key] = simplest(shapes)
        return self._best[key]
