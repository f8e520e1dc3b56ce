"""`register_function`: add a user's function to the table of functions, by a formula in x, from which all else follows
in every language, or by values and spellings in some languages. Search, training, formulas and exporters then use it
like any other."""

import keyword
import re
from collections.abc import Callable, Mapping
from functools import reduce
from operator import add, mul
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import InputError
from kanserve.formula.expressions import names, parsing
from kanserve.formula.expressions.tree import Tree
from kanserve.formula.from_network.expression_trees import trees
from kanserve.formula.function_checks import DOMAINS, check_finite, check_slope, check_values, same_values
from kanserve.formula.to_network.from_formula import from_formula
from kanserve.network.expression import Expr, Primitive, X, call
from kanserve.network.functions import FUNCTIONS, Function
from kanserve.network.own_functions import (
    LANGUAGES,
    OWN,
    Elementwise,
    OwnFunction,
    Slope,
    add_row,
    by_values,
    remove_row,
)

Array = NDArray[np.float64]

_LONGEST = 12  # characters of a name, as many as networks of a search keep


def register_function(
    name: str,
    formula: str | None = None,
    *,
    numpy: Callable[[Array], Array] | None = None,
    derivative: Callable[[Array], Array] | str | None = None,
    sympy: Callable[[Any], Any] | str | None = None,
    c: str | None = None,
    spellings: Mapping[str, str] | None = None,
    domain: str = "",
    complexity: float = 3.0,
) -> None:
    """Add a function of one variable to the table of functions, for this process.

    Afterwards `kanserve.find_formulas(functions=[..., name])` searches with it, `kanserve.from_formula` reads it, and
    formulas, derivatives, training and the exporters have it. A process that loads a network with it must register it
    first; exported files need nothing. `kanserve.to_torch` does not take it.

    Give either its formula, which is all that is needed, or, for a function that no formula expresses, its values and
    derivative, with its spelling in the languages that you will export to. A format for which it has none raises an
    ExportError or a FormulaError that says what to give.

    Parameters
    ----------
    name : str
        Its name in formulas: up to 12 letters, digits and underscores.
    formula : str, optional
        What it is, as a formula in x of the functions that are there: "x/(1 + x^2)".
    numpy : callable, optional
        Its values: from a float64 array of shape (N,) to one of the same shape, number by number, as those of NumPy
        and scipy.special. It is called with finite numbers of the domain only.
    derivative : callable or str, optional
        With `numpy`: its derivative, likewise, or a formula in x, or the name of another function. The formula may
        have the function itself: "1 - 2*x*dawson(x)". Second derivatives, and gradients in C, need a formula, or a
        callable of NumPy's own functions.
    sympy : callable or str, optional
        With `numpy`: the name of a function of sympy ("airyai"), or a callable from a sympy expression to one. Without
        it, `kanserve.formula.expression` has an undefined function of this name.
    c : str, optional
        With `numpy`: a C99 expression in x over the functions of math.h ("erfc(x)"), or the statements of a function
        of `double x` that returns a double.
    spellings : mapping of str to str, optional
        With `numpy`: an expression in x, by language: "numpy", "python", "julia", "fortran", "rust", "matlab" (Octave
        too), "javascript" and, as calls of its operators, "onnx". Modules before a dot are imported:
        {"numpy": "scipy.special.dawsn(x)"}.
    domain : {"", "x >= 0", "x > 0", "x != 0", "-1 <= x <= 1", "-1 < x < 1"}, default=""
        Where it is finite; everywhere by default.
    complexity : float, default=3.0
        What it counts in a formula, where sin has 2.5 and tanh 3: simpler functions are preferred.

    Raises
    ------
    InputError
        The name is taken or cannot be one; the formula is not one in x; or the function is not finite in its domain,
        does not take arrays, or differs from its derivative.

    Examples
    --------
    >>> import kanserve
    >>> kanserve.register_function("lorentz", "1/(1 + x^2)")
    >>> kan = kanserve.from_formula("2*lorentz(3*t)")
    >>> kan([[1.0]]).tolist()
    [[0.2]]
    >>> kan.formula().text
    '2*lorentz(3*t)'

    A function by its values:

    >>> import numpy as np
    >>> kanserve.register_function("sinc", numpy=np.sinc, derivative="(cos(pi*x) - sinc(x))/x", domain="x != 0",
    ...                            c="sin(3.141592653589793*x)/(3.141592653589793*x)")
    >>> kanserve.from_formula("2*sinc(t)")([[0.5]]).round(4).tolist()
    [[1.2732]]
    """
    if not re.fullmatch(rf"[A-Za-z]\w{{0,{_LONGEST - 1}}}", str(name), re.ASCII) or keyword.iskeyword(name):
        raise InputError(f"A function's name is up to {_LONGEST} letters, digits and underscores, got {name!r:.60}.")
    spelled = _check_spellings(name, {**({} if c is None else {"c": c}), **(spellings or {})})
    own = OwnFunction(name, formula, numpy, derivative, sympy, spelled, domain, float(complexity))
    if name in OWN and _same(own, OWN[name]):
        return
    _check_new(name)
    if domain not in DOMAINS:
        raise InputError(f"domain is one of {', '.join(map(repr, DOMAINS))}; got {domain!r:.60}.")
    if not complexity >= 1:
        raise InputError(f"complexity is a number of 1 or more, got {complexity!r}.")
    if (formula is None) == (numpy is None):
        raise InputError("Give either formula, as in 'x/(1 + x^2)', or numpy with derivative.")
    if formula is not None:
        _register_formula(own, formula)
    else:
        _register_values(own)
    names.reserve(name)


