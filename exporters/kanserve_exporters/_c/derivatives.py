"""The derivatives of a named function as C, by the rules of its expression in the table of functions.

For tanh the body of the C function is

    const hello_real t0 = tanh(x);
    return 1.0 - t0*t0;

Subexpressions that are used once are inlined.
"""

import re
from collections.abc import Collection
from dataclasses import replace

from kanserve.errors import DataError, ExportError
from kanserve.network.expression import Expr, list_parts
from kanserve.network.functions import function
from kanserve.network.own_functions import OWN, by_values
from kanserve_exporters._shared.expressions import Dialect, helper, write_expression


def _slope(name: str, order: int) -> Expr:
    try:
        return function(name).slope_expression(order)
    except DataError as error:  # a callable of the user's that takes arrays alone, or an unknown operation in it
        raise ExportError(str(error)) from None


def functions_by_values(names: Collection[str], order: int) -> list[str]:
    """Which of these functions, and of those in their derivatives up to this order, were registered by their values."""
    found = {name for name in names if by_values(name)}
    if order and OWN:
        for slope in (_slope(name, n) for name in names for n in range(1, order + 1)):
            found |= {node.step[1] for node in list_parts(slope) if node.step[0] == "call" and by_values(node.step[1])}
    return sorted(found)


def is_flat(name: str, order: int = 1) -> bool:
    """Whether the derivative of this order, 1 or 2, is 0 wherever it exists."""
    return _slope(name, order).number == 0


def derivative_call(name: str, argument: str, dialect: Dialect, order: int = 1) -> str:
    """The code for the derivative of a named function at `argument`."""
    statements, (value,) = write_expression(_slope(name, order), dialect)
    library = re.fullmatch(r"([a-z]\w*)\(x\)", value.expression)
    if library and not statements and not library[1].startswith(dialect.prefix):
        return f"{library[1]}({argument})"
    return f"{_helper(name, dialect, order)}({argument})"


def derivative_helper(name: str, dialect: Dialect, order: int = 1) -> str:
    """The definition of the function that `derivative_call` calls; "" if libm has it."""
    if not derivative_call(name, "", dialect, order).startswith(dialect.prefix):
        return ""
    statements, (value,) = write_expression(_slope(name, order), dialect)
    lines = [f"const @real {word} = {part.expression};" for word, part in statements]
    if "x" not in re.findall(r"\w+", " ".join([*lines, value.expression])):  # as 2 of x^2
        lines.append("(void)x;")
    text = "".join(f"    {line}\n" for line in [*lines, f"return {value.expression};"])
    return f"\nstatic @real {_helper(name, dialect, order)}(@real x)\n{{\n{text}}}\n"


def _helper(name: str, dialect: Dialect, order: int) -> str:
    return helper(name, replace(dialect, prefix=f"{dialect.prefix}{'d' * order}"))
