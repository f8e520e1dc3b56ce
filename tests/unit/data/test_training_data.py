"""What training and simplification take as data: a Dataset, (x, y) or a DataFrame; integer and text labels."""

from typing import Any

import numpy as np
import pandas
import polars
import pyarrow
import pytest

import kanserve
from kanserve.data.dataset import dataset
from kanserve.errors import DataError, TrainingError
from kanserve.network.kan import Kan, equal

FAST: dict[str, Any] = {"grid": (3,), "starts": 1, "steps": 3, "seed": 0}
RNG = np.random.default_rng(0)
X = RNG.uniform(-1, 1, (60, 2))
Y = X[:, 0] + X[:, 1]
SIDES = np.where(X[:, 0] > 0, "right", "left")
FRAMES = {"pandas": pandas.DataFrame, "polars": polars.DataFrame, "pyarrow": lambda columns: pyarrow.table(columns)}


def classifier():
    scores = kanserve.from_formula({"left": "0 - 9*a", "right": "9*a + 0*b"}, ranges={"a": (-1, 1), "b": (-1, 1)})
    return Kan(scores.layers, scores.inputs, classes=("left", "right"))


@pytest.mark.parametrize("library", FRAMES)
def test_a_frame_gives_names_numbers_and_labels(library):
    frame = FRAMES[library]({"a": X[:, 0], "side": SIDES.tolist(), "count": list(range(60)), "y": Y})
    numbers = dataset(frame[["a", "count", "y"]] if library != "pyarrow" else frame.drop(["side"]), "y")
    assert (numbers.inputs, numbers.outputs, numbers.classes) == (("a", "count"), ("y",), ())
    assert np.array_equal(numbers.x, np.column_stack([X[:, 0], np.arange(60)])) and np.array_equal(numbers.y[:, 0], Y)
    labels = dataset(frame, "side")
    assert labels.inputs == ("a", "count", "y") and labels.classes == ("left", "right")
    assert np.array_equal(labels.y.argmax(axis=1), SIDES == "right")
    with pytest.raises(DataError, match="'side' has categories; numbers are needed"):
        dataset(frame, "y")
    with pytest.raises(DataError, match=r"as target='name'. Its columns: a, side, count, y"):
        dataset(frame)
    with pytest.raises(DataError, match="has no column 'z'"):
        dataset(frame, ["y", "z"])


def test_two_targets_are_two_outputs():
    frame = pandas.DataFrame({"a": X[:, 0], "u": X[:, 1], "v": Y})
    assert dataset(frame, ["v", "u"]).outputs == ("v", "u")


def test_a_column_of_categories_is_labels_even_of_integers():
    frame = pandas.DataFrame({"a": X[:, 0], "side": pandas.Categorical((X[:, 0] > 0).astype(int))})
    assert dataset(frame, "side").classes == ("0", "1")


def test_a_pair_of_a_frame_and_a_series_keeps_their_names():
    frame = pandas.DataFrame(X, columns=["a", "b"])
    found = dataset((frame, pandas.Series(Y, name="sum")))
    assert found.inputs == ("a", "b") and found.outputs == ("sum",)


@pytest.mark.parametrize("labels", [SIDES, SIDES.tolist(), SIDES[:, None], SIDES.astype(object)])
def test_text_is_labels(labels):
    for found in (dataset((X, labels)), kanserve.Dataset(X, labels)):
        assert found.classes == found.outputs == ("left", "right") and found.y.shape == (60, 2)


def test_integers_are_labels_where_several_outputs_or_classes_are_wanted():
    numbers = (X[:, 0] > 0) * 1 + (X[:, 1] > 0) * 1
    assert dataset((X, numbers)).classes == ()
    assert dataset((X, numbers), outputs=3).classes == dataset((X, numbers), labels=True).classes == ("0", "1", "2")
    assert dataset((X, numbers.astype(float)), labels=True).classes == ("0", "1", "2")
    assert kanserve.Dataset(X, numbers, classes="auto").classes == ("0", "1", "2")
    named = kanserve.Dataset(X, numbers, classes=["none", "one", "two"])
    assert np.array_equal(named.y.argmax(axis=1), numbers) and named.classes == ("none", "one", "two")
    by_name = dataset((X, numbers), classes=("2", "1", "0"))
    assert np.array_equal(by_name.y.argmax(axis=1), 2 - numbers)


@pytest.mark.parametrize(
    ("y", "options", "message"),
    [
        (np.full(60, "same"), {}, "single class 'same'"),
        ([None, *SIDES[1:].tolist()], {}, "no class in row 1"),
        ([1, *SIDES[1:].tolist()], {}, "different types"),
        (Y, {"labels": True}, r"class labels, integers or text; row 1 is"),
        (SIDES, {"classes": ("left", "middle")}, "has the label 'right' in row .*; the classes are left, middle"),
        (np.arange(60), {"classes": ("left", "middle")}, "has the label 0 in row 1|has the label 2 in row 3"),
    ],
)
def test_what_is_no_class_is_said(y, options, message):
    with pytest.raises(DataError, match=message):
        dataset((X, np.array(y, dtype=object) if isinstance(y, list) else y), **options)


