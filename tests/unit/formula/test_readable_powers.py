"""Exponentials of logarithms are powers in text and LaTeX, and what is printed is what is computed."""

import numpy as np
import pytest

import kanserve
from kanserve.network.evaluate import evaluate

RANGES = {"x": (0.2, 3.0), "z": (0.5, 2.0)}


def printed(text: str) -> str:
    kan = kanserve.from_formula(text, ranges={name: RANGES[name] for name in RANGES if name in text.replace("exp", "")})
    (formula,) = kanserve.formulas(kan, strict=False)
    x = np.random.default_rng(0).uniform(0.5, 2.0, (50, len(kan.inputs)))
    again = kanserve.from_formula(formula.text, inputs=[one.name for one in kan.inputs])
    np.testing.assert_allclose(evaluate(again, x), evaluate(kan, x), rtol=2e-4)
    return formula.text


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("3*exp(1.37*log(x))", "3*x^1.37"),
        ("2.5/(5.5*exp(-2.3*log(x)) + 1)", "2.5/(5.5/x^(23/10) + 1)"),
        ("exp(1.9*log(x) + 0.6*log(z))", "x^(19/10)*z^(3/5)"),
        ("exp(0.3*(log(x) + 1.7*log(z)))", "x^(3/10)*z^0.51"),
        ("exp(1.3*log(x) + 2*z)", "x^(13/10)*exp(2*z)"),
        ("exp(0.5*log(x))", "sqrt(x)"),
    ],
)
def test_an_exponential_of_a_logarithm_is_a_power(written, read):
    assert printed(written) == read


@pytest.mark.parametrize(
    "written", ["exp(2*log(x))", "exp(-(log(x) - 1)^2)", "exp(log(x)*log(z))", "exp(1.3*log(x)*z)"]
)
def test_where_a_power_would_be_another_function_the_logarithm_stays(written):
    assert "log" in printed(written)


def test_the_code_and_the_tree_are_as_the_network_computes():
    (formula,) = kanserve.formulas(kanserve.from_formula("3*exp(1.37*log(x))", ranges={"x": (0.2, 3)}))
    assert "np.log" in formula.python and "log(x)" in formula.c and ("call", "log", 0) in formula.tree
    assert "log" not in formula.latex
