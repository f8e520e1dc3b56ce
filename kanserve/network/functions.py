"""The one table of named functions of one variable.

A symbolic edge is c·f(a·x + b) + d with f from this table. The reference evaluation, training, symbolification,
formulas and all exporters read it, so a new function is one row. Expressions for other languages are strings in the
variable `x`, so that this module imports nothing but NumPy:

- `torch`: a Python expression over the module `torch`;
- `sympy`: a Python expression over the module `sympy`;
- `c`: a C99 expression over libm's double functions, with `x` a simple variable (it may occur twice);
- `onnx`: nested calls of ONNX operators, a number standing for a constant of the tensor's type.

The rows of `SPECIAL` are not in NumPy: `kanserve.network.special` computes them, and their ONNX expression may call
functions that the exporter composes (BesselJ0, Gamma). The last rows are powers of imported networks: no search tries
them, as products of the others express the same. All other powers with a real exponent, such as x^(5/3) and 1/x^1.37,
are in the table by their names (`kanserve.network.powers`), although it does not list them.

A function gives NaN or an infinity outside its `domain` and never raises. `complexity` ranks candidates that fit
equally well: simpler first.
"""

from difflib import get_close_matches
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import NotFoundError
from kanserve.network import special
from kanserve.network.powers import OF_IMPORTED_NETWORKS, Function, power, power_name, written_exponent

__all__ = ["FUNCTIONS", "SPECIAL", "Function", "finite_slope", "function", "unknown_function"]

Array = NDArray[np.float64]


def _sigmoid(x: Array) -> Array:
    # Only exp of -|x|, which never overflows; not by np.abs, whose slope at 0 is wrong for the sigmoid.
    small = np.exp(np.where(x >= 0, -x, x))
    return np.where(x >= 0, 1 / (1 + small), small / (1 + small))


def _silu(x: Array) -> Array:
    return x * _sigmoid(x)


def _silu_derivative(x: Array) -> Array:
    s = _sigmoid(x)
    return s * (1 + x * (1 - s))


