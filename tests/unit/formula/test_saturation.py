"""A tanh that is as steep as a step on the rows is a step."""

import numpy as np
import pytest

from kanserve.formula import evaluate_tree, formulas, from_formula
from kanserve.formula.algebra.saturation import without_saturation
from kanserve.formula.expressions.numbers import shortest_between

X = np.random.default_rng(0).uniform(-2, 2, (800, 2))


def tree(text):
    return formulas(from_formula(text, inputs=["a", "b"], ranges={"a": (-2, 2), "b": (-2, 2)}))[0].tree


@pytest.mark.parametrize(
    ("text", "law"),
    [
        ("tanh(8479*a - 15.2962)*b^2", lambda a, b: np.sign(a) * b**2),
        ("3*tanh(2000*(a - 0.5)) + b", lambda a, b: 3 * np.sign(a - 0.5) + b),
        ("tanh(-5000*a)", lambda a, b: -np.sign(a)),
        ("tanh(9000*(a*b - 1)) - 1", lambda a, b: np.sign(a * b - 1) - 1),
    ],
)
def test_a_steep_tanh_becomes_a_sign(text, law):
    stepped = without_saturation(tree(text), X)
    assert not any(step[:2] == ("call", "tanh") for step in stepped)
    assert np.allclose(evaluate_tree(stepped, {}, X), law(*X.T))


@pytest.mark.parametrize("text", ["tanh(3*a)*b", "tanh(900*a + 5000)", "tanh(1/a)", "exp(a) + b"])
def test_others_stay(text):
    assert without_saturation(tree(text), X) == tree(text)


def test_the_number_with_the_fewest_decimals():
    assert shortest_between(0.4987, 0.5031) == 0.5
    assert shortest_between(-0.3, 0.2) == 0.0
    assert shortest_between(123.4, 123.46) == 123.41
    assert shortest_between(1.0, 1.0) == 1.0
