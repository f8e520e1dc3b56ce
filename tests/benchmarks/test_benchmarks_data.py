"""The benchmarks of whole fits, small: the peers are trained right, nobody sees the test rows, and losses are told."""

import os

import numpy as np
import pandas
import pytest

from benchmarks import _real_tables, accuracy_for_time, against_mlp, many_rows, real_data
from benchmarks._perceptron import Perceptron, Squares, trained
from benchmarks._real_tables import Data
from benchmarks._timing import installed
from benchmarks.real_data import Result

pytestmark = [
    pytest.mark.extended,
    pytest.mark.filterwarnings("ignore::kanserve.estimator.ExtrapolationWarning"),  # of rows held out, some are
]


@pytest.mark.parametrize("activation", ["tanh", "silu"])
def test_the_perceptrons_gradient_is_that_of_its_loss(activation):
    net = Perceptron((2, 4, 3, 1), activation)
    generator = np.random.default_rng(0)
    problem = Squares(net, generator.uniform(-1, 1, (50, 2)), generator.normal(size=50))
    vector = net.start(1)
    assert len(vector) == net.size
    gradient = problem.normal_equations(vector, problem.loss(vector)[1])[1]
    steps = 1e-6 * np.eye(net.size)
    differences = [(problem.loss(vector + step)[0] - problem.loss(vector - step)[0]) / 2e-6 for step in steps]
    np.testing.assert_allclose(gradient, differences, rtol=0, atol=1e-8)  # central differences, error 1e-12/1e-6 + h²


def test_the_perceptrons_matrix_is_the_square_of_its_jacobian():
    net = Perceptron((2, 3, 1), "tanh")
    x = np.random.default_rng(0).uniform(-1, 1, (7, 2))
    vector = net.start(0)
    problem = Squares(net, x, np.zeros(7))
    matrix = problem.normal_equations(vector, problem.loss(vector)[1])[0]
    steps = 1e-6 * np.eye(net.size)
    jacobian = np.stack([(net.values(vector + h, x)[0] - net.values(vector - h, x)[0]) / 2e-6 for h in steps], axis=1)
    np.testing.assert_allclose(matrix, jacobian.T @ jacobian / 7, rtol=0, atol=1e-8)


def test_a_calibration_error_is_how_far_probabilities_are_from_frequencies():
    chances = np.repeat([[0.8, 0.2], [0.3, 0.7]], 10, axis=0)
    right = np.zeros((20, 2), bool)
    right[:8, 0], right[8:10, 1] = True, True  # .8 is right
    right[10:15, 1], right[15:, 0] = True, True  # .7 is .5
    assert real_data.calibration_error(chances, right) == pytest.approx(0.1)


@pytest.mark.slow
def test_the_perceptron_learns():
    every = against_mlp.PROBLEMS[4].rows(500, 0)
    train, held = every.split(0.2)
    found = trained([Perceptron((2, 12, 1), "tanh")], train, held, every, 0.5, 0)
    test = against_mlp.PROBLEMS[4].rows(500, 1)
    assert np.abs(found.run(test.x) - test.y[:, 0]).max() < 0.05  # of answers between -2 and 2


@pytest.mark.parametrize("size", [84, 210, 624])
def test_every_perceptron_has_about_as_many_parameters_as_asked(size):
    nets = against_mlp.candidates(size, 2)
    assert {(len(net.widths), net.activation) for net in nets} == {(n, a) for n in (3, 4) for a in ("tanh", "silu")}
    for net in nets:
        assert net.size == pytest.approx(size, rel=0.1)


@pytest.mark.slow
def test_both_forms_are_compared_on_a_product(monkeypatch):
    monkeypatch.setattr(against_mlp, "ROWS", 500)
    monkeypatch.setattr(against_mlp, "GRIDS", (3, 5))
    found = against_mlp.measure(against_mlp.PROBLEMS[4], range(1), 0.05)
    assert found["ours"][0].error < 1e-3
    text = against_mlp.report({"product": found})
    assert f"{found['ours'][0].error:.1e}" in text and "of 1" in text.splitlines()[-1]


def test_a_better_perceptron_is_told():
    found = {name: [against_mlp.Result(error, 10, 1.0, name)] for name, error in (("ours", 1e-3), ("MLP", 1e-4))}
    text = against_mlp.report({"hard": {**found, "MLP, half": found["ours"], "MLP, twice": found["ours"]}})
    assert text.splitlines()[-1] == "ours ahead on 0 of 1, level (within 1.25x) on 0, behind on 1: hard"


@pytest.mark.slow
def test_no_one_is_both_in_the_test_and_outside():
    visits = _real_tables.SETS["doctor's visits"]()
    assert len(visits.x) == 20_190
    for seed in range(2):
        rest, test = visits.split(seed)
        assert len(rest) + len(test) == len(visits.x) and not set(rest) & set(test)
        assert not {row.tobytes() for row in visits.x[rest]} & {row.tobytes() for row in visits.x[test]}


@pytest.mark.slow
def test_every_method_knows_more_than_the_mean():
    x = np.random.default_rng(0).normal(size=(200, 3))
    data = Data(x, x[:, 0] + x[:, 1], classifies=False)
    before = set(os.listdir())
    results = real_data.measure(data, range(1))
    for name, every in results.items():
        if every or name != real_data.PYKAN or installed("pykan"):
            assert every[0].score > 0.3 and every[0].seconds > 0, name
    assert set(os.listdir()) == before


