"""Estimators say once if a row to predict is far outside the training range."""

import warnings

import numpy as np
import pytest

import kanserve
from kanserve.estimator import ExtrapolationWarning, KANRegressor
from kanserve.network.training_range import describe_outside

LAW = kanserve.from_formula("x1 + 2*x2", ranges={"x1": (0, 1), "x2": (0, 10)})


def test_far_rows_warn_once_with_the_inputs_their_share_and_the_range():
    model = KANRegressor.from_kan(kanserve.from_formula("x1 + 2*x2", ranges={"x1": (0, 1), "x2": (0, 10)}))
    with pytest.warns(ExtrapolationWarning, match=r"^1 of 2 rows are .*: x2 up to 30 \(trained on 0 to 10\)"):
        model.predict([[0.5, 5.0], [0.5, 30.0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.predict([[0.5, 30.0]])


def test_rows_inside_or_hardly_outside_are_silent():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        KANRegressor.from_kan(LAW).predict([[0.0, 10.0], [1.05, -0.9]])


def test_clipped_inputs_are_silent():
    x = np.linspace(0, 1, 30)[:, None]
    model = KANRegressor((), extrapolation="clip", grid=3, starts=1, random_state=0).fit(x, x[:, 0] ** 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert model.predict([[50.0]])[0] == pytest.approx(1, abs=0.05)


def test_what_is_outside_is_described():
    assert describe_outside(LAW, np.array([[0.5, 5.0]])) == ""
    rows = np.array([[-3.0, 5.0], [2.0, 5.0], [np.nan, 11.0]])
    assert describe_outside(LAW, rows) == (
        "3 of 3 rows are outside the range of the training data: x1 down to -3 and up to 2 (trained on 0 to 1), "
        "x2 up to 11 (trained on 0 to 10)"
    )
    assert describe_outside(LAW, np.array([[0.5, np.nan]])).endswith(": x2 unknown")


def test_inputs_that_pruning_removed_are_not_outside():
    pruned = kanserve.from_formula("x1^2 + 0*x2", ranges={"x1": (0, 1), "x2": (0, 10)})
    assert not pruned.layers[0].alive[:, 1].any()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert KANRegressor.from_kan(pruned).predict([[0.5, 99.0]])[0] == pytest.approx(0.25)
    assert describe_outside(pruned, np.array([[0.5, 99.0]])) == ""
    assert describe_outside(pruned, np.array([[0.5, np.nan]])).endswith(": x2 unknown")  # the prediction is NaN
    assert describe_outside(pruned, np.array([[2.0, 99.0]])).endswith(": x1 up to 2 (trained on 0 to 1)")
    with pytest.warns(ExtrapolationWarning, match="x1 up to 2") as said:
        KANRegressor.from_kan(pruned).predict([[2.0, 99.0]])
    assert "x2" not in str(said[0].message)
