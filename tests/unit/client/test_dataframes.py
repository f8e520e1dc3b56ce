"""Tables of pandas and polars in and out."""

import asyncio
import subprocess
import sys

import numpy as np
import pandas
import polars
import pytest

from kanserve import repository
from kanserve.artifact_compiler import compile
from kanserve.client import AsyncClient, Client
from kanserve.errors import DataError
from kanserve.network.evaluate import evaluate
from kanserve.network.kan import Kan, Variable, make_layer
from kanserve.network.training_range import sample
from kanserve.serve.server import start
from tests.support.paths import ROOT
from tests.support.servers import serving


def names(model: str) -> list[str]:
    return [variable.name for variable in serving.kan(model).inputs]


def table(model: str, x: np.ndarray) -> dict[str, object]:
    """The columns from the last to the first, between others that the model does not take."""
    columns: dict[str, object] = {"comment": ["a"] * len(x)}
    for place in reversed(range(x.shape[1])):
        columns[names(model)[place]] = x[:, place]
    return columns | {"when": list(range(len(x)))}


@pytest.mark.parametrize("package", [pandas, polars])
def test_columns_are_taken_by_name_in_any_order_and_the_answer_is_a_table(client, package):
    x = sample(serving.kan("raw"), 6)
    frame = package.DataFrame(table("raw", x))
    got = client.predict("raw", frame)
    assert isinstance(got, package.DataFrame)
    assert list(got.columns) == [output.name for output in serving.kan("raw").outputs]
    np.testing.assert_array_equal(got.to_numpy(), client.predict("raw", x))
    np.testing.assert_array_equal(client.infer("raw", frame).values, client.predict("raw", x))
    for mine, plain in zip(client.differentiate("raw", frame), client.differentiate("raw", x), strict=True):
        np.testing.assert_array_equal(mine, plain)


def test_the_index_of_pandas_comes_back(client):
    x = sample(serving.kan("iris"), 3)
    frame = pandas.DataFrame(x, columns=names("iris"), index=["p", "q", "r"])
    for output in ("y", "probabilities"):
        got = client.predict("iris", frame, output=output)
        assert list(got.index) == ["p", "q", "r"] and list(got.columns) == list(
            serving.kan("iris").classes if output == "probabilities" else [o.name for o in serving.kan("iris").outputs]
        )
    labels = client.predict("iris", frame, output="label")
    assert isinstance(labels, pandas.Series) and labels.name == "label" and list(labels.index) == ["p", "q", "r"]
    assert labels.tolist() == client.predict("iris", x, output="label").tolist()


def test_labels_of_polars_are_a_series_of_texts(client):
    x = sample(serving.kan("iris"), 3)
    labels = client.predict("iris", polars.DataFrame(x, schema=names("iris")), output="label")
    assert isinstance(labels, polars.Series) and labels.dtype == polars.String
    assert labels.to_list() == client.predict("iris", x, output="label").tolist()


def test_what_is_missing_in_a_row_is_a_row_that_is_not_finite(client):
    a, b = names("iris")
    for frame in (
        pandas.DataFrame({a: pandas.array([1, None], dtype="Int64"), b: [0.5, 0.5]}),
        pandas.DataFrame({a: [1.0, np.nan], b: [0.5, 0.5]}),
        pandas.DataFrame({a: [1, None], b: [0.5, 0.5]}, dtype=object),
        polars.DataFrame({a: [1, None], b: [0.5, 0.5]}),
    ):
        assert list(client.predict("iris", frame, output="label"))[1] == ""


@pytest.mark.parametrize("package", [pandas, polars])
def test_a_table_without_the_models_columns_is_refused_with_their_names(client, package):
    a, b = names("raw")
    with pytest.raises(DataError, match=f"takes the columns '{a}', '{b}'; the table lacks '{b}' and has '{a}', 'z'"):
        client.predict("raw", package.DataFrame({a: [1.0], "z": [2.0]}))
    with pytest.raises(DataError, match=f"column '{b}' must hold numbers"):
        client.predict("raw", package.DataFrame({a: [1.0], b: ["2.0"]}))
    with pytest.raises(DataError, match="has none"):
        client.predict("raw", package.DataFrame())


def test_a_column_that_is_there_twice_is_refused(client):
    a, b = names("raw")
    with pytest.raises(DataError, match=f"more than one column '{a}'"):
        client.predict("raw", pandas.DataFrame([[1.0, 2.0, 3.0]], columns=[a, b, a]))


def test_many_rows_of_a_table_travel_in_parts_too(client):
    x = sample(serving.kan("raw"), 20_000)
    got = client.predict("raw", pandas.DataFrame(x, columns=names("raw")))
    np.testing.assert_array_equal(got.to_numpy(), client.predict("raw", x))


def test_the_client_of_asyncio_takes_tables_as_well(server):
    x = sample(serving.kan("raw"), 4)

    async def ask() -> pandas.DataFrame:
        async with AsyncClient(server.address) as client:
            return await client.predict("raw", pandas.DataFrame(table("raw", x)))

    with Client(server.address) as client:
        np.testing.assert_array_equal(asyncio.run(ask()).to_numpy(), client.predict("raw", x))


