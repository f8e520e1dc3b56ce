"""A formula as a sympy expression, for users; it is never read back."""

import importlib
from typing import Any

from kanserve.errors import FormulaError, MissingDependencyError
from kanserve.formula.expressions.formula import Formula
from kanserve.formula.expressions.tree import Step
from kanserve.formula.printing.unfolding import unfold
from kanserve.network.expression import Expr, steps
from kanserve.network.functions import FUNCTIONS
from kanserve.network.own_functions import OwnFunction, by_values
from kanserve.network.powers import as_fraction
from kanserve.network.spellings import SPELLINGS

MOST_OPERATIONS = 20_000  # of the unfolded formula; beyond, sympy's own algorithms take minutes


def expression(formula: Formula) -> Any:
    """The formula as a `sympy.Expr` in real symbols named by `identifiers`, with splines as undefined functions.

    It is built without sympy's automatic rewriting, which could change the domain (exp(log(x)) to x). Needs the extra
    `export`.

    Parameters
    ----------
    formula : Formula
        As `kanserve.formulas` or `Kan.formula` gives it.

    Returns
    -------
    sympy.Expr
        The expression. `kanserve.from_formula` takes it back: name the `inputs`, or their order is alphabetical.

    Raises
    ------
    FormulaError
        The formula is too large for sympy: use the tree.

    Examples
    --------
    >>> import kanserve
    >>> law = kanserve.from_formula("2*x^2 + 1").formula()
    >>> kanserve.formula.expression(law)
    2*x**2 + 1
    """
    sympy = _sympy()
    if not unfold(formula.tree, MOST_OPERATIONS).whole:
        raise FormulaError(
            f"sympy can take formulas of up to {MOST_OPERATIONS} operations; {formula.name!r} is larger. Use its tree."
        )
    symbols = {
        column: sympy.Symbol(name, real=True) for column, name in zip(formula.columns, formula.identifiers, strict=True)
    }
    values: list[Any] = []
    for step in formula.tree:
        values.append(_expression(sympy, step, values, symbols))
    return values[-1]


def _sympy() -> Any:
    try:
        return importlib.import_module("sympy")
    except ImportError:
        raise MissingDependencyError("sympy", "export") from None


def _expression(sympy: Any, step: Step, values: list[Any], symbols: dict[int, Any]) -> Any:
    match step:
        case ("const", value):
            return sympy.Integer(int(value)) if value.is_integer() and abs(value) < 2**53 else sympy.Float(value)
        case ("var", column):
            return symbols[column]
        case ("add", *arguments):
            return sympy.Add(*(values[operand] for operand in arguments), evaluate=False)
        case ("mul", *arguments):
            return sympy.Mul(*(values[operand] for operand in arguments), evaluate=False)
        case ("pow", base, exponent):
            return sympy.Pow(values[base], exponent, evaluate=False)
        case ("spline", name, argument):
            return sympy.Function(name)(values[argument])
        case (_, name, argument):
            return _call(sympy, name, values[argument])
    raise AssertionError(step)


def _call(sympy: Any, name: str, argument: Any) -> Any:
    if own := by_values(name):
        return _own_call(sympy, own, argument)
    return as_sympy(sympy, FUNCTIONS[name].expression, argument)


def as_sympy(sympy: Any, expression: Expr, argument: Any) -> Any:
    """Convert an expression of the table of functions to sympy, with a sympy expression for its variable."""
    values: list[Any] = []
    for step in steps(expression, SPELLINGS["sympy"]):
        match step:
            case ("var", _):
                values.append(argument)
            case ("pow", base, float() as exponent):
                fraction = as_fraction(exponent)
                exact = sympy.Float(exponent) if fraction is None else sympy.Rational(*fraction.as_integer_ratio())
                values.append(sympy.Pow(values[base], exact, evaluate=False))
            case ("call", "j0", operand):
                values.append(sympy.besselj(0, values[operand], evaluate=False))
            case ("call", name, operand) if name in SPELLINGS["sympy"]:
                values.append(getattr(sympy, SPELLINGS["sympy"][name])(values[operand], evaluate=False))
            case _:
                values.append(_expression(sympy, step, values, {}))
    return values[-1]


def _own_call(sympy: Any, own: OwnFunction, argument: Any) -> Any:
    """A function that a user registered by its values, in its sympy form if given, else as an undefined function."""
    if own.sympy is None:
        return sympy.Function(own.name)(argument)
    if not isinstance(own.sympy, str):
        return own.sympy(argument)
    known = getattr(sympy, own.sympy, None)
    if known is None:
        raise FormulaError(
            f"sympy has no function {own.sympy!r:.60}, as which {own.name!r} was registered. Give register_function "
            "sympy=..., the name of one that it has or a callable from a sympy expression to one."
        )
    return known(argument)
