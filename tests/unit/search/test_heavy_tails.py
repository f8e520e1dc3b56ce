"""Large errors are cut off where the noise has heavy tails, and nowhere else."""

import numpy as np
import pytest

from kanserve import from_formula
from kanserve.data.dataset import Dataset
from kanserve.data.datasets import load_equations
from kanserve.search.findings.heavy_tails import winsorise
from kanserve.search.fit.residual_test import adequate

X = np.random.default_rng(0).uniform(-2, 2, (1000, 2))
HEAVY = 0.1 * np.random.default_rng(1).standard_t(2.5, 1000)
NORMAL = 0.1 * np.random.default_rng(1).normal(size=1000)
LAW = X[:, 0] * X[:, 1] ** 2 + np.sin(X[:, 0])


def test_large_errors_are_cut_off_beside_the_law():
    rows = winsorise(Dataset(X, LAW + HEAVY))
    off = rows.y[:, 0] - LAW
    assert np.abs(off).max() < 0.45 < 1 < np.abs(HEAVY).max()
    assert adequate(off, X, float(LAW.std()))  # the law is still the law


@pytest.mark.parametrize(
    "y",
    [
        LAW,
        LAW + NORMAL,
        1 / (X[:, 0] - 2.01) + 0.01 * HEAVY,
        np.sin(9 * X[:, 0]) * np.cos(7 * X[:, 1]),
        np.ones(1000),
    ],
    ids=["exact", "normal noise", "a pole", "waves", "a constant"],
)
def test_other_samples_stay_as_they_are(y):
    rows = Dataset(X, y)
    assert winsorise(rows) is rows


@pytest.mark.parametrize("seed", [1, 2, 5])
def test_nothing_is_cut_off_where_the_law_is_steeper_than_the_polynomial(seed):
    """Towards b = 0 the residuals are large, as if the noise had heavy tails."""
    generator = np.random.default_rng(seed)
    a, c = generator.uniform(-3, 3, (2, 500))
    b = generator.uniform(0.3, 4, 500)
    y = -3 * np.tanh(a) - 2.5 / b - 0.7 * c**2
    rows = Dataset(np.stack([a, b, c], axis=1), y + 0.04 * y.std() * generator.normal(size=500))
    assert winsorise(rows) is rows


def test_few_samples_and_constant_inputs_stay_as_they_are():
    few = Dataset(X[:20], (LAW + HEAVY)[:20])
    alone = Dataset(np.ones((100, 1)), HEAVY[:100])
    assert winsorise(few) is few and winsorise(alone) is alone


def test_samples_of_little_weight_may_have_large_errors():
    sizes = np.where(X[:, 0] > 0, 1.0, 20.0)
    unequal = Dataset(X, LAW + sizes * NORMAL, weights=1 / sizes**2)
    assert winsorise(unequal) is unequal
    rows = winsorise(Dataset(X, LAW + sizes * HEAVY, weights=1 / sizes**2))
    off = np.abs(rows.y[:, 0] - LAW) / sizes
    assert off.max() < 0.6 < 1 < np.abs(HEAVY).max()


@pytest.mark.parametrize("table", ["feynman", "feynman_dimensional", "field_suites"])
def test_nothing_is_cut_off_an_exact_law(table):
    """Also where the polynomial is far from the law, and where it leaves little that depends on the inputs."""
    for equation in load_equations(table):
        low, high = np.array(list(equation.ranges.values())).T
        x = np.random.default_rng(0).uniform(low, high, (500, len(low)))
        y = from_formula(equation.formula, inputs=list(equation.ranges))(x)[:, 0]
        rows = Dataset(x[np.isfinite(y)], y[np.isfinite(y)])
        assert winsorise(rows) is rows, equation.name
