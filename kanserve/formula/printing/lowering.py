"""Lowers the trees of several outputs to one list of elementary steps, which any language can write.

The result has constants, variables, sums, products, powers of 2 to 4, powers with a real exponent, reciprocals, calls
of `ELEMENTARY` functions, and of functions that were registered by their values. A named function that is an
expression, as x/(1 + exp(-x)), becomes its steps. Steps that occur twice, in any output, are shared.
Constant subexpressions are folded, since compilers would evaluate them differently or reject them.
"""

import math
from collections.abc import Sequence

import numpy as np

from kanserve.errors import FormulaError
from kanserve.formula.expressions.tree import Step, Tree, integer_power
from kanserve.network.expression import steps
from kanserve.network.functions import FUNCTIONS
from kanserve.network.own_functions import by_values
from kanserve.network.spellings import SPECIAL, SPELLINGS

LARGEST_PRODUCT = 4  # larger powers are products of squares

ELEMENTARY = tuple(SPELLINGS["text"])


class Lowering:
    """Collects the steps for `lower_trees`."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self._known: dict[Step, int] = {}

    def tree(self, tree: Tree) -> int:
        """Add a tree's steps, and return the position of its value."""
        places: list[int] = []
        for step in tree:
            places.append(self._step(step, places))
        return places[-1]

    def _step(self, step: Step, places: Sequence[int]) -> int:
        match step:
            case ("const", value):
                return self._constant(value)
            case ("add" | "mul" as operation, *arguments):
                return self._join(operation, [places[operand] for operand in arguments])
            case ("pow", base, exponent):
                return self._power(places[base], exponent)
            case ("call", name, argument):
                return self._call(name, places[argument])
            case ("spline", _, _):
                raise FormulaError(
                    "The formula has splines, which no language can express: replace them by named functions first "
                    "('kanserve simplify' or 'kanserve session'), or export c_source or numpy_source, which hold their "
                    "tables."
                )
            case _:
                return self._add(step)

    def _add(self, step: Step) -> int:
        if step not in self._known:
            self._known[step] = len(self.steps)
            self.steps.append(step)
        return self._known[step]

    def _constant(self, value: float) -> int:
        if not math.isfinite(value):
            raise FormulaError(f"A constant of the formula is {value}, but source code can only hold finite numbers.")
        return self._add(("const", float(value)))

    def _value(self, place: int) -> float | None:
        step = self.steps[place]
        return step[1] if step[0] == "const" else None

    def _join(self, operation: str, arguments: list[int]) -> int:
        values = [value for value in map(self._value, arguments) if value is not None]
        if len(values) == len(arguments):
            return self._constant(sum(values) if operation == "add" else math.prod(values))
        return self._add((operation, *arguments))

    def _power(self, base: int, exponent: int) -> int:
        value = self._value(base)
        if value is not None:
            with np.errstate(all="ignore"):
                return self._constant(float(integer_power(np.float64(value), exponent)))  # type: ignore[arg-type]  # a number works as well
        if exponent < 0:
            return self._add(("pow", self._power(base, -exponent), -1))
        if exponent == 1:
            return base
        if exponent <= LARGEST_PRODUCT:
            return self._add(("pow", base, exponent))
        square = self._power(self._power(base, exponent // 2), 2)
        return self._join("mul", [square, base]) if exponent % 2 else square

    def _call(self, name: str, argument: int) -> int:
        value = self._value(argument)
        if value is not None:
            with np.errstate(all="ignore"):
                return self._constant(float(FUNCTIONS[name].numpy(np.array([value]))[0]))
        if name in SPECIAL or by_values(name):
            return self._add(("call", name, argument))
        places: list[int] = []
        for step in steps(FUNCTIONS[name].expression, ELEMENTARY):
            match step:
                case ("var", _):
                    places.append(argument)
                case ("pow", base, float()):
                    places.append(self._add(("pow", places[base], step[2])))
                case ("call", primitive, operand):
                    places.append(self._add(("call", primitive, places[operand])))
                case _:
                    places.append(self._step(step, places))
        return places[-1]


def lower_trees(trees: Sequence[Tree]) -> tuple[tuple[Step, ...], tuple[int, ...]]:
    """The steps, and the position of each tree's value. Raises FormulaError for splines and infinite constants."""
    lowering = Lowering()
    roots = tuple(lowering.tree(tree) for tree in trees)
    return tuple(lowering.steps), roots
