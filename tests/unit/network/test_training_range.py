from dataclasses import replace

import numpy as np

import kanserve
from kanserve.network.evaluate import evaluate
from kanserve.network.training_range import fill_unused, find_unused_inputs, finite_rows, outside, ranges, sample
from tests.support.networks.kans import domains, outside_linear, raw_features


def test_a_known_range_wins_and_an_unknown_one_is_the_grids():
    assert ranges(raw_features()).tolist() == [[290, 310], [1.0e5, 1.02e5]]
    assert np.allclose(ranges(outside_linear()), [[-1, 1], [-1, 1]])


def test_rows_are_drawn_inside_and_the_same_for_the_same_seed():
    rows = sample(raw_features(), 50, seed=2)
    assert not outside(raw_features(), rows).any()
    assert np.array_equal(rows, sample(raw_features(), 50, seed=2))


def test_rows_outside_a_range_or_nan_are_flagged():
    x = np.array([[300, 1.01e5], [310, 1.02e5], [310.1, 1.01e5], [np.nan, 1.01e5]])
    assert outside(raw_features(), x).tolist() == [False, False, True, True]


def test_finite_rows_leave_a_functions_domain_out():
    rows = finite_rows(domains(), 30)
    assert len(rows) == 30
    assert np.isfinite(evaluate(domains(), rows)).all()


def test_only_missing_values_of_unused_inputs_without_a_fill_value_are_filled():
    kan = kanserve.from_formula("x + 0*b + 0*c", inputs=["x", "b", "c"], ranges={"x": (0, 1), "b": (2, 4), "c": (5, 9)})
    kan = replace(kan, inputs=(*kan.inputs[:2], replace(kan.inputs[2], fill_value=6.0)))
    assert find_unused_inputs(kan) == {"b": 3.0, "c": 7.0}
    x = np.array([[0.5, np.nan, np.nan], [np.nan, np.inf, 5.0]])
    assert np.array_equal(fill_unused(kan, x), [[0.5, 3.0, np.nan], [np.nan, np.inf, 5.0]], equal_nan=True)
    assert fill_unused(kan, x[1:])[0, 1] == np.inf
    assert np.isfinite(evaluate(kan, fill_unused(kan, x))).ravel().tolist() == [True, False]
