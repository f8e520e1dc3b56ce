"""Power laws with real exponents, of rows of which some have a 0."""

import numpy as np
import pytest

from kanserve.data.dataset import Dataset
from kanserve.search.findings.find_formulas import find_formulas
from kanserve.search.structure.factors import raise_to, round_to_fraction
from kanserve.search.structure.power_laws import monomial, times_exponential
from kanserve.search.structure.shifted_power import power_and_constant, power_of_a_sum

RNG = np.random.default_rng(5)
X = np.concatenate([np.zeros((2, 2)), RNG.uniform(0.1, 3, (300, 2))])


@pytest.mark.parametrize("powers", [(5 / 3, 1.0), (0.425, 0.725), (2 / 7, 1.37), (0.5, 1 / 3)])
def test_rows_with_a_zero_hide_no_power_law(powers: tuple[float, float]) -> None:
    found = monomial(X, 2.5 * X[:, 0] ** powers[0] * X[:, 1] ** powers[1])
    assert found is not None and found[1] == powers and found[0] == pytest.approx(2.5)


def test_a_power_law_must_hold_on_the_rows_with_a_zero() -> None:
    y = 2.5 * X[:, 0] ** (5 / 3) * X[:, 1]
    assert monomial(X, np.where(X[:, 0] == 0, 5.0, y)) is None
    with np.errstate(all="ignore"):
        assert monomial(X, np.where(X[:, 0] == 0, 5.0, X[:, 0] ** (-5 / 3))) is None
    assert monomial(np.zeros_like(X), np.ones(len(X))) is None


def test_a_root_of_both_signs_is_found_where_it_is_real() -> None:
    x = np.append(RNG.uniform(-2, 2, 200), 0.0)[:, None]
    for exponent in (1 / 3, 2 / 3, 1.4):
        y = 1.5 * raise_to(x[:, 0], exponent)
        found = monomial(x, y)
        assert found is not None and found[1] == (exponent,) and found[0] == pytest.approx(1.5)
    assert monomial(x, np.abs(x[:, 0]) ** 1.37) is None


def test_an_exponent_is_rounded_within_its_error_and_not_by_chance() -> None:
    assert round_to_fraction(1.6664, 1e-3) == 5 / 3
    assert round_to_fraction(0.4250000001, 1e-3, 1e-8) == 0.425
    assert round_to_fraction(0.2857142858, 1e-3, 1e-8) == 2 / 7
    assert (
        round_to_fraction(0.423, 1e-3, 1e-2) == 0.423
    )  # 0.42, 0.43 and 3/7 are as near as any number is to one of them
    assert round_to_fraction(0.7004, 1e-3, 1e-3) == 0.7


def test_powers_times_an_exponential_are_found_and_plain_powers_left_to_others() -> None:
    y = 0.7 * X[:, 0] ** (2 / 3) * X[:, 1] ** 1.4 * np.exp(-1.5 * X[:, 1])
    found = times_exponential(X, y)
    assert found is not None and found.powers == (2 / 3, 1.4)
    np.testing.assert_allclose((found.scale, *found.rates), (0.7, 0.0, -1.5), atol=1e-9)
    assert times_exponential(X, X[:, 0] ** (2 / 3)) is None
    assert times_exponential(X, np.sin(X[:, 0]) + 1.1) is None


@pytest.mark.parametrize(
    ("law", "exponent"),
    [
        (lambda x: 2 * (x + 1) ** 1.4 + 3, 1.4),
        (lambda x: 1 - np.cbrt(4 - x), 1 / 3),
        (lambda x: 5 * (x + 0.1) ** -1.7, -1.7),
        (lambda x: x**0.62 + 1, 0.62),
    ],
)
def test_a_power_of_a_sum_is_found(law, exponent: float) -> None:
    found = power_of_a_sum(X[2:, 0], law(X[2:, 0]))
    assert found is not None and found.exponent == exponent
    base = found.sign * X[2:, 0] + found.shift
    np.testing.assert_allclose(found.factor * base**exponent + found.constant, law(X[2:, 0]), atol=1e-9)


def test_other_functions_are_no_power_of_a_sum() -> None:
    for law in (np.exp, np.sin, np.log, np.square, lambda x: np.ones_like(x)):
        assert power_of_a_sum(X[2:, 0], law(X[2:, 0])) is None
    assert power_of_a_sum(np.ones(50), np.arange(50.0)) is None


def test_the_exponent_of_a_power_and_a_constant() -> None:
    t = np.linspace(0, 2, 100)
    found = power_and_constant(t, 3 * t**1.7 - 2)
    assert found is not None and found[0] == pytest.approx(1.7, abs=1e-6) and found[1] < 1e-8


@pytest.mark.parametrize(
    ("law", "text"),
    [
        (lambda x: 3.4 * x[:, 0] ** 0.75, "3.4*a^(3/4)"),
        (lambda x: x[:, 0] ** (5 / 3) * x[:, 1] ** -1.37, "a^(5/3)/b^1.37"),
        (lambda x: x[:, 0] ** (2 / 3) * np.exp(-x[:, 0]), "a^(2/3)*exp(-a)"),
        (lambda x: 2 * (x[:, 0] + 1) ** 1.4 + 3, "2*(a + 1)^(7/5) + 3"),
        pytest.param(lambda x: x[:, 0] ** (5 / 3) + x[:, 1] ** 2, "a^(5/3) + b^2", marks=pytest.mark.extended),
    ],
)
def test_one_row_at_zero_hides_no_law(law, text: str) -> None:
    x = RNG.uniform(0.05, 2, (400, 2))
    x[7, 0] = 0.0
    best = find_formulas(Dataset(x, law(x), ("a", "b")), seed=0, max_fits=3000).best
    assert best.exact and best.formula.text == text


def test_a_list_of_functions_allows_powers_with_any_exponent() -> None:
    x = RNG.uniform(0.05, 2, (400, 2))
    best = find_formulas(Dataset(x, x[:, 0] ** (5 / 3) * x[:, 1], ("a", "b")), functions=["sin"], seed=0, max_fits=500)
    assert best.best.exact and best.best.formula.text in ("a^(5/3)*b", "b*a^(5/3)")


def test_columns_far_from_zero_with_noise_raise_nothing():
    generator = np.random.default_rng(0)
    x = np.stack([generator.uniform(40, 200, 60), generator.uniform(1900, 2020, 60)], axis=1)
    y = 1.9 * x[:, 0] + 0.01 * (x[:, 1] - 1950) ** 2 + generator.normal(size=60)
    assert find_formulas((x, y), max_fits=10).candidates


def test_a_step_of_one_size_has_no_power():
    x = np.random.default_rng(0).uniform(-2, 2, (60, 1))
    found = find_formulas((x, 3 * np.sign(x[:, 0])), max_fits=30)
    assert found.status == "exact" and found.best.formula.text == "3*sign(x1)"
