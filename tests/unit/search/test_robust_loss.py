"""The loss of the last fits: squares, Huber's or Student's t, given or chosen by the tails of the residuals."""

import numpy as np
import pytest

from kanserve import Dataset, Findings, find_formulas
from kanserve.errors import FormatError, InputError

X = np.random.default_rng(0).uniform(0.5, 3, (400, 2))
A, B = X.T
HEAVY = np.random.default_rng(1).standard_t(2.5, 400)
NORMAL = np.random.default_rng(1).normal(size=400)
LAW = 2.3456 * A / B


def found_of(errors, **options):
    return find_formulas((X, LAW + 0.1 * errors), max_fits=200, **options)


@pytest.fixture(scope="module")
def robust():
    return found_of(HEAVY)


def slope(found):
    (constant,) = found.best.constants
    return constant


def test_heavy_tails_are_fitted_by_a_t_and_the_result_says_so(robust):
    assert robust.loss == "student_t" and robust.status == "within noise"
    assert {formula.loss for formula in robust} == {"student_t"}
    assert "Its constants are fitted by the loss of Student's t." in str(robust)
    squared = found_of(HEAVY, loss="squared")
    assert squared.loss == "squared" and "Its constants" not in str(squared)
    assert slope(robust).standard_error < 0.8 * slope(squared).standard_error
    assert slope(robust).value == pytest.approx(2.3456, abs=3 * slope(robust).standard_error)


def test_normal_noise_is_fitted_by_squares_unless_a_loss_is_given():
    found = found_of(NORMAL)
    assert found.loss == "squared" and str(found) == str(found_of(NORMAL, loss="squared"))
    huber = found_of(NORMAL, loss="huber")
    assert huber.loss == "huber" and "Huber's loss" in huber.meaning
    assert 0.9 < slope(huber).standard_error / slope(found).standard_error < 1.2


def test_without_enough_evidence_of_heavy_tails_errors_are_squared(monkeypatch):
    monkeypatch.setattr("kanserve.search.findings.heavy_tails.TAIL_EVIDENCE", np.inf)
    assert found_of(HEAVY).loss == "squared"


def test_exact_laws_need_no_robust_loss():
    assert find_formulas((X, A / B), max_fits=100, loss="student_t").loss == "squared"


def test_the_loss_is_in_the_file_and_so_are_its_standard_errors(robust, tmp_path):
    path = tmp_path / "found.safetensors"
    robust.save(path)
    loaded = Findings.load(path)
    assert loaded.loss == "student_t" and loaded.best.constants == robust.best.constants
    found = found_of(HEAVY, loss="squared")
    object.__setattr__(found.best, "loss", "cauchy")
    found.save(path)
    with pytest.raises(FormatError, match="incomplete"):
        Findings.load(path)


@pytest.mark.extended
def test_simple_numbers_are_recognised_under_the_robust_loss():
    law = 2 * A * B + 5
    found = find_formulas((X, law + 0.05 * HEAVY), max_fits=200, loss="huber")
    assert found.best.formula.text == "2*x1*x2 + 5" and found.loss == "huber"
    assert all(0 < constant.standard_error < 0.1 for constant in found.best.constants)


def test_weights_and_a_robust_loss_go_together():
    sizes = np.where(B > 1.75, 1.0, 0.05)
    rows = Dataset(X, LAW + sizes * HEAVY, weights=1 / sizes**2)
    found = find_formulas(rows, max_fits=200)
    assert found.loss == "student_t"
    assert slope(found).value == pytest.approx(2.3456, abs=3 * slope(found).standard_error)
    unequal = find_formulas(Dataset(X, LAW + sizes * NORMAL, weights=1 / sizes**2), max_fits=200)
    assert unequal.loss == "squared"  # weighted residuals have no heavy tails


def test_prediction_intervals_follow_the_errors_of_the_samples(robust):
    new = LAW + 0.1 * np.random.default_rng(2).standard_t(2.5, 400)
    for level in (0.5, 0.95):
        low, high = robust.best.interval(X, level)
        assert np.mean((low <= new) & (new <= high)) == pytest.approx(level, abs=0.08)


def test_a_template_takes_no_robust_loss():
    with pytest.raises(InputError, match="'auto' or 'squared', got 'huber'"):
        find_formulas((X, LAW), template="f(x1)/x2", loss="huber")
    found = find_formulas((X, LAW + 0.2 * HEAVY), template="f(x1)/x2", max_fits=50)
    assert found.loss == "squared"