_ROWS = (
    Function("x", lambda x: x, np.ones_like, "x", "x", "x", "x", "", 1.0),
    Function("x^2", lambda x: x * x, lambda x: 2 * x, "x*x", "x**2", "x*x", "Mul(x, x)", "", 2.0),
    Function(
        "x^3",
        lambda x: x * x * x,
        lambda x: 3 * x * x,
        "x*x*x",
        "x**3",
        "x*x*x",
        "Mul(Mul(x, x), x)",
        "",
        2.5,
    ),
    Function(
        "x^4",
        lambda x: (x * x) * (x * x),
        lambda x: 4 * x * x * x,
        "(x*x)*(x*x)",
        "x**4",
        "(x*x)*(x*x)",
        "Mul(Mul(x, x), Mul(x, x))",
        "",
        3.0,
    ),
    Function("1/x", lambda x: 1 / x, lambda x: -1 / (x * x), "1/x", "1/x", "1/x", "Reciprocal(x)", "x != 0", 2.0),
    Function(
        "1/x^2",
        lambda x: 1 / (x * x),
        lambda x: -2 / (x * x * x),
        "1/(x*x)",
        "1/x**2",
        "1/(x*x)",
        "Reciprocal(Mul(x, x))",
        "x != 0",
        2.7,
    ),
    Function(
        "sqrt",
        np.sqrt,
        lambda x: 0.5 / np.sqrt(x),
        "torch.sqrt(x)",
        "sympy.sqrt(x)",
        "sqrt(x)",
        "Sqrt(x)",
        "x >= 0",
        2.2,
    ),
    Function(
        "1/sqrt",
        lambda x: 1 / np.sqrt(x),
        lambda x: -0.5 / (x * np.sqrt(x)),
        "1/torch.sqrt(x)",
        "1/sympy.sqrt(x)",
        "1/sqrt(x)",
        "Reciprocal(Sqrt(x))",
        "x > 0",
        2.8,
    ),
    Function("exp", np.exp, np.exp, "torch.exp(x)", "sympy.exp(x)", "exp(x)", "Exp(x)", "", 2.2),
    Function("log", np.log, lambda x: 1 / x, "torch.log(x)", "sympy.log(x)", "log(x)", "Log(x)", "x > 0", 2.2),
    Function("sin", np.sin, np.cos, "torch.sin(x)", "sympy.sin(x)", "sin(x)", "Sin(x)", "", 2.5),
    Function("cos", np.cos, lambda x: -np.sin(x), "torch.cos(x)", "sympy.cos(x)", "cos(x)", "Cos(x)", "", 2.5),
    Function(
        "tan",
        np.tan,
        lambda x: 1 / np.cos(x) ** 2,
        "torch.tan(x)",
        "sympy.tan(x)",
        "tan(x)",
        "Tan(x)",
        "x != pi/2 + n*pi",
        3.2,
    ),
    Function(
        "arcsin",
        np.arcsin,
        lambda x: 1 / np.sqrt(1 - x * x),
        "torch.asin(x)",
        "sympy.asin(x)",
        "asin(x)",
        "Asin(x)",
        "-1 <= x <= 1",
        3.2,
    ),
    Function(
        "arccos",
        np.arccos,
        lambda x: -1 / np.sqrt(1 - x * x),
        "torch.acos(x)",
        "sympy.acos(x)",
        "acos(x)",
        "Acos(x)",
        "-1 <= x <= 1",
        3.2,
    ),
    Function(
        "arctan",
        np.arctan,
        lambda x: 1 / (1 + x * x),
        "torch.atan(x)",
        "sympy.atan(x)",
        "atan(x)",
        "Atan(x)",
        "",
        3.2,
    ),
    Function(
        "arctanh",
        np.arctanh,
        lambda x: 1 / (1 - x * x),
        "torch.atanh(x)",
        "sympy.atanh(x)",
        "atanh(x)",
        "Atanh(x)",
        "-1 < x < 1",
        3.2,
    ),
    Function(
        "arcsinh",
        np.arcsinh,
        lambda x: 1 / np.sqrt(x * x + 1),
        "torch.asinh(x)",
        "sympy.asinh(x)",
        "asinh(x)",
        "Asinh(x)",
        "",
        3.2,
    ),
    Function("sinh", np.sinh, np.cosh, "torch.sinh(x)", "sympy.sinh(x)", "sinh(x)", "Sinh(x)", "", 3.2),
    Function("cosh", np.cosh, np.sinh, "torch.cosh(x)", "sympy.cosh(x)", "cosh(x)", "Cosh(x)", "", 3.2),
    Function(
        "tanh",
        np.tanh,
        lambda x: 1 - np.tanh(x) ** 2,
        "torch.tanh(x)",
        "sympy.tanh(x)",
        "tanh(x)",
        "Tanh(x)",
        "",
        3.0,
    ),
    Function(
        "sigmoid",
        _sigmoid,
        lambda x: _sigmoid(x) * _sigmoid(-x),
        "torch.sigmoid(x)",
        "1/(1 + sympy.exp(-x))",
        "1/(1 + exp(-x))",
        "Sigmoid(x)",
        "",
        3.0,
    ),
    Function(
        "silu",
        _silu,
        _silu_derivative,
        "x*torch.sigmoid(x)",
        "x/(1 + sympy.exp(-x))",
        "x/(1 + exp(-x))",
        "Mul(x, Sigmoid(x))",
        "",
        3.5,
    ),
    Function(
        "gaussian",
        lambda x: np.exp(-x * x),
        lambda x: -2 * x * np.exp(-x * x),
        "torch.exp(-x*x)",
        "sympy.exp(-x**2)",
        "exp(-x*x)",
        "Exp(Neg(Mul(x, x)))",
        "",
        3.0,
    ),
    Function("abs", np.abs, np.sign, "torch.abs(x)", "sympy.Abs(x)", "fabs(x)", "Abs(x)", "", 3.0),
    Function(
        "sign",
        np.sign,
        np.zeros_like,
        "torch.sign(x)",
        "sympy.sign(x)",
        "(x > 0) - (x < 0) + 0*x",  # 0*x, so that NaN stays NaN
        "Sign(x)",
        "",
        3.0,
    ),
)


