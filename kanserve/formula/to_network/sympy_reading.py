"""From a sympy expression to ours, by its tree: its text is not parsed, and sympy is not imported."""

import math
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
    """Whether a value is a sympy expression."""
    names = ((str(base.__module__).partition(".")[0], base.__name__) for base in type(value).__mro__)
    return ("sympy", "Expr") in names


def read(expression: Any) -> Expression:
    """The `sympy.Expr` as an expression of ours; InputError names a part that is not supported."""
    return _Reader().read(expression, 0)


class _Reader:
    def __init__(self) -> None:
        self._parts = 0

    def read(self, one: Any, depth: int) -> Expression:
        self._parts += 1
        if depth > PARSING_MAX_NESTING or self._parts > MAX_PARTS:
            raise InputError(
                f"An expression may be nested at most {PARSING_MAX_NESTING} deep and have {MAX_PARTS} parts."
            )
        if one.is_Symbol:
            return Name(one.name)
        if one.is_Number or one.is_NumberSymbol:
            return _number(one)
        name, arguments = type(one).__name__, one.args
        if name == "besselj" and arguments[0] == 0:
            name, arguments = "j0", arguments[1:]
        called = name in EXTREMES or (name in FUNCTION_NAMES and len(arguments) == 1)
        if not (one.is_Add or one.is_Mul or one.is_Pow or called):
            raise InputError(f"The expression has {name!r}, which is not a supported function. {function_list()}")
        arguments = tuple(self.read(argument, depth + 1) for argument in arguments)
        if one.is_Add:
            return Add(arguments)
        if one.is_Mul:
            return Multiply(arguments)
        if name in EXTREMES:
            return Extreme(name, arguments)
        return Power(arguments[0], arguments[1]) if one.is_Pow else Call(name, arguments[0])


def _number(one: Any) -> Number:
    """The double nearest to a sympy number: 1/3, pi."""
    try:
        value = float(one)
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"The expression has {str(one)[:60]}, which is not a finite real number.")
    if value == 0 and one != 0:
        raise InputError(f"The expression has {str(one)[:60]}, which is not 0 but too small for a double.")
    return Number(value)
