"""DataFrames by the names of their columns: in calls, scores and simplification, and files with true and false."""

from typing import Any

import numpy as np
import pandas
import polars
import pyarrow
import pytest

import kanserve
from kanserve.data import TableWarning
from kanserve.data.dataset import dataset
from kanserve.data.near_names import first_names
from kanserve.data.table_files import read_rows, read_samples, read_table
from kanserve.errors import DataError
from tests.support.networks import kans

FRAMES = {"pandas": pandas.DataFrame, "polars": polars.DataFrame, "pyarrow": pyarrow.table}
X = np.random.default_rng(0).uniform(-1, 1, (80, 2))
KAN = kanserve.from_formula("2*a - b", ranges={"a": (-1, 1), "b": (-1, 1)})
WANTED = 2 * X[:, 0] - X[:, 1]


def columns() -> dict[str, np.ndarray]:
    """The inputs in another order than the network's, and a column that is none."""
    return {"b": X[:, 1], "other": X[:, 0] ** 2, "a": X[:, 0], "y": WANTED}


@pytest.mark.parametrize("library", FRAMES)
def test_a_network_and_a_model_take_columns_by_name(library):
    frame = FRAMES[library](columns())
    model = kanserve.LoadedModel(kanserve.compile(KAN, ["numpy_source"]))
    for found in (KAN(frame), KAN.predict(frame), model.predict(frame), model(frame)):
        assert np.abs(found[:, 0] - WANTED).max() < 1e-12
    assert (kanserve.jacobian(KAN, frame) == [[2.0, -1.0]]).all()


@pytest.mark.parametrize("library", FRAMES)
def test_scores_and_simplification_take_columns_by_name(library):
    frame = FRAMES[library](columns())
    assert kanserve.score(KAN, frame, target="y").r2[0] == pytest.approx(1)
    pair = FRAMES[library]({"b": X[:, 1], "a": X[:, 0]}), WANTED
    assert kanserve.score(KAN, pair).r2[0] == pytest.approx(1)
    kan = kanserve.create([2, 1], seed=1)
    kan = kanserve.fit(kan, kanserve.Dataset(X, WANTED, ("a", "b")), starts=1, grid=3)
    rows = kanserve.Dataset(X, WANTED, ("a", "b"))
    for change in (kanserve.prune, kanserve.simplify, kanserve.symbolify):
        assert kanserve.equal(change(kan, frame, target="y"), change(kan, rows))


def test_a_missing_column_is_named():
    frame = pandas.DataFrame({"a": X[:, 0], "y": WANTED, "c": X[:, 1]})
    with pytest.raises(DataError, match=r"lacks the column 'b'. Its columns: a, y, c"):
        KAN(frame)
    with pytest.raises(DataError, match=r"lacks the column 'b'. Its columns: a, c"):
        kanserve.score(KAN, frame, target="y")


def test_without_any_of_the_names_columns_count_by_position():
    kan = kanserve.from_formula("2*x1 - x2", ranges={"x1": (-1, 1), "x2": (-1, 1)})
    assert np.abs(kan(pandas.DataFrame(X, columns=["u", "v"]))[:, 0] - WANTED).max() < 1e-12
    with pytest.raises(DataError, match="lacks the column 'x1'"):
        kan(pandas.DataFrame(np.ones((3, 3)), columns=["u", "v", "w"]))


def grades() -> pandas.DataFrame:
    generator = np.random.default_rng(1)
    frame = pandas.DataFrame({"grade": generator.choice([10, 20, 30], 120), "size": generator.uniform(0, 1, 120)})
    return frame.assign(y=frame["grade"].map({10: 0.0, 20: 3.0, 30: 1.0}) + frame["size"])


@pytest.mark.slow
def test_a_network_is_fitted_again_on_integers_that_are_its_categories():
    frame = grades()
    kan = kanserve.fit([2, 1], frame.astype({"grade": "category"}), target="y", starts=1, grid=3)
    again = kanserve.fit(kan, frame, target="y", starts=1, grid=3)
    assert again.inputs[0].categories == ("10", "20", "30")
    assert kanserve.score(again, frame, target="y").r2[0] > 0.99
    assert np.abs(again(frame)[:, 0] - frame["y"]).max() < 0.3
    with pytest.raises(DataError, match="'size' has categories in the data, and is a number"):
        kan(frame.astype({"size": "category"}))


