"""The estimators on tables with missing values and categories."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas
import polars
import pytest
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from kanserve import KANClassifier, KANRegressor, from_formula
from kanserve.data import TableWarning
from kanserve.network.evaluate import evaluate

FAST: dict[str, Any] = {"hidden": (3,), "grid": 3, "starts": 2, "random_state": 0}


def _table(rows: int = 200) -> tuple[pandas.DataFrame, np.ndarray]:
    rng = np.random.default_rng(0)
    kind, x = rng.choice(["p", "q", "r"], rows), rng.uniform(-1, 1, (rows, 2))
    y = np.where(kind == "p", 2 * x[:, 0], -x[:, 0]) + (kind == "r") + 0.1 * x[:, 1]
    x[rng.random(rows) < 0.1, 1] = np.nan
    return pandas.DataFrame({"kind": kind, "a": x[:, 0], "b": x[:, 1]}), y


@pytest.mark.parametrize("library", ["text", "category", "polars"])
def test_a_regressor_takes_columns_of_text_and_categories_with_missing_values(library):
    frame, y = _table()
    given = {
        "text": frame,
        "category": frame.astype({"kind": "category"}),
        "polars": polars.DataFrame({name: frame[name].tolist() for name in frame}),
    }[library]
    model = KANRegressor(**FAST).fit(given, y)
    assert model.score(given, y) > 0.95
    assert model.kan_.inputs[0].categories == ("p", "q", "r")
    assert list(model.feature_names_in_) == ["kind", "a", "b"]
    codes = frame["kind"].map({"p": 0.0, "q": 1.0, "r": 2.0})
    rows = np.column_stack([codes, frame["a"], frame["b"]]).astype(float)
    assert np.array_equal(model.predict(given), evaluate(model.kan_, rows)[:, 0])


def test_categories_at_prediction_are_those_of_the_fit_and_unknown_ones_are_like_missing_ones():
    frame, y = _table()
    model = KANRegressor(**FAST).fit(frame, y)
    other = pandas.DataFrame({"kind": ["r", "new", None], "a": [0.5] * 3, "b": [0.1] * 3})
    few = pandas.DataFrame({"kind": pandas.Categorical(["r"]), "a": [0.5], "b": [0.1]})
    with pytest.warns(TableWarning, match=r"'new' is not a category of the network \(p, q, r\)"):
        known, unknown, missing = model.predict(other)
    # A product of one row rounds otherwise than one of three.
    assert known == pytest.approx(model.predict(few)[0], rel=1e-12)
    assert unknown == pytest.approx(missing, rel=1e-12) and abs(known - unknown) > 1e-3


def test_a_classifier_takes_a_table():
    frame, y = _table()
    model = KANClassifier(**FAST).fit(frame, y > 0.5)
    assert model.score(frame, y > 0.5) > 0.9
    assert np.allclose(model.predict_proba(frame).sum(axis=1), 1)


def test_an_array_with_missing_values_is_a_table_too():
    frame, _ = _table()
    x = frame[["a", "b"]].to_numpy()
    model = KANRegressor(**FAST).fit(x, x[:, 0] ** 2)
    assert model.kan_.inputs[1].fill_value is not None
    with pytest.raises(ValueError, match="contains NaN in column 'x1', row 2"):
        model.predict([[0.0, 0.0], [np.nan, 0.0]])


def test_equal_rows_with_missing_values_are_merged():
    frame, _ = _table(60)
    x = frame[["a", "b"]].to_numpy()
    y = x[:, 0] ** 2
    once = KANRegressor(**FAST).fit(x, y, np.full(60, 2.0))
    twice = KANRegressor(**FAST).fit(np.r_[x, x], np.r_[y, y])
    assert np.array_equal(once.predict(x), twice.predict(x))


def test_the_tags_say_what_is_taken():
    tags = KANRegressor().__sklearn_tags__().input_tags
    assert tags.allow_nan and tags.categorical
    assert not KANRegressor(symbolic=True).__sklearn_tags__().input_tags.allow_nan


@pytest.mark.extended
def test_a_table_goes_through_a_pipeline_and_cross_validation():
    frame, y = _table()
    scaled = make_column_transformer(
        (StandardScaler(), make_column_selector(dtype_include="number")),
        remainder="passthrough",
        verbose_feature_names_out=False,
    ).set_output(transform="pandas")
    scores = cross_val_score(make_pipeline(scaled, KANRegressor(**FAST)), frame, y, cv=3)
    assert scores.min() > 0.8


def test_a_search_for_formulas_refuses_a_table():
    frame, y = _table()
    with pytest.raises(ValueError, match="'kind' has categories; numbers are needed here"):
        KANRegressor(symbolic=True).fit(frame, y)


def test_numbers_written_as_text_are_numbers():
    frame, _ = _table()
    y = frame["a"] ** 2
    numbers = KANRegressor(**FAST).fit(frame[["a"]], y)
    texts = KANRegressor(**FAST).fit(frame[["a"]].astype(str), y)
    assert not texts.kan_.inputs[0].categories
    assert np.array_equal(numbers.predict(frame[["a"]]), texts.predict(frame[["a"]].astype(str)))


def test_text_in_a_column_of_numbers_is_refused_at_prediction():
    frame, y = _table()
    model = KANRegressor(**FAST).fit(frame, y)
    with pytest.raises(ValueError, match="Column 'a' has categories, and is a number in the network"):
        model.predict(frame.assign(a="low"))


@pytest.mark.parametrize("values", [[0.0, 1.0, 2.5], [False, True], [3, 4, 5]])
def test_categories_that_are_numbers_are_known_without_their_type(values):
    frame, y = _table()
    kind = np.random.default_rng(1).choice(values, len(frame))
    model = KANRegressor(**FAST).fit(frame.assign(kind=pandas.Categorical(kind)), y + 3 * (kind == values[0]))
    typed, plain = frame.assign(kind=pandas.Categorical(kind)), frame.assign(kind=kind)
    assert np.array_equal(model.predict(typed), model.predict(plain))


def test_the_column_of_a_table_that_cannot_be_read_is_named():
    frame, y = _table()
    with pytest.raises(ValueError, match="Column 'day' holds dates or times"):
        KANRegressor(**FAST).fit(frame.assign(day=pandas.date_range("2020", periods=len(frame))), y)


def test_rows_of_text_by_position_are_the_columns_of_the_fit():
    frame, y = _table()
    model = KANRegressor(**FAST).fit(frame.to_dict("list"), y)
    wanted = model.predict(frame)
    names = model.feature_names_in_
    del model.feature_names_in_  # scikit-learn warns of rows without names
    rows: Any = frame.to_numpy(object)
    assert np.array_equal(model.predict(rows), wanted)
    assert np.array_equal(model.predict(rows[:9].tolist()), model.predict(rows[:9]))
    assert np.array_equal(model.predict(frame.astype(str).to_numpy(str)), wanted)
    low: Any = [["p", "low", 0.5]]
    with pytest.raises(ValueError, match="Column 'a' has categories, and is a number in the network"):
        model.predict(low)
    assert list(names) == ["kind", "a", "b"]


@pytest.mark.parametrize("rows", [2, 40])
def test_an_unused_input_may_be_missing_and_a_used_one_may_not(rows):
    ranges = {"x1": (-1, 1), "x2": (0, 4)}
    x = np.column_stack([np.linspace(-1, 1, rows), np.full(rows, 2.0)])
    holes, unknown = x.copy(), x.copy()
    holes[::2, 1] = unknown[0, 0] = np.nan
    model = KANRegressor.from_kan(from_formula("2*x1", inputs=["x1", "x2"], ranges=ranges))
    np.testing.assert_allclose(model.predict(holes), 2 * x[:, 0], rtol=1e-12, atol=1e-12)
    with pytest.raises(ValueError, match="NaN in column 'x1', row 1; in training none was missing there"):
        model.predict(unknown)
    scores = from_formula({"low": "-x1", "high": "x1"}, inputs=["x1", "x2"], ranges=ranges)
    classifier = KANClassifier.from_kan(replace(scores, classes=("low", "high")))
    assert classifier.predict(holes).tolist() == classifier.predict(x).tolist()
    assert np.isfinite(classifier.predict_proba(holes)).all()
