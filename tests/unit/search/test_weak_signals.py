"""Searches on tables where most of what varies is noise, or that follow no law that the search finds."""

import warnings

import numpy as np
import pytest

from kanserve import find_formulas, fit, simplify
from kanserve.network.evaluate import evaluate
from kanserve.train import TrainingWarning


def deviations(rows: int, inputs: int, seed: int = 0):
    random = np.random.default_rng(seed)
    return random.uniform(-1, 1, (rows, inputs)), random


@pytest.mark.slow
@pytest.mark.extended
def test_an_input_that_explains_a_tenth_of_the_variance_is_in_the_best_formula():
    x, random = deviations(4000, 3)
    y = 0.6 * x[:, 0] + random.normal(size=len(x))
    found = find_formulas((x, y), max_fits=100)
    assert found.best.formula.identifiers == ("x1",)
    assert np.corrcoef(found.predict(x), x[:, 0])[0, 1] > 0.99


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("rows", [60, 300])
def test_noise_alone_is_explained_by_its_mean(rows):
    for seed in range(3):
        x, random = deviations(rows, 3, seed)
        assert find_formulas((x, random.standard_t(3, size=rows)), max_fits=200).best.complexity == 1


@pytest.mark.slow
@pytest.mark.extended
def test_a_search_that_ends_early_still_has_the_formula_of_fit_and_simplify():
    x, random = deviations(1000, 3)
    y = np.sin(6 * x[:, 0]) + np.exp(2 * x[:, 1]) + 0.2 * random.normal(size=len(x))
    found = find_formulas((x, y), max_fits=1)
    plain = simplify(fit([3, 1], (x, y)), (x, y))
    errors = [np.sqrt(np.mean((answers - y) ** 2)) for answers in (found.predict(x), evaluate(plain, x)[:, 0])]
    assert errors[0] < 1.01 * errors[1]
    assert found.best.formula.text == "sin(6*x1) + exp(2*x2)"
    assert found.ended == "max_fits"


def test_a_search_gives_no_warnings_of_the_training_within_it():
    x, random = deviations(50, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error", TrainingWarning)
        find_formulas((x, np.where(random.uniform(size=50) < 0.05, 100.0, 0.0)), max_fits=1)
