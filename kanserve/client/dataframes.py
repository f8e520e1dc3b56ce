"""pandas and polars DataFrames as rows, and answers as DataFrames. Neither is imported here: the caller has done so."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kanserve.data.frames import NONE, Categories, Columns, encode_columns
from kanserve.data.near_names import first_names
from kanserve.errors import DataError

Rows = ArrayLike | Mapping[str, Sequence[Any] | NDArray[Any]]  # an array, or a dict of columns

_SHOWN = 12  # names listed in an error


class Frame(Protocol):
    """A DataFrame of pandas or polars."""

    @property
    def columns(self) -> Any: ...
    @property
    def shape(self) -> tuple[int, int]: ...
    def to_numpy(self) -> NDArray[Any]: ...


def is_frame(x: object) -> bool:
    """Whether its columns have names: a DataFrame, or a dict of columns as `data.frames.as_table` makes one."""
    return isinstance(x, Columns) or _package(x) is not None


def _package(x: object) -> Any:
    """The package whose DataFrame this is, or None (Any: it has no types, or is not installed)."""
    for name in ("pandas", "polars"):
        package = sys.modules.get(name)
        if package is not None and isinstance(x, getattr(package, "DataFrame", ())):
            return package
    return None


def select(
    frame: Any, names: Sequence[str], dtype: type[Any] = np.float64, categories: Categories = NONE
) -> NDArray[Any]:
    """The columns with these names as rows (N, names), in this order; missing values become NaN, the `categories` of an
    input their codes, and others the code behind the last."""
    columns = list(frame.columns)
    missing = [name for name in names if name not in columns]
    if missing:
        raise DataError(
            f"The model takes the columns {_list(names)}; the table lacks {_list(missing)} and has {_list(columns)}."
        )
    twice = [name for name in names if columns.count(name) > 1]
    if twice:
        raise DataError(f"The table has more than one column {_list(sorted(set(twice)))}. Rename the others.")
    rows = np.empty((frame.shape[0], len(names)), dtype)
    for column, name in enumerate(names):
        try:
            known = name in categories or isinstance(frame, Columns)
            rows[:, column] = encode_columns(frame, [name], categories)[0][:, 0] if known else _column(frame[name])
        except (TypeError, ValueError, OverflowError):
            raise DataError(f"The column {name!r} must hold numbers; its type is {frame[name].dtype}.") from None
    return rows


def _column(column: Any) -> NDArray[Any]:
    if column.__class__.__module__.startswith("polars"):
        values = column.to_numpy()
    else:
        values = column.to_numpy(na_value=np.nan) if column.hasnans else column.to_numpy()
    if values.dtype.kind not in "biufO" or (
        values.dtype.kind == "O" and any(isinstance(value, str | bytes) for value in values)
    ):
        raise TypeError
    return np.asarray(values, np.float64)


def like(frame: Any, values: NDArray[Any], names: Sequence[str]) -> Any:
    """A DataFrame of values (N, names), of the frame's package and with its index, if it has one; the values themselves
    for a dict of columns."""
    if isinstance(frame, Columns):
        return values
    package = _package(frame)
    if package.__name__ == "polars":
        return package.DataFrame(values, schema=list(names))
    return package.DataFrame(values, index=frame.index, columns=list(names))


def series(frame: Any, values: NDArray[Any], name: str) -> Any:
    """A Series of values (N,), likewise."""
    if isinstance(frame, Columns):
        return values
    package = _package(frame)
    if package.__name__ == "polars":
        return package.Series(name, values.tolist(), dtype=package.String)
    return package.Series(values.tolist(), index=frame.index, name=name, dtype="str")


def _list(names: Sequence[object]) -> str:
    return first_names([f"{name!r:.80}" for name in names], _SHOWN, ", ...") or "none"
