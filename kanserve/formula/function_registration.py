"""`register_function`: a function of the user's in the table of functions, from its formula in x.

All that a row of the table has is made from the formula: its values and derivative in NumPy, and its text for sympy,
C, ONNX and torch. So the search, training, formulas and exporters take it as any other.
"""

import re
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import InputError
from kanserve.formula.expressions import names, parsing
from kanserve.formula.expressions.tree import Step, Tree, integer_power
from kanserve.formula.from_network.expression_trees import trees
from kanserve.formula.to_network.from_formula import from_formula
from kanserve.network.functions import FUNCTIONS, Function
from kanserve.network.own_functions import OWN, added

Array = NDArray[np.float64]

DOMAINS = {
    "": (-3.0, 3.0),
    "x >= 0": (0.0, 3.0),
    "x > 0": (0.01, 3.0),
    "x != 0": (0.01, 3.0),
    "-1 <= x <= 1": (-1.0, 1.0),
    "-1 < x < 1": (-0.99, 0.99),
}
"""The domains that a function may have, each with an interval on which it must be finite."""
_LONGEST = 12  # characters of a name, as many as networks of a search keep


def register_function(name: str, formula: str, *, complexity: float = 3.0, domain: str = "") -> None:
    """Add a function of one variable to the table of functions, for this process.

    Afterwards `kanserve.find_formulas(functions=[..., name])` searches with it, `kanserve.from_formula` reads it, and
    formulas, derivatives and the exporters have it. A process that loads a network with it must register it first; the
    exported C, ONNX, NumPy and JavaScript need nothing. `kanserve.to_torch` does not take it.

    Parameters
    ----------
    name : str
        Its name in formulas: up to 12 letters, digits and underscores.
    formula : str
        What it is, as a formula in x of the functions that are there: "x/(1 + x^2)".
    complexity : float, default=3.0
        What it counts in a formula, where sin has 2.5 and tanh 3: simpler functions are preferred.
    domain : {"", "x >= 0", "x > 0", "x != 0", "-1 <= x <= 1", "-1 < x < 1"}, default=""
        Where it is finite; everywhere by default.

    Raises
    ------
    InputError
        The name is taken or cannot be one, the formula is not one in x, or it is not finite in its domain.

    Examples
    --------
    >>> import kanserve
    >>> kanserve.register_function("lorentz", "1/(1 + x^2)")
    >>> kan = kanserve.from_formula("2*lorentz(3*t)")
    >>> kan([[1.0]]).tolist()
    [[0.2]]
    >>> kan.formula().text
    '2*lorentz(3*t)'
    """
    if not re.fullmatch(rf"[A-Za-z]\w{{0,{_LONGEST - 1}}}", str(name), re.ASCII):
        raise InputError(f"A function's name is up to {_LONGEST} letters, digits and underscores, got {name!r:.60}.")
    if OWN.get(name) == formula:
        return
    if name in FUNCTIONS or name in parsing.FUNCTION_NAMES or name in ("pi", "e", "x", *parsing.EXTREMES):
        own = f", as {OWN[name]}" if name in OWN else ""
        raise InputError(f"There is a function or constant called {name!r} already{own}. Choose another name.")
    if domain not in DOMAINS:
        raise InputError(f"domain is one of {', '.join(map(repr, DOMAINS))}; got {domain!r:.60}.")
    if not complexity >= 1:
        raise InputError(f"complexity is a number of 1 or more, got {complexity!r}.")
    (tree,) = trees(from_formula(formula, inputs=["x"])).trees
    row = Function(
        name,
        _values_of(tree),
        _derivative_of(tree),
        torch=_text_of(tree, "torch"),
        sympy=_text_of(tree, "sympy"),
        c=_text_of(tree, "c"),
        onnx=_text_of(tree, "onnx"),
        domain=domain,
        complexity=float(complexity),
    )
    _check_finite(row, formula)
    added(row, formula)
    parsing.TABLE_NAMES[name] = name
    parsing.FUNCTION_NAMES.add(name)
    names.reserve(name)


def _check_finite(row: Function, formula: str) -> None:
    x = np.linspace(*DOMAINS[row.domain], 101)
    with np.errstate(all="ignore"):
        values = row.numpy(x) + 0 * x
    if not np.isfinite(values).all():
        at = float(x[~np.isfinite(values)][0])
        raise InputError(
            f"{formula!r} is not finite at x = {at:.3g}. Say where it is, as domain, one of "
            f"{', '.join(repr(domain) for domain in DOMAINS if domain)}."
        )
    if not values.max() - values.min() > 0:
        raise InputError(f"{formula!r} is a constant; a function depends on x.")


