"""Convert pandas and polars DataFrames to rows, and answers to DataFrames. Neither package is imported here."""

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
    """A pandas or polars DataFrame."""

    @property
    def columns(self) -> Any: ...
    @property
    def shape(self) -> tuple[int, int]: ...
    def to_numpy(self) -> NDArray[Any]: ...


def is_frame(x: object) -> bool:
    """Whether x has named columns: a DataFrame, or a dict of columns as made by `data.frames.as_table`."""
    return isinstance(x, Columns) or _package(x) is not None


def _package(x: object) -> Any:
    """The package (pandas or polars) whose DataFrame this is, or None."""
    for name in ("pandas", "polars"):
        package = sys.modules.get(name)
        if package is not None and isinstance(x, getattr(package, "DataFrame", ())):
            return package
    return None


def select(
    frame: Any, names: Sequence[str], dtype: type[Any] = np.float64, categories: Categories = NONE
) -> NDArray[Any]:
    """The columns with these names as an array (N, names), in this order. Missing values become NaN, categories their
    codes, and unknown categories the code after the last."""
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
    """A DataFrame of values (N, names), of the package and index of `frame`; for a dict of columns the values."""
    if isinstance(frame, Columns):
        return values
    package = _package(frame)
    if package.__name__ == "polars":
        return package.DataFrame(values, schema=list(names))
    return package.DataFrame(values, index=frame.index, columns=list(names))


def series(frame: Any, values: NDArray[Any], name: str) -> Any:
    """A Series of values (N,), of the package and index of `frame`; for a dict of columns the values themselves."""
    if isinstance(frame, Columns):
        return values
    package = _package(frame)
    if package.__name__ == "polars":
        return package.Series(name, values.tolist(), dtype=package.String)
    return package.Series(values.tolist(), index=frame.index, name=name, dtype="str")


def _list(names: Sequence[object]) -> str:
    return first_names([f"{name!r:.80}" for name in names], _SHOWN, ", ...") or "none"