def _check_new(name: str) -> None:
    if name in FUNCTIONS or name in parsing.FUNCTION_NAMES or name in ("pi", "e", "x", *parsing.EXTREMES):
        known = f", as {OWN[name].formula}" if name in OWN and OWN[name].formula is not None else ""
        raise InputError(f"There is a function or constant called {name!r} already{known}. Choose another name.")


def _check_spellings(name: str, spellings: Mapping[str, str]) -> dict[str, str]:
    """The spellings, with the language names of `LANGUAGES`."""
    found = {("matlab" if language == "octave" else language): text for language, text in spellings.items()}
    for language, text in found.items():
        if language not in LANGUAGES:
            raise InputError(f"A language of spellings is one of {', '.join(LANGUAGES)}; got {language!r:.60}.")
        if not text.isascii() or set("@$") & set(text) or not re.search(r"\bx\b", text):
            raise InputError(
                f"The spelling of {name!r} for {language} is a text in ASCII with the variable x, without @ and $; got "
                f"{text!r:.60}."
            )
    return found


def _same(function: OwnFunction, other: OwnFunction) -> bool:
    """Whether the same function is registered again. Callables may be new objects, as in a notebook, but must agree."""
    if function == other:
        return True
    if function.numpy is None or other.numpy is None:
        return False
    callables = ("numpy", "derivative", "sympy")
    kept = {key: value for key, value in function.arguments().items() if key not in callables or isinstance(value, str)}
    return all(getattr(other, key) == value for key, value in kept.items()) and same_values(function, other)


def _register_formula(own: OwnFunction, formula: str) -> None:
    if own.derivative is not None or own.sympy is not None or own.spellings:
        raise InputError("derivative, sympy, c and spellings belong to numpy; a formula needs none of them.")
    (tree,) = trees(from_formula(formula, inputs=["x"])).trees
    for step in tree:
        if step[0] == "call" and by_values(step[1]):
            raise InputError(
                f"{step[1]!r} was registered by its values, so that a formula of it cannot be spelled in other "
                f"languages. Register {own.name!r} by its values too: numpy=..., derivative=..."
            )
    row = Function(own.name, expression_of(tree), own.complexity, own.domain)
    check_finite(row, formula)
    _enter(row, own)


def _register_values(own: OwnFunction) -> None:
    assert own.numpy is not None
    if own.derivative is None:
        raise InputError(f"{own.name!r} needs its derivative: a callable, a formula in x or the name of a function.")
    check_values(own)
    values = Elementwise(own.name, own.numpy, own.domain)
    row = Function(own.name, call(own.name, X), own.complexity, own.domain)
    _enter(row, own, Primitive(own.name, values))
    try:
        if isinstance(own.derivative, str):
            primitive = Primitive(own.name, values, _formula_in_x(own.derivative).at)
        else:
            slope = Slope(own.name, own.derivative, own.domain)
            primitive = Primitive(own.name, values, slope, numpy_slope=slope)
        _enter(row, own, primitive)
        check_finite(row, own.name)
        check_slope(own, primitive.derivative)
    except BaseException:
        _leave(own.name)
        raise


def _formula_in_x(formula: str) -> Expr:
    """The derivative, given as a formula or as the name of a function."""
    whole = f"{formula}(x)" if formula in parsing.FUNCTION_NAMES else formula
    (tree,) = trees(from_formula(whole, inputs=["x"])).trees
    return expression_of(tree)


def expression_of(tree: Tree) -> Expr:
    """Convert the formula of one input to an expression over the primitives."""
    values: list[Expr] = []
    for step in tree:
        match step:
            case ("const", value):
                values.append(0 * X + value)
            case ("var", _):
                values.append(X)
            case ("add", *operands):
                values.append(reduce(add, (values[operand] for operand in operands)))
            case ("mul", *operands):
                values.append(reduce(mul, (values[operand] for operand in operands)))
            case ("pow", base, exponent):
                values.append(values[base] ** exponent)
            case (_, name, argument):
                values.append(FUNCTIONS[name].expression.at(values[argument]))
    return values[-1]


def _enter(row: Function, own: OwnFunction, primitive: Primitive | None = None) -> None:
    add_row(row, own, primitive)
    parsing.TABLE_NAMES[row.name] = row.name
    parsing.FUNCTION_NAMES.add(row.name)


def _leave(name: str) -> None:
    remove_row(name)
    del parsing.TABLE_NAMES[name]
    parsing.FUNCTION_NAMES.remove(name)
