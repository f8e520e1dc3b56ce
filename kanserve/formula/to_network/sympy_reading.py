"""Convert a sympy expression by its tree: its text is not parsed, and sympy is not imported."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from kanserve.errors import InputError
from kanserve.formula.expressions.parsing import (
    EXTREMES,
    FUNCTION_NAMES,
    PARSING_MAX_NESTING,
    Add,
    Call,
    Expression,
    Extreme,
    Multiply,
    Name,
    Number,
    Power,
    function_list,
)

MAX_PARTS = 10_000  # of an expression: as many as the longest text


def is_sympy(value: object) -> bool:
    names = ((str(base.__module__).partition(".")[0], base.__name__) for base in type(value).__mro__)
    return ("sympy", "Expr") in names


def read(expression: Any) -> Expression:
    """Convert a `sympy.Expr`. Raises InputError that names an unsupported part."""
    return _Reader().read(expression, 0)


class _Reader:
    def __init__(self) -> None:
        self._parts = 0

    def read(self, expression: Any, depth: int) -> Expression:
        self._parts += 1
        if depth > PARSING_MAX_NESTING or self._parts > MAX_PARTS:
            raise InputError(
                f"An expression may be nested at most {PARSING_MAX_NESTING} deep and have {MAX_PARTS} parts."
            )
        if expression.is_Symbol:
            return Name(expression.name)
        if expression.is_Number or expression.is_NumberSymbol:
            return _number(expression)
        make, arguments = _operation(expression)
        return make(*(self.read(argument, depth + 1) for argument in arguments))


def _operation(expression: Any) -> tuple[Callable[..., Expression], Sequence[Any]]:
    """The constructor that an operation is converted with, and its operands."""
    name, arguments = type(expression).__name__, expression.args
    if expression.is_Add:
        return lambda *terms: Add(terms), arguments
    if expression.is_Mul:
        return lambda *factors: Multiply(factors), arguments
    if expression.is_Pow:
        return Power, arguments
    if name in EXTREMES:
        return lambda *operands: Extreme(name, operands), arguments
    if name == "besselj" and arguments[0] == 0:
        name, arguments = "j0", arguments[1:]
    if name in FUNCTION_NAMES and len(arguments) == 1:
        return partial(Call, name), arguments
    raise InputError(f"The expression has {name!r}, which is not a supported function. {function_list()}")


def _number(number: Any) -> Number:
    """The double nearest to a sympy number such as 1/3 or pi."""
    try:
        value = float(number)
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"The expression has {str(number)[:60]}, which is not a finite real number.")
    if value == 0 and number != 0:
        raise InputError(f"The expression has {str(number)[:60]}, which is not 0 but too small for a double.")
    return Number(value)
