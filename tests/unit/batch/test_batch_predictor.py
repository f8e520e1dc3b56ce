"""BatchPredictor: arrays, tables and DataFrames against the reference, and in other processes."""

import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pyarrow as pa
import pytest

import kanserve
from kanserve.batch import BatchPredictor
from kanserve.errors import DataError, NotFoundError
from kanserve.network.evaluate import evaluate, jacobian, softmax
from kanserve.network.kan import Kan
from kanserve.network.training_range import outside, sample
from tests.support.paths import ROOT

BACKENDS = ("c_source", "onnx_graph", "numpy_source")
KAN = kanserve.from_formula({"y": "exp(a)*sin(b) + c", "z": "a - b*c"}, ranges={"a": (0, 1), "b": (-1, 2), "c": (0, 3)})
ROWS = sample(KAN, 40_000, seed=1) * 1.05  # some of them outside the range; more than a block


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    kanserve.publish(folder, "law", kanserve.compile(KAN, name="law"))
    return folder


@pytest.fixture(scope="module")
def law(root):
    return kanserve.load_model(root)


@pytest.fixture(scope="module")
def classifier():
    scores = kanserve.from_formula({"low": "1 - x", "high": "x"}, ranges={"x": (0, 1)})
    return kanserve.compile(Kan(scores.layers, scores.inputs, classes=("low", "high")), ["numpy_source"])


def table(rows=ROWS, **more):
    """The inputs in another order, with a column that is none."""
    a, b, c = rows.T
    return pa.table({"c": c.copy(), "id": np.arange(len(rows)), "b": b.copy(), "a": a.copy(), **more})


