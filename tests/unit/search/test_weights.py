"""Sample weights in a search: they count in fits, errors, tests of residuals and standard errors."""

import numpy as np
import pytest

from kanserve import Dataset, Findings, find_formulas
from kanserve.data.row_weights import deviation, join_weights, root_mean_square, weight_rows
from kanserve.errors import DataError
from kanserve.formula.constants.noisy import recognise_noisy_constants
from kanserve.formula.constants.nonlinear_fit import refit
from kanserve.formula.constants.recognition import constants_of
from kanserve.formula.constants.student_t import student_quantile
from kanserve.formula.constants.uncertainty import uncertainty
from kanserve.formula.to_network.from_formula import from_formula
from kanserve.search.findings.baselines import baselines
from kanserve.search.findings.postprocess import leave_one_out_error
from kanserve.search.findings.preprocess import prepare
from kanserve.search.findings.rows import search_rows
from kanserve.search.fit.residual_test import adequate, lack_of_fit
from kanserve.search.fit.training import judge, split
from kanserve.search.regression.variable_projection import Scaled, fit_terms
from kanserve.search.structure.outliers import outliers
from kanserve.search.trees import compose
from kanserve.search.trees.to_network import network

X = np.random.default_rng(0).uniform(0.5, 3, (400, 2))
A, B = X.T
TIMES = np.random.default_rng(1).integers(1, 4, len(X))
LINE = (("var", 0), ("const", 1.5), ("mul", 0, 1), ("const", 0.1), ("add", 2, 3))


def noisy(law, sizes, seed=0):
    return law + sizes * np.random.default_rng(seed).normal(size=len(law))


def test_a_weight_of_two_is_the_sample_twice_in_a_fit():
    y = noisy(2 * A + 1, 0.3)
    once = refit(LINE, X, y, weights=7.0 * TIMES)
    repeated = refit(LINE, np.repeat(X, TIMES, axis=0), np.repeat(y, TIMES))
    assert [step[1] for step in once if step[0] == "const"] == pytest.approx(
        [step[1] for step in repeated if step[0] == "const"]
    )


def test_a_weight_of_two_is_the_sample_twice_in_a_projection():
    y = noisy(2 * np.exp(0.7 * A) + 1, 0.3)
    beside = np.ones((len(X), 1))
    terms = [Scaled(0, "exp", 0.5, free=("factor",))]
    (once,), own, error = fit_terms(terms, X, y, beside, TIMES.astype(float))
    many = np.repeat(np.arange(len(X)), TIMES)
    (repeated,), coefficients, same = fit_terms(terms, X[many], y[many], beside[many])
    assert once.factor == pytest.approx(repeated.factor) and own == pytest.approx(coefficients)
    assert error == pytest.approx(same)


def test_errors_are_weighted_means():
    y, tree = noisy(A, 0.3), compose.linear((0,), (1.0,))
    rows = split(X, y, 0, TIMES.astype(float))
    assert rows.weights is not None
    assert judge(network(tree, 2), rows).error == pytest.approx(
        np.sqrt(np.average((rows.x[:, 0] - rows.y) ** 2, weights=rows.weights)) / rows.spread
    )
    assert rows.spread == pytest.approx(np.repeat(rows.y, rows.weights.astype(int)).std())


def test_leave_one_out_errors_are_those_of_weighted_fits():
    x, y, weights = X[:8], A[:8] + 0.1 * B[:8], np.arange(1.0, 9)
    left = []
    for k in range(8):
        rest = np.arange(8) != k
        u = weights[rest] * x[rest, 0]
        left.append(y[k] - u @ y[rest] / (u @ x[rest, 0]) * x[k, 0])
    slope = float((weights * x[:, 0]) @ y / ((weights * x[:, 0]) @ x[:, 0]))
    fitted = (("var", 0), ("const", slope), ("mul", 0, 1))
    found = leave_one_out_error(fitted, Dataset(x, y, weights=weights))
    assert found == pytest.approx(np.sqrt(np.average(np.square(left), weights=weights)))


def test_noise_of_unequal_size_is_noise_once_it_is_weighted():
    sizes = np.where(B > 1.75, 1.0, 0.01)
    noise = sizes * np.random.default_rng(1).normal(size=len(A))
    hidden = noise + 0.01 * np.sin(4 * A)
    assert adequate(weight_rows(noise, 1 / sizes**2), X, 1.0)
    assert not adequate(weight_rows(hidden, 1 / sizes**2), X, 1.0)
    assert abs(lack_of_fit(hidden, X) - lack_of_fit(noise, X)) < 0.5  # without weights nothing tells them apart


def test_samples_of_little_weight_may_be_far_off():
    y = noisy(A, 0.01)
    y[::40] += 3
    assert outliers(X, y)[::40].all()
    weights = np.where(np.arange(len(y)) % 40, 1.0, 1e-5)
    assert not outliers(X, y, weights=weights).any()


