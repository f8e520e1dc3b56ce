"""Piecewise polynomials of one input: where they break, by what, and what is none."""

import numpy as np
import pytest

from kanserve import find_formulas
from kanserve.search.regression.piecewise import piecewise_polynomial

X = np.random.default_rng(0).uniform(-2, 2, 500)
WIDE = np.linspace(-3, 3, 101) + 0.0123
LAWS = {
    "ramp": lambda x: np.maximum(x, 0),
    "kink": lambda x: np.abs(x - 1) + x / 2,
    "step": lambda x: (x > 0.5).astype(float),
    "larger": lambda x: np.maximum(x, x**2),
    "clipped": lambda x: np.clip(x, -1, 1),
    "two steps": lambda x: np.sign(x + 1) + np.sign(x - 1),
    "a jump and a bend": lambda x: np.where(x < -0.25, x**2, 3 - x),
}


def value(found, x):
    total = np.polyval(found.polynomial[::-1], x)
    for change in found.breaks:
        shape = np.abs(x - change.at) if change.function == "abs" else np.sign(x - change.at)
        total = total + np.polyval(change.factor[::-1], x) * shape
    return total


@pytest.mark.parametrize("name", LAWS)
def test_a_piecewise_polynomial_is_found_beyond_its_rows_too(name):
    found = piecewise_polynomial(X, LAWS[name](X))
    assert found is not None
    assert np.allclose(value(found, WIDE), LAWS[name](WIDE), atol=1e-9)


def test_a_step_is_at_the_shortest_number_between_its_rows():
    found = piecewise_polynomial(X, np.where(X > 0.5, 2.0, -1.0))
    assert found is not None
    (step,) = found.breaks
    assert step.at == 0.5 and step.function == "sign" and step.factor == pytest.approx((1.5,))


@pytest.mark.parametrize(
    "y",
    [np.sin(X), np.exp(X), X**3, np.abs(X) + 1e-6 * np.random.default_rng(1).normal(size=500), np.floor(6 * X)],
    ids=["a wave", "an exponential", "one polynomial", "noise", "more pieces than are tried"],
)
def test_what_is_not_piecewise_is_none(y):
    assert piecewise_polynomial(X, y) is None


def test_few_rows_of_one_value_raise_nothing():
    assert piecewise_polynomial(np.ones(20), np.ones(20)) is None
    assert piecewise_polynomial(np.arange(5.0), np.arange(5.0)) is None


@pytest.mark.parametrize(
    ("law", "text"),
    [
        (lambda x: np.maximum(x, 0), "0.5*x1 + 0.5*abs(x1)"),
        (lambda x: np.where(x > 0.5, 1.0, 0.0), "0.5*sign(x1 - 0.5) + 0.5"),
        (lambda x: np.sign(x) * np.sqrt(np.abs(x)), "sign(x1)*sqrt(abs(x1))"),
        (lambda x: np.sqrt(np.abs(x)), "sqrt(abs(x1))"),
    ],
)
def test_the_search_names_kinks_steps_and_powers_of_the_size(law, text):
    found = find_formulas((X[:, None], law(X)), max_fits=30)
    assert found.status == "exact" and found.best.formula.text == text


@pytest.mark.extended
def test_kinks_are_not_used_where_the_functions_leave_them_out():
    found = find_formulas((X[:, None], np.maximum(X, 0)), max_fits=30, functions=["x", "x^2"])
    assert "abs" not in found.best.formula.text and "sign" not in found.best.formula.text


def test_inputs_of_few_values_are_fitted_without_a_warning():
    x = np.repeat(np.arange(40.0), 5)
    assert piecewise_polynomial(x, np.random.default_rng(0).normal(size=200)) is None
