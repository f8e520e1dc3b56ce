import numpy as np

from kanserve.network.evaluate import evaluate
from kanserve.network.training_range import finite_rows, outside, ranges, sample
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
