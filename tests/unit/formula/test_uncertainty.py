"""Standard errors and intervals of fitted formulas: they come true on simulated data."""

import math

import numpy as np
import pytest

from kanserve.errors import DataError, InputError
from kanserve.formula.constants.nonlinear_fit import refit
from kanserve.formula.constants.recognised_numbers import uncertainty_beside_recognised
from kanserve.formula.constants.student_t import student_quantile
from kanserve.formula.constants.uncertainty import uncertainty

# 1.5·exp(-0.7·x) + 0.4
DECAY = (
    ("var", 0),
    ("const", -0.7),
    ("mul", 1, 0),
    ("call", "exp", 2),
    ("const", 1.5),
    ("mul", 4, 3),
    ("const", 0.4),
    ("add", 5, 6),
)


def _decay(x):
    return 1.5 * np.exp(-0.7 * x[:, 0]) + 0.4


def _simulated(rows, sigma, seed):
    rng = np.random.default_rng(seed)
    x = rng.uniform(0, 4, (rows, 1))
    return x, _decay(x) + sigma * rng.normal(size=rows)


@pytest.mark.parametrize(
    ("probability", "degrees", "t"),
    [  # two-sided 95 % and 99 %, one-sided 99.95 %: any table of the t distribution
        (0.975, 1, 12.7062),
        (0.975, 2, 4.30265),
        (0.975, 10, 2.22814),
        (0.995, 5, 4.03214),
        (0.9995, 30, 3.64596),
        (0.975, 1000, 1.96234),
        (0.9, 4, 1.53321),
    ],
)
def test_quantiles_are_those_of_the_tables(probability, degrees, t):
    assert student_quantile(probability, degrees) == pytest.approx(t, rel=3e-6)
    assert student_quantile(1 - probability, degrees) == pytest.approx(-t, rel=3e-6)


def test_quantiles_become_those_of_the_normal_distribution():
    assert student_quantile(0.975, 1e7) == pytest.approx(1.959963984540054, rel=1e-6)
    assert student_quantile(0.975, 1e9) == pytest.approx(1.959963984540054, rel=1e-9)
    assert student_quantile(0.5, 3) == 0


def test_one_degree_of_freedom_is_the_cauchy_distribution():
    for probability in (0.6, 0.9, 0.999):
        assert student_quantile(probability, 1) == pytest.approx(math.tan(math.pi * (probability - 0.5)), rel=1e-9)


@pytest.mark.slow
def test_standard_errors_are_the_scatter_of_repeated_fits():
    values, errors = [], []
    for seed in range(400):
        x, y = _simulated(60, 0.05, seed)
        found = uncertainty(refit(DECAY, x, y), x, y)
        values.append(found.values)
        errors.append(found.standard_errors)
    scatter = np.std(values, axis=0, ddof=1)
    np.testing.assert_allclose(np.sqrt(np.mean(np.square(errors), axis=0)), scatter, rtol=0.1)


@pytest.mark.slow
@pytest.mark.extended
def test_of_a_hundred_further_measurements_95_lie_in_the_interval():
    inside = mean_inside = 0
    for seed in range(200):
        x, y = _simulated(30, 0.05, seed)
        found = uncertainty(refit(DECAY, x, y), x, y)
        new, measured = _simulated(50, 0.05, 10_000 + seed)
        low, high = found.interval(new)
        inside += np.mean((low < measured) & (measured < high))
        low, high = found.mean_interval(new)
        mean_inside += np.mean((low < _decay(new)) & (_decay(new) < high))
    assert 0.93 < inside / 200 < 0.97
    assert 0.93 < mean_inside / 200 < 0.97


def test_an_interval_at_a_higher_level_is_wider_and_that_of_the_mean_is_narrower():
    x, y = _simulated(100, 0.05, 1)
    found = uncertainty(refit(DECAY, x, y), x, y)
    low, high = found.interval(x, 0.95)
    low_99, high_99 = found.interval(x, 0.99)
    low_mean, high_mean = found.mean_interval(x, 0.95)
    assert ((low_99 < low) & (low < low_mean) & (high_mean < high) & (high < high_99)).all()
    assert found.sigma == pytest.approx(0.05, rel=0.2)
    assert found.degrees == 97


def test_a_constant_that_the_data_do_not_determine_has_an_infinite_error():
    # a·(b·x) + c
    tree = (("var", 0), ("const", 2.0), ("mul", 1, 0), ("const", 3.0), ("mul", 3, 2), ("const", 1.0), ("add", 4, 5))
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (50, 1))
    found = uncertainty(tree, x, 6 * x[:, 0] + 1 + 0.1 * rng.normal(size=50))
    assert np.isinf(found.standard_errors[:2]).all()
    assert found.standard_errors[2] == pytest.approx(0.1 / math.sqrt(50), rel=0.3)
    low, high = found.mean_interval(x)
    assert np.isfinite(low).all() and (high - low < 0.2).all()  # what matters is known


def test_the_errors_of_constants_allow_for_recognised_numbers_that_are_wrong():
    """The amplitude is 1.5 standard errors above 1.5, for which it is taken, and the rate makes up for it."""
    inside = without = 0
    for seed in range(200):
        x = np.random.default_rng(seed).uniform(0, 2, (300, 1))
        y = 1.5 * np.exp(-0.7153 * x[:, 0]) + 0.05 * np.random.default_rng(1000 + seed).normal(size=300)
        error = uncertainty(refit(DECAY[:6], x, y), x, y).standard_errors[1]
        y += 1.5 * error * np.exp(-0.7153 * x[:, 0])
        tree = refit(DECAY[:6], x, y, {4})
        allowing, alone = uncertainty_beside_recognised(tree, x, y), uncertainty(tree, x, y, {4})
        off = abs(allowing.values[0] + 0.7153)
        inside += off < 3 * allowing.standard_errors[0]
        without += off < 3 * alone.standard_errors[0]
    assert inside >= 0.97 * 200 and without < 0.9 * 200


def test_a_number_that_is_far_surer_than_needed_changes_no_errors():
    """An amplitude of 2 that is known to a thousandth, beside a rate that has no simple value."""
    x = np.random.default_rng(0).uniform(0, 4, (400, 1))
    y = 2 * np.exp(-0.7153 * x[:, 0]) + 0.002 * np.random.default_rng(1).normal(size=400)
    tree = refit((*DECAY[:4], ("const", 2.0), ("mul", 4, 3)), x, y, {4})
    (before,) = uncertainty(tree, x, y, {4}).standard_errors
    (after,) = uncertainty_beside_recognised(tree, x, y).standard_errors
    assert before < after < 1.03 * before


def test_known_numbers_are_not_estimated():
    x, y = _simulated(60, 0.05, 3)
    found = uncertainty(DECAY, x, y, known={1, 6})
    assert found.values.tolist() == [1.5]
    assert found.degrees == 59


def test_fewer_rows_than_constants_and_a_level_that_is_none_are_refused():
    x, y = _simulated(3, 0.05, 0)
    with pytest.raises(DataError, match="more rows are needed"):
        uncertainty(DECAY, x, y)
    x, y = _simulated(30, 0.05, 0)
    with pytest.raises(InputError, match="between 0 and 1"):
        uncertainty(DECAY, x, y).interval(x, 95)
