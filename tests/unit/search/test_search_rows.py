"""The samples of a search: outliers are left out and counted, and of few samples none is held out."""

import numpy as np
import pytest

from kanserve import Findings, find_formulas
from kanserve.data.dataset import Dataset
from kanserve.errors import InputError
from kanserve.search.findings.postprocess import leave_one_out_error
from kanserve.search.findings.rows import search_rows

X = np.random.default_rng(0).uniform(0.5, 3, (400, 2))
A, B = X.T


def with_outliers(y):
    y = y.copy()
    y[::40] += 10 * y.std()
    return y


def test_outliers_hide_no_law_and_are_counted(tmp_path):
    found = find_formulas((X, with_outliers(A / B)), max_fits=500)
    assert found.best.formula.text == "x1/x2" and found.status == "exact" and found.outliers == 10
    assert "But for 10 outliers." in str(found)
    found.save(tmp_path / "found.safetensors")
    assert Findings.load(tmp_path / "found.safetensors").outliers == 10


def test_squared_loss_leaves_nothing_out():
    found = find_formulas((X, with_outliers(A / B)), max_fits=100, loss="squared")
    assert found.outliers == 0 and found.status != "exact"


def test_what_the_law_explains_is_no_outlier():
    samples = search_rows(Dataset(X, with_outliers(A / B)), 0, "auto")
    assert samples.left_out is not None and len(samples.left_out) == 10
    assert len(samples.learn) + len(samples.held) == 390
    exact = find_formulas((X, A / B), max_fits=200)
    assert exact.outliers == 0
    true = samples.left_out.take(np.arange(5))
    mended = Dataset(true.x, (true.x[:, 0] / true.x[:, 1])[:, None])
    assert samples.__class__(samples.learn, samples.held, mended).judge(exact).outliers == 0


def test_an_unknown_loss_is_named():
    with pytest.raises(InputError, match="'auto', 'squared', 'huber', 'student_t', got 'cauchy'"):
        find_formulas((X, A), loss="cauchy")  # type: ignore[arg-type]


def test_of_few_samples_none_is_held_out():
    few = search_rows(Dataset(X[:12], A[:12]), 0, "auto")
    assert few.learn is few.held and len(few.learn) == 12
    many = search_rows(Dataset(X[:60], A[:60]), 0, "auto")
    assert len(many.learn) == 48 and len(many.held) == 12


def test_the_leave_one_out_error_is_that_of_fits_without_each_sample():
    x, y = X[:8], A[:8] + 0.1 * B[:8]
    tree = (("var", 0), ("const", 1.2345678), ("mul", 0, 1))
    direct = []
    for k in range(8):
        rest = np.arange(8) != k
        slope = x[rest, 0] @ y[rest] / (x[rest, 0] @ x[rest, 0])
        direct.append(y[k] - slope * x[k, 0])
    fitted = (("var", 0), ("const", float(x[:, 0] @ y / (x[:, 0] @ x[:, 0]))), ("mul", 0, 1))
    assert leave_one_out_error(fitted, Dataset(x, y)) == pytest.approx(np.sqrt(np.mean(np.square(direct))))
    assert tree != fitted


@pytest.mark.parametrize("rows", [5, 8])
def test_a_law_of_few_exact_samples_is_exact(rows):
    x = np.arange(1.0, rows + 1)[:, None]
    found = find_formulas((x, 3 * x[:, 0] ** 2), max_fits=300)
    assert found.best.formula.text == "3*x1^2" and found.status == "exact"


@pytest.mark.slow
@pytest.mark.extended
def test_a_line_through_five_samples_is_a_line():
    found = find_formulas(([[1.0], [2.0], [3.0], [4.0], [5.0]], [2.1, 3.9, 6.2, 7.8, 10.1]), max_fits=100)
    assert found.best.formula.text in ("2*x1", "1.98*x1 + 0.06")
