"""What the samples tell of the best formula, all of them: exact, within noise, refuted or out of time."""

import math

import numpy as np
import pytest

from kanserve import find_formulas
from kanserve.errors import DataError
from kanserve.search.fit.residual_test import deviation_of_bins, refutes

GENERATOR = np.random.default_rng(0)
X = GENERATOR.uniform(0, 3, (20_000, 3))
NOISE = GENERATOR.normal(size=20_000)
LAW = 0.3 * X[:, 2] ** 2 + 2.5 * X[:, 0] * np.exp(-0.7 * X[:, 1])


def test_noise_deviates_little_and_what_an_input_explains_much():
    assert abs(deviation_of_bins(NOISE, X)) < 5 and not refutes(NOISE, X)
    for part in (np.sin(X[:, 1]), X[:, 0] * X[:, 2] - 1.5 * (X[:, 0] + X[:, 2]), np.abs(X[:, 0] - 1.5)):
        assert refutes(NOISE + 0.15 * (part - part.mean()) / part.std(), X)


def test_noise_of_unequal_size_and_tables_of_few_rows_refute_nothing():
    assert not refutes(NOISE * (0.1 + X[:, 0] ** 2), X)
    assert not any(refutes(NOISE[start : start + 15], X[start : start + 15]) for start in range(0, 300, 15))
    assert not refutes(np.zeros(100), X[:100]) and deviation_of_bins(NOISE[:40], X[:40]) == 0


def test_noise_is_refuted_by_chance_once_in_a_thousand_times_at_most():
    refuted = sum(refutes(NOISE[k : k + 200], X[k : k + 200]) for k in range(0, 20_000, 100))
    assert refuted == 0


def test_inputs_of_few_values_are_binned_by_value():
    x = np.round(X[:, :1])
    assert not refutes(NOISE, x) and refutes(NOISE + 0.2 * (x[:, 0] == 1), x)


@pytest.mark.slow
@pytest.mark.extended
def test_a_formula_is_within_noise_or_exact_on_all_samples():
    found = find_formulas((X, LAW + 0.01 * LAW.std() * NOISE), max_fits=2000)
    assert found.status == "within noise" and not found.best.refuted and "exp(" in found.best.formula.text
    assert all(candidate.refuted for candidate in found.candidates[:-1])
    assert str(found).startswith("within noise: ") and "refuted" in str(found)
    exact = find_formulas((X[:300], 2 * X[:300, 0] ** 2 + 1), max_fits=100)
    assert exact.status == "exact" and str(exact).splitlines()[0].startswith("exact: ")


@pytest.mark.slow
@pytest.mark.extended
def test_more_samples_are_searched_where_few_settled_on_a_wrong_formula(monkeypatch):
    x = np.random.default_rng(7).uniform(-1, 1, (4000, 1))
    y = x[:, 0] + 0.25 * np.sin(6 * x[:, 0]) + 0.3 * np.random.default_rng(8).normal(size=4000)
    monkeypatch.setattr("kanserve.search.findings.find_formulas.MOST_ROWS", 60)
    found = find_formulas((x, y), max_fits=800)
    assert found.status == "within noise" and found.best.validation < 1.05 * 0.3
    assert found.best.formula.text.count("x1") > 1


@pytest.mark.slow
def test_what_is_refuted_has_no_standard_errors_and_is_said_first():
    x = X[:1000, :2]
    y = x[:, 0] * x[:, 1] + np.sin(7 * x[:, 0] * x[:, 1] ** 2)
    found = find_formulas((x, y), max_fits=20)
    assert found.ended == "max_fits" and found.status == "out of time" and found.best.refuted
    assert str(found).startswith("out of time: ") and "out of time" in found._repr_html_()
    assert all(math.isnan(constant.standard_error) for constant in found.best.constants)
    with pytest.raises(DataError, match="no standard errors"):
        found.best.interval(x)
    assert found.best.formula.text != "0"


@pytest.mark.slow
def test_a_search_that_was_cut_off_decides_nothing():
    x = np.random.default_rng(0).uniform([1, 1], [10, 3], (300, 2))
    law = 3.1 * x[:, 1] * np.exp(-(((x[:, 0] - 5) / 4.8) ** 2))
    rows = x, law + 0.05 * law.std() * np.random.default_rng(1).normal(size=300)
    found = find_formulas(rows, max_fits=100)
    assert found.ended == "max_fits" and not found.best.refuted and not found.rivals
    assert found.status == "not decided" and "too few other forms were compared" in found.meaning
