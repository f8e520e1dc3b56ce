"""Convert DataFrame columns with categories and missing values to numbers that scikit-learn can check."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kanserve.data.frames import (
    Categories,
    Columns,
    check_columns,
    column_names,
    frame_numbers,
    is_categorical,
    is_columns,
    is_frame,
)
from kanserve.data.labels import is_text
from kanserve.errors import DataError
from kanserve.network.kan import Kan
from kanserve.network.signal_shares import find_used_inputs

Array = NDArray[np.float64]


def encode_table(X: ArrayLike, kan: Kan | None = None) -> tuple[Any, Categories]:
    """Encode a table's categories, as a fitted network does or by X's own; also returns the categories of each column.
    If anything changes, a frame of the same package is returned (pandas or polars for a dict of columns); anything else
    is returned unchanged."""
    if is_columns(X):
        X = _frame(X)
    elif kan is not None and any(column.categories for column in kan.inputs):
        X = _rows_by_position(X, kan)
    if not is_frame(X) or len(X.columns) == 0:
        return X, {}
    columns = list(X.columns)
    known = {} if kan is None else {str(c): column.categories for c, column in zip(columns, kan.inputs, strict=False)}
    known = {name: categories for name, categories in known.items() if categories}
    check_columns([str(name) for name in columns], [str(name) for name in columns])
    numbers, found = frame_numbers(X, known)
    if not found and not any(is_categorical(X[name]) for name in columns):
        return X, {}
    names = column_names(X, len(columns)) or tuple(f"x{i + 1}" for i in range(len(columns)))
    if kan is not None and names == tuple(column.name for column in kan.inputs):  # else scikit-learn refuses the names
        for name in found.keys() - known.keys():
            raise DataError(f"Column {name!r} has categories, and is a number in the network.")
    package: Any = type(X)
    made = package(numbers, columns=columns, index=X.index) if hasattr(X, "index") else package(numbers, schema=columns)
    return made, {names[i]: found[str(c)] for i, c in enumerate(columns) if str(c) in found}


def _frame(columns: Mapping[Any, Any]) -> Any:
    """A dict of columns as a pandas or polars DataFrame, or as an array without names if neither is installed."""
    Columns(columns)  # which checks it
    for package in ("pandas", "polars"):
        try:
            return __import__(package).DataFrame(dict(columns))
        except ImportError:
            continue
    return np.column_stack([np.asarray(column) for column in columns.values()])


def _rows_by_position(X: Any, kan: Kan) -> Any:
    """Encode rows that contain text as category codes, by position; anything else is returned unchanged."""
    if is_frame(X):
        return X
    try:
        rows = np.asarray(X, dtype=None if isinstance(X, np.ndarray) else object)
    except ValueError:  # rows of different lengths: scikit-learn's error says so
        return X
    if rows.ndim != 2 or rows.shape[1] != len(kan.inputs) or not is_text(rows.ravel()):
        return X
    table = Columns({column.name: rows[:, i] for i, column in enumerate(kan.inputs)})
    known = {column.name: column.categories for column in kan.inputs if column.categories}
    numbers, found = frame_numbers(table, known)
    for name in found.keys() - known.keys():
        raise DataError(f"Column {name!r} has categories, and is a number in the network.")
    return numbers


def check_missing(kan: Kan, x: Array) -> None:
    """Raise DataError for a missing value that the outputs depend on, and that the network has no number for."""
    used = find_used_inputs(kan)
    for i, column in enumerate(kan.inputs):
        if used[i] and column.fill_value is None and (bad := np.flatnonzero(np.isnan(x[:, i]))).size:
            raise DataError(
                f"Input X contains NaN in column {column.name!r}, row {bad[0] + 1}; in training none was missing there."
            )
