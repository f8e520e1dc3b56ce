"""Predict tables that are larger than memory: Parquet and CSV files, and streams of Arrow batches."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from kanserve.batch import arrow_columns
from kanserve.data.csv_files import LOOKED_AT, check_start, separator_of
from kanserve.errors import DataError, NotFoundError, reason

if TYPE_CHECKING:
    import pyarrow

    from kanserve.batch.predictor import BatchPredictor

_MOST_ROWS = 2**17  # of a batch, and so of a row group that is written
_BATCH_BYTES = 2**25  # of a batch's columns, which bounds memory for wide tables
_READ_BYTES = 2**20  # of a CSV file at once; pyarrow reads some blocks ahead
_CSV_ERROR = re.compile(r"In CSV column #(\d+): Row #(\d+): (.*)", re.DOTALL)
_CSV_LINE = re.compile(r"CSV parse error: Row #(\d+): (.*)", re.DOTALL)


@dataclass(frozen=True)
class FilePredictions:
    """What `predict_file` has read.

    Parameters
    ----------
    rows, outside, not_finite : int
        All rows, those outside the training range, and those without finite outputs.

    Examples
    --------
    >>> from kanserve.batch import FilePredictions
    >>> FilePredictions(1000, 3, 0).rows
    1000
    """

    rows: int = 0
    outside: int = 0
    not_finite: int = 0


def predict_reader(predictor: "BatchPredictor", stream: Any) -> "pyarrow.RecordBatchReader":
    """Predict a stream of Arrow batches lazily, one batch at a time.

    Parameters
    ----------
    predictor : BatchPredictor
        The model, and which columns are kept.
    stream : pyarrow.RecordBatchReader, or an object with `__arrow_c_stream__`
        Such as a relation of DuckDB, a polars DataFrame or a pyarrow Table.

    Returns
    -------
    pyarrow.RecordBatchReader
        The results. DuckDB, polars and pyarrow's writers read it.

    Raises
    ------
    DataError
        An input is missing.

    Examples
    --------
    >>> import kanserve, pyarrow
    >>> from kanserve.batch import BatchPredictor, predict_reader
    >>> kan = kanserve.from_formula("2*a", ranges={"a": (0, 1)})
    >>> predictor = BatchPredictor(kanserve.compile(kan, ["numpy_source"]))
    >>> predict_reader(predictor, pyarrow.table({"a": [0.5, 1.0]})).read_all().to_pydict()
    {'y': [1.0, 2.0]}
    """
    pa = arrow_columns.arrow()
    reader = pa.RecordBatchReader.from_stream(stream)
    names = reader.schema.names
    predictor.model.check_inputs(names)
    wanted = arrow_columns.schema(predictor, pa.schema([reader.schema.field(name) for name in predictor.kept(names)]))
    return pa.RecordBatchReader.from_batches(wanted, (predictor.predict_arrow(batch) for batch in reader))


def predict_file(
    predictor: "BatchPredictor",
    source: str | os.PathLike[str],
    out: str | os.PathLike[str] | BinaryIO,
    *,
    progress: Callable[[float, FilePredictions], None] | None = None,
) -> FilePredictions:
    """Predict a CSV or Parquet file in constant memory, and write the results as they come.

    Parameters
    ----------
    predictor : BatchPredictor
        The model, and which columns are kept.
    source : str or path
        A file that ends in .parquet or .pq, or a CSV file with a header. Only the columns that are needed are read.
    out : str, path or binary file
        A file that ends in .parquet or .pq, else CSV. An error on the way leaves it incomplete; `kanserve score` writes
        to a temporary name first.
    progress : callable, optional
        Called after each batch with the share of the file that was read, and what was found so far.

    Returns
    -------
    FilePredictions
        The counts of rows.

    Raises
    ------
    NotFoundError
        The file is missing.
    DataError
        The file cannot be read, or an input is missing or not a number: the message names row and column.

    Examples
    --------
    >>> import kanserve, pathlib, tempfile
    >>> from kanserve.batch import BatchPredictor, predict_file
    >>> kan = kanserve.from_formula("2*a", ranges={"a": (0, 1)})
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (folder / "new.csv").write_text("a\\n0.5\\n7\\n")
    >>> predictor = BatchPredictor(kanserve.compile(kan, ["numpy_source"]))
    >>> done = predict_file(predictor, folder / "new.csv", folder / "out.csv")
    >>> done.rows, done.outside
    (2, 1)
    """
    path = Path(source)
    if not path.exists():
        raise NotFoundError(f"The file {os.fspath(path)!r} does not exist.")
    if not path.is_file():  # a file is read from its beginning twice
        raise DataError(f"{os.fspath(path)!r} is not a regular file; give a CSV or Parquet file.")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty.")
    pa = arrow_columns.arrow()
    found = FilePredictions()
    with _open(predictor, path, as_text=not _is_parquet(out)) as (schema, batches):
        kept = predictor.kept(schema.names)
        wanted = arrow_columns.schema(predictor, pa.schema([schema.field(name) for name in kept]))
        with _writer(out, wanted) as writer:
            for share, batch in batches:
                results, found = _predict(predictor, path, batch, found)
                columns = [*(batch.column(name) for name in kept), *results]
                writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=wanted))
                if progress is not None:
                    progress(share, found)
    return found


def _predict(
    predictor: "BatchPredictor", path: Path, batch: "pyarrow.RecordBatch", before: FilePredictions
) -> "tuple[list[pyarrow.Array], FilePredictions]":
    """The results of a batch, and the counts of all rows up to its end."""
    try:
        columns = arrow_columns.input_columns(predictor, batch, before.rows)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    rows = batch.num_rows
    results = predictor.compute(columns, rows)
    outside = predictor.model.outside(predictor.ordered(columns), rows)
    first = next(iter(results.values()))  # an output, or the number of a class
    lost = first < 0 if first.dtype.kind == "i" else ~np.isfinite(first)
    found = FilePredictions(
        before.rows + rows,
        before.outside + int(np.count_nonzero(outside)),
        before.not_finite + int(np.count_nonzero(lost)),
    )
    return arrow_columns.to_arrow(predictor, results), found


def _is_parquet(path: str | os.PathLike[str] | BinaryIO) -> bool:
    return isinstance(path, str | os.PathLike) and Path(path).suffix.lower() in (".parquet", ".pq")


@contextmanager
def _writer(out: str | os.PathLike[str] | BinaryIO, schema: "pyarrow.Schema") -> Iterator[Any]:
    """A writer of Arrow batches to a Parquet or CSV file."""
    import pyarrow.csv
    import pyarrow.parquet

    place = os.fspath(out) if isinstance(out, str | os.PathLike) else out
    if _is_parquet(out):
        # A dictionary of decimal numbers saves nothing, and costs more time than all the rest.
        few = [field.name for field in schema if not pyarrow.types.is_floating(field.type)]
        make = partial(pyarrow.parquet.ParquetWriter, use_dictionary=few or False)
    else:
        make = pyarrow.csv.CSVWriter
    with make(place, schema) as writer:
        yield writer


@contextmanager
def _open(
    predictor: "BatchPredictor", path: Path, *, as_text: bool
) -> "Iterator[tuple[pyarrow.Schema, Iterator[tuple[float, pyarrow.RecordBatch]]]]":
    """The schema of a file, and its batches, each with the share of the file read so far. For CSV to CSV, kept columns
    are read `as_text`, which leaves them unchanged."""
    import pyarrow

    with pyarrow.OSFile(str(path)) as file:
        try:
            opened = _parquet(predictor, path, file) if _is_parquet(path) else _csv(predictor, path, file, as_text)
        except pyarrow.ArrowException as error:
            raise DataError(f"{path} cannot be read as a table: {reason(error)}.") from None
        yield opened


def _parquet(predictor: "BatchPredictor", path: Path, file: Any) -> tuple[Any, Iterator[tuple[float, Any]]]:
    import pyarrow.parquet

    # Buffered: else each column of a row group is in memory whole.
    table = pyarrow.parquet.ParquetFile(file, buffer_size=2**20, pre_buffer=False)
    schema = table.schema_arrow
    wanted = _columns_to_read(predictor, path, schema.names)
    rows = min(max(_BATCH_BYTES // (8 * max(len(wanted), 1)), 1024), _MOST_ROWS)
    total = max(table.metadata.num_rows, 1)

    def batches() -> Iterator[tuple[float, Any]]:
        done = 0
        try:
            for batch in table.iter_batches(rows, columns=wanted):
                done += batch.num_rows
                yield done / total, batch
        except (OSError, pyarrow.ArrowException) as error:
            raise DataError(f"{path} cannot be read after row {done}: {reason(error)}.") from None

    return schema, batches()


def _csv(predictor: "BatchPredictor", path: Path, file: Any, as_text: bool) -> tuple[Any, Iterator[tuple[float, Any]]]:
    import pyarrow

    size = max(file.size(), 1)
    names: list[str] = []
    with path.open("rb") as opened:
        start = opened.read(LOOKED_AT)
    check_start(path, start)
    separator = separator_of(start)
    try:
        with pyarrow.OSFile(str(path)) as head:
            names = _csv_reader(head, separator, [], {}).schema.names
        wanted = _columns_to_read(predictor, path, names)
        types = {name: pyarrow.string() for name in wanted if as_text}
        types |= {name: pyarrow.float64() for name in wanted if name in predictor.inputs}
        reader = _csv_reader(file, separator, wanted, types)
    except pyarrow.ArrowInvalid as error:
        raise _csv_error(path, names, error) from None

    def batches() -> Iterator[tuple[float, Any]]:
        try:
            for batch in reader:
                yield file.tell() / size, batch
        except pyarrow.ArrowInvalid as error:
            raise _csv_error(path, names, error) from None

    return reader.schema, batches()


def _csv_reader(file: Any, separator: str, wanted: list[str], types: dict[str, Any]) -> Any:
    """A reader of these columns, or of all. On one thread, since only then errors have row numbers."""
    import pyarrow.csv as csv

    convert = csv.ConvertOptions(column_types=types, include_columns=wanted)
    read, parse = csv.ReadOptions(use_threads=False, block_size=_READ_BYTES), csv.ParseOptions(delimiter=separator)
    return csv.open_csv(file, read, parse, convert)


def _csv_error(path: Path, names: list[str], error: Exception) -> DataError:
    """pyarrow's error with the column's name, and the row counted without the header."""
    if found := _CSV_ERROR.match(str(error)):
        column, row, words = found.groups()
        value = re.search(r"invalid value '(.*)'", words, re.DOTALL)
        got = f" is {value[1]!r:.80}" if value else f": {reason(words)}"
        return DataError(f"{path}: column {names[int(column)]!r} must be numbers; row {int(row) - 1}{got}.")
    if found := _CSV_LINE.match(str(error)):
        return DataError(f"{path}: row {int(found[1]) - 1} cannot be read: {reason(found[2])}.")
    return DataError(f"{path} cannot be read as a table: {reason(error)}.")


def _columns_to_read(predictor: "BatchPredictor", path: Path, names: list[str]) -> list[str]:
    """The columns to read: inputs and kept columns."""
    predictor.model.check_inputs(names, str(path))
    kept = predictor.kept(names)
    return list(dict.fromkeys([*(name for name in predictor.inputs if name in names), *kept]))