@pytest.mark.slow
def test_every_method_takes_a_table_with_categories_and_missing_values():
    random = np.random.default_rng(0)
    frame = pandas.DataFrame({"kind": random.choice(["a", "b"], 200), "size": random.normal(size=200)})
    y = np.where(frame["kind"] == "a", 3.0, 0.0) + frame["size"].to_numpy()
    frame.loc[::20, "size"] = np.nan
    frame.loc[1::20, "kind"] = None
    data = Data(frame.astype({"kind": "category"}), y, classifies=False)
    for name, every in real_data.measure(data, range(1)).items():
        if every or name != real_data.PYKAN or installed("pykan"):
            assert every[0].score > 0.3, name
    assert real_data.covered(data, range(2)) == pytest.approx(0.9, abs=0.1)
    assert real_data.covered(Data(data.x, y > 1, classifies=True), range(1)) is None


def test_intervals_that_cover_too_little_are_told():
    text = real_data.coverage({"good": 0.9, "narrow": 0.8, "classes": None})
    assert text.splitlines()[-1] == "MISSED: intervals of 0.9 cover 0.88 to 0.92 on 1 of 2 (narrow)"


def test_a_lost_data_set_is_printed_as_lost():
    results = {"ours": [Result(0.7, 1.0), Result(0.8, 1.0)], "peer": [Result(0.94, 1.0), Result(0.96, 1.0)]}
    assert "LOST: hard: ours 0.7500, best peer 0.9500 ± 0.0100" in real_data.report_of("hard", results)
    text = real_data.verdict({"hard": results})
    assert text == "MISSED: within one standard error of the best on 0 of 1, 9 wanted (hard)"


def test_only_the_named_tables_are_measured():
    assert real_data.chosen(["--only", "wine,doctor's visits"]) == ["wine", "doctor's visits"]
    assert len(real_data.chosen([])) == 12
    with pytest.raises(SystemExit, match=r"Unknown table .beer.\. Choose from: diabetes, "):
        real_data.chosen(["--only", "wine,beer"])


def test_ours_and_boosting_learn_the_same_rows_of_a_function():
    scores, seconds = many_rows.measured("Friedman's function", small=True)
    assert min(scores.values()) > 0.5 and min(seconds.values()) > 0


@pytest.mark.parametrize("name", many_rows.FUNCTIONS)
def test_the_noise_of_many_rows_leaves_most_to_be_learnt(name):
    x, y = many_rows.rows(name, 5000, np.random.default_rng(0))
    function, noise = many_rows.FUNCTIONS[name]
    assert x.shape == (5000, many_rows.INPUTS)
    assert np.std(y - function(x)) == pytest.approx(noise, rel=0.1)
    assert noise**2 < 0.3 * np.var(y)


def test_a_slow_or_inaccurate_fit_of_many_rows_is_printed_as_missed():
    good = {"ours": 0.9, "boosting": 0.8}, {"ours": 10.0, "boosting": 1.0}
    bad = {"ours": 0.7, "boosting": 0.8}, {"ours": 20.0, "boosting": 1.0}
    assert many_rows.verdict({"a": good}).count("met: ") == 2
    text = many_rows.verdict({"a": good, "b": bad})
    assert text.count("MISSED: ") == 2 and text.count("(b)") == 2
    assert "20.0x" in many_rows.report({"a": good, "b": bad})


def test_within_one_standard_error_is_level():
    results = {"ours": [Result(0.93, 1.0), Result(0.96, 1.0)], "peer": [Result(0.94, 1.0), Result(0.96, 1.0)]}
    assert real_data.standing(results).level


def test_of_the_states_up_to_a_time_the_best_on_held_out_rows_counts():
    trace = accuracy_for_time.Trace([(0.1, 0.5, 0.6), (0.2, 0.4, 0.9), (0.3, 0.8, 0.1), (0.4, np.nan, 0.0)])
    assert np.isnan(trace.at(0.05))
    assert [trace.at(seconds) for seconds in (0.1, 0.25, 1.0)] == [0.6, 0.9, 0.9]


def test_a_peer_that_is_more_accurate_for_a_given_time_is_told():
    trace = accuracy_for_time.Trace
    found = {"kanserve": [trace([(1.0, 0.1, 0.1)])], "peer": [trace([(0.5, 0.2, 0.2)])]}
    text = accuracy_for_time.verdict({"a product": found}, (0.5, 1.0))
    assert text == "MISSED: ours is the most accurate in 1 of 2 cells (a product at 0.5 s)"


@pytest.mark.slow
@pytest.mark.parametrize("method", ["kanserve", "torch", "jaxkan", "MLP by LBFGS", "MLP by LM"])
def test_more_time_makes_each_method_more_accurate(method):
    if method == "jaxkan" and not installed("jaxkan"):
        pytest.skip("jaxkan is not installed")
    rows = accuracy_for_time.Rows.of(against_mlp.PROBLEMS[4], 0)
    trace = accuracy_for_time.METHODS[method](rows, 0, (0.05, 1.0))
    first = min(point[0] for point in trace.points)
    assert trace.at(np.inf) < min(0.5, trace.at(first))
    assert len(trace.points) > 1
