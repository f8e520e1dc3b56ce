"""Lowers the trees of several outputs to one list of elementary steps, which any language can write.

The result has constants, variables, sums, products, powers of 2 to 4, powers with a real exponent, reciprocals, calls
of `ELEMENTARY` functions by their sympy names, and of functions that were registered by their values. A named function
that is an expression, as x/(1 + exp(-x)), becomes its steps. Steps that occur twice, in any output, are shared.
Constant subexpressions are folded, since compilers would evaluate them differently or reject them.
"""

import ast
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from kanserve.errors import FormulaError
from kanserve.formula.expressions.tree import Step, Tree, integer_power
from kanserve.network.functions import FUNCTIONS, SPECIAL
from kanserve.network.own_functions import by_values

LARGEST_PRODUCT = 4  # larger powers are products of squares

ELEMENTARY = (
    *("sqrt", "exp", "log", "sin", "cos", "tan", "asin", "acos", "atan", "atanh", "asinh", "sinh", "cosh", "tanh"),
    *("Abs", "sign", *SPECIAL),
)


class Lowering:
    """Collects the steps for `lowered`."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self._known: dict[Step, int] = {}

    def tree(self, tree: Tree) -> int:
        """The position of a tree's value among the steps."""
        places: list[int] = []
        for step in tree:
            places.append(self._step(step, places))
        return places[-1]

    def _step(self, step: Step, places: Sequence[int]) -> int:
        match step:
            case ("const", value):
                return self._constant(value)
            case ("add" | "mul" as operation, *arguments):
                return self._joined(operation, [places[operand] for operand in arguments])
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
                return self._added(step)

    def _added(self, step: Step) -> int:
        if step not in self._known:
            self._known[step] = len(self.steps)
            self.steps.append(step)
        return self._known[step]

    def _constant(self, value: float) -> int:
        if not math.isfinite(value):
            raise FormulaError(f"A constant of the formula is {value}, but source code can only hold finite numbers.")
        return self._added(("const", float(value)))

    def _value(self, place: int) -> float | None:
        step = self.steps[place]
        return step[1] if step[0] == "const" else None

    def _joined(self, operation: str, arguments: list[int]) -> int:
        values = [value for value in map(self._value, arguments) if value is not None]
        if len(values) == len(arguments):
            return self._constant(sum(values) if operation == "add" else math.prod(values))
        return self._added((operation, *arguments))

    def _power(self, base: int, exponent: int) -> int:
        value = self._value(base)
        if value is not None:
            with np.errstate(all="ignore"):
                return self._constant(float(integer_power(np.float64(value), exponent)))  # type: ignore[arg-type]  # a number works as well
        if exponent < 0:
            return self._added(("pow", self._power(base, -exponent), -1))
        if exponent == 1:
            return base
        if exponent <= LARGEST_PRODUCT:
            return self._added(("pow", base, exponent))
        square = self._power(self._power(base, exponent // 2), 2)
        return self._joined("mul", [square, base]) if exponent % 2 else square

    def _call(self, name: str, argument: int) -> int:
        value = self._value(argument)
        if value is not None:
            with np.errstate(all="ignore"):
                return self._constant(float(FUNCTIONS[name].numpy(np.array([value]))[0]))
        if name in SPECIAL or by_values(name):
            return self._added(("call", name, argument))
        # An entry of our own table, never untrusted text; its syntax tree is read and not run.
        return self._spelled(ast.parse(FUNCTIONS[name].sympy, mode="eval").body, argument)

    def _spelled(self, node: ast.expr, x: int) -> int:
        match node:
            case ast.Name():
                return x
            case ast.Constant(float() | int() as value):
                return self._constant(float(value))
            case ast.UnaryOp(ast.USub(), operand):
                return self._joined("mul", [self._constant(-1.0), self._spelled(operand, x)])
            case ast.BinOp(left, ast.Add(), right):
                return self._joined("add", [self._spelled(left, x), self._spelled(right, x)])
            case ast.BinOp(base, ast.Pow(), ast.Constant(int() as exponent)):
                return self._power(self._spelled(base, x), exponent)
            case ast.BinOp(base, ast.Pow(), exponent):
                # The base is not negative, or the power NaN.
                return self._added(("pow", self._spelled(base, x), float(_number(exponent))))
            case ast.BinOp(left, ast.Mult(), right):
                return self._joined("mul", [self._spelled(left, x), self._spelled(right, x)])
            case ast.BinOp(above, ast.Div(), below):
                under = self._power(self._spelled(below, x), -1)
                over = self._spelled(above, x)
                return under if self._value(over) == 1 else self._joined("mul", [over, under])
            case ast.Call(ast.Attribute(_, name), [argument]) if name in ELEMENTARY:
                return self._added(("call", name, self._spelled(argument, x)))
        raise FormulaError(f"The spelling {ast.unparse(node)!r} in the table of functions cannot be lowered.")


def _number(node: ast.expr) -> Fraction | float:
    """The number of a spelling: a decimal, or a fraction as sympy.Rational(5, 3)."""
    match node:
        case ast.Constant(int() | float() as value):
            return value
        case ast.UnaryOp(ast.USub(), operand):
            return -_number(operand)
        case ast.Call(ast.Attribute(_, "Rational"), [above, below]):
            return Fraction(int(_number(above)), int(_number(below)))
    raise FormulaError(f"The spelling {ast.unparse(node)!r} in the table of functions is not a number.")


def lowered(trees: Sequence[Tree]) -> tuple[tuple[Step, ...], tuple[int, ...]]:
    """The steps, and the position of each tree's value; FormulaError for splines and constants that are not finite."""
    lowering = Lowering()
    roots = tuple(lowering.tree(tree) for tree in trees)
    return tuple(lowering.steps), roots
