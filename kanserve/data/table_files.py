"""Read data sets from CSV and Parquet files."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from kanserve.data.dataset import Dataset
from kanserve.data.frames import NONE, Categories, category_text, codes, is_number
from kanserve.data.labels import one_hot
from kanserve.errors import DataError, MissingDependencyError, NotFoundError

if TYPE_CHECKING:
    import pyarrow

Array = NDArray[np.float64]
Kind = Literal["auto", "regression", "classification"]


def read_table(
    path: str | os.PathLike[str], target: str | Sequence[str], inputs: Sequence[str] = (), kind: Kind = "auto"
) -> Dataset:
    """Read a CSV or Parquet file: `target` columns to learn, from `inputs` (default: every other column).

    A single target of text, or any single target with kind="classification", makes a classifier whose classes are
    the sorted distinct values. Inputs of text are categorical, and empty fields of inputs are missing values.

    Parameters
    ----------
    path : str or path
        A CSV or Parquet file.
    target : str or sequence of str
        The columns to learn.
    inputs : sequence of str, optional
        By default every other column.
    kind : {"auto", "regression", "classification"}
        "auto" makes a classifier of a single column of text.

    Returns
    -------
    Dataset
        The samples.

    Raises
    ------
    NotFoundError
        There is no such file.
    DataError
        A column is missing, or is neither numbers nor text.

    Examples
    --------
    >>> import kanserve, tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "rows.csv"
    >>> _ = path.write_text("x,y\\n0,1\\n1,3\\n")
    >>> kanserve.read_table(path, "y")
    Dataset(2 rows, 1 inputs, outputs y)
    """
    target = [target] if isinstance(target, str) else target
    table = _read(Path(path))
    names = list(table.column_names)
    wanted = list(inputs) or [name for name in names if name not in target]
    _check_columns(path, table, [*target, *wanted])
    if not target or not wanted:
        raise DataError("Choose at least one target column and leave at least one input column.")
    if set(target) & set(wanted):
        raise DataError(f"Column {sorted(set(target) & set(wanted))[0]!r} is both an input and a target.")
    if table.num_rows == 0:
        raise DataError(f"{path} has a header but no rows.")
    x, categories = _coded(table, wanted, path)
    if kind == "classification" or (kind == "auto" and len(target) == 1 and _is_text(table, target[0])):
        y, classes = _one_hot(table, target, path)
        return Dataset(x, y, tuple(wanted), classes, classes, categories=categories)
    y = np.column_stack([_column(table, name, path) for name in target])
    return Dataset(x, y, tuple(wanted), tuple(target), categories=categories)


def read_rows(
    path: str | os.PathLike[str],
    inputs: Sequence[str],
    absent: Mapping[str, float] = MappingProxyType({}),
    categories: Categories = NONE,
) -> Array:
    """Read rows (N, inputs) for prediction from a CSV or Parquet file; missing values become NaN.

    A missing column gets its value in `absent` in every row; the `categories` of an input become their codes.
    """
    return _inputs(_read(Path(path)), path, inputs, absent, categories)


def column_names(path: str | os.PathLike[str]) -> list[str]:
    """The names of a table's columns."""
    names: list[str] = _read(Path(path)).column_names
    return names


def read_samples(
    path: str | os.PathLike[str],
    target: Sequence[str],
    inputs: Sequence[str],
    classes: Sequence[str] = (),
    absent: Mapping[str, float] = MappingProxyType({}),
    categories: Categories = NONE,
) -> Dataset:
    """Read samples to score a network on; the target's labels must be among its `classes`."""
    table = _read(Path(path))
    _check_columns(path, table, target)
    x = _inputs(table, path, inputs, absent, categories)
    if not len(x):
        raise DataError(f"{path} has a header but no rows.")
    if classes:
        y, names = _one_hot(table, target, path, classes)
        return Dataset(x, y, tuple(inputs), (), names, categories=categories)
    y = np.column_stack([_column(table, name, path) for name in target])
    return Dataset(x, y, tuple(inputs), tuple(target), categories=categories)


def _inputs(
    table: "pyarrow.Table", path: object, inputs: Sequence[str], absent: Mapping[str, float], categories: Categories
) -> Array:
    """The columns (N, inputs); missing ones have their values in `absent`."""
    present = set(table.column_names)
    _check_columns(path, table, [name for name in inputs if name in present or name not in absent])
    columns = [
        _coded(table, [name], path, categories)[0] if name in present else np.full((table.num_rows, 1), absent[name])
        for name in inputs
    ]
    return np.concatenate(columns, axis=1)


