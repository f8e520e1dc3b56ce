"""The benchmarks, small: what they compare is right, and the tables say what was measured. Times are not judged."""

import numpy as np
import pytest
import torch

from benchmarks import (
    _in_c,
    _inference_forms,
    _steps,
    _torch_kan,
    _training_goals,
    inference,
    knots,
    training,
    training_step,
)
from kanserve.cli.demo import folds
from kanserve.data.datasets import load_knots
from kanserve.network.evaluate import evaluate
from kanserve.train import create

pytestmark = pytest.mark.usefixtures("torch_threads")

pytestmark = pytest.mark.extended


@pytest.mark.exhaustive
@pytest.mark.slow
def test_every_form_computes_the_same_network():
    rows, peak = inference.measure("AC", small=True)
    assert {(row.net, row.batch) for row in rows} == {(net, batch) for net in "AC" for batch in (1, 32, 1024)}
    for row in rows:
        # G = 5 and outputs of order 1: nothing loses more than a few bits of float32.
        assert set(row.errors) >= {"torch", "its ONNX", "our ONNX", "our C", "our NumPy"}
        assert max(row.errors.values()) < 1e-5
        assert set(row.seconds) == {*row.errors, inference.IN_C} and min(row.seconds.values()) > 0
    assert peak > 0
    assert "met: errors of ours" in inference.report(rows, peak)


@pytest.mark.slow
def test_what_c_is_timed_on_is_the_network():
    kan = inference.network("C")
    in_c = _in_c.InC(_inference_forms.exports(kan)["c_source"])
    x = np.random.default_rng(5).uniform(-1, 1, (40, 64)).astype(np.float32)
    for rows in (x, x[:1].copy()):
        got = in_c.answers(rows, 10)
        np.testing.assert_allclose(got, evaluate(kan, rows), rtol=0, atol=1e-5)


def test_a_goal_that_is_missed_is_printed_as_missed():
    seconds = dict.fromkeys(["torch", "its ONNX", "our ONNX", "our C", inference.IN_C], 1e-5)
    errors = dict.fromkeys(["torch", "its ONNX", "our ONNX", "our C"], 1e-7)
    row = inference.Row("A", 1, seconds, errors | {"our C": 1e-4})
    text = inference.report([row], 1e11)
    assert "MISSED: our ONNX ≥ 3x faster than torch's (A at 1)" in text
    assert "MISSED: our operator ≥ 7x faster than torch's: it is not built here" in text
    assert "MISSED: errors of ours ≤ 1e-5, or twice torch's (our C of A)" in text
    assert "MISSED: C, a row of A from C ≤ 100 ns: 10000 ns" in text
    others = inference.report_others({("A", 1): {"inkan's ONNX": 2e-5}}, [row])
    assert "MISSED: our ONNX ≥ 3x faster than other libraries' networks exported by torch (A at 1)" in others


