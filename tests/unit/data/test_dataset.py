import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from kanserve.data.dataset import MANY, Dataset, past, some
from kanserve.data.table_files import read_rows, read_table
from kanserve.errors import DataError, NetworkError, NotFoundError
from kanserve.network.kan import Kan, Variable, make_layer


@pytest.fixture
def csv(tmp_path):
    def write(text):
        path = tmp_path / "data.csv"
        path.write_text(text)
        return path

    return write


def test_columns_that_are_no_target_are_inputs(csv):
    data = read_table(csv("a,b,y\n1,2,3\n4,5,6\n"), ["y"])
    assert (data.inputs, data.outputs, data.classes) == (("a", "b"), ("y",), ())
    assert data.x.tolist() == [[1, 2], [4, 5]]
    assert data.y.tolist() == [[3], [6]]


def test_a_target_of_text_makes_a_classifier(csv):
    data = read_table(csv("a,kind\n1,cat\n2,ant\n3,cat\n"), ["kind"])
    assert data.classes == ("ant", "cat")
    assert data.y.tolist() == [[0, 1], [1, 0], [0, 1]]


def test_numbers_are_classes_only_when_asked(csv):
    path = csv("a,k\n1,0\n2,1\n")
    assert read_table(path, ["k"]).classes == ()
    assert read_table(path, ["k"], kind="classification").classes == ("0", "1")


def test_parquet_reads_like_csv(tmp_path):
    pyarrow.parquet.write_table(pa.table({"a": [1, 2], "y": [0.5, 1.5]}), tmp_path / "t.parquet")
    data = read_table(tmp_path / "t.parquet", ["y"])
    assert data.x.tolist() == [[1], [2]]


def test_rows_to_predict_keep_missing_values_as_nan(csv):
    got = read_rows(csv("b,a\n1,2\n,3\n"), ["a", "b"])
    assert np.array_equal(got, np.array([[2.0, 1.0], [3.0, np.nan]]), equal_nan=True)


@pytest.mark.parametrize(
    ("text", "target", "message"),
    [
        ("", ["y"], "is empty"),
        ("a,y\n", ["y"], "no rows"),
        ("a,y\n1,2\n", ["z"], "no column 'z'. Its columns: a, y"),
        ("a,y\n1,2\nx,3\n", ["y"], "column 'a' must be numbers; row 2 is 'x'"),
        ("a,y\n1,2\n1,\n", ["y"], "output 'y' is nan in row 2"),
        ("y\n1\n", ["y"], "leave at least one input"),
        ("a,k\n1,c\n2,c\n", ["k"], "single class 'c'"),
    ],
)
def test_a_bad_table_is_answered_with_the_column_and_the_row(csv, text, target, message):
    with pytest.raises(DataError, match=message):
        read_table(csv(text), target)


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path):
    with pytest.raises(NotFoundError):
        read_table(tmp_path / "none.csv", ["y"])
    with pytest.raises(DataError, match="folder"):
        read_table(tmp_path, ["y"])


def test_bytes_that_are_no_parquet_are_refused(tmp_path):
    (tmp_path / "t.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match="cannot be read"):
        read_table(tmp_path / "t.parquet", ["y"])


def test_a_split_is_the_same_for_the_same_seed_and_loses_no_row():
    data = Dataset(np.arange(20.0)[:, None], np.arange(20.0))
    train, held = data.split(0.25, seed=3)
    again = data.split(0.25, seed=3)[1]
    assert sorted([*train.y[:, 0], *held.y[:, 0]]) == list(range(20))
    assert (len(held), held.y.tolist()) == (5, again.y.tolist())


def test_weights_go_with_their_rows():
    x, weights = np.arange(20.0)[:, None], np.arange(20.0)
    data = Dataset(x, x, weights=weights)
    two = data.take(np.array([3, 1])).weights
    assert two is not None and two.tolist() == [3, 1]
    train, held = data.split(0.25, seed=3)
    for part in (train, held):
        assert part.weights is not None and part.weights.tolist() == part.x[:, 0].tolist()
    assert len(train) + len(held) == 19  # the row of weight 0 is in neither
    assert len(data.counted()) == 19 and data.shares.sum() == pytest.approx(1)
    assert data.mean(x)[0] == pytest.approx(np.average(x[:, 0], weights=weights))
    assert "weighted" in repr(data)


def test_huge_weights_do_not_overflow():
    data = Dataset(np.zeros((3, 1)), np.array([1.0, 2.0, 3.0]), weights=np.array([1e308, 1e308, 0]))
    assert data.mean(data.y)[0] == 1.5


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1, 2], r"one number a row, \(3,\); got \(2,\)"),
        ([1, np.nan, 1], "that of row 2 is nan"),
        ([1, 1, -1], "that of row 3 is -1"),
        ([0, 0, 0], "no row counts"),
        (["a", "b", "c"], "weights must be numbers"),
    ],
)
def test_weights_that_are_none_are_refused(weights, message):
    with pytest.raises(DataError, match=message):
        Dataset(np.zeros((3, 1)), np.zeros(3), weights=weights)


def test_the_first_number_that_is_not_finite_is_named_in_a_long_table_too():
    x = np.zeros((200_000, 2))
    x[150_000, 1], x[199_999, 0] = np.inf, np.nan
    with pytest.raises(DataError, match=r"'x2' is inf in row 150001 \(1 such values\)"):
        Dataset(x, np.zeros(200_000))


def test_rows_in_a_file_are_not_copied(tmp_path):
    x = np.memmap(tmp_path / "x", np.float64, "w+", shape=(50, 3))
    data = Dataset(x, x[:, 0])
    assert np.shares_memory(data.x, x) and np.shares_memory(data.y, x)


@pytest.mark.parametrize("of", [10, MANY + 10])
def test_some_rows_are_different_ones_in_their_order(of):
    places = some(of, 7, seed=1)
    assert (np.diff(places) > 0).all() and len(places) == 7 and places[0] >= 0 and places[-1] < of
    assert (places == some(of, 7, seed=1)).all() and not (places == some(of, 7, seed=2)).all()


def test_positions_past_held_rows_reach_all_others():
    held = np.array([0, 3, 4, 9])
    assert past(held, np.arange(6)).tolist() == [1, 2, 5, 6, 7, 8]


@pytest.mark.parametrize("names", [("a", "a"), ("a", "")])
def test_names_that_no_network_can_have_are_refused_in_the_same_words(names):
    words = re.escape(f"must differ and not be empty, got {list(names)}")
    with pytest.raises(NetworkError, match=f"The names of the inputs {words}"):
        Kan((make_layer(shape=(1, 2)),), inputs=tuple(map(Variable, names)))
    with pytest.raises(DataError, match=f"The names of the inputs {words}"):
        Dataset(np.zeros((3, 2)), np.zeros(3), names)
    with pytest.raises(DataError, match=f"The names of the outputs {words}"):
        Dataset(np.zeros((3, 1)), np.zeros((3, 2)), outputs=names)
