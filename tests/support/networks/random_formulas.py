"""Random formulas whose constants have all digits, with the ranges of their inputs, and how far their text is off."""

import re

import numpy as np

import kanserve
from kanserve.errors import FormulaError
from kanserve.network.evaluate import evaluate
from kanserve.network.training_range import sample

_CALLS = ("sin", "cos", "exp", "log", "sqrt", "tanh", "atan", "abs", "x^2", "x^3", "1/x")


def random_formula(rng):
    """A text and the ranges of its inputs; it need not be finite there."""
    ranges = {}
    for name in ("x", "y", "z")[: rng.integers(1, 4)]:
        low = float(rng.normal() * 10.0 ** rng.integers(-3, 5))
        ranges[name] = (low, low + float(10.0 ** rng.uniform(-2, 3)))
    text = _sum(rng, ranges, 2)
    return text, {name: span for name, span in ranges.items() if re.search(rf"\b{name}\b", text)}


def error_of_text(text, ranges, seed=0, rows=2000):
    """The largest difference of the printed formula from its network, in standard deviations, on other rows.

    None where the network is not finite or does not vary.
    """
    try:
        kan = kanserve.from_formula(text, ranges=ranges)
        formula = kan.formula()
    except FormulaError:
        return None
    x = sample(kan, rows, seed=1000 + seed)
    wanted = evaluate(kan, x)[:, 0]
    with np.errstate(over="ignore", invalid="ignore"):
        deviation = wanted.std()
    if not 1e-12 * np.abs(wanted).max() < deviation < np.inf:
        return None
    occurring = {variable.name: ranges[variable.name] for variable in formula.variables}
    read = kanserve.from_formula(formula.text, ranges=occurring)
    columns = [[variable.name for variable in kan.inputs].index(variable.name) for variable in read.inputs]
    return float(np.abs(evaluate(read, x[:, columns])[:, 0] - wanted).max() / deviation)


def _constant(rng):
    return repr(float(rng.normal() * 10.0 ** rng.integers(-3, 4)))


def _sum(rng, ranges, depth):
    terms = [f"({_constant(rng)})*{_product(rng, ranges, depth)}" for _ in range(rng.integers(1, 4))]
    return " + ".join([*terms, f"({_constant(rng)})"] if rng.random() < 0.6 else terms)


def _product(rng, ranges, depth):
    return "*".join(_factor(rng, ranges, depth) for _ in range(rng.integers(1, 3)))


def _factor(rng, ranges, depth):
    """An input, a function of an input that is scaled to order one, or a function of a sum."""
    name = str(rng.choice([*ranges]))
    if rng.random() < 0.3:
        return name
    low, high = ranges[name]
    slope = float(rng.uniform(0.5, 3)) / (high - low)
    inner = f"{slope!r}*{name} + ({float(rng.normal()) - slope * (low + high) / 2!r})"
    if depth > 1 and rng.random() < 0.3:
        inner = _sum(rng, ranges, depth - 1)
    call = str(rng.choice(_CALLS))
    if call in ("x^2", "x^3", "1/x"):
        return call.replace("x", f"({inner})")
    return f"{call}({inner})"
