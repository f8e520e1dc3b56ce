"""The functions of the table as text in a file: in torch, for a network without kanserve, and in C, for training."""

import re
from collections.abc import Mapping
from functools import partial

from kanserve.formula.printing.unfolding import Dialect, Precedence, Printed, print_expression, signed, squares
from kanserve.network.expression import Expr, call, folded, rebuilt
from kanserve.network.functions import FUNCTIONS
from kanserve.network.spellings import SPELLINGS


class _InX(Dialect):
    """An expression of the variable x."""

    def __init__(self, spellings: Mapping[str, str]) -> None:
        self.spellings = spellings

    def number(self, value: float) -> str:
        return f"{value!r}".removesuffix(".0")

    def variable(self, column: int) -> str:
        return "x"

    def power(self, base: Printed, exponent: int) -> Printed:
        return Printed(squares(self.wrapped(base, Precedence.ATOM), exponent), Precedence.PRODUCT)


def torch_text(expression: Expr) -> str:
    """An expression over torch and the helpers of `kanserve.train.torch.network`.

    >>> torch_text(FUNCTIONS["gaussian"].expression)
    'torch.exp(-x*x)'
    """
    return _text(expression, "torch")


def _text(expression: Expr, language: str) -> str:
    return signed(print_expression(expression, Printed("x"), _InX(SPELLINGS[language])))


def torch_functions() -> str:
    """The table of `kanserve.train.torch.network`."""
    lines = []
    for name, row in FUNCTIONS.items():
        text = torch_text(row.expression)
        library = re.fullmatch(r"([\w.]+)\(x\)", text)
        lines.append(f'    "{name}": {library[1] if library else f"lambda x: {text}"},\n')
    return f"FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {{\n{''.join(lines)}}}\n"


def c_functions() -> str:
    """The rows of `kanserve/native/lm/function_table.h`: f(x), then f'(x), where `y` is f(x)."""
    lines = []
    for number, row in enumerate(FUNCTIONS.values()):
        slope = folded(row.slope_expression(), partial(_with_y, row.expression))
        lines.append(f"    ROW({number}, {_text(row.expression, 'c kernel')}, {_text(slope, 'c kernel')})")
    return "\n".join(lines) + "\n"


def _with_y(value: Expr, node: Expr, parts: list[Expr]) -> Expr:
    return call("y") if node is value and node.operands else rebuilt(node, parts)
