"""Spellings such as "1/sympy.sqrt(x)" of the table of functions, as expressions: parsed, never run as code."""

import ast
import operator
from collections.abc import Callable
from typing import Any

_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}


def spelled(sympy: Any, spelling: str, x: Any) -> Any:
    """The sympy expression of a spelling, with `x` any sympy expression.

    A spelling may have operators, numbers, x and calls of sympy functions; ValueError for anything else.
    """
    return _expression(ast.parse(spelling, mode="eval").body, sympy, x)


def _expression(node: ast.expr, sympy: Any, x: Any) -> Any:
    match node:
        case ast.Name("x"):
            return x
        case ast.Constant(int() | float() as number):
            return number
        case ast.BinOp(left, symbol, right) if type(symbol) in _OPERATORS:
            return _OPERATORS[type(symbol)](_expression(left, sympy, x), _expression(right, sympy, x))
        case ast.UnaryOp(ast.USub(), operand):
            return -_expression(operand, sympy, x)
        case ast.Call(ast.Attribute(ast.Name("sympy"), name), arguments, []):
            return getattr(sympy, name)(*(_expression(argument, sympy, x) for argument in arguments))
    raise ValueError(f"A sympy spelling in the table of functions cannot be read: {ast.unparse(node)}")
