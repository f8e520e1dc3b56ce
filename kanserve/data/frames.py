"""Read columns of a pandas or polars DataFrame, or of a pyarrow table, without importing these packages."""

from collections.abc import Sequence
from typing import Any, Protocol, TypeGuard

import numpy as np
from numpy.typing import NDArray

from kanserve.data.labels import is_text
from kanserve.errors import DataError

Array = NDArray[np.float64]


class DataFrame(Protocol):
    """The protocol of a table with named columns."""

    @property
    def columns(self) -> Any: ...

    @property
    def shape(self) -> Any: ...

    def __getitem__(self, name: Any, /) -> Any: ...


def is_frame(data: object) -> TypeGuard[DataFrame]:
    """Whether this is a table with named columns."""
    return all(hasattr(data, name) for name in ("columns", "shape", "__getitem__"))


def split_frame(
    frame: DataFrame, target: str | Sequence[str] | None
) -> tuple[Array, tuple[str, ...], tuple[str, ...], Any]:
    """x, the names of inputs and targets, and y: numbers (N, targets) or a column of labels."""
    names = list(getattr(frame, "column_names", frame.columns))
    shown = ", ".join(str(name) for name in names[:30])
    if target is None:
        raise DataError(f"Say which column of the DataFrame to learn, as target='name'. Its columns: {shown}.")
    targets = [target] if isinstance(target, str) else list(target)
    for name in targets:
        if name not in names:
            raise DataError(f"The DataFrame has no column {name!r}. Its columns: {shown}.")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise DataError(f"The DataFrame has {names.count(twice[0])} columns called {twice[0]!r}; rename them.")
    inputs = [name for name in names if name not in targets]
    if not targets or not inputs:
        raise DataError("Choose at least one target column and leave at least one input column.")
    x = np.column_stack([_numbers(frame[name], name) for name in inputs])
    y: Any
    if len(targets) == 1 and is_categorical(frame[targets[0]]):
        y = frame[targets[0]]
    else:
        y = np.column_stack([_numbers(frame[name], name) for name in targets])
    return x, tuple(str(name) for name in inputs), tuple(str(name) for name in targets), y


def is_categorical(column: Any) -> bool:
    """Whether a column holds text or is of the type category."""
    return getattr(getattr(column, "dtype", None), "name", "") == "category" or is_text(np.asarray(column))


def column_names(table: object, count: int) -> tuple[str, ...]:
    """The names of a frame's or a series' `count` columns; empty if they are not strings or not all different."""
    found = getattr(table, "columns", None)
    if found is None:
        found = [getattr(table, "name", None)]
    names = tuple(found)
    usable = all(isinstance(name, str) and name for name in names) and len(set(names)) == len(names) == count
    return names if usable else ()


def _numbers(column: Any, name: object) -> Array:
    values = np.asarray(column)
    if values.dtype.kind not in "mMc":
        try:
            return values.astype(np.float64)
        except (TypeError, ValueError):
            pass
    raise DataError(f"Column {name!r} must be numbers, got {getattr(column, 'dtype', values.dtype)}.")


def named_columns(frame: DataFrame, names: Sequence[str]) -> Array:
    """The columns with these names as rows (N, names), in this order; DataError for a column that is not there."""
    columns = [str(name) for name in getattr(frame, "column_names", frame.columns)]
    missing = [name for name in names if name not in columns]
    if missing:
        raise DataError(f"The table lacks the column {missing[0]!r}. Its columns: {', '.join(columns[:30])}.")
    twice = [name for name in names if columns.count(name) > 1]
    if twice:
        raise DataError(f"The table has {columns.count(twice[0])} columns called {twice[0]!r}; rename them.")
    return np.column_stack([_numbers(frame[name], name) for name in names])
