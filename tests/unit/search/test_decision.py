"""Laws with noise are compared by description length; rivals that are as good are listed, and "not decided" says so."""

from dataclasses import replace

import numpy as np
import pytest

import kanserve
from kanserve.data.dataset import Dataset
from kanserve.formula.constants.nonlinear_fit import refit
from kanserve.search import Findings
from kanserve.search.findings.decision import (
    decision,
    description_length,
    distinct,
    numbers_of_form,
    same_function,
)
from kanserve.search.findings.pareto_front import pareto_front
from kanserve.search.findings.postprocess import Finisher

GENERATOR = np.random.default_rng(3)
T = GENERATOR.uniform(0.2, 3, 300)
NOISE = GENERATOR.normal(size=300)


def formulas(y, *texts):
    learn, held = Dataset(T[:, None], y, ("t",)).split(0.2, 0)
    finisher = Finisher(learn, held, learn, None, np.inf)
    kans = (kanserve.from_formula(text, inputs=["t"]) for text in texts)
    found = [finisher.fit_tree(refit(kan.formula().tree, learn.x, learn.y[:, 0])) for kan in kans]
    assert None not in found
    return found


@pytest.fixture(scope="module")
def alike():
    y = 2.13 * np.exp(-0.317 * T)
    return formulas(y + 0.15 * NOISE, "2.1*exp(-0.3*t)", "2.1 - 0.5*t", "2.1*exp(-0.3*t) + 0.1*sin(5.3*t)")


def test_a_form_that_is_as_good_is_a_rival_and_a_longer_one_is_not(alike):
    law, rival, longer = alike
    found = pareto_front([longer, law, rival], longer)
    assert {found.best, *found.rivals} == {law, rival} and found.status == "not decided"
    assert 0 <= found.margin < 5
    assert description_length(longer) > description_length(law)
    told = replace(found, compared=3).meaning
    assert told.startswith("not decided: ") and "Of 3 forms compared, 1 may be the law as well: " in told
    assert found.rivals[0].formula.text in told


def test_the_law_is_decided_where_the_rows_tell_it_from_others():
    y = 2.13 * np.exp(-0.917 * T)
    law, rival = formulas(y + 0.003 * NOISE, "2.1*exp(-0.9*t)", "2.1/(1+0.9*t)")
    found = pareto_front([law, rival], law)
    assert found.best is law and not found.rivals and found.status == "within noise"
    assert "the next is" in replace(found, compared=9).meaning or found.margin == np.inf


def test_a_formula_written_twice_is_no_rival(alike):
    law = alike[0]
    assert same_function(law, law) and not same_function(law, alike[1])
    found = decision([law, law])
    assert found is not None and found.rivals == ()


@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e3])
def test_what_is_one_function_does_not_depend_on_the_unit_of_the_outputs(unit):
    y = unit * (2.13 * np.exp(-0.317 * T) + 0.15 * NOISE)
    texts = ("2.1*exp(-0.3*t)", "2.1*exp(-0.3*t) + 0.01", "2.1/(1 + 0.3*t)")
    law, longer, rival = formulas(y, *(f"{unit:g}*({text})" for text in texts))
    assert not same_function(law, rival)
    assert distinct([longer, law, rival, rival], law)[-1] is rival and len(distinct([law, rival, rival], law)) == 1


def test_a_long_law_with_many_constants_is_not_decided_without_a_clear_lead():
    text = "1.1*exp(-0.9*t) + 0.731*sin(5.31*t + 0.4)*t + 0.3*sin(9.7*t + 1.3) + 0.71*t"
    y = 1.13 * np.exp(-0.917 * T) + 0.731 * np.sin(5.31 * T + 0.41) * T + 0.3 * np.sin(9.7 * T + 1.3) + 0.7 * T
    (law,) = formulas(y + 0.1 * NOISE, text)
    found = pareto_front([law], law)
    assert not found.rivals and not found.decided and found.status == "not decided"


def test_without_a_law_that_settles_the_search_a_formula_that_is_not_refuted_is_not_decided(alike):
    found = pareto_front(alike[:2], None, "exhausted")
    assert found.status == "not decided" and found.rivals and found.best not in found.rivals


def test_rivals_are_saved_and_loaded(alike, tmp_path):
    found = replace(pareto_front(alike, alike[0]), compared=7)
    path = tmp_path / "found.safetensors"
    found.save(path)
    again = Findings.load(path)
    assert (again.margin, again.compared, again.decided) == (found.margin, 7, found.decided)
    assert [one.formula.text for one in again.rivals] == [one.formula.text for one in found.rivals]
    assert len(again) == len(found) and again.status == found.status == "not decided"


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("0.3*asinh(t)", 2),
        ("exp(-t)", 2),
        ("0.1/t + t^2 - 2.5", 4),
        ("1.3*tanh(0.5*t^2) + 0.1", 4),
        ("log(t)/t + 2.5", 3),
        ("3.3*exp(-0.2*t^2 - 0.4*t)", 3),
        ("3.1*log(t) - 1", 2),
        ("2*t^(2/3)", 2),
        ("2.2*t^2", 1),
    ],
)
def test_recognised_and_unwritten_numbers_count_as_numbers_of_the_form(text, numbers):
    law = kanserve.from_formula(text, inputs=["t"])
    (found,) = formulas(kanserve.evaluate(law, T[:, None])[:, 0], text)
    assert numbers_of_form(found) == numbers


def test_a_law_with_a_simple_number_by_chance_is_not_decided():
    y = 0.52 * np.arctan(0.95 * T) + 0.1 * NOISE
    short, law = formulas(y, "0.3*atan(t)", "0.52*tanh(0.6*t)")
    assert description_length(short) < description_length(law) - 4
    found = pareto_front([short, law], short)
    assert found.status == "not decided" and found.rivals == (law,)


def test_another_form_is_no_case_of_a_law_however_close_it_is(alike):
    texts = ("2.1*exp(-0.3*t)", "2.1*exp(-0.3*t) + 0.01", "2.1*(1 + 0.01*t)^-31.0")
    law, longer, other = formulas(2.13 * np.exp(-0.317 * T) + 0.9 * NOISE, *texts)
    assert same_function(law, longer) and not same_function(law, other)


def test_a_law_with_a_constant_more_for_which_nothing_speaks_is_no_rival():
    y = 5.23 * T / (1.37 + T) + 0.03 * NOISE
    law, extension = formulas(y, "5.2*t/(t + 1.4)", "5.2 - 7.1/(t + 1.4)")
    assert 0 < description_length(extension) - description_length(law) < 5
    assert pareto_front([extension, law], law).status == "within noise"
