"""Powers with a real exponent: their names and values.

A power that is not a row of the table of functions is named by its exponent: `x^(5/3)`, `x^1.37`, `1/x^(2/3)`. A name
is a fraction if that has a denominator up to 12, else a decimal; each exponent has one name.

    exponent      at 0          of a negative number
    > 0           0             the real root if the denominator is odd: (-8)^(1/3) is -2, (-8)^(2/3) is 4
    < 0           infinite      the same; NaN for an even denominator and for a decimal
"""

import re
from fractions import Fraction

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

EXPONENTS = {
    **{"x": 1.0, "x^2": 2.0, "x^3": 3.0, "x^4": 4.0, "x^5": 5.0, "x^1.5": 1.5, "sqrt": 0.5, "1/sqrt": -0.5},
    **{"1/x": -1.0, "1/x^2": -2.0, "1/x^3": -3.0, "1/x^4": -4.0, "1/x^5": -5.0},
}
"""The exponents of the powers that are rows of the table themselves."""

_NAMES = {exponent: name for name, exponent in EXPONENTS.items()}
_NAME = re.compile(r"(1/)?x\^(?:\(([1-9][0-9]{0,2})/([1-9][0-9]?)\)|([0-9]{1,2}\.[0-9]{1,20}))", re.ASCII)


def power_name(exponent: float) -> str | None:
    """The name of x^exponent; None if it is not a function of one row: whole and beyond 5, or of an extreme size.

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
    """The exponent of a power by its name; None if `name` is not (exactly) the name of a power."""
    if name in EXPONENTS:
        return EXPONENTS[name]
    written = parse_exponent(name)
    return written if written is not None and power_name(written) == name else None


def parse_exponent(name: str) -> float | None:
    """The exponent in a text that looks like a power's name: 5/3 for `x^(10/6)`."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    below, above, under, decimal = found.groups()
    size = float(decimal) if decimal else int(above) / int(under)
    return -size if below else size


def as_fraction(exponent: float) -> Fraction | None:
    """The exponent as a fraction with a small denominator, or None."""
    if not SMALLEST_EXPONENT <= abs(exponent) <= LARGEST_EXPONENT:
        return None
    fraction = Fraction(exponent).limit_denominator(LARGEST_DENOMINATOR)
    return fraction if abs(float(fraction) - exponent) <= _SAME * abs(exponent) else None


def is_short(exponent: float) -> bool:
    """Whether an exponent is one that people would write: a simple fraction, or a decimal with few digits."""
    return as_fraction(exponent) is not None or round(exponent, _SHORT) == exponent


def takes_negative(exponent: float | Fraction) -> bool:
    """Whether the power of a negative number is real: the denominator of the exponent is odd."""
    fraction = exponent if isinstance(exponent, Fraction) else as_fraction(exponent)
    return int(exponent) == exponent or (fraction is not None and fraction.denominator % 2 == 1)


def is_odd(exponent: float | Fraction) -> bool:
    """Whether (-x)^exponent is -(x^exponent): numerator and denominator are odd."""
    fraction = exponent if isinstance(exponent, Fraction) else as_fraction(exponent)
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