def _coded(
    table: "pyarrow.Table", names: Sequence[str], path: object, known: Categories = NONE
) -> tuple[Array, Categories]:
    """The columns (N, names), and the categories of those that are categorical: in `known`, or else all text.

    Text of which some is a number is not categorical, but an error.
    """
    columns, found = [], dict[str, tuple[str, ...]]()
    for name in names:
        texts: list[str | None] = []
        if name in known or _is_text(table, name):
            listed = table.column(name).to_pylist()
            listed = [_spelt(value, known.get(name, ())) for value in listed]
            texts = [None if value is None or value == "" else category_text(value) for value in listed]
        there = {text for text in texts if text is not None}
        if there and (name in known or not any(map(is_number, there))):
            found[name] = known.get(name) or tuple(sorted(there))
            columns.append(codes(texts, found[name]))
        else:
            columns.append(_column(table, name, path))
    return np.column_stack(columns), found


def _spelt(value: object, known: Sequence[str]) -> object:
    """A truth value as the network's categories spell it: a file's words true and false are read as truth values."""
    small = str(value).lower()
    return small if isinstance(value, bool) and str(value) not in known and small in known else value


def _check_columns(path: object, table: "pyarrow.Table", wanted: Sequence[str]) -> None:
    """DataError for the first column that the table lacks."""
    names = table.column_names
    for name in wanted:
        if name in names:
            continue
        other = next((mark for mark in ";\t|" if len(names) == 1 and mark in names[0]), None)
        hint = f" Its columns are separated by {other!r}: write it with commas." if other else ""
        raise DataError(f"{path} has no column {name!r}. Its columns: {', '.join(names)}.{hint}")


def _read(path: Path) -> "pyarrow.Table":
    try:
        import pyarrow
        import pyarrow.csv
        import pyarrow.parquet
    except ImportError:
        raise MissingDependencyError("pyarrow", "tables") from None
    if not path.exists():
        raise NotFoundError(f"There is no file {os.fspath(path)!r}.")
    if path.is_dir():
        raise DataError(f"{os.fspath(path)!r} is a folder; give a CSV or Parquet file.")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty.")
    try:
        parquet = path.suffix.lower() in (".parquet", ".pq")
        table = pyarrow.parquet.read_table(path) if parquet else pyarrow.csv.read_csv(path)
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as a table: {str(error).splitlines()[0]}") from None
    try:
        names = table.column_names
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8: its header has other characters. Save it as UTF-8.") from None
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise DataError(f"{path} has {names.count(twice[0])} columns called {twice[0]!r}; rename them.")
    return table


def _is_text(table: "pyarrow.Table", name: str) -> bool:
    import pyarrow

    kind = table.schema.field(name).type
    return bool(
        pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind) or pyarrow.types.is_dictionary(kind)
    )


def _column(table: "pyarrow.Table", name: str, path: object) -> Array:
    """One column as float64, missing values as NaN."""
    values = table.column(name)
    if _is_text(table, name):
        for row, value in enumerate(values.to_pylist()):
            try:
                float(value)
            except (TypeError, ValueError):
                raise DataError(f"{path}: column {name!r} must be numbers; row {row + 1} is {value!r}.") from None
        return np.array([float(value) for value in values.to_pylist()])
    try:
        return np.array([np.nan if v is None else float(v) for v in values.to_pylist()])
    except (TypeError, ValueError):
        kind = str(table.schema.field(name).type)
        got = "text that is not UTF-8. Save the file as UTF-8" if kind == "binary" else kind
        raise DataError(f"{path}: column {name!r} must be numbers, got {got}.") from None


def _one_hot(
    table: "pyarrow.Table", target: Sequence[str], path: object, classes: Sequence[str] = ()
) -> tuple[Array, tuple[str, ...]]:
    """The class of each row as columns (N, classes), and the names of the classes."""
    if len(target) != 1:
        raise DataError(f"A classifier has one target column, got {len(target)}.")
    labels = np.array([_spelt(value, classes) for value in table.column(target[0]).to_pylist()], dtype=object)
    return one_hot(labels, classes, what=f"{path}: column {target[0]!r}")
