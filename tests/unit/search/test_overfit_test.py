"""A formula with as many constants as an input has values is no law of it."""

import numpy as np
import pytest

import kanserve
from kanserve.formula import formulas, from_formula
from kanserve.search.fit.overfit_test import few_values, memorises

RANDOM = np.random.default_rng(0)
ROWS = np.stack([RANDOM.uniform(1, 3, 400), RANDOM.integers(1, 5, 400)], axis=1)


def _tree(text):
    return formulas(from_formula(text, inputs=["a", "b"], ranges={"a": (1, 3), "b": (1, 4)}))[0].tree


def test_an_input_of_four_values_has_few():
    assert few_values(ROWS) == {1: 4}


def test_a_curve_with_as_many_constants_as_values_knows_them_by_heart():
    assert memorises(_tree("2.429861234567*a^2*(sin(10.35712345678*b + 1.5207712345678) + 1.1757112345678)"), ROWS)


def test_constants_with_a_name_are_no_estimates():
    assert not memorises(_tree("a/(1 + b^2)"), ROWS)
    assert not memorises(_tree("2.429861234567*a*sin(2*b + pi/3)"), ROWS)


def test_an_input_of_many_values_is_not_known_by_heart():
    assert not memorises(_tree("2.429861234567*b^2*(sin(10.35712345678*a + 1.5207712345678) + 1.1757112345678)"), ROWS)


@pytest.mark.slow
@pytest.mark.extended
def test_a_table_of_four_numbers_is_not_announced_as_exact():
    table = np.array([0.0, 3.1, -0.7, 2.2, 5.9])
    found = kanserve.find_formulas((ROWS, ROWS[:, 0] ** 2 * table[ROWS[:, 1].astype(int)]), max_fits=200)
    assert not any(candidate.exact for candidate in found.candidates)


@pytest.mark.slow
def test_a_law_of_an_input_of_four_values_is_exact():
    found = kanserve.find_formulas((ROWS, ROWS[:, 0] / (1 + ROWS[:, 1] ** 2)), max_fits=1000)
    assert found.best.exact
    assert found.best.formula.text == "x1/(x2^2 + 1)"