def test_true_and_false_of_a_file_are_numbers_or_the_categories_of_these_names(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("open,x,y\ntrue,1,yes\nfalse,2,no\n")
    assert read_rows(path, ["open", "x"])[:, 0].tolist() == [1.0, 0.0]
    known = {"open": ("false", "true", "unknown")}
    assert read_rows(path, ["open"], categories=known)[:, 0].tolist() == [1.0, 0.0]
    assert read_rows(path, ["open"], categories={"open": ("False", "True")})[:, 0].tolist() == [1.0, 0.0]
    assert read_samples(path, ["open"], ["x"], classes=("false", "true")).y.tolist() == [[0.0, 1.0], [1.0, 0.0]]
    assert read_table(path, ["y"]).x[:, 0].tolist() == [1.0, 0.0]


def test_two_columns_of_one_name_are_refused_and_numbers_are_names_as_texts():
    twice = pandas.DataFrame(X, columns=["a", "a"])
    with pytest.raises(DataError, match="2 columns called 'a'; rename them"):
        kanserve.fit([2, 1], (twice, WANTED), starts=1)
    with pytest.raises(DataError, match="2 columns called 'a'; rename them"):
        kanserve.KANRegressor(hidden=()).fit(twice, WANTED)
    years = pandas.DataFrame(X, columns=[2019, 2020])
    kan = kanserve.fit([2, 1], (years, WANTED), starts=1)
    assert [one.name for one in kan.inputs] == ["2019", "2020"]
    assert (kan(years[[2020, 2019]]) == kan(X)).all()
    assert [one.name for one in kanserve.fit([2, 1], (pandas.DataFrame(X), WANTED), starts=1).inputs] == ["x1", "x2"]


def test_a_dict_of_columns_is_a_table():
    given: Any = columns()
    del given["other"]
    assert np.abs(KAN(given)[:, 0] - WANTED).max() < 1e-12
    assert kanserve.score(KAN, given, target="y").r2[0] == pytest.approx(1)
    kan = kanserve.fit([2, 1], given, target="y", starts=1)
    assert [one.name for one in kan.inputs] == ["b", "a"]
    lists: Any = {name: column.tolist() for name, column in given.items()}
    assert kanserve.equal(kan, kanserve.fit([2, 1], lists, target="y", starts=1))
    inputs: Any = {"a": lists["a"], "b": lists["b"]}
    model = kanserve.KANRegressor(hidden=(), starts=1).fit(inputs, WANTED)
    assert list(model.feature_names_in_) == ["a", "b"]
    few: Any = {"a": X[:3, 0], "b": X[:3, 1]}
    assert np.abs(model.predict(few) - WANTED[:3]).max() < 1e-6
    with pytest.raises(DataError, match=r"equally long; got 'a' \(80,\), 'b' \(1,\)"):
        KAN(inputs | {"b": [1.0]})
    texts = dataset({"kind": ["p", None, "q"], "size": [1, None, 3], "y": [1.0, 2.0, 3.0]}, "y", tables=True)
    assert texts.categories == {"kind": ("p", "q")} and np.isnan(texts.x[1]).all()


@pytest.mark.parametrize("library", FRAMES)
def test_a_text_that_is_no_category_of_the_network_is_warned_of(library):
    kan = kans.named_categories()
    with pytest.warns(TableWarning, match=r"column 'kind': 'P' is not a category of the network \(p, q, r\)"):
        found = kan(FRAMES[library]({"kind": ["p", "P"], "y": [0.5, 0.5]}))
    assert (found == kan([[0.0, 0.5], [3.0, 0.5]])).all()
    kan(FRAMES[library]({"kind": ["p", None], "y": [0.5, 0.5]}))  # says nothing


def test_of_many_names_the_first_are_shown_and_the_others_counted():
    assert first_names(["a", "b", "c"], 3) == "a, b, c"
    assert first_names(["a", "b", "c", "d"], 2) == "a, b and 2 more"
    assert first_names(range(5), 2, ", …") == "0, 1, …"
    assert first_names([], 2) == ""