@pytest.mark.parametrize("backend", BACKENDS)
def test_all_columns_of_every_backend_agree_with_the_reference(law, backend):
    predictor = BatchPredictor(law, backend=backend, outside=True, gradient=True, keep=["id"])
    result = predictor(table())
    assert result.column_names == [
        *("id", "y", "z", "outside"),
        *("dy_da", "dy_db", "dy_dc", "dz_da", "dz_db", "dz_dc"),
    ]
    values = np.column_stack([result["y"].to_numpy(), result["z"].to_numpy()])
    np.testing.assert_allclose(values, evaluate(KAN, ROWS), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(predictor.predict(ROWS), values, rtol=1e-12, atol=1e-12)
    slopes = np.column_stack([result[name].to_numpy() for name in result.column_names[4:]])
    np.testing.assert_allclose(slopes, jacobian(KAN, ROWS).reshape(-1, 6), rtol=1e-12, atol=1e-12)
    flags = result["outside"].to_numpy()
    assert np.array_equal(flags, outside(KAN, ROWS)) and 0 < flags.sum() < len(flags)
    assert np.array_equal(result["id"].to_numpy(), np.arange(len(ROWS)))


def test_arrays_tables_batches_and_data_frames_give_the_same(law):
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    predictor = BatchPredictor(law, outside=True, keep=True)
    columns = dict(zip(table().column_names, (column.to_numpy() for column in table().columns), strict=True))
    wanted = predictor(columns)
    assert list(wanted) == ["c", "id", "b", "a", "y", "z", "outside"]
    index = np.arange(len(ROWS)) * 2
    frame = predictor(pandas.DataFrame(columns, index=index))
    assert np.array_equal(frame.index, index)
    cut = pa.concat_tables([table(ROWS[:7]), table(ROWS[7:])])
    batch = table().combine_chunks().to_batches()[0]
    for result in (frame, predictor(polars.DataFrame(columns)), predictor(cut), predictor(batch)):
        for name in ("a", "y", "z", "outside"):
            assert np.array_equal(np.asarray(result[name]), wanted[name]), (type(result), name)
    assert isinstance(predictor(batch), pa.RecordBatch) and isinstance(predictor(cut), pa.Table)


def test_doubles_of_arrow_are_read_where_they_are():
    from kanserve.batch.arrow_columns import numbers

    values = np.arange(5.0)
    assert np.shares_memory(numbers(pa.array(values), "a"), values)
    assert np.shares_memory(numbers(pa.chunked_array([pa.array(values)[1:4]]), "a"), values)


def test_a_value_that_is_not_finite_or_missing_makes_its_row_nan_and_no_other(law):
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    a = [0.5, None, float("nan"), float("inf"), -float("inf"), 0.25]
    inputs = {"a": a, "b": [0.5] * 6, "c": [1, 2, 3, 4, 5, 1]}
    tables = [pa.table(inputs), polars.DataFrame(inputs, strict=False)]
    tables += [pandas.DataFrame(inputs), pandas.DataFrame(inputs).convert_dtypes(dtype_backend="pyarrow")]
    for given in tables:
        result = BatchPredictor(law, outside=True)(given)
        for name in ("y", "z"):
            assert np.array_equal(np.isnan(np.asarray(result[name], float)), [False, *[True] * 4, False]), type(given)
        assert np.asarray(result["outside"]).tolist() == [False, True, True, True, True, False]


def test_an_input_that_no_output_depends_on_may_hold_anything():
    kan = kanserve.from_formula("2*x", inputs=["x", "unused"], ranges={"x": (-1, 1), "unused": (3, 4)})
    predictor = BatchPredictor(kanserve.compile(kan, ["numpy_source"]), gradient=True)
    result = predictor({"x": np.array([0.5, np.nan, 0.25]), "unused": np.array([np.nan, 3.5, np.inf])})
    np.testing.assert_allclose(result["y"], [1.0, np.nan, 0.5], rtol=1e-12)
    np.testing.assert_allclose(result["dy_dunused"], [0.0, np.nan, 0.0], atol=1e-12)


@pytest.mark.parametrize("kind", [pa.float32(), pa.int8(), pa.uint64(), pa.bool_(), pa.decimal128(5, 2), pa.float16()])
def test_every_type_of_number_is_a_number_with_and_without_nulls(law, kind):
    ones = pa.array([1, 0, None]).cast(pa.bool_() if kind == pa.bool_() else pa.int8()).cast(kind)
    inputs = {"a": ones, "b": pa.array([1.0, 1.0, 1.0]), "c": ones}
    y = BatchPredictor(law)(pa.table(inputs))["y"].to_numpy()
    np.testing.assert_allclose(y, [np.e * np.sin(1) + 1, np.sin(1), np.nan], rtol=1e-12)
    y = BatchPredictor(law)(pa.table(inputs).slice(0, 2))["y"].to_numpy()
    np.testing.assert_allclose(y, [np.e * np.sin(1) + 1, np.sin(1)], rtol=1e-12)


def test_empty_tables_have_the_columns_of_others(law):
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    predictor = BatchPredictor(law, outside=True, gradient=True)
    whole = predictor(table())
    empty = predictor(table(ROWS[:0]))
    assert empty.schema == whole.schema and empty.num_rows == 0
    assert predictor(pa.table({"a": pa.nulls(0), "b": pa.nulls(0), "c": pa.nulls(0)})).schema == whole.schema
    nothing = {name: np.empty(0) for name in "abc"}
    assert all(len(column) == 0 for column in predictor(nothing).values())
    for frame in (pandas.DataFrame(nothing), polars.DataFrame(nothing)):
        assert predictor(frame).shape == (0, whole.num_columns)
    assert predictor.predict(np.empty((0, 3))).shape == (0, 2)


def test_a_classifier_gives_classes_and_probabilities(classifier):
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    predictor = BatchPredictor(classifier)
    x = np.array([0.1, 0.9, np.nan])
    assert predictor.predict(x[:, None]).tolist() == ["low", "high", ""]
    assert predictor({"x": x})["class"].tolist() == ["low", "high", ""]
    wanted = softmax(evaluate(classifier.kan(), x[:, None]))
    for given in (pa.table({"x": x}), pandas.DataFrame({"x": x}), polars.DataFrame({"x": x})):
        result = predictor(given)
        labels = result["class"].to_pylist() if isinstance(given, pa.Table) else list(result["class"])
        assert labels[:2] == ["low", "high"]
        assert labels[2] is None or labels[2] != labels[2], type(given)
        np.testing.assert_allclose(np.column_stack([result["low"], result["high"]]), wanted, rtol=1e-12)


def test_a_missing_column_is_named_with_the_nearest_one(law):
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    columns = {"aa": np.ones(2), "b": np.ones(2), "c": np.ones(2)}
    for given in (columns, pa.table(columns), pandas.DataFrame(columns), polars.DataFrame(columns)):
        with pytest.raises(DataError, match=r"lacks the column 'a', an input of the model\. Is it 'aa'\?"):
            BatchPredictor(law)(given)
    with pytest.raises(DataError, match=r"no column 'idd' to keep\. Is it 'id'\?"):
        BatchPredictor(law, keep="idd")(table())
    with pytest.raises(DataError, match="2 columns called 'a'"):
        BatchPredictor(law)(pa.table([np.ones(1)] * 4, names=["a", "b", "c", "a"]))


def test_a_column_of_something_else_is_named_with_its_row(law):
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    columns = {"a": [None, "ten"], "b": [1.0, 2.0], "c": [1.0, 2.0]}
    with pytest.raises(DataError, match="'a' must be numbers, got string; row 2 is 'ten'"):
        BatchPredictor(law)(pa.table(columns))
    with pytest.raises(DataError, match="'a' must be numbers, got String, as 'ten'"):
        BatchPredictor(law)(polars.DataFrame(columns))
    with pytest.raises(DataError, match="'a' must be numbers; row 2 is 'ten'"):
        BatchPredictor(law)(pandas.DataFrame({**columns, "a": [1, "ten"]}))
    with pytest.raises(DataError, match="'b' must be numbers, got datetime64"):
        BatchPredictor(law)({"a": np.ones(1), "b": np.array(["2026-01-01"], "M8[D]"), "c": np.ones(1)})
    with pytest.raises(DataError, match="the same length"):
        BatchPredictor(law)({"a": np.ones(1), "b": np.ones(2), "c": np.ones(1)})
    with pytest.raises(DataError, match="Rows must have shape"):
        BatchPredictor(law)(np.ones((2, 2)))


def test_a_result_with_the_name_of_a_kept_column_needs_a_prefix(law):
    known = table(y=np.zeros(len(ROWS)))
    with pytest.raises(DataError, match="has a column 'y', which is a column of the result too"):
        BatchPredictor(law, keep=True)(known)
    result = BatchPredictor(law, keep=True, prefix="predicted ")(known)
    assert {"y", "predicted y", "predicted z"} <= set(result.column_names)


def test_an_input_that_no_output_depends_on_may_be_missing():
    kan = kanserve.from_formula("2*a", inputs=["a", "b"], ranges={"a": (0, 1), "b": (5, 6)})
    predictor = BatchPredictor(kanserve.compile(kan, ["numpy_source"]), outside=True)
    result = predictor({"a": np.array([0.5, 2.0])})
    assert result["y"].tolist() == [1.0, 4.0] and result["outside"].tolist() == [False, True]


def test_a_model_in_float_gives_columns_of_float():
    artifact = kanserve.compile(KAN, ["c_source", "numpy_source"], precision="float")
    result = BatchPredictor(artifact)(table())
    assert result["y"].type == pa.float32()
    np.testing.assert_allclose(result["y"].to_numpy(), evaluate(KAN, ROWS)[:, 0], rtol=1e-4, atol=1e-4)
    huge = table(np.array([[1e300, 0.0, 0.0], [0.0, 0.0, 1.0]]))
    assert BatchPredictor(artifact)(huge)["y"].to_pylist()[1] == 1.0


@pytest.mark.extended
def test_a_pickled_predictor_predicts_in_another_process(root, law):
    x = pickle.dumps(ROWS[:5])
    program = "import pickle, sys; f, x = pickle.load(sys.stdin.buffer); pickle.dump(f.predict(x), sys.stdout.buffer)"
    for predictor in (BatchPredictor(root), BatchPredictor(root, "law", 1), BatchPredictor(law)):
        sent = pickle.dumps((predictor, pickle.loads(x)))
        done = subprocess.run([sys.executable, "-c", program], input=sent, capture_output=True, cwd=ROOT, check=True)
        np.testing.assert_allclose(pickle.loads(done.stdout), evaluate(KAN, ROWS[:5]), rtol=1e-12)
    assert len(pickle.dumps(BatchPredictor(root))) < 1000 < len(pickle.dumps(BatchPredictor(law)))


@pytest.mark.slow
def test_two_processes_share_the_rows(law):
    predictor = BatchPredictor(law, outside=True)
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        parts = list(pool.map(predictor, [table(ROWS[start::4]) for start in range(4)]))
    for start, part in enumerate(parts):
        np.testing.assert_allclose(part["z"].to_numpy(), evaluate(KAN, ROWS[start::4])[:, 1], rtol=1e-12, atol=1e-12)


def test_a_model_is_loaded_once_in_a_process(root):
    sent = pickle.dumps(BatchPredictor(root))
    one, other = pickle.loads(sent), pickle.loads(sent)
    assert one.model is other.model is BatchPredictor(root).model


def test_nothing_is_read_before_it_is_needed_and_an_error_names_the_place(tmp_path):
    predictor = BatchPredictor(tmp_path / "nothing")
    with pytest.raises(NotFoundError, match="nothing"):
        predictor.predict([[1.0]])


def test_a_worker_that_finds_another_model_refuses(tmp_path):
    for slope in (2, 3):
        kan = kanserve.from_formula(f"{slope}*x", ranges={"x": (0, 1)})
        kanserve.publish(tmp_path, "line", kanserve.compile(kan, ["numpy_source"], name="line"))
        if slope == 2:
            sent = [pickle.dumps(BatchPredictor(tmp_path)), pickle.dumps(BatchPredictor(tmp_path, version=1))]
    program = "import pickle, sys; print(pickle.load(sys.stdin.buffer).predict([[1.0]]).tolist())"
    newest, first = (
        subprocess.run([sys.executable, "-c", program], input=data, capture_output=True, cwd=ROOT) for data in sent
    )
    assert b"ConflictError" in newest.stderr and b"Give a version" in newest.stderr
    assert first.stdout == b"[[2.0]]\n"
