"""Batch inference in polars, pandas and DuckDB: thin wrappers around a `BatchPredictor`."""

from inspect import Parameter, Signature
from typing import TYPE_CHECKING, Any

import numpy as np

from kanserve.batch import arrow_columns
from kanserve.batch.result_columns import to_numbers
from kanserve.errors import DataError

if TYPE_CHECKING:
    import duckdb
    import polars

    from kanserve.batch.predictor import BatchPredictor


def predict_pandas(predictor: "BatchPredictor", frame: Any) -> Any:
    names = list(frame.columns)
    predictor.model.check_inputs(names)
    kept = predictor.kept(names)
    columns = {}
    for name in predictor.inputs:
        if name in names:
            series = frame[name]
            # The types of pandas that NumPy lacks have NA for a missing value.
            masked = not isinstance(series.dtype, np.dtype) and series.dtype.kind in "fiub"
            values = series.to_numpy(np.float64, na_value=np.nan) if masked else series.to_numpy()
            columns[name] = to_numbers(values, name)
    results = predictor.compute(columns, len(frame))
    kinds = predictor.schema
    named = {
        name: np.where(values < 0, np.array(None), predictor.labels[values]) if kinds[name].kind == "U" else values
        for name, values in results.items()
    }
    return frame[kept].assign(**named)


def predict_polars(predictor: "BatchPredictor", frame: "polars.DataFrame") -> "polars.DataFrame":
    import polars as pl

    names = frame.columns
    predictor.model.check_inputs(names)
    kept = predictor.kept(names)
    columns = {}
    for name in predictor.inputs:
        if name in names:
            series = frame[name]
            if not (series.dtype.is_numeric() or series.dtype in (pl.Boolean, pl.Null)):
                value = next(iter(series.drop_nulls()), None)
                raise DataError(f"Column {name!r} must be numbers, got {series.dtype}, as {value!r:.80}.")
            if series.null_count() or series.dtype.is_decimal() or series.dtype == pl.Null:
                series = series.cast(pl.Float64)
            columns[name] = series.to_numpy()  # a null is NaN
    results = predictor.compute(columns, len(frame))
    classes = pl.Series([*predictor.model.artifact.manifest.classes, None], dtype=pl.String)
    kinds = predictor.schema
    series_of = [
        classes.gather(np.where(values < 0, len(classes) - 1, values)).alias(name)
        if kinds[name].kind == "U"
        else pl.Series(name, values)
        for name, values in results.items()
    ]
    return frame.select(*kept, *series_of)


def polars_expression(predictor: "BatchPredictor") -> "polars.Expr":
    """A polars expression of the result: a column, or a struct if the result has several.

    Parameters
    ----------
    predictor : BatchPredictor
        It names its inputs; its `keep` is not used.

    Returns
    -------
    polars.Expr
        For `with_columns` and `select`, lazy and streaming too.

    Examples
    --------
    >>> import kanserve, polars
    >>> from kanserve.batch import BatchPredictor, polars_expression
    >>> kan = kanserve.from_formula("2*a + b", ranges={"a": (0, 1), "b": (0, 1)})
    >>> predictor = BatchPredictor(kanserve.compile(kan, ["numpy_source"]))
    >>> frame = polars.DataFrame({"id": [1, 2], "b": [0.0, 1.0], "a": [0.5, 0.5]})
    >>> frame.with_columns(polars_expression(predictor))["y"].to_list()
    [1.0, 2.0]
    """
    import polars as pl

    types = {"f8": pl.Float64(), "f4": pl.Float32(), "b1": pl.Boolean()}
    fields = {name: types.get(kind.str[1:], pl.String()) for name, kind in predictor.schema.items()}

    def run(inputs: "polars.Series") -> "polars.Series":
        result = predict_polars(predictor, inputs.struct.unnest()).select(list(fields))
        return result.to_series() if len(fields) == 1 else result.to_struct()

    name = next(iter(fields)) if len(fields) == 1 else predictor.model.artifact.manifest.name
    kind = next(iter(fields.values())) if len(fields) == 1 else pl.Struct(fields)
    return pl.struct(predictor.inputs).map_batches(run, return_dtype=kind, is_elementwise=True).alias(name)


def register_duckdb(predictor: "BatchPredictor", connection: "duckdb.DuckDBPyConnection", name: str) -> None:
    """Make the model a function of SQL in DuckDB: `SELECT name(a, b) FROM rows`, with the inputs in their order.

    A row with NULL in an input gives NULL. A result of several columns is a STRUCT: `name(a, b).class`.

    Parameters
    ----------
    predictor : BatchPredictor
        Its `keep` is not used.
    connection : duckdb.DuckDBPyConnection
        The connection that gets the function.
    name : str
        The function's name in SQL.

    Examples
    --------
    >>> import duckdb, kanserve
    >>> from kanserve.batch import BatchPredictor, register_duckdb
    >>> kan = kanserve.from_formula("2*a", ranges={"a": (0, 1)})
    >>> connection = duckdb.connect()
    >>> register_duckdb(BatchPredictor(kanserve.compile(kan, ["numpy_source"])), connection, "twice")
    >>> connection.sql("SELECT twice(0.5)").fetchall()
    [(1.0,)]
    """
    pa = arrow_columns.arrow()
    types = {"f8": "DOUBLE", "f4": "FLOAT", "b1": "BOOLEAN"}
    fields = {name: types.get(kind.str[1:], "VARCHAR") for name, kind in predictor.schema.items()}
    row = len(fields) == 1
    inputs = predictor.inputs

    def run(*columns: Any) -> Any:
        numbers = {name: arrow_columns.numbers(column, name) for name, column in zip(inputs, columns, strict=True)}
        found = arrow_columns.to_arrow(predictor, predictor.compute(numbers, len(columns[0])))
        return found[0] if row else pa.StructArray.from_arrays(found, list(fields))

    returns: Any = next(iter(fields.values())) if row else connection.struct_type(fields)
    # DuckDB counts the parameters.
    vars(run)["__signature__"] = Signature([Parameter(f"x{i}", Parameter.POSITIONAL_ONLY) for i in range(len(inputs))])
    create: Any = connection.create_function  # where DuckDB is not installed, nothing is known of it
    create(name, run, ["DOUBLE"] * len(inputs), returns, type="arrow")