def test_a_search_finds_the_law_under_noise_that_only_the_weights_tell():
    sizes = np.where(B > 1.75, 5.0, 0.01)
    y = noisy(3 * A / B, sizes)
    found = find_formulas(Dataset(X, y, weights=1 / sizes**2), max_fits=400, loss="squared")
    assert found.best.formula.text == "3*x1/x2" and found.status == "within noise"
    mean_size = 1 / np.sqrt(np.mean(1 / sizes**2))
    assert found.best.error == pytest.approx(mean_size, rel=0.15)


@pytest.mark.extended
def test_a_sum_of_functions_is_found_where_weights_tell_the_noise():
    sizes = 0.02 * np.exp(1.2 * A)
    y = noisy(np.sin(2 * A) + B**2, sizes)
    found = find_formulas(Dataset(X, y, weights=1 / sizes**2), max_fits=100)
    assert found.best.formula.text == "sin(2*x1) + x2^2" and found.status == "within noise"


def test_baselines_of_a_repeated_sample_are_those_of_twice_its_weight():
    x, y, times = X[:15], noisy(A * B, 0.3)[:15], TIMES[:15]
    once = baselines(prepare(Dataset(x, y, weights=times.astype(np.float64))), 0, ("sin", "exp"))
    many = Dataset(np.repeat(x, times, axis=0), np.repeat(y, times))
    repeated = baselines(prepare(many), 0, ("sin", "exp"))
    assert len(many) < 40 and len(once) > 5  # none is held out
    assert [fit.error for fit in once[:4]] == pytest.approx([fit.error for fit in repeated[:4]])


def test_weights_are_kept_in_a_file_and_rows_of_weight_0_are_left_out(tmp_path):
    weights = np.asarray(TIMES - 1.0, np.float64)
    y = np.where(weights > 0, A / B, 1e6)
    found = find_formulas(Dataset(X, y, weights=weights), max_fits=300)
    assert found.best.formula.text == "x1/x2" and found.status == "exact"
    found.save(tmp_path / "found.safetensors")
    loaded = Findings.load(tmp_path / "found.safetensors")[0].data
    kept = found[0].data.weights
    assert loaded.weights is not None and kept is not None
    assert np.array_equal(loaded.weights, kept) and set(loaded.weights) == {1.0, 2.0}


def test_equal_weights_change_nothing():
    y = noisy(A / B, 0.05)
    plain, weighed = (
        find_formulas(Dataset(X, y, weights=weights), max_fits=60) for weights in (None, 3 * np.ones(400))
    )
    assert str(plain) == str(weighed)


@pytest.mark.parametrize("held_out", [True, False])
def test_every_part_of_the_samples_has_its_weights(held_out):
    rows = Dataset(X, A, weights=1 + A) if held_out else Dataset(X[:20], A[:20], weights=1 + A[:20])
    samples = search_rows(rows, 0, "auto")
    for part in (samples.learn, samples.held, samples.learn.sample(10, 0)):
        assert part.weights is not None and np.array_equal(part.weights, 1 + part.x[:, 0])


def test_weights_that_no_sample_can_have_are_refused():
    for wrong in (-1.0, np.nan):
        weights = np.ones(len(X))
        weights[3] = wrong
        with pytest.raises(DataError, match="numbers from 0 on; that of row 4 is"):
            Dataset(X, A, weights=weights)
        with pytest.raises(DataError, match="0 or more"):
            refit(LINE, X, A, weights=weights)


def test_recognition_weighs_samples():
    sizes = np.where(B > 1.75, 5.0, 1e-3)
    y = noisy(2 * A + 0.5, sizes)
    tree = recognise_noisy_constants(LINE, X, y, weights=1 / sizes**2)
    assert [constant.text for constant in constants_of(tree, X, y, 1 / sizes**2)] == ["2", "0.5"]


def test_helpers_of_weights():
    values, weights = np.array([1.0, 3.0]), np.array([3e300, 1e300])
    assert root_mean_square(values, weights) == pytest.approx(np.sqrt(3))
    assert deviation(values, weights) == pytest.approx(np.sqrt(3) / 2)
    assert weight_rows(values, weights) == pytest.approx([np.sqrt(1.5), 3 * np.sqrt(0.5)])
    both = join_weights(weights, weights)
    assert join_weights(None, None) is None and both is not None and both.tolist() == [3e300, 1e300] * 2


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("law", ["2.3*x1 + 0.7", "1.9*exp(0.37*x1)"])
def test_standard_errors_under_unequal_noise_cover_the_truth(law):
    x = np.linspace(0, 3, 100)[:, None]
    sizes = 0.02 * np.exp(1.2 * x[:, 0])
    kan = from_formula(law, inputs=["x1"])
    tree, truth = kan.formula().tree, kan(x)[:, 0]
    true_values = uncertainty(tree, x, truth).values
    covered = {}
    for name, weights in {"weighted": 1 / sizes**2, "alike": None}.items():
        hits = np.zeros(2)
        for seed in range(200):
            y = noisy(truth, sizes, seed)
            found = uncertainty(refit(tree, x, y, weights=weights), x, y, weights=weights)
            limit = student_quantile(0.975, found.degrees)
            hits += np.abs(found.values - true_values) <= limit * found.standard_errors
        covered[name] = hits
    assert (np.abs(covered["weighted"] - 190) <= 9).all()  # three standard deviations of such a count
    assert covered["alike"].min() < 175