def _values_of(tree: Tree) -> Callable[[Array], Array]:
    """The function of a tree. It has operations alone, so that tracers may take the place of x."""

    def values(x: Array) -> Array:
        return _forward(tree, x)[-1]

    return values


def _forward(tree: Tree, x: Array) -> list[Array]:
    found: list[Array] = []
    for step in tree:
        found.append(_value(step, found, x))
    return found


def _value(step: Step, before: list[Array], x: Array) -> Array:
    match step:
        case ("const", value):
            return np.float64(value)  # type: ignore[return-value]  # a number works as well
        case ("var", _):
            return x
        case ("add", first, *others):
            total = before[first]
            for operand in others:
                total = total + before[operand]
            return total
        case ("mul", first, *others):
            product = before[first]
            for operand in others:
                product = product * before[operand]
            return product
        case ("pow", base, exponent):
            return integer_power(before[base], exponent)
        case (_, name, argument):
            return FUNCTIONS[name].numpy(before[argument])
    raise AssertionError(step)


def _derivative_of(tree: Tree) -> Callable[[Array], Array]:
    """The derivative of a tree by x, in forward mode."""

    def derivative(x: Array) -> Array:
        values, slopes = _forward(tree, x), list[Array | None]()
        for step in tree:
            slopes.append(_slope(step, values, slopes))
        last = slopes[-1]
        assert last is not None, "a function that is not constant"
        return last + 0 * x

    return derivative


def _slope(step: Step, values: list[Array], slopes: list[Array | None]) -> Array | None:
    """The derivative of a step by x; None for 0."""
    terms: list[Array] = []
    match step:
        case ("const", _):
            return None
        case ("var", _):
            return np.float64(1.0)  # type: ignore[return-value]  # a number works as well
        case ("add", *operands):
            terms = [slope for operand in operands if (slope := slopes[operand]) is not None]
        case ("mul", *operands):
            for n, operand in enumerate(operands):
                slope = slopes[operand]
                if slope is None:
                    continue
                for other in operands[:n] + operands[n + 1 :]:
                    slope = slope * values[other]
                terms.append(slope)
        case ("pow", base, exponent) if (slope := slopes[base]) is not None:
            rest = integer_power(values[base], exponent - 1) if exponent != 1 else np.float64(1.0)
            terms = [exponent * rest * slope]
        case ("call", name, argument) if (slope := slopes[argument]) is not None:
            terms = [FUNCTIONS[name].derivative(values[argument]) * slope]
    if not terms:
        return None
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def _text_of(tree: Tree, language: str) -> str:
    """The function in the variable x, in a language of the table of functions."""
    texts: list[str] = []
    for step in tree:
        texts.append(_onnx(step, texts) if language == "onnx" else _infix(step, texts, language))
    whole = texts[-1]
    return whole[1:-1] if whole.startswith("(") else whole


def _infix(step: Step, texts: list[str], language: str) -> str:
    match step:
        case ("const", value):
            return repr(float(value)) if value >= 0 else f"({float(value)!r})"
        case ("var", _):
            return "x"
        case ("add", *operands):
            return f"({' + '.join(texts[operand] for operand in operands)})"
        case ("mul", *operands):
            return f"({'*'.join(texts[operand] for operand in operands)})"
        case ("pow", base, exponent):
            power = "*".join([texts[base]] * abs(exponent))
            if language == "sympy" and abs(exponent) > 1:
                power = f"{texts[base]}**{abs(exponent)}"
            return f"({power})" if exponent > 0 else f"(1/({power}))"
        case (_, name, argument):
            template: str = getattr(FUNCTIONS[name], language)
            return f"({_inserted(template, texts[argument])})"
    raise AssertionError(step)


def _onnx(step: Step, texts: list[str]) -> str:
    match step:
        case ("const", value):
            return repr(float(value))
        case ("var", _):
            return "x"
        case ("add" | "mul" as operation, first, *others):
            text = texts[first]
            for operand in others:
                text = f"{operation.capitalize()}({text}, {texts[operand]})"
            return text
        case ("pow", base, exponent):
            text = texts[base]
            for _ in range(abs(exponent) - 1):
                text = f"Mul({text}, {texts[base]})"
            return text if exponent > 0 else f"Reciprocal({text})"
        case (_, name, argument):
            return _inserted(FUNCTIONS[name].onnx, texts[argument])
    raise AssertionError(step)


def _inserted(template: str, argument: str) -> str:
    return re.sub(r"\bx\b", lambda _: argument, template)
