"""The same predictor inside polars, DuckDB, Dask, Ray and joblib, each where it is installed."""

import sys

import numpy as np
import pyarrow as pa
import pytest

import kanserve
from kanserve.batch import BatchPredictor, polars_expression, predict_reader, register_duckdb
from kanserve.network.evaluate import evaluate, jacobian
from kanserve.network.kan import Kan
from kanserve.network.training_range import outside, sample

KAN = kanserve.from_formula("exp(a)*sin(b) + c", ranges={"a": (0, 1), "b": (-1, 2), "c": (0, 3)})
ROWS = sample(KAN, 10_000, seed=1) * 1.05
Y = evaluate(KAN, ROWS)[:, 0]
COLUMNS = {"c": ROWS[:, 2].copy(), "id": np.arange(len(ROWS)), "b": ROWS[:, 1].copy(), "a": ROWS[:, 0].copy()}


@pytest.fixture(scope="module")
def law():
    return kanserve.compile(KAN, ["c_source", "numpy_source"], name="law")


@pytest.fixture(scope="module")
def classifier():
    scores = kanserve.from_formula({"low": "1 - x", "high": "x"}, ranges={"x": (0, 1)})
    return kanserve.compile(Kan(scores.layers, scores.inputs, classes=("low", "high")), ["numpy_source"], name="kind")


def test_a_polars_expression_is_a_column_in_eager_lazy_and_streaming_frames(law):
    polars = pytest.importorskip("polars")
    expression = polars_expression(BatchPredictor(law))
    frame = polars.DataFrame(COLUMNS)
    for result in (
        frame.with_columns(expression),
        frame.lazy().with_columns(expression).collect(),
        frame.lazy().filter(polars.col("id") >= 0).with_columns(expression).collect(engine="streaming"),
    ):
        assert result.columns == ["c", "id", "b", "a", "y"]
        np.testing.assert_allclose(result.sort("id")["y"].to_numpy(), Y, rtol=1e-12, atol=1e-12)


def test_a_polars_expression_of_several_columns_is_a_struct(law, classifier):
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame(COLUMNS)
    both = frame.select(polars_expression(BatchPredictor(law, outside=True, gradient=True))).unnest("law")
    assert both.columns == ["y", "outside", "dy_da", "dy_db", "dy_dc"]
    assert np.array_equal(both["outside"].to_numpy(), outside(KAN, ROWS))
    np.testing.assert_allclose(both["dy_db"].to_numpy(), jacobian(KAN, ROWS)[:, 0, 1], rtol=1e-12, atol=1e-12)
    kinds = polars.DataFrame({"x": [0.1, 0.9, None]}).select(polars_expression(BatchPredictor(classifier)))
    assert kinds["kind"].struct.field("class").to_list() == ["low", "high", None]
    assert kinds.lazy().collect_schema()["kind"].fields[0].dtype == polars.String


def test_a_function_of_duckdb_gives_a_column_and_null_for_null(law):
    duckdb = pytest.importorskip("duckdb")
    connection = duckdb.connect()
    register_duckdb(BatchPredictor(law), connection, "law")
    connection.register("rows", pa.table(COLUMNS))
    found = connection.sql("SELECT id, law(a, b, c) AS y FROM rows ORDER BY id").fetchnumpy()
    np.testing.assert_allclose(found["y"], Y, rtol=1e-12, atol=1e-12)
    values = "(VALUES (0.5::DOUBLE, 0.5::DOUBLE, 1), (NULL, 0.5, 1), ('nan'::DOUBLE, 0.5, 1)) AS t(a, b, c)"
    (one,), (null,), (nan,) = connection.sql(f"SELECT law(a, b, c) FROM {values}").fetchall()
    assert one == pytest.approx(evaluate(KAN, [[0.5, 0.5, 1]]).item(), rel=1e-12)
    assert null is None and np.isnan(nan)
    assert connection.sql("SELECT law(a, b, c) FROM rows WHERE id < 0").fetchall() == []


