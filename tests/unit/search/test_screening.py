"""Which inputs matter and which columns follow from others, before any fit in several variables."""

import numpy as np
import pytest

from kanserve import find_formulas
from kanserve.search.structure.screening import independent_columns, influential

GENERATOR = np.random.default_rng(0)
X = GENERATOR.uniform(0.5, 3, (1000, 60))
LAWS = {
    "a product": (lambda x: x[:, 5] * x[:, 10] / x[:, 20], {5, 10, 20}),
    "a sum with a wave": (lambda x: x[:, 3] ** 2 + np.sin(5 * x[:, 30]), {3, 30}),
    "a weak input beside a strong one": (lambda x: 100 * x[:, 1] + 0.1 * x[:, 2] ** 2, {1, 2}),
    "a centred product": (lambda x: (x[:, 7] - 1.75) * (x[:, 8] - 1.75), {7, 8}),
    "a pole": (lambda x: x[:, 4] / (x[:, 9] - 0.49), {4, 9}),
}


@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize("name", LAWS)
def test_the_inputs_of_a_law_are_kept_and_few_others(name, noise):
    law, inputs = LAWS[name]
    y = law(X)
    if name == "a weak input beside a strong one" and noise:
        noise = 1e-4
    found = set(influential(X, y + noise * y.std() * GENERATOR.normal(size=len(y))))
    assert inputs <= found and len(found) <= len(inputs) + 2


def test_of_few_inputs_or_pure_noise_all_are_kept():
    assert influential(X[:, :4], X[:, 0]) == tuple(range(4))
    assert influential(X, np.random.default_rng(3).normal(size=1000)) == tuple(range(60))


def test_columns_that_follow_from_earlier_ones_are_left_out():
    a, b = X[:, 0], X[:, 1]
    assert independent_columns(np.column_stack([a, b, a + b, 2 - a])) == (0, 1)
    assert independent_columns(np.column_stack([a, b, a * b, np.sqrt(a) / b])) == (0, 1)
    assert independent_columns(np.column_stack([a, np.ones(1000), b])) == (0, 2)
    assert independent_columns(np.column_stack([a, a + 1e-3 * b])) == (0, 1)
    assert independent_columns(np.column_stack([a, b, np.sin(a)])) == (0, 1, 2)


@pytest.mark.extended
def test_of_fewer_rows_than_columns_none_follows_from_others_by_that_alone():
    x = GENERATOR.uniform(1, 2, (12, 20))
    x[:, 3] = x[:, 0] + x[:, 1]
    assert independent_columns(x) == tuple(i for i in range(20) if i != 3)
    assert find_formulas((x, 2 * x[:, 19]), max_fits=300).best.formula.text == "2*x20"


@pytest.mark.slow
@pytest.mark.extended
def test_a_law_of_three_inputs_of_many_is_exact():
    x = np.random.default_rng(1).uniform(0.5, 3, (1000, 200))
    found = find_formulas((x, x[:, 5] * x[:, 100] / x[:, 150]), max_fits=2000)
    assert found.status == "exact" and found.best.formula.text == "x6*x101/x151"


def test_a_column_that_is_the_sum_of_two_others_hides_no_law():
    x = np.column_stack([X[:, :3], X[:, 0] + X[:, 1]])
    found = find_formulas((x, 3 * X[:, 0] * np.exp(-X[:, 1])), max_fits=1000)
    assert found.status == "exact" and found.best.formula.text == "3*x1*exp(-x2)"