@pytest.mark.parametrize(
    ("given", "described"),
    [
        (X, r"an array of shape \(60, 2\)"),
        ((X, Y, Y), "a tuple of length 3"),
        ({1, 2}, "a set"),
        (None, "a NoneType"),
    ],
)
def test_what_is_no_data_is_said(given, described):
    with pytest.raises(DataError, match=f"got {described}"):
        dataset(given)
    with pytest.raises(DataError, match=f"target names columns of a DataFrame; the data given are {described}"):
        dataset(given, "y")


def test_a_fit_takes_labels_and_frames():
    pytest.importorskip("torch")
    numbers = (X[:, 0] > 0).astype(int)
    wanted = kanserve.fit([2, 2], kanserve.Dataset(X, numbers, classes=["0", "1"]), **FAST)
    assert wanted.classes == ("0", "1")
    assert equal(kanserve.fit([2, 2], (X, numbers), **FAST), wanted)
    assert equal(kanserve.fit([2, 2], (X, numbers), loss="cross_entropy", **FAST), wanted)
    frame = pandas.DataFrame({"x1": X[:, 0], "x2": X[:, 1], "side": SIDES})
    assert kanserve.fit([2, 2], frame, target="side", **FAST).classes == ("left", "right")
    with pytest.raises(TrainingError, match="one column of integers or text"):
        kanserve.fit([2, 2], (X, np.eye(2)[numbers]), loss="cross_entropy", **FAST)


def test_a_fit_of_numbers_takes_a_frame():
    frame = pandas.DataFrame({"a": X[:, 0], "b": X[:, 1], "y": Y})
    named = kanserve.Dataset(X, Y, ("a", "b"), ("y",))
    assert equal(kanserve.fit([2, 1], frame, target="y", **FAST), kanserve.fit([2, 1], named, **FAST))


def test_a_classifier_is_scored_and_simplified_by_labels():
    kan = classifier()
    frame = pandas.DataFrame({"a": X[:, 0], "b": X[:, 1], "side": SIDES})
    wanted = kanserve.score(kan, kanserve.Dataset(X, SIDES))
    assert wanted.accuracy == 1
    for found in (
        kanserve.score(kan, (X, SIDES)),
        kanserve.score(kan, (X, (X[:, 0] > 0).astype(int))),
        kanserve.score(kan, frame, target="side"),
    ):
        assert found == wanted
    pruned = kanserve.prune(kan, kanserve.Dataset(X, SIDES), tolerance=0.1)
    assert equal(kanserve.prune(kan, (X, SIDES), tolerance=0.1), pruned)
    assert equal(kanserve.prune(kan, frame, target="side", tolerance=0.1), pruned)


def test_simplification_and_the_search_take_frames():
    frame = pandas.DataFrame({"a": X[:, 0], "b": X[:, 1], "y": Y})
    rows = kanserve.Dataset(X, Y, ("a", "b"), ("y",))
    kan = kanserve.fit([2, 1], rows, grid=(3,), starts=1)
    assert equal(kanserve.symbolify(kan, frame, target="y"), kanserve.symbolify(kan, rows))
    assert equal(kanserve.simplify(kan, frame, target="y"), kanserve.simplify(kan, rows))
    assert equal(kanserve.discover(frame, target="y"), kanserve.discover(rows))
    assert kanserve.find_formulas(frame, target="y", max_fits=50).best.formula.text == "a + b"


def test_validation_data_are_given_as_the_training_data_are():
    frame = pandas.DataFrame({"a": np.linspace(-1, 1, 60), "b": np.linspace(0, 1, 60) ** 2})
    held = frame.iloc[::5]
    options: dict[str, Any] = {"target": "b", "starts": 1, "steps": 3, "grid": (3,)}
    by_frame = kanserve.fit([1, 1], frame, validation=held, **options)
    by_pair = kanserve.fit([1, 1], frame, validation=(held[["a"]].to_numpy(), held["b"].to_numpy()), **options)
    assert equal(by_frame, by_pair)
    labels = np.where(frame["a"] > 0, "up", "down")
    kan = kanserve.fit([1, 2], (frame[["a"]], labels), validation=(frame[["a"]], labels), starts=1, steps=3, grid=(3,))
    assert kan.classes == ("down", "up")


def test_a_categorical_column_of_polars_is_categorical_although_its_categories_look_like_numbers():
    frame = polars.DataFrame({"x": polars.Series(["10", "9", None], dtype=polars.Categorical), "y": [1.0, 2.0, 3.0]})
    data = dataset(frame, "y", tables=True)
    assert data.categories == {"x": ("10", "9")}
    assert np.array_equal(data.x[:, 0], [0, 1, np.nan], equal_nan=True)


def test_a_column_of_text_that_is_numbers_is_numbers():
    frame = pandas.DataFrame({"x": ["1", "2.5", None], "y": [1.0, 2.0, 3.0]})
    assert np.array_equal(dataset(frame, "y", tables=True).x[:, 0], [1, 2.5, np.nan], equal_nan=True)
