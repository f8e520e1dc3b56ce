"""Outliers: found where they are, and nowhere else."""

import numpy as np
import pytest

from kanserve.search.structure.outliers import outliers

X = np.random.default_rng(0).uniform(-2, 2, (1000, 2))
LAWS = {
    "a product": lambda a, b: a * b**2,
    "a distance": lambda a, b: np.sqrt(a**2 + b**2),
    "waves": lambda a, b: np.sin(2 * a) * np.cos(b),
    "a bell": lambda a, b: np.exp(-5 * (a**2 + b**2)),
}


@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize("name", LAWS)
def test_outliers_are_told_from_the_law_and_its_noise(name, noise):
    generator = np.random.default_rng(1)
    y = LAWS[name](*X.T)
    y = y + noise * y.std() * generator.normal(size=len(y))
    clean = outliers(X, y)
    wrong = generator.permutation(len(y))[:20]
    y[wrong] += 10 * y.std() * generator.choice([-1.0, 1.0], 20)
    found = outliers(X, y)
    assert found[wrong].all() and found.sum() <= 21 and clean.sum() <= 2


def test_rows_beside_a_pole_are_no_outliers():
    assert not outliers(X, X[:, 1] / (X[:, 0] - 2.01)).any()


def test_a_region_of_its_own_is_no_outlier():
    y = X[:, 0].copy()
    y[X[:, 1] > 1.9] += 50
    assert not outliers(X, y).any()


def test_heavy_tails_have_no_outliers():
    y = X[:, 0] + np.random.default_rng(2).standard_t(3, 1000)
    assert outliers(X, y).sum() <= 3


def test_constants_and_few_samples_raise_nothing():
    assert not outliers(X, np.ones(1000)).any()
    assert not outliers(np.ones((100, 1)), np.arange(100.0)).any()
    assert not outliers(X[:20], X[:20, 0]).any()
