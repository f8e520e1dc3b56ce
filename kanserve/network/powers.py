"""Powers with a real exponent: their names, values and derivatives.

A power that is not a row of the table of functions is named by its exponent: `x^(5/3)`, `x^1.37`, `1/x^(2/3)`. A name
is a fraction if that has a denominator up to 12, else a decimal; each exponent has one name.

    exponent      at 0          of a negative number
    > 0           0             the real root if the denominator is odd: (-8)^(1/3) is -2, (-8)^(2/3) is 4
    < 0           infinite      the same; NaN for an even denominator and for a decimal
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LARGEST_DENOMINATOR = 12
LARGEST_EXPONENT = 64.0
SMALLEST_EXPONENT = 1e-3
_SAME = 1e-15  # relative: 1 - 1/3 is 2/3
_SHORT = 3  # decimals
NAMES = np.dtype("<U26")
"""Of arrays of names of functions: wide enough for each."""
_FRACTION, _DECIMAL, _RECIPROCAL = 3.0, 3.4, 0.6  # complexities of powers; the last one in addition

EXPONENTS = {
    **{"x": 1.0, "x^2": 2.0, "x^3": 3.0, "x^4": 4.0, "x^5": 5.0, "x^1.5": 1.5, "sqrt": 0.5, "1/sqrt": -0.5},
    **{"1/x": -1.0, "1/x^2": -2.0, "1/x^3": -3.0, "1/x^4": -4.0, "1/x^5": -5.0},
}
"""The exponents of the powers that are rows of the table themselves."""

_NAMES = {exponent: name for name, exponent in EXPONENTS.items()}
_NAME = re.compile(r"(1/)?x\^(?:\(([1-9][0-9]{0,2})/([1-9][0-9]?)\)|([0-9]{1,2}\.[0-9]{1,20}))", re.ASCII)


@dataclass(frozen=True)
class Function:
    """One row: f, its derivative, its expressions in other languages, its domain and its complexity."""

    name: str
    numpy: Callable[[Array], Array]
    derivative: Callable[[Array], Array]
    torch: str
    sympy: str
    c: str
    onnx: str
    domain: str  # a condition on x, "" when f is finite everywhere
    complexity: float


def power_name(exponent: float) -> str | None:
    """The name of x^exponent; None if it is no function of one row: whole and beyond 5, or of an extreme size.

    >>> power_name(5 / 3), power_name(-1.37), power_name(0.5), power_name(7.0)
    ('x^(5/3)', '1/x^1.37', 'sqrt', None)
    """
    fraction = as_fraction(exponent)
    size = abs(exponent if fraction is None else float(fraction))
    sign = -1.0 if exponent < 0 else 1.0
    if sign * size in _NAMES:
        return _NAMES[sign * size]
    if not SMALLEST_EXPONENT <= size <= LARGEST_EXPONENT or size.is_integer():
        return None
    text = repr(size) if fraction is None else f"({abs(fraction)})"
    return f"{'1/' if exponent < 0 else ''}x^{text}"


def exponent_of(name: str) -> float | None:
    """The exponent of the power of this name; None for another function, or a power by another than its name."""
    if name in EXPONENTS:
        return EXPONENTS[name]
    written = written_exponent(name)
    return written if written is not None and power_name(written) == name else None


def written_exponent(name: str) -> float | None:
    """The exponent of a text like a power's name, such as `x^(10/6)`, whose name is `x^(5/3)`."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    below, above, under, decimal = found.groups()
    size = float(decimal) if decimal else int(above) / int(under)
    return -size if below else size


def as_fraction(exponent: float) -> Fraction | None:
    """The fraction of a small denominator that the exponent is; None if it is none."""
    if not SMALLEST_EXPONENT <= abs(exponent) <= LARGEST_EXPONENT:
        return None
    fraction = Fraction(exponent).limit_denominator(LARGEST_DENOMINATOR)
    return fraction if abs(float(fraction) - exponent) <= _SAME * abs(exponent) else None


def is_short(exponent: float) -> bool:
    """Whether an exponent is a number that one would write: a simple fraction, or a decimal of a few digits."""
    return as_fraction(exponent) is not None or round(exponent, _SHORT) == exponent


def takes_negative(exponent: float) -> bool:
    """Whether the power of a negative number is real: the denominator of the exponent is odd."""
    fraction = as_fraction(exponent)
    return exponent.is_integer() or (fraction is not None and fraction.denominator % 2 == 1)


def is_odd(exponent: float) -> bool:
    """Whether (-x)^exponent is -(x^exponent): numerator and denominator are odd."""
    fraction = as_fraction(exponent)
    return takes_negative(exponent) and fraction is not None and fraction.numerator % 2 == 1


