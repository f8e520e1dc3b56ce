"""A row of the table of functions from a formula: its values, its derivative, and its text in other languages."""

import re
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from kanserve.formula.expressions.tree import Step, Tree, integer_power
from kanserve.network.functions import FUNCTIONS

Array = NDArray[np.float64]


def values_of(tree: Tree) -> Callable[[Array], Array]:
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


def derivative_of(tree: Tree) -> Callable[[Array], Array]:
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


def text_of(tree: Tree, language: str) -> str:
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