def test_a_function_of_duckdb_gives_a_struct_of_several_columns(law, classifier):
    duckdb = pytest.importorskip("duckdb")
    connection = duckdb.connect()
    register_duckdb(BatchPredictor(classifier), connection, "kind")
    register_duckdb(BatchPredictor(law, outside=True), connection, "law")
    values = "(VALUES (0.1::DOUBLE), (0.9), ('nan'::DOUBLE)) AS t(x)"
    labels = connection.sql(f"SELECT kind(x).class FROM {values}").fetchall()
    assert labels == [("low",), ("high",), (None,)]
    connection.register("rows", pa.table(COLUMNS))
    found = connection.sql("SELECT id, law(a, b, c).outside AS o FROM rows ORDER BY id").fetchnumpy()
    assert np.array_equal(found["o"], outside(KAN, ROWS))


def test_a_stream_of_duckdb_is_predicted_and_queried_again(law):
    duckdb = pytest.importorskip("duckdb")
    connection = duckdb.connect()
    connection.register("rows", pa.table(COLUMNS))
    predictor = BatchPredictor(law, keep=["id"])
    results = predict_reader(predictor, connection.sql("SELECT * FROM rows WHERE id % 2 = 0").to_arrow_reader(1000))
    assert results.schema.names == ["id", "y"]
    other = duckdb.connect().register("results", results)  # the first connection is still giving its rows
    assert other.sql("SELECT sum(y) FROM results").fetchall()[0][0] == pytest.approx(Y[::2].sum(), rel=1e-9)


def test_joblib_sends_the_predictor_to_processes(law):
    joblib = pytest.importorskip("joblib")
    parts = joblib.Parallel(2)(joblib.delayed(BatchPredictor(law))(pa.table(COLUMNS).slice(n, 10)) for n in (0, 10))
    np.testing.assert_allclose(np.concatenate([part["y"] for part in parts]), Y[:20], rtol=1e-12)


@pytest.mark.slow
def test_dask_predicts_partitions_in_other_processes(law):
    dask, frames = pytest.importorskip("dask"), pytest.importorskip("dask.dataframe")
    pandas = pytest.importorskip("pandas")
    predictor = BatchPredictor(law, keep=["id"])
    parts = frames.from_pandas(pandas.DataFrame(COLUMNS), npartitions=3)
    with dask.config.set(scheduler="processes", num_workers=2):
        result = parts.map_partitions(predictor, meta=predictor(pandas.DataFrame(COLUMNS).head(0))).compute()
    np.testing.assert_allclose(result.sort_values("id")["y"], Y, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_ray_data_predicts_batches(law):
    ray, data = pytest.importorskip("ray"), pytest.importorskip("ray.data")
    ray.init(num_cpus=1, include_dashboard=False)
    try:
        predictor = BatchPredictor(law, keep=["id"])
        rows = data.from_arrow(pa.table(COLUMNS))
        result = rows.map_batches(predictor.predict_arrow, batch_format="pyarrow").to_pandas()
    finally:
        ray.shutdown()
    np.testing.assert_allclose(result.sort_values("id")["y"], Y, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_spark_predicts_arrow_batches(law, monkeypatch):
    sql, pandas = pytest.importorskip("pyspark.sql"), pytest.importorskip("pandas")
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    predictor = BatchPredictor(law, keep=["id"])

    def predicted(batches):
        return map(predictor.predict_arrow, batches)

    session = sql.SparkSession.builder.master("local[1]").getOrCreate()
    try:
        rows = session.createDataFrame(pandas.DataFrame(COLUMNS))
        result = rows.mapInArrow(predicted, "id long, y double").toPandas()
    finally:
        session.stop()
    np.testing.assert_allclose(result.sort_values("id")["y"], Y, rtol=1e-12, atol=1e-12)
