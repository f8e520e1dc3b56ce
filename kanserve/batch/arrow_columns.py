"""Predict Arrow tables, without copying them where possible."""

from typing import TYPE_CHECKING, Any

import numpy as np

from kanserve.batch.result_columns import Column
from kanserve.errors import DataError, MissingDependencyError, reason

if TYPE_CHECKING:
    import pyarrow

    from kanserve.batch.predictor import BatchPredictor


def predict(predictor: "BatchPredictor", table: "pyarrow.Table | pyarrow.RecordBatch") -> Any:
    """The kept columns and the results, as a Table or a RecordBatch."""
    import pyarrow as pa

    names = table.schema.names
    predictor.model.check_inputs(names)
    kept = predictor.kept(names)
    # The batches of a table have the rows of all its chunks in common, and copy nothing.
    batches = [table] if isinstance(table, pa.RecordBatch) else table.to_batches()
    wanted = schema(predictor, pa.schema([table.schema.field(name) for name in kept]))
    done = [
        pa.RecordBatch.from_arrays(
            [
                *(batch.column(name) for name in kept),
                *to_arrow(predictor, predictor.compute(input_columns(predictor, batch), batch.num_rows)),
            ],
            schema=wanted,
        )
        for batch in batches
    ]
    return done[0] if isinstance(table, pa.RecordBatch) else pa.Table.from_batches(done, wanted)


def schema(predictor: "BatchPredictor", kept: "pyarrow.Schema | None" = None) -> "pyarrow.Schema":
    """The fields of a result, after those that are kept."""
    pa = arrow()
    fields = list(kept or ())
    for name, kind in predictor.schema.items():
        fields.append(pa.field(name, pa.string() if kind.kind == "U" else pa.from_numpy_dtype(kind)))
    return pa.schema(fields)


def input_columns(predictor: "BatchPredictor", batch: "pyarrow.RecordBatch", before: int = 0) -> dict[str, Column]:
    """The inputs present in a batch, as numbers; `before` is the number of rows before it, for errors."""
    present = set(batch.schema.names)
    return {name: numbers(batch.column(name), name, before) for name in predictor.inputs if name in present}


def to_arrow(predictor: "BatchPredictor", results: dict[str, Column]) -> "list[pyarrow.Array]":
    """Computed columns as Arrow arrays; a row without a class becomes null."""
    import pyarrow as pa

    kinds = predictor.schema
    found = []
    for name, values in results.items():
        if kinds[name].kind == "U":
            labels = pa.array([*predictor.model.artifact.manifest.classes, None], pa.string())
            found.append(labels.take(_array(np.where(values < 0, len(labels) - 1, values))))
        else:
            found.append(_array(values))
    return found


def _array(values: Column) -> "pyarrow.Array":
    """An Arrow array of numbers or booleans that shares their memory. pyarrow.array would import pandas."""
    import pyarrow as pa

    kind = pa.from_numpy_dtype(values.dtype)
    data = np.packbits(values, bitorder="little") if values.dtype.kind == "b" else np.ascontiguousarray(values)
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(data)])


def numbers(column: "pyarrow.Array | pyarrow.ChunkedArray", name: str, before: int = 0) -> Column:
    """A column as numbers, nulls as NaN; not copied if it has no nulls and a NumPy type."""
    import pyarrow as pa

    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    kind = column.type
    if isinstance(kind, pa.DictionaryType):
        column, kind = column.dictionary_decode(), kind.value_type
    types = pa.types
    if column.null_count == 0 and (types.is_integer(kind) or types.is_floating(kind)):
        return _share(column)
    if types.is_null(kind):
        return np.full(len(column), np.nan)
    if not (types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_decimal(kind)):
        raise DataError(f"Column {name!r} must be numbers, got {kind}{_first(column, before)}.")
    try:
        cast = column.cast(pa.float64(), safe=False)
    except pa.ArrowException as error:
        raise DataError(f"Column {name!r} must be numbers: {reason(error)}.") from None
    return _share(cast.fill_null(np.nan))


def _share(column: "pyarrow.Array") -> Column:
    """View a column without nulls as NumPy, without a copy. pyarrow's own to_numpy would import pandas."""
    return np.from_dlpack(column) if len(column) else np.empty(0)


def _first(column: "pyarrow.Array", before: int) -> str:
    """Describe where the first value of a column of another type is."""
    for row, value in enumerate(column[:1000], start=before + 1):
        if value.is_valid:
            return f"; row {row} is {value.as_py()!r:.80}"
    return ""


def arrow() -> Any:
    """The package pyarrow. Raises MissingDependencyError without it."""
    try:
        import pyarrow
    except ImportError:
        raise MissingDependencyError("pyarrow", "tables") from None
    return pyarrow
