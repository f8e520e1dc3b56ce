"""The one table of named functions of one variable.

A symbolic edge is c·f(a·x + b) + d with f from this table. The reference evaluation, training, symbolification,
formulas and all exporters read it, so a new function is one row: its name, its expression over the primitives of
`kanserve.network.expression`, and how complex it is. Its values, derivatives, parity and bounds, and its text in each
language (`kanserve.network.spellings`), follow from the expression.

Of the last rows no search tries any, as products of others express the same: powers of imported networks. All other
powers with a real exponent, such as x^(5/3) and 1/x^1.37, are in the table by their names (`kanserve.network.powers`),
although it does not list them.

A function gives NaN or an infinity outside its `domain` and never raises. `complexity` ranks candidates that fit
equally well: simpler first.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import NotFoundError
from kanserve.network.expression import PRIMITIVES, Expr, X, call, compile_expression, decay, derivative, parity
from kanserve.network.powers import EXPONENTS, as_fraction, exponent_of, parse_exponent, power_name, takes_negative

__all__ = ["FUNCTIONS", "Function", "finite_slope", "function", "unknown_function"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Function:
    """A row of the table: f as an expression in X, its complexity, and its domain as a condition on x, "" if
    everywhere. `slope` replaces the derivative if the rules give a slower or less exact one; `bounds` if they are
    closer than interval arithmetic finds."""

    name: str
    expression: Expr
    complexity: float
    domain: str = ""
    slope: Expr | None = None
    bounds: tuple[float, float] = (-math.inf, math.inf)

    @cached_property
    def numpy(self) -> Callable[[Array], Array]:
        return compile_expression(self.expression)

    @cached_property
    def parity(self) -> int:
        """1 if f(-x) is f(x), -1 if it is -f(x), else 0."""
        return parity(self.expression)

    @cached_property
    def derivative(self) -> Callable[[Array], Array]:
        if self.expression.step == ("call", self.name, X):
            return PRIMITIVES[self.name].derivative
        return compile_expression(self.slope_expression())

    def slope_expression(self, order: int = 1) -> Expr:
        """The derivative of this order, as an expression."""
        slope = self.slope if self.slope is not None else derivative(self.expression)
        for _ in range(order - 1):
            slope = derivative(slope)
        return slope


_SIGMOID, _DECAY = call("sigmoid", X), decay(X)
_ROWS = (
    Function("x", X, 1.0),
    Function("x^2", X**2, 2.0),
    Function("x^3", X**3, 2.5),
    Function("x^4", X**4, 3.0),
    Function("1/x", X**-1, 2.0, "x != 0"),
    Function("1/x^2", X**-2, 2.7, "x != 0"),
    Function("sqrt", X**0.5, 2.2, "x >= 0"),
    Function("1/sqrt", X**-0.5, 2.8, "x > 0"),
    Function("exp", np.exp(X), 2.2),
    Function("log", np.log(X), 2.2, "x > 0"),
    Function("sin", np.sin(X), 2.5),
    Function("cos", np.cos(X), 2.5),
    Function("tan", np.tan(X), 3.2, "x != pi/2 + n*pi"),
    Function("arcsin", np.arcsin(X), 3.2, "-1 <= x <= 1"),
    Function("arccos", np.arccos(X), 3.2, "-1 <= x <= 1"),
    Function("arctan", np.arctan(X), 3.2),
    Function("arctanh", np.arctanh(X), 3.2, "-1 < x < 1"),
    Function("arcsinh", np.arcsinh(X), 3.2),
    Function("sinh", np.sinh(X), 3.2),
    Function("cosh", np.cosh(X), 3.2),
    Function("tanh", np.tanh(X), 3.0),
    Function("sigmoid", _SIGMOID, 3.0),
    Function(
        "silu",
        X * _SIGMOID,
        3.5,
        # In one exponential.
        bounds=(-0.28, math.inf),
        slope=(np.where(X < 0, _DECAY, 1) * (1 + _DECAY) + X * _DECAY) / (1 + _DECAY) ** 2,
    ),
    Function("gaussian", np.exp(-X * X), 3.0),
    Function("abs", np.abs(X), 3.0),
    Function("sign", np.sign(X), 3.0),
    Function("erf", call("erf", X), 3.2),
    Function("j0", call("j0", X), 3.6),
    Function("gamma", call("gamma", X), 3.6, "x > 0"),
    Function("x^5", X**5, 3.1),
    Function("1/x^3", X**-3, 3.2, "x != 0"),
    Function("1/x^4", X**-4, 3.7, "x != 0"),
    Function("1/x^5", X**-5, 3.8, "x != 0"),
    Function("x^1.5", X**1.5, 3.2, "x >= 0"),
)
_FRACTION, _DECIMAL, _RECIPROCAL = 3.0, 3.4, 0.6  # complexities of other powers; the last one in addition


@lru_cache(maxsize=1024)
def _power(name: str) -> Function | None:
    """The row of a power, by its name; None if it is not a power, or is listed in the table."""
    exponent = exponent_of(name) if name not in EXPONENTS else None
    if exponent is None:
        return None
    complexity = (_DECIMAL if as_fraction(exponent) is None else _FRACTION) + _RECIPROCAL * (exponent < 0)
    if takes_negative(exponent):
        return Function(name, X**exponent, complexity, "" if exponent > 0 else "x != 0")
    return Function(name, X**exponent, complexity, "x >= 0" if exponent > 0 else "x > 0")


class _Table(dict[str, Function]):
    """The rows by name. Powers with a real exponent are created on request and not listed."""

    def __missing__(self, name: str) -> Function:
        row = _power(str(name))
        if row is None:
            raise KeyError(name)
        return row

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or (isinstance(name, str) and _power(str(name)) is not None)

    def get(self, name: str, default: Any = None) -> Any:
        try:
            return self[name]
        except KeyError:
            return default


FUNCTIONS: dict[str, Function] = _Table({row.name: row for row in _ROWS})


_LONGEST_SHOWN = 60  # characters of an unknown name


def function(name: str) -> Function:
    """The row called `name`; NotFoundError with similar names and all names.

    >>> function("x^(1/3)").numpy(np.array([-8.0, 0.0])).tolist()
    [-2.0, 0.0]
    """
    if name not in FUNCTIONS:
        raise NotFoundError(unknown_function(name))
    return FUNCTIONS[name]


def finite_slope(name: str, x: Array) -> Array:
    """The derivative of a function, infinite values (as of a root at 0) made 0, so that no row stops a fit."""
    slope = FUNCTIONS[name].derivative(x)
    result: Array = np.where(np.isinf(slope), 0.0, slope)
    return result


def unknown_function(name: str) -> str:
    """An error text for an unknown function name: the nearest names, and all that exist."""
    wanted = str(name)[:_LONGEST_SHOWN]
    exponent = parse_exponent(wanted)
    canonical = power_name(exponent) if exponent is not None else None
    near = [canonical] if canonical is not None else get_close_matches(wanted, FUNCTIONS)
    nearest = f" Nearest: {', '.join(near)}." if near else ""
    return (
        f"No function is called {wanted!r}.{nearest} There are: {', '.join(FUNCTIONS)}; and powers such as x^(5/3), "
        "x^1.37 and 1/x^(2/3). A function of your own is registered first in each process, by "
        "kanserve.register_function."
    )