def _in_powers(series: tuple[float, ...]) -> Array:
    """The coefficients of t^n of the sum of series[n]*T_n(t). Not by numpy.polynomial, whose import takes 4 ms."""
    chebyshev = np.eye(len(series))  # T_0 and T_1; each later row is 2*t*T_(n-1) - T_(n-2)
    for n in range(2, len(series)):
        chebyshev[n] = 2 * np.roll(chebyshev[n - 1], 1) - chebyshev[n - 2]
    powers: Array = np.asarray(series) @ chebyshev
    return powers


def _torch_j0() -> str:
    """J0 for torch, whose own J0 is off by 4e-7 beyond 5 and has no derivative. See `special.j0`."""

    def polynomial(series: tuple[float, ...]) -> str:
        first, *rest = _in_powers(series)[::-1].tolist()
        return reduce(lambda text, coefficient: f"({text})*t + {coefficient!r}", rest, repr(first))

    wave = "p*(torch.cos(s) + torch.sin(s)) - q/s*(torch.sin(s) - torch.cos(s))"
    far = f"(lambda s, t: (lambda p, q: ({wave})/torch.sqrt({np.pi}*s))({{p}}, {{q}}))"
    far = far.format(p=polynomial(special.J0_P), q=polynomial(special.J0_Q))
    near = f"(lambda t: {polynomial(special.J0_NEAR)})(x.clamp(-8.0, 8.0)**2/32 - 1)"
    # Not by clamp: at the bound some versions of torch pass the gradient on, others half of it.
    beyond = "torch.where(x.abs() < 8, 8.0, x.abs())"
    return f"torch.where(x.abs() < 8, {near}, {far}({beyond}, 128/{beyond}**2 - 1))"


_SPECIAL_ROWS = (
    Function(
        "erf",
        special.erf,
        lambda x: 1.1283791670955126 * np.exp(-x * x),
        "torch.erf(x)",
        "sympy.erf(x)",
        "erf(x)",
        "Erf(x)",
        "",
        3.2,
    ),
    Function(
        "j0",
        special.j0,
        lambda x: -special.j1(x),
        _torch_j0(),
        "sympy.besselj(0, x)",
        "j0(x)",  # of POSIX's libm; C99 has none
        "BesselJ0(x)",
        "",
        3.6,
    ),
    Function(
        "gamma",
        special.gamma,
        lambda x: special.gamma(x) * special.digamma(x),
        "torch.exp(torch.lgamma(x)) + 0*torch.log(x)",  # 0*log, so that it is NaN but for x > 0
        "sympy.gamma(x)",
        "(x > 0 ? tgamma(x) : (double)NAN)",
        "Gamma(x)",
        "x > 0",
        3.6,
    ),
)
SPECIAL = tuple(row.name for row in _SPECIAL_ROWS)


class _Table(dict[str, Function]):
    """The rows by name; powers with a real exponent are made as they are asked for, and not listed."""

    def __missing__(self, name: str) -> Function:
        row = power(str(name))
        if row is None:
            raise KeyError(name)
        return row

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or (isinstance(name, str) and power(str(name)) is not None)

    def get(self, name: str, default: Any = None) -> Any:
        try:
            return self[name]
        except KeyError:
            return default


FUNCTIONS: dict[str, Function] = _Table({row.name: row for row in (*_ROWS, *_SPECIAL_ROWS, *OF_IMPORTED_NETWORKS)})


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
    """The derivative of a function for a fit: 0 where it is infinite, as of a root at 0, so that one row does not end
    the fit."""
    slope = FUNCTIONS[name].derivative(x)
    result: Array = np.where(np.isinf(slope), 0.0, slope)
    return result


def unknown_function(name: str) -> str:
    """What to say about a name that no function has: the nearest ones, and all that there are."""
    wanted = str(name)[:_LONGEST_SHOWN]
    exponent = written_exponent(wanted)
    canonical = power_name(exponent) if exponent is not None else None
    near = [canonical] if canonical is not None else get_close_matches(wanted, FUNCTIONS)
    nearest = f" Nearest: {', '.join(near)}." if near else ""
    return (
        f"No function is called {wanted!r}.{nearest} There are: {', '.join(FUNCTIONS)}; and powers such as x^(5/3), "
        "x^1.37 and 1/x^(2/3). A function of your own is registered first in each process, by "
        "kanserve.register_function."
    )
