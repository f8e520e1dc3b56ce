"""Constraints of a search hold for every formula that it returns."""

from typing import Any

import numpy as np
import pytest

from kanserve import find_formulas, from_formula
from kanserve.errors import KanserveError
from kanserve.formula.from_network.expression_trees import trees
from kanserve.search.findings.constraints import check_constraints
from kanserve.simplification.edge_candidates import LIBRARY

GENERATOR = np.random.default_rng(0)
X = GENERATOR.uniform(0.5, 2, (60, 2))
A, B = X.T
NOISE = GENERATOR.normal(size=60)


def tree(text):
    return trees(from_formula(text, inputs=["a", "b"])).trees[0]


def constraints(functions=("exp", "sin", "log"), nested=None, most=None):
    return check_constraints(functions, nested, most, ["a", "b"])


@pytest.mark.parametrize(
    ("functions", "allowed", "forbidden"),
    [
        (["sin"], ["sin(a) + b^2/sqrt(a)", "cos(a + b)", "a^0.3 + b^-1.7"], ["exp(a)", "sin(tanh(b))", "log(a)"]),
        ({"a": ["sin"], "b": ["exp"]}, ["sin(a)*exp(b)"], ["exp(a)", "sin(a*b)", "exp(b + sin(a))", "log(b)"]),
        ({"a": ["log"]}, ["log(a) + exp(b)", "sin(b)"], ["exp(a)", "sin(a + b)"]),
        ({"a": []}, ["a^2*exp(b)"], ["exp(a)", "sin(a*b)"]),
    ],
)
def test_functions_are_allowed_by_input(functions, allowed, forbidden):
    rule = constraints(functions)
    assert [text for text in (*allowed, *forbidden) if rule.allow(tree(text))] == allowed


def test_functions_are_nested_no_deeper_than_allowed():
    rule = constraints(nested={"sin": {"sin": 0, "cos": 0}, "exp": {"exp": 1}})
    allowed = ["sin(a) + sin(b)", "exp(exp(a))", "exp(sin(a))", "sin(exp(b))", "exp(exp(a) + exp(b))", "cos(sin(a))"]
    forbidden = ["sin(sin(a))", "sin(1 + exp(cos(b)))", "exp(exp(exp(a)))"]
    assert [text for text in (*allowed, *forbidden) if rule.allow(tree(text))] == allowed


def test_complexity_is_limited():
    assert constraints(most=4.2).allow(tree("a*exp(b)")) and not constraints(most=4.1).allow(tree("a*exp(b)"))


CASES: list[Any] = [
    (A * np.sin(3 * B), {"functions": ["exp", "log"]}, "sin"),
    (np.exp(A * B), {"functions": ["sin"]}, "exp"),
    (np.tanh(3 * A) + B / 2, {"functions": ["sin", "exp"]}, "tanh"),
    (np.sin(A**2) * np.cos(B) - 1, {"functions": {"x1": ["sin"], "x2": ["exp"]}}, "cos"),
    (A * np.exp(-B), {"functions": {"x2": ["sin", "tanh"]}}, "exp"),
    (np.sin(np.sin(2 * A) + B), {"nested_constraints": {"sin": {"sin": 0, "cos": 0}, "cos": {"sin": 0, "cos": 0}}}, ""),
    (A**3 + 2 * A * B + B**2 + 1, {"max_complexity": 8}, ""),
    (A / (1 + B**2) + 0.1 * NOISE, {"max_complexity": 7}, ""),
]


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize(("y", "options", "missing"), CASES)
def test_every_formula_keeps_to_the_constraints(y, options, missing):
    limits = options.get("nested_constraints"), options.get("max_complexity")
    rule = check_constraints(options.get("functions", LIBRARY), *limits, ["x1", "x2"])
    found = find_formulas((X, y), max_fits=6, start="sin(sin(x1)) + exp(x1*x2) - tanh(x2)", **options)
    assert len(found) > 1
    for formula in found:
        assert rule.allow(formula.formula.tree) and formula.complexity <= options.get("max_complexity", np.inf)
        assert not missing or f"{missing}(" not in formula.formula.text
        assert "sin(sin" not in formula.formula.text


def test_a_law_within_the_constraints_is_found():
    y = 2 * A * np.exp(-1.3 * B)
    options: dict[str, Any] = {"nested_constraints": {"exp": {"exp": 0}}, "max_complexity": 9}
    found = find_formulas((X, y), max_fits=300, functions={"x1": [], "x2": ["exp"]}, **options)
    assert found.status == "exact" and found.best.formula.text == "2*x1*exp(-1.3*x2)"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"functions": {"q": ["sin"]}}, "'q', which is not an input; the inputs are x1, x2"),
        ({"functions": {"x1": "sin"}}, "mapping from inputs to lists"),
        ({"functions": {"x1": ["sine"]}}, "No function is called 'sine'"),
        ({"nested_constraints": {"sin": ["sin"]}}, "maps functions to functions and numbers"),
        ({"nested_constraints": {"sin": {"sin": -1}}}, "the number for 'sin' in 'sin' is -1"),
        ({"nested_constraints": {"sine": {"sin": 0}}}, "No function is called 'sine'"),
        ({"max_complexity": 0}, "max_complexity must be a number of 1 or more, got 0"),
        ({"max_complexity": "9"}, "max_complexity must be a number"),
    ],
)
def test_constraints_that_cannot_be_meant_are_refused_in_words(options, message):
    with pytest.raises(KanserveError, match=message):
        find_formulas((X, A), **options)
