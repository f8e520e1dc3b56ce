"""A form is exact because the law has it, not because any smooth law on a short range is close to it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from kanserve.search.regression.rivals import ahead_of_approximations, falls_at_once, outdoes_polynomials
from kanserve.search.regression.scaled_terms import fit_scaled_sum
from kanserve.search.regression.sparse_polynomial import rational_function, sparse_polynomial
from kanserve.search.regression.term_sums import term_sums

SMOOTH: dict[str, Callable[[Any], Any]] = {
    "exp": lambda x: np.exp(-0.7 * x),
    "sin": np.sin,
    "cos": lambda x: np.cos(0.3 * x),
    "log": lambda x: np.log(x + 1),
    "root": lambda x: np.sqrt(x + 2),
    "tanh": lambda x: np.tanh(x / 3),
    "sinc": np.sinc,
}
RANGES = [(0.0, 1.0), (-1.0, 1.0), (1.0, 1.5)]


@pytest.mark.parametrize("count", [16, pytest.param(40, marks=pytest.mark.extended), 200])
@pytest.mark.parametrize("name", SMOOTH)
def test_a_smooth_law_on_a_short_range_is_neither_a_polynomial_nor_a_quotient(name, count):
    for low, high in RANGES:
        x = np.random.default_rng(0).uniform(low, high, (count, 1))
        y = SMOOTH[name](x[:, 0])
        assert sparse_polynomial(x, y) is None and rational_function(x, y) is None


@pytest.mark.extended
@pytest.mark.parametrize(("low", "high"), RANGES)
def test_a_law_without_a_name_is_no_sum_of_functions(low, high):
    x = np.random.default_rng(0).uniform(low, high, (200, 1))
    y = 1 / np.cosh(x[:, 0]) ** 1.3 * np.cos(x[:, 0] ** 2 / 5)
    assert not list(term_sums(x, y))
    assert not any(fit_scaled_sum(x, y, count, degree) for count in (1, 2) for degree in (0, 1, 3))


@pytest.mark.parametrize(("low", "high"), RANGES)
def test_true_polynomials_and_quotients_on_a_short_range_are_found(low, high):
    x = np.random.default_rng(0).uniform(low, high, (200, 1))
    u = x[:, 0]
    assert sparse_polynomial(x, u**6 - 2 * u**3 + 1) is not None
    assert rational_function(x, (u**2 + 1) / (u + 3)) is not None
    assert rational_function(x, (u + 1) ** 3 / (u**2 - u + 1)) is not None


def test_a_law_outdoes_polynomials_of_as_many_constants_and_a_rival_does_not():
    x = np.random.default_rng(0).uniform(0, 1, (200, 1))
    y = np.exp(x[:, 0])
    assert outdoes_polynomials(x, y, 2, 1e-16) and not outdoes_polynomials(x, y, 12, 1e-16)
    assert falls_at_once(x, x[:, 0] ** 5, 5) and not falls_at_once(x, y, 10)


def test_a_form_is_ahead_of_approximations_with_no_more_numbers_if_the_law_has_it():
    generator = np.random.default_rng(1)
    x = generator.uniform(-1, 1, (1000, 1))
    u = x[:, 0]
    law = (u**6 + u**5) / (u**4 + u**3 + u**2 + u + 1)
    noise = 0.01 * law.std()
    assert ahead_of_approximations(x, law + noise * generator.normal(size=1000), 10, 1.1 * noise) < 5
    wave = np.exp(-1.3 * u) * np.sin(5 * u + 0.3) + 0.5 * u**2
    noise = 0.01 * wave.std()
    weights = np.full(1000, 2.0)
    assert ahead_of_approximations(x, wave + noise * generator.normal(size=1000), 5, noise, weights) > 50
