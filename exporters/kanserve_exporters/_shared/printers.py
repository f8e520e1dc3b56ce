"""sympy's code printers with guards: on what they may print, and for exact numbers.

Importing this module imports sympy. Unlike sympy's own printers, these do not call pow for small integer powers, print
constants in double regardless of the type, lose digits, use M_PI, or print non-real or unknown expressions as if they
were code.
"""

from collections.abc import Callable

import sympy
from sympy.codegen.ast import float32, real
from sympy.printing.c import C99CodePrinter
from sympy.printing.numpy import NumPyPrinter
from sympy.printing.pycode import PythonCodePrinter

from kanserve.errors import ExportError
from kanserve.formula.printing.sympy_spelling import spelled

_TRIGONOMETRIC = {"sin", "cos", "tan", "asin", "acos", "atan"}
_HYPERBOLIC = {"sinh", "cosh", "tanh", "asinh", "acosh", "atanh"}
_SPECIAL = {"erf", "gamma", "besselj"}
_KNOWN = _TRIGONOMETRIC | _HYPERBOLIC | _SPECIAL | {"exp", "log", "Abs", "sign"}
_NOT_REAL = (sympy.I, sympy.zoo, sympy.nan, sympy.oo, -sympy.oo)
_LARGEST_PRODUCT = 8

Literal = Callable[[float], str]


def parse(text: str, symbol: str) -> sympy.Expr:
    """The expression in a text from the table of functions, of one variable."""
    return spelled(sympy, text, sympy.Symbol(symbol, real=True))


def check(expression: sympy.Expr, symbol: str) -> None:
    """ExportError unless the expression is real, of this one variable and of functions that the printers know."""
    unknown = {type(atom).__name__ for atom in expression.atoms(sympy.Function)} - _KNOWN
    unknown |= {f"J{atom.args[0]}" for atom in expression.atoms(sympy.besselj) if atom.args[0] != 0}
    others = {str(variable) for variable in expression.free_symbols} - {symbol}
    if unknown or others or expression.has(*_NOT_REAL):
        found = ", ".join(sorted(unknown | others)) or "what is not a real number"
        raise ExportError(f"Source can hold real expressions of {symbol} and the usual functions only; got {found}.")


class _Guarded:
    """A mixin for sympy's printers: numbers by `literal`, small integer powers as products, roots as roots."""

    literal: Literal
    root: str  # the name of the square root function
    power: str  # and of the power function

    def _print_Float(self, expression: sympy.Expr) -> str:
        return self.literal(float(expression))

    _print_Integer = _print_Rational = _print_NumberSymbol = _print_Half = _print_Float
    _print_Pi = _print_Exp1 = _print_One = _print_NegativeOne = _print_Zero = _print_Float

    def _print_Pow(self, expression: sympy.Expr) -> str:
        base, power = expression.base, expression.exp
        text = self._print(base)  # type: ignore[attr-defined]  # a method of sympy's printer
        if power.is_Integer and 1 <= abs(int(power)) <= _LARGEST_PRODUCT and (base.is_Symbol or abs(int(power)) == 1):
            product = f"({'*'.join([text] * abs(int(power)))})"
        elif abs(power) == sympy.Rational(1, 2):
            product = f"{self.root}({text})"
        elif power.is_Integer and 1 < abs(int(power)) <= _LARGEST_PRODUCT:  # of a sum, in a function of the user's
            product = f"({'*'.join([f'({text})'] * abs(int(power)))})"
        elif power == sympy.Rational(3, 2) and base.is_Symbol:
            product = f"({text}*{self.root}({text}))"
        elif power.is_Number and power.is_finite and not power.is_Integer:
            return f"{self.power}({text}, {self.literal(float(power))})"
        else:
            raise ExportError(f"Source can hold real powers and whole ones up to {_LARGEST_PRODUCT}; got {expression}.")
        return product if power > 0 else f"({self.literal(1.0)}/{product})"


class CPrinter(_Guarded, C99CodePrinter):  # type: ignore[misc]  # sympy has no types
    """C99 with libm. `sign`, which propagates NaN, and J0, which C99 does not have, are helpers with the prefix.

    The type's name has that prefix, too. Gamma is only defined for x > 0.
    """

    def __init__(self, single: bool, literal: Literal, prefix: str) -> None:
        super().__init__({"type_aliases": {real: float32}} if single else {})
        self.literal = literal
        self.root = "sqrtf" if single else "sqrt"
        self.power = "powf" if single else "pow"
        self.gamma = "tgammaf" if single else "tgamma"
        self.prefix = prefix

    def _print_sign(self, expression: sympy.Expr) -> str:
        return f"{self.prefix}sign({self._print(expression.args[0])})"

    def _print_gamma(self, expression: sympy.Expr) -> str:
        argument = self._print(expression.args[0])
        return f"({argument} > 0 ? {self.gamma}({argument}) : ({self.prefix}real)NAN)"

    def _print_besselj(self, expression: sympy.Expr) -> str:
        return f"{self.prefix}j0({self._print(expression.args[1])})"


class ArrayPrinter(_Guarded, NumPyPrinter):  # type: ignore[misc]  # sympy has no types
    """NumPy, with names such as `numpy.sin`; erf, gamma and j0 are copied from network/special.py."""

    def __init__(self, literal: Literal) -> None:
        super().__init__()
        self.literal = literal
        self.root = "numpy.sqrt"
        self.power = "numpy.power"

    def _print_erf(self, expression: sympy.Expr) -> str:
        return f"erf({self._print(expression.args[0])})"

    def _print_gamma(self, expression: sympy.Expr) -> str:
        return f"gamma({self._print(expression.args[0])})"

    def _print_besselj(self, expression: sympy.Expr) -> str:
        return f"j0({self._print(expression.args[1])})"


class NumberPrinter(_Guarded, PythonCodePrinter):  # type: ignore[misc]  # sympy has no types
    """Python floats and the math module. Gamma is only defined for x > 0; there is no J0."""

    def __init__(self, literal: Literal) -> None:
        super().__init__()
        self.literal = literal
        self.root = "math.sqrt"
        self.power = "math.pow"

    def _print_sign(self, expression: sympy.Expr) -> str:
        argument = self._print(expression.args[0])
        return f"(({argument} > 0) - ({argument} < 0) + 0*{argument})"

    def _print_gamma(self, expression: sympy.Expr) -> str:
        argument = self._print(expression.args[0])
        return f"(math.gamma({argument}) if {argument} > 0 else math.nan)"
