"""Templates: laws of a form that is partly known."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from kanserve import Findings, find_formulas
from kanserve.errors import DataError, InputError
from kanserve.search.findings.template import read_template

GENERATOR = np.random.default_rng(0)
A, C, T = GENERATOR.uniform(0.5, 2, (3, 300))
NOISE = GENERATOR.normal(size=300)


def search(y, template, **options):
    limits: dict[str, Any] = {"max_fits": 300} | options
    return find_formulas(pd.DataFrame({"a": A, "c": C, "t": T, "y": y}), target="y", template=template, **limits)


@pytest.mark.parametrize(
    ("y", "template", "law", "parts"),
    [
        (np.tanh(A) * np.exp(-0.7 * T), "f(a)*exp(-0.7*t)", "tanh(a)*exp(-0.7*t)", {"f(a)": "tanh(a)"}),
        (A * np.exp(-C) + 2 * T, "y = f(a, c) + 2*t", "2*t + a*exp(-c)", {"f(a, c)": "a*exp(-c)"}),
        (np.exp(np.tanh(A)) / T, "exp(f(a))/t", "exp(tanh(a))/t", {"f(a)": "tanh(a)"}),
        (T / (1 + A**2), "t/f(a)", "t/(a^2 + 1)", {"f(a)": "a^2 + 1"}),
        ((A - 1) ** 3 + 0 * T, "f(a)^3", "(a - 1)^3", {"f(a)": "a - 1"}),
        (np.sin(2 * A) * (T + 1), "f(a)*t + f(a)", "sin(2*a) + t*sin(2*a)", {"f(a)": "sin(2*a)"}),
        ((A**2 + 1) * np.exp(-0.7 * T), "f(a)*exp(-b*t)", "exp(-0.7*t)*(a^2 + 1)", {"f(a)": "a^2 + 1"}),
        (np.sqrt(A / C) - 0.37 * T, "sqrt(f(a, c)) - k*t", "sqrt(a/c) - 0.37*t", {"f(a, c)": "a/c"}),
    ],
)
def test_an_unknown_function_is_found_in_its_place(y, template, law, parts):
    found = search(y, template)
    assert found.status == "exact" and found.ended == "settled"
    assert found.best.formula.text == law and found.best.parts == parts
    assert np.abs(found.predict(np.column_stack([A, C, T])) - y).max() < 1e-11
    assert f"{next(iter(parts))} = " in str(found)


@pytest.mark.parametrize(
    ("y", "template", "parts"),
    [
        (np.sin(2 * A) + C**2 * np.exp(-T), "f(a) + g(c)*exp(-t)", {"f(a)": "sin(2*a)", "g(c)": "c^2"}),
        (np.sin(2 * A) + C**2 * np.exp(-1.3 * T), "f(a) + g(c)*exp(-b*t)", {"f(a)": "sin(2*a)", "g(c)": "c^2"}),
    ],
)
def test_several_unknown_functions_are_found_where_the_template_is_linear_in_them(y, template, parts):
    found = search(y, template)
    assert found.status == "exact" and found.best.parts == parts


@pytest.mark.slow
@pytest.mark.extended
def test_with_noise_the_constants_are_fitted_together():
    y = (A**2 + 1) * np.exp(-0.7 * T) + 0.01 * NOISE
    found = search(y, "f(a)*exp(-b*t)", max_fits=60)
    assert found.status == "within noise" and found.best.validation < 0.012
    rates = [constant for constant in found.best.constants if constant.value < 0]
    assert len(rates) == 1 and rates[0].value == pytest.approx(-0.7, abs=0.01) and 0 < rates[0].standard_error < 0.01


def test_constraints_are_for_the_unknown_functions_and_the_whole_is_saved(tmp_path):
    y = A**2 * np.exp(-0.7 * T)
    found = search(y, "f(a)*exp(-b*t)", functions={"a": []}, max_complexity=8)
    assert found.status == "exact" and all(formula.complexity <= 8 for formula in found)
    limited = search(np.tanh(3 * A) * np.exp(-T), "f(a)*exp(-t)", functions=["sin"], max_fits=3)
    assert not any("tanh" in formula.parts["f(a)"] or "exp" in formula.parts["f(a)"] for formula in limited)
    found.save(tmp_path / "found")
    assert str(Findings.load(tmp_path / "found")) == str(found)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("a*exp(-b*t)", "no unknown function, such as f(a)"),
        ("z = f(a)", "is of 'z'; the output is 'y'"),
        ("f(a + c)", "an unknown function of inputs"),
        ("f(u)", "The inputs are a, c, t"),
        ("a(t)*2", "'a' is an input: write a product"),
        ("f(a) + f(c)", "f with different inputs"),
        ("f(a, a)", "an input twice"),
        ("f(a) +", "the end"),
        ("sin(f(a))", "sin of it has one value for several"),
        ("f(a)^2*t", "a power of 2 of it"),
        ("f(a)^3 + f(a)", "more than once, and is not linear"),
        ("f(a)*g(c)", "not a linear function of them"),
        (3, "template is a text"),
    ],
)
def test_templates_that_determine_nothing_are_refused_in_words(template, message):
    with pytest.raises(InputError) as raised:
        search(A * T, template)
    assert message in str(raised.value)


def test_data_that_no_unknown_function_can_give_are_refused_in_words():
    with pytest.raises(DataError, match=r"determines f\(a\) on 0 of 240 rows only"):
        search(-A, "exp(f(a))*t")


@pytest.mark.parametrize("options", [{"start": "a"}, {"checkpoint": "file"}, {"units": dict.fromkeys("acty", "1")}])
def test_what_a_template_does_not_go_with_is_refused(options):
    with pytest.raises(InputError, match="template takes no units, start or checkpoint"):
        search(A, "f(a)", **options)


def test_a_template_of_several_outputs_is_refused():
    with pytest.raises(InputError, match="one output"):
        find_formulas((np.stack([A, C], axis=1), np.stack([A, C], axis=1)), template="f(x1)")


def test_a_template_is_read_with_its_names():
    read = read_template('y = "my a"*f(t, "my a")/(k + 2*pi)', ["my a", "t"], "y")
    assert read.unknowns == {"f(t, my a)": (1, 0)} and read.constants == ("k",)
    x, parts = np.array([[2.0, 3.0]]), np.array([[5.0]])
    assert read.values(x, parts, np.array([1.0]))[0] == pytest.approx(10 / (1 + 2 * np.pi))
    assert read.solve(0, x, np.array([10.0]), parts, np.array([1.0]))[0] == pytest.approx(5 * (1 + 2 * np.pi))