def real_power(x: Array, exponent: float) -> Array:
    """x^exponent by the rules above.

    >>> real_power(np.array([0.0, 8.0, -8.0]), 1 / 3).tolist()
    [0.0, 2.0, -2.0]
    """
    if exponent.is_integer() or not takes_negative(exponent):
        result: Array = np.power(x, exponent)
        return result
    size: Array = np.power(np.abs(x), exponent)
    return np.copysign(size, x) if is_odd(exponent) else size


@lru_cache(maxsize=1024)
def power(name: str) -> Function | None:
    """The row of the power of this name; None if it is not one, or is listed in the table itself."""
    exponent = exponent_of(name) if name not in EXPONENTS else None
    if exponent is None:
        return None
    fraction = as_fraction(exponent)
    exact = repr(exponent) if fraction is None else f"sympy.Rational({fraction.numerator}, {fraction.denominator})"
    # At 0 no gradient instead of an infinite one.
    argument = "torch.where(x == 0, x.detach(), x)" if 0 < exponent < 1 else "x"
    domain = "x >= 0" if exponent > 0 else "x > 0"
    torch, sympy, c, onnx = f"{argument}**{exponent!r}", f"x**{exact}", f"pow(x, {exponent!r})", f"Pow(x, {exponent!r})"
    if takes_negative(exponent):
        domain = "" if exponent > 0 else "x != 0"
        torch, sympy = f"{argument}.abs()**{exponent!r}", f"sympy.Abs(x)**{exact}"
        c, onnx = f"pow(fabs(x), {exponent!r})", f"Pow(Abs(x), {exponent!r})"
    if is_odd(exponent):
        torch, sympy = f"(lambda size: torch.where(x < 0, -size, size))({torch})", f"sympy.sign(x)*{sympy}"
        c, onnx = f"copysign({c}, x)", f"Mul(Sign(x), {onnx})"
    complexity = (_DECIMAL if fraction is None else _FRACTION) + _RECIPROCAL * (exponent < 0)
    return Function(
        name,
        lambda x: real_power(x, exponent),
        lambda x: _slope(x, exponent),
        torch,
        sympy,
        c,
        onnx,
        domain,
        complexity,
    )


def _slope(x: Array, exponent: float) -> Array:
    if not takes_negative(exponent):
        return exponent * np.power(x, exponent - 1)
    size: Array = np.power(np.abs(x), exponent - 1)
    return exponent * size if is_odd(exponent) else np.where(x < 0, -exponent, exponent) * size


OF_IMPORTED_NETWORKS = (
    Function(
        "x^5",
        lambda x: (x * x) * (x * x) * x,
        lambda x: 5 * (x * x) * (x * x),
        "(x*x)*(x*x)*x",
        "x**5",
        "(x*x)*(x*x)*x",
        "Mul(Mul(Mul(x, x), Mul(x, x)), x)",
        "",
        3.1,
    ),
    Function(
        "1/x^3",
        lambda x: 1 / (x * x * x),
        lambda x: -3 / ((x * x) * (x * x)),
        "1/(x*x*x)",
        "1/x**3",
        "1/(x*x*x)",
        "Reciprocal(Mul(Mul(x, x), x))",
        "x != 0",
        3.2,
    ),
    Function(
        "1/x^4",
        lambda x: 1 / ((x * x) * (x * x)),
        lambda x: -4 / ((x * x) * (x * x) * x),
        "1/((x*x)*(x*x))",
        "1/x**4",
        "1/((x*x)*(x*x))",
        "Reciprocal(Mul(Mul(x, x), Mul(x, x)))",
        "x != 0",
        3.7,
    ),
    Function(
        "1/x^5",
        lambda x: 1 / ((x * x) * (x * x) * x),
        lambda x: -5 / ((x * x) * (x * x) * (x * x)),
        "1/((x*x)*(x*x)*x)",
        "1/x**5",
        "1/((x*x)*(x*x)*x)",
        "Reciprocal(Mul(Mul(Mul(x, x), Mul(x, x)), x))",
        "x != 0",
        3.8,
    ),
    Function(
        "x^1.5",
        lambda x: x * np.sqrt(x),
        lambda x: 1.5 * np.sqrt(x),
        "x*torch.sqrt(x)",
        "x*sympy.sqrt(x)",
        "x*sqrt(x)",
        "Mul(x, Sqrt(x))",
        "x >= 0",
        3.2,
    ),
)
"""Powers that networks of other libraries hold; no search tries them, as products of others express the same."""