def test_the_peer_in_plain_torch_is_the_network():
    module = _torch_kan.to_torch(inference.network("A"), torch.float64)
    kan = _torch_kan.from_torch(module)
    x = np.random.default_rng(3).uniform(-2, 2, (100, 4))  # outside the grids too
    with torch.inference_mode():
        got = module(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(got, evaluate(inference.network("A"), x), rtol=0, atol=1e-12)
    np.testing.assert_array_equal(evaluate(kan, x), evaluate(inference.network("A"), x))


def test_a_finer_grid_keeps_the_peers_network():
    kan = _torch_kan.from_torch(_torch_kan.to_torch(create([2, 3, 1], grid=3), torch.float64))
    x = np.random.default_rng(4).uniform(-1, 1, (100, 2))
    # Six intervals hold every knot of three, so that only the ridge of the fit is between them.
    np.testing.assert_allclose(evaluate(_torch_kan.finer(kan, 6), x), evaluate(kan, x), rtol=0, atol=1e-6)


@pytest.mark.slow
def test_all_trainers_learn_and_the_table_says_how_well():
    task = training.SMALL[1]
    results = training.measure(task, 1)
    spread = float(training.sample(1000, 2).y.std())
    assert results["ours"][0].rmse < 0.02 * spread
    for name in ("LBFGS", "Adam", "LBFGS, 10x"):
        assert results[name][0].rmse < spread
        assert results[name][0].seconds > 0
    assert f"{results['ours'][0].rmse:.1e}" in training.report({task: results}, 1)


def test_the_slope_is_the_exponent_of_the_power_law():
    assert _training_goals.slope((3, 5, 10), [7.0 * grid**-4.0 for grid in (3, 5, 10)]) == pytest.approx(-4.0)


def test_a_goal_that_is_missed_says_so_and_a_result_that_differs_too():
    task = next(one for one in _training_goals.tasks() if one.name == _training_goals.SMALL[0])
    good = _training_goals.Result(1e-4, 0.1, (2, 1, 1), 3)
    wide = _training_goals.Result(1e-4, 0.9, (2, 2, 1), 6)
    lines = _training_goals.report([task], {task.name: [good, wide]})
    assert "MISSED: [2,1,1] at RMSE ≤ 5e-4: 1 of 2" in lines and "MISSED: in ≤ 0.5 CPU s: slowest 0.90 s" in lines
    assert "MISSED: the same shapes" in _training_goals.compare([task], {task.name: [good]}, {task.name: [wide]})
    assert "met: the same shapes" in _training_goals.compare([task], {task.name: [good]}, {task.name: [good]})


@pytest.mark.parametrize("library", ["kanserve", "MLP", "torch", "Chebyshev"])
def test_a_step_of_adam_is_taken(library: str):
    _steps.LIBRARIES[library](_steps.Task("2-5-1", 16))()


def test_the_layer_of_chebyshev_polynomials_is_their_sum():
    layer = _torch_kan.ChebyshevLayer(2, 3, 4).double()
    x = torch.linspace(-2, 2, 14, dtype=torch.float64).reshape(7, 2)
    weights = layer.weights.detach().numpy()
    want = sum(np.polynomial.chebyshev.chebval(np.tanh(x[:, i].numpy()), weights[i].T).T for i in range(2))
    np.testing.assert_allclose(layer(x).detach().numpy(), want, rtol=0, atol=1e-12)


def test_the_table_of_steps_says_where_ours_is_not_first():
    def column(task: _steps.Task, ours: float, memory: float) -> training_step.Column:
        names = _steps.LIBRARIES
        return training_step.Column(
            task, dict.fromkeys(names, 3e-3) | {"kanserve": ours}, dict.fromkeys(names, 9.0) | {"kanserve": memory}
        )

    first, second = training_step.COLUMNS[:2]
    good = training_step.report([column(first, 1e-3, 8.0), column(second, 1e-3, 8.0)])
    assert good.splitlines()[-1] == "met: ours first in every column" and "MISSED" not in good
    bad = training_step.report([column(first, 4e-3, 8.0), column(second, 1e-2, 10.1)])
    assert bad.splitlines()[-1] == "MISSED: ours first in every column (2-5-1 B256, 64-64-64-10 B256)"
    assert "MISSED: peak memory never above the best other KAN's, within 1 MB (64-64-64-10 B256)" in bad
    assert "MISSED: ≥ 2x the best other KAN in the median column: 0.53x" in bad
    assert "MISSED: 64-64-64-10 B256 within 3x of the MLP: 3.33x" in bad
    wide = next(task for task in training_step.COLUMNS if task.net == training_step.MANY_INPUTS)
    assert "met: 784-64-10 B256 ≥ 1.5x flashkan: 3.00x" in training_step.report([column(wide, 1e-3, 8.0)])
    assert "MISSED: 784-64-10 B256 ≥ 1.5x flashkan: 1.20x" in training_step.report([column(wide, 2.5e-3, 8.0)])


def test_a_better_peer_on_the_knots_is_printed_as_a_miss():
    results = {"our formula": ([0.94, 0.94], 1.0), "gradient boosting": ([0.95, 0.95], 1.0)}
    text = knots.report(results)
    assert "MISSED: no method is better (gradient boosting)" in text and "met: mean R² of the formula" in text


def test_the_knots_peers_are_measured_on_rows_that_they_have_not_seen():
    held = [part.y for _, part in folds(load_knots(), 3)]
    assert sum(map(len, held)) == 1118
    for rest, part in folds(load_knots(), 3):
        rows = {row.tobytes() for row in rest.x}
        assert not any(row.tobytes() in rows for row in part.x)
