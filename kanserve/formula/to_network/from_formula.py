"""`from_formula` and `kan_of`: a known formula as a network of named edges, to export, serve or train further."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from kanserve.errors import InputError
from kanserve.formula.expressions.linear_forms import Form, Steps, one_atom
from kanserve.formula.expressions.parsing import Expression, Name, mistake, parse
from kanserve.formula.expressions.tree import Tree, check_tree
from kanserve.formula.expressions.tree_to_forms import Mistake, form_of_expression, form_of_tree, parts
from kanserve.formula.to_network import sympy_reading
from kanserve.formula.to_network.layering import layers
from kanserve.network.kan import Kan, Layer, Variable

CONSTANTS = {"pi": math.pi, "e": math.e}


def from_formula(
    formula: Any,
    /,
    parameters: Mapping[str, float] | None = None,
    *,
    inputs: Sequence[str] | None = None,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    units: Mapping[str, str] | None = None,
    **constants: float,
) -> Kan:
    """The network that computes a formula exactly: `from_formula("a*exp(-b*x**2)", a=2.0, b=0.5)`.

    A name in the formula is a parameter if `parameters` or a keyword gives its value. In a text, pi and e are the
    constants unless they are inputs or parameters. All other names are inputs.

    A power with a constant exponent > 0 is 0 at 0. Of a negative base it is the real root if the exponent is a fraction
    with an odd denominator, up to 12: x^(1/3) and x^0.4 are defined there, x^(1/4) and x^1.37 are NaN. An exponent that
    is not constant, beyond 64 or below 1/1000 makes exp(exponent·log(base)), which needs a base > 0.
    Identities that hold wherever the formula is defined may be applied, so rounding may differ.

    Parameters
    ----------
    formula : str, sympy.Expr, sequence or mapping
        A text in the grammar of `kanserve.formula.expressions.parsing`, a sympy expression, a list of these (outputs
        y1, y2, ...) or a mapping from output names to them.
    parameters : mapping of str to float, optional
        Values of parameters; they need not occur.
    inputs : sequence of str, optional
        The order of the inputs, which is that of the columns of rows. By default a text has them in the order of first
        appearance, and a sympy expression, which keeps no order of its own, by the alphabet.
    ranges : mapping of str to (float, float), optional
        The ranges (low, high) in which inputs are used, and on which formulas and exports are checked, in raw units;
        (-1, 1) by default.
    units : mapping of str to str, optional
        Units of inputs and outputs.
    **constants : float
        Values of parameters by keyword; each must occur in the formula.

    Returns
    -------
    Kan
        A network of named functions, without splines.

    Raises
    ------
    InputError
        The text is not a formula (the message has the position and a caret), a name is unknown, a constant is not
        finite, or the formula has no input.
    FormulaError
        The network would be too large.

    Examples
    --------
    >>> import kanserve
    >>> kan = kanserve.from_formula("a*exp(-b*x^2)", a=2.0, b=0.5, ranges={"x": (0, 3)})
    >>> kan([[0.0]]).tolist()
    [[2.0]]
    >>> kan.formula().text
    '2*exp(-0.5*x^2)'
    >>> kanserve.from_formula("v - a*t")
    Kan(3-2-1, 5 edges, inputs v, a, t)
    >>> import sympy
    >>> kanserve.from_formula(sympy.sympify("v - a*t"))  # inputs=["v", "a", "t"] gives the order above
    Kan(3-2-1, 5 edges, inputs a, t, v)
    """
    texts, outputs = _outputs(formula)
    expressions = list(map(_read, texts))
    numbers = _numbers(parameters or {}, constants)
    found = list(map(_names, expressions))
    listed = list(dict.fromkeys(name.name for names in found for name in names))
    unused = sorted(set(constants) - set(listed))
    if unused:
        raise InputError(f"The parameter {unused[0]!r} does not occur in the formula, whose names are {listed}.")
    # A sympy symbol named pi or e is an ordinary symbol: sympy's own pi and E are numbers.
    known = (CONSTANTS if any(isinstance(text, str) for text in texts) else {}) | numbers
    variables = _without(listed, known) if inputs is None else _check_inputs(inputs, numbers)
    if not variables:
        raise InputError("The formula has no input: all its names are constants. Give an input: inputs=['x'].")
    known = {name: known[name] for name in _without(known, variables)}
    markers = list(map(_marker, texts))
    for names, marker in zip(found, markers, strict=True):
        _check_known(names, {*known, *variables}, marker)
    units, ranges = units or {}, ranges or {}
    _check_names("ranges", ranges, variables)
    _check_names("units", units, [*variables, *outputs])
    return Kan(
        _layers(expressions, markers, variables, known),
        inputs=tuple(_variable(name, units, ranges) for name in variables),
        outputs=tuple(_variable(name, units, {}) for name in outputs),
    )


def kan_of(
    trees: Tree | Sequence[Tree], inputs: Sequence[str | Variable], outputs: Sequence[str | Variable] = ("y",)
) -> Kan:
    """A network that computes closed forms exactly, one output per tree. `inputs` are all columns of the rows, used or
    not. Raises FormulaError if the network would be too large, FormatError if a tree has a spline."""
    several = [trees] if trees and isinstance(trees[0][0], str) else list(trees)
    checked = [check_tree(tree, {}) for tree in several]
    needed = 1 + max((int(step[1]) for tree in checked for step in tree if step[0] == "var"), default=0)
    if not needed <= len(inputs) or len(outputs) != len(checked):
        raise InputError(
            f"{len(checked)} trees in {needed} columns need as many outputs, got {len(outputs)}, and at least as many "
            f"inputs, got {len(inputs)}."
        )
    steps = Steps()
    columns = [steps.add("var", i) for i in range(len(inputs))]
    return Kan(
        layers(steps, columns, [form_of_tree(steps, tree) for tree in checked]),
        inputs=tuple(_as_variable(variable) for variable in inputs),
        outputs=tuple(_as_variable(output) for output in outputs),
    )


def _as_variable(variable: str | Variable) -> Variable:
    return variable if isinstance(variable, Variable) else Variable(variable)


def _layers(
    expressions: Sequence[Expression], markers: Sequence[Mistake], inputs: Sequence[str], known: Mapping[str, float]
) -> tuple[Layer, ...]:
    steps = Steps()
    columns = [steps.add("var", i) for i in range(len(inputs))]
    values = {name: Form(value) for name, value in known.items()}
    values |= {name: one_atom(column) for name, column in zip(inputs, columns, strict=True)}
    forms = [
        form_of_expression(steps, expression, values, marker)
        for expression, marker in zip(expressions, markers, strict=True)
    ]
    return layers(steps, columns, forms)


def _outputs(formula: Any) -> tuple[list[Any], list[str]]:
    if isinstance(formula, Mapping):
        texts, names = list(formula.values()), [str(name) for name in formula]
    elif isinstance(formula, str) or sympy_reading.is_sympy(formula):
        texts, names = [formula], ["y"]
    elif isinstance(formula, Sequence):
        texts = list(formula)
        names = ["y"] if len(texts) == 1 else [f"y{q + 1}" for q in range(len(texts))]
    else:
        texts, names = [formula], ["y"]
    if not texts:
        raise InputError("At least one formula is needed, got none.")
    return texts, names


def _read(formula: Any) -> Expression:
    if isinstance(formula, str):
        return parse(formula)
    if sympy_reading.is_sympy(formula):
        return sympy_reading.read(formula)
    raise InputError(f"A formula is a text or a sympy expression, got {type(formula).__name__}.")


def _marker(formula: Any) -> Mistake:
    """A function that creates errors about this formula, with the position if it is a text."""
    if isinstance(formula, str):
        return lambda at, message: mistake(formula, at, message)
    return lambda at, message: InputError(message)


def _numbers(parameters: Mapping[str, float], constants: Mapping[str, float]) -> dict[str, float]:
    twice = sorted(set(parameters) & set(constants))
    if twice:
        raise InputError(f"The parameter {twice[0]!r} is given twice.")
    numbers = {}
    for name, value in {**parameters, **constants}.items():
        try:
            numbers[name] = float(value)
        except (TypeError, ValueError, OverflowError):
            numbers[name] = math.nan
        if not math.isfinite(numbers[name]):
            raise InputError(f"The parameter {name!r} must be a finite number, got {value!r:.60}.")
    return numbers


def _check_inputs(inputs: Sequence[str], numbers: Mapping[str, float]) -> list[str]:
    if isinstance(inputs, str):
        raise InputError(f"inputs is a list of names, as in inputs=[{inputs!r}].")
    both = [name for name in inputs if name in numbers]
    if both:
        raise InputError(f"{both[0]!r} is an input and a parameter; it can only be one of them.")
    return list(inputs)


def _names(expression: Expression) -> list[Name]:
    """The names in the order of the text; alphabetically for a sympy expression."""
    result, waiting = [], [expression]
    while waiting:
        expression_part = waiting.pop()
        if isinstance(expression_part, Name):
            result.append(expression_part)
        waiting += parts(expression_part)
    return sorted(result, key=lambda name: (name.at, name.name))


def _check_known(names: Sequence[Name], known: Collection[str], marker: Mistake) -> None:
    for name in names:
        if name.name not in known:
            raise marker(name.at, f"{name.name[:60]!r} is not an input, and no parameter gives its value.")


def _without(names: Iterable[str], others: Collection[str]) -> list[str]:
    return [name for name in names if name not in others]


def _check_names(what: str, given: Mapping[str, object], names: Sequence[str]) -> None:
    unknown = _without(given, names)
    if unknown:
        raise InputError(f"{what} has {unknown[0]!r}, which is not one of {list(names)}.")


def _variable(name: str, units: Mapping[str, str], ranges: Mapping[str, tuple[float, float]]) -> Variable:
    try:
        low, high = (float(end) for end in ranges.get(name, (-math.inf, math.inf)))
    except (TypeError, ValueError):
        raise InputError(f"The range of {name!r} must be (low, high), got {ranges[name]!r:.60}.") from None
    return Variable(name, units.get(name, ""), low, high)
