"""The constants of what is found are fitted to all samples; the errors by which it was chosen are those of new ones."""

from dataclasses import replace

import numpy as np
import pytest

import kanserve
from kanserve import find_formulas
from kanserve.data.dataset import Dataset
from kanserve.formula.constants.nonlinear_fit import refit
from kanserve.formula.constants.recognised_numbers import believable_constants, find_named_constants
from kanserve.formula.expressions.tree import evaluate_tree
from kanserve.search.findings.all_samples import refit_on_all_samples
from kanserve.search.findings.postprocess import Finisher
from kanserve.search.findings.results import Findings

X = np.random.default_rng(0).uniform(0.5, 1.5, (300, 2))
NOISE = np.random.default_rng(1).normal(size=300)
LAW = 1.2345 * X[:, 0] ** 2 * X[:, 1]


def test_the_constants_are_those_of_least_squares_over_all_samples():
    y = LAW + 0.05 * NOISE
    best = find_formulas((X, y), max_fits=300).best
    column = X[:, 0] ** 2 * X[:, 1]
    assert best.constants[0].value == pytest.approx(column @ y / (column @ column), rel=1e-9)
    assert len(best.data) == 300 and best.error == pytest.approx(np.sqrt(np.mean((y - best(X)) ** 2)))


def test_the_validation_error_is_that_of_a_fit_without_the_held_out_samples():
    y = LAW + 0.05 * NOISE
    found = find_formulas((X, y), max_fits=300)
    learn, held = Dataset(X, y).split(0.2, 0)
    for one in found[1:]:
        tree = refit(one.formula.tree, learn.x, learn.y[:, 0], find_named_constants(one.formula.tree))
        error = np.sqrt(np.mean((evaluate_tree(tree, {}, held.x) - held.y[:, 0]) ** 2))
        assert one.validation == pytest.approx(error, rel=1e-3)


def test_weights_and_a_robust_loss_count_in_the_last_fit_too():
    sizes = np.where(X[:, 0] > 1, 1.0, 0.01)
    y = LAW + sizes * NOISE
    best = find_formulas(Dataset(X, y, weights=1 / sizes**2), max_fits=300).best
    column = X[:, 0] ** 2 * X[:, 1] / sizes
    assert best.constants[0].value == pytest.approx(column @ (y / sizes) / (column @ column), rel=1e-6)
    heavy = LAW + 0.05 * np.random.default_rng(2).standard_t(2.5, 300)
    robust = find_formulas((X, heavy), loss="student_t", max_fits=300).best
    assert robust.loss == "student_t" and len(robust.data) == 300
    assert abs(robust.constants[0].value - 1.2345) < 4 * robust.constants[0].standard_error


def test_a_recognised_number_that_all_samples_contradict_is_fitted_again():
    tree = (("var", 0), ("const", 1.25), ("mul", 1, 0))
    y = 1.2345 * X[:, 0] + 0.01 * NOISE
    assert not believable_constants(tree, X, y)  # 27 standard errors off
    assert believable_constants(tree, X, y + 0.0155 * X[:, 0]) == {1}


def settled_on(formula, y):
    """Findings of one formula, which settled the search, before their last fit."""
    learn, held = Dataset(X, y, ("a", "b"), ("y",)).split(0.2, 0)
    finisher = Finisher(learn, held, learn, None, np.inf)
    tree = refit(kanserve.from_formula(formula, inputs=["a", "b"]).formula().tree, learn.x, learn.y[:, 0])
    made = finisher.fit_tree(tree)
    assert made is not None
    made = replace(made, refuted=False)  # as if the samples before had left it open
    return Findings((made,), made), finisher


def test_a_factor_of_one_that_all_samples_contradict_becomes_a_constant_again():
    y = 1.32 * np.exp(0.71 * X[:, 0]) - 1.27 * np.exp(0.63 * X[:, 1]) + 0.01 * NOISE
    found, finisher = settled_on("exp(0.9*a) - exp(0.8*b)", y)
    best = refit_on_all_samples(found, finisher).best
    assert best.complexity > found.best.complexity
    for constant, value in zip(
        sorted(best.constants, key=lambda one: one.value), (-1.27, 0.63, 0.71, 1.32), strict=True
    ):
        assert abs(constant.value - value) < 4 * constant.standard_error
    assert best.validation == pytest.approx(0.01, rel=0.5) and best.validation < found.best.validation


def test_a_law_gets_no_simple_numbers_that_the_first_part_did_not_show():
    y = 2.0 * np.exp(-X[:, 0]) + 0.7312 * X[:, 1] + 0.01 * NOISE
    found, finisher = settled_on("1.9*exp(-0.9*a) + 0.7*b", y)
    best = refit_on_all_samples(found, finisher).best
    assert all(constant.standard_error > 0 for constant in best.constants)  # 2 would be one, and 1 is left out
