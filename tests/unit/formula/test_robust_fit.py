"""Robust fits of constants: efficient under heavy tails, with standard errors that hold."""

import numpy as np
import pytest

from kanserve.formula.constants.nonlinear_fit import refit
from kanserve.formula.constants.robust_fit import (
    Noise,
    log_likelihood,
    noise_of,
    pseudo_values,
    robust_refit,
    tail_evidence,
)
from kanserve.formula.constants.student_t import student_quantile
from kanserve.formula.constants.uncertainty import uncertainty
from kanserve.formula.expressions.tree import evaluate_tree
from tests.support.cases import one_in

LINE = (("var", 0), ("const", 1.0), ("mul", 0, 1), ("const", 1.0), ("add", 2, 3))
X = np.linspace(0, 3, 200)[:, None]
LAW = 2.3 * X[:, 0] + 0.7
ROBUST = ("huber", "student_t")


def constants(tree):
    return np.array([step[1] for step in tree if step[0] == "const"])


def heavy(seed, degrees=2.5, count=200):
    return np.random.default_rng(seed).standard_t(degrees, count)


@pytest.mark.parametrize("loss", ROBUST)
def test_a_robust_fit_is_not_moved_by_a_few_wrong_samples(loss):
    y = LAW + 0.01 * np.random.default_rng(0).normal(size=200)
    y[::20] += 100.0
    assert np.abs(constants(refit(LINE, X, y)) - (2.3, 0.7)).max() > 1
    assert np.abs(constants(robust_refit(LINE, X, y, loss)) - (2.3, 0.7)).max() < 0.01


def test_squared_loss_is_least_squares():
    y = LAW + 0.1 * heavy(0)
    assert robust_refit(LINE, X, y, "squared") == refit(LINE, X, y)
    assert pseudo_values(LINE, X, y, "squared") == pytest.approx(y)


@pytest.mark.parametrize("loss", ROBUST)
def test_the_robust_fit_is_the_least_squares_fit_of_its_pseudo_values(loss):
    y, weights = LAW + 0.1 * heavy(1), 1.0 + X[:, 0]
    tree = robust_refit(LINE, X, y, loss, weights=weights)
    again = refit(tree, X, pseudo_values(tree, X, y, loss, weights), weights=weights)
    errors = uncertainty(tree, X, pseudo_values(tree, X, y, loss, weights), weights=weights).standard_errors
    assert (np.abs(constants(again) - constants(tree)) < 0.01 * errors).all()


@pytest.mark.parametrize("loss", ROBUST)
def test_known_constants_stay(loss):
    y = 2.3 * X[:, 0] + 1.0 + 0.1 * heavy(2)
    slope, level = constants(robust_refit(LINE, X, y, loss, fixed={3}))
    assert level == 1.0 and slope == pytest.approx(2.3, abs=0.05)


def test_a_formula_that_is_not_finite_stays_as_it_is():
    log = (("var", 0), ("call", "log", 0), ("const", 2.0), ("mul", 1, 2))
    assert constants(robust_refit(log, X, LAW, "student_t")) == [2.0]


def test_the_scale_and_the_degrees_of_a_t_are_estimated():
    for degrees in (1.0, 2.5, 6.0):
        noise = noise_of(0.3 * heavy(0, degrees, 20_000), "student_t")
        assert noise.degrees == degrees and noise.scale == pytest.approx(0.3, rel=0.03)
    assert noise_of(np.random.default_rng(0).normal(size=20_000), "huber").scale == pytest.approx(1, rel=0.03)
    assert noise_of(np.zeros(10), "student_t").scale > 0


def test_the_scale_of_a_t_is_that_of_maximum_likelihood():
    residuals = heavy(3)
    found = noise_of(residuals, "student_t")
    for factor in (0.98, 1.02):
        near = Noise("student_t", factor * found.scale, found.degrees)
        assert log_likelihood(residuals, near) < log_likelihood(residuals, found)


def test_only_heavy_tails_are_evidence_against_normal_residuals():
    light = [tail_evidence(np.random.default_rng(seed).normal(size=300)) for seed in range(100)]
    assert max(light) < 15
    assert tail_evidence(np.random.default_rng(0).uniform(-1, 1, 300)) < 1
    assert min(tail_evidence(heavy(seed, count=300)) for seed in range(10)) > 15
    assert tail_evidence(np.zeros(9)) == 0


def test_of_many_residuals_some_tell_the_noise():
    many = heavy(0, 2.5, 100_000)
    assert noise_of(many, "student_t") == noise_of(many[::5], "student_t")


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("loss", one_in(2, ROBUST))
def test_robust_standard_errors_are_smaller_and_cover_the_truth(loss):
    """Under a t with 2.5 degrees of freedom, whose least-squares estimates vary twice as much or more."""
    hits, squares = np.zeros(2), {loss: np.zeros(2), "squared": np.zeros(2)}
    for seed in range(200):
        y = LAW + 0.1 * heavy(seed)
        for name in squares:
            tree = robust_refit(LINE, X, y, name)
            squares[name] += (constants(tree) - (2.3, 0.7)) ** 2
        tree = robust_refit(LINE, X, y, loss)
        found = uncertainty(tree, X, pseudo_values(tree, X, y, loss))
        limit = student_quantile(0.975, found.degrees)
        hits += np.abs(found.values - (2.3, 0.7)) <= limit * found.standard_errors
    assert (np.abs(hits - 190) <= 9).all()  # three standard deviations of such a count
    assert (squares[loss] < 0.6 * squares["squared"]).all()


def test_prediction_intervals_hold_the_share_of_heavy_errors_that_they_say():
    y = LAW + 0.1 * heavy(4)
    tree = robust_refit(LINE, X, y, "student_t")
    errors = np.abs(y - evaluate_tree(tree, {}, X))
    found = uncertainty(tree, X, pseudo_values(tree, X, y, "student_t"), errors=errors)
    new = LAW + 0.1 * heavy(5)
    for level in (0.5, 0.95):
        low, high = found.interval(X, level)
        assert np.mean((low <= new) & (new <= high)) == pytest.approx(level, abs=0.1)