def test_a_new_version_with_other_columns_is_answered_with_its_own(tmp_path):
    def kan(*columns: str) -> Kan:
        variables = tuple(Variable(column, "", 0.0, 1.0) for column in columns)
        return Kan(
            (make_layer(np.random.default_rng(3).normal(size=(1, 2, 5))),),
            inputs=variables,
            outputs=(Variable("-".join(columns), "", 0.0, 1.0),),
        )

    frame = pandas.DataFrame({"a": [0.1, 0.2], "b": [0.3, 0.4], "c": [0.5, 0.6]})
    repository.publish(tmp_path, "fox", compile(kan("a", "b"), ("numpy_source",)))
    with start(tmp_path, port=0) as server, Client(server.address) as client:
        assert list(client.predict("fox", frame).columns) == ["a-b"]
        memory = client._memory
    repository.publish(tmp_path, "fox", compile(kan("c", "a"), ("numpy_source",)))
    with start(tmp_path, port=0) as server, Client(server.address) as client:
        client._memory = memory  # of one that has seen the first version
        got = client.predict("fox", frame)
        assert list(got.columns) == ["c-a"]
        np.testing.assert_array_equal(got.to_numpy(), client.predict("fox", frame[["c", "a"]].to_numpy()))


def test_rows_of_float32_travel_and_are_answered_as_such(client):
    x = sample(serving.kan("raw"), 5)
    got = client.predict("raw", x, dtype=np.float32)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, client.predict("raw", x), rtol=1e-4)
    with pytest.raises(DataError, match="float64 or float32, got int64"):
        client.predict("raw", x, dtype=np.int64)


def test_neither_package_is_imported_for_who_has_no_table():
    code = "import sys, kanserve.client; assert not {'pandas', 'polars', 'sympy', 'safetensors'} & {*sys.modules}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("values", [[b"1", b"2"], [10**400, 1]])
def test_a_column_of_bytes_or_beyond_all_floats_holds_no_numbers(client, values):
    frame = pandas.DataFrame({name: np.array(values, object) for name in names("raw")})
    with pytest.raises(DataError, match="must hold numbers"):
        client.predict("raw", frame)


@pytest.mark.parametrize("x", [[["1", "2"]], [[1j, 2]], [[10**400, 1]], np.array([["2020-01-01"] * 2], "M8[D]")])
def test_rows_that_only_look_like_numbers_are_refused(client, x):
    with pytest.raises(DataError, match="must be numbers"):
        client.predict("raw", x)


def test_what_a_mask_hides_is_missing(client):
    x = sample(serving.kan("raw"), 3)
    hidden = np.ma.masked_array(x, np.zeros(x.shape, bool))
    hidden[1, 0] = np.ma.masked
    got = client.predict("raw", hidden)
    assert np.isnan(got[1]).all()
    np.testing.assert_array_equal(got[[0, 2]], client.predict("raw", x)[[0, 2]])


@pytest.mark.parametrize("package", [pandas, polars])
@pytest.mark.filterwarnings("ignore:.*is not a category of the network:kanserve.data.TableWarning")
def test_categories_of_a_table_are_sent_as_their_codes(client, package):
    kan = serving.kan("table")
    kind = kan.inputs[2].categories
    columns = {
        "colour": ["blue", "violet", None, "red"],
        "size": [0.1, 0.2, 0.3, 0.4],
        "kind": [kind[1], kind[0], kind[0], "new"],
        "only": ["one"] * 4,
    }
    frame = package.DataFrame(columns)
    info = client.metadata("table")
    assert info.categories == {one.name: one.categories for one in kan.inputs if one.categories}
    assert info.may_be_missing == ("colour", "only")
    rows = np.array([[2, 0.1, 1, 0], [3, 0.2, 0, 0], [np.nan, 0.3, 0, 0], [0, 0.4, 2, 0]])
    got = np.asarray(client.predict("table", frame))
    np.testing.assert_allclose(got, evaluate(kan, rows), rtol=1e-12)
    assert np.isnan(got[3]).all() and np.isfinite(got[:3]).all()
    formula = client.formula("table")[0]
    np.testing.assert_allclose(formula.evaluate(rows[:3]), evaluate(kan, rows[:3])[:, 0], rtol=1e-9)


def test_a_dict_of_columns_is_taken_by_name_and_answered_by_an_array(client):
    x = sample(serving.kan("raw"), 6)
    columns = {name: x[:, place].tolist() for place, name in reversed([*enumerate(names("raw"))])}
    np.testing.assert_array_equal(client.predict("raw", columns), client.predict("raw", x))
    assert client.infer("raw", columns).values.shape == (6, 2)
    with pytest.raises(DataError, match="equally long"):
        client.predict("raw", columns | {names("raw")[0]: [1.0]})
    with pytest.raises(DataError, match="lacks"):
        client.predict("raw", {"other": [1.0]})
