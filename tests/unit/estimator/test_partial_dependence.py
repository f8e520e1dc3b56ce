"""scikit-learn's partial dependence takes both estimators."""

from typing import Any

import numpy as np
import pytest
from sklearn.inspection import PartialDependenceDisplay, partial_dependence

from kanserve import KANClassifier, KANRegressor

X = np.random.default_rng(0).uniform(-1, 1, (80, 2))
QUICK: dict[str, Any] = {"hidden": (), "starts": 1, "random_state": 0}


def test_the_partial_dependence_of_a_sum_is_its_term() -> None:
    model = KANRegressor(**QUICK).fit(X, X[:, 0] ** 2 + X[:, 1])
    found = partial_dependence(model, X, [0], kind="average", grid_resolution=11)
    grid, mean = found["grid_values"][0], found["average"][0]
    assert mean == pytest.approx(grid**2 + X[:, 1].mean(), abs=0.02)


def test_a_classifier_has_that_of_a_class() -> None:
    model = KANClassifier(**QUICK).fit(X, np.where(X[:, 0] > 0.2, "high", "low"))
    found = partial_dependence(model, X, [0], response_method="predict_proba", grid_resolution=5)
    assert found["average"].shape == (1, 5) and found["average"][0, 0] > 0.9 > 0.1 > found["average"][0, -1]


def test_pictures_of_it_are_drawn_of_columns_by_name() -> None:
    pandas = pytest.importorskip("pandas", reason="needs pandas")
    matplotlib = pytest.importorskip("matplotlib", reason="needs matplotlib")
    matplotlib.use("Agg")
    frame = pandas.DataFrame(X, columns=["a", "b"])
    frame["kind"] = pandas.Categorical(np.where(X[:, 0] > 0, "left", "right"))
    model = KANRegressor(**QUICK).fit(frame, X[:, 0] + 2 * (frame["kind"] == "left"))
    shown = PartialDependenceDisplay.from_estimator(
        model, frame, ["a", ("a", "b"), "kind"], categorical_features=["kind"], grid_resolution=5, kind="average"
    )
    assert len(shown.axes_.ravel()) == 3
    levels = shown.pd_results[2]["average"][0]
    assert levels[0] - levels[1] == pytest.approx(2, abs=0.3)
