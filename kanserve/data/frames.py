"""Read columns of a pandas or polars DataFrame, or of a pyarrow table, without importing these packages."""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol, TypeGuard

import numpy as np
from numpy.typing import NDArray

from kanserve.data.labels import is_text
from kanserve.errors import DataError

Array = NDArray[np.float64]
Categories = Mapping[str, tuple[str, ...]]
"""The categories of each categorical input, by its name."""
NONE: Categories = MappingProxyType({})


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
    frame: DataFrame, target: str | Sequence[str] | None, known: Categories = NONE, wanted: Sequence[str] = ()
) -> tuple[Array, tuple[str, ...], tuple[str, ...], Any, Categories]:
    """x, the names of inputs and targets, y: numbers (N, targets) or a column of labels, and the inputs' categories.

    Those of the inputs in `known` are the ones there. Of the columns that are no targets, those `wanted` are the
    inputs, in this order, unless none of them is there.
    """
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
    texts = [str(name) for name in inputs]
    if wanted and (set(wanted) & set(texts) or len(texts) != len(wanted)):
        check_columns(texts, wanted)
        inputs = [inputs[texts.index(name)] for name in wanted]
    if not targets or not inputs:
        raise DataError("Choose at least one target column and leave at least one input column.")
    x, categories = coded(frame, inputs, known)
    y: Any
    if len(targets) == 1 and is_categorical(frame[targets[0]]):
        y = frame[targets[0]]
    else:
        y = np.column_stack([_numbers(frame[name], name) for name in targets])
    return x, tuple(str(name) for name in inputs), tuple(str(name) for name in targets), y, categories


def coded(frame: DataFrame, names: Sequence[Any], known: Categories = NONE) -> tuple[Array, Categories]:
    """The columns of these names as numbers (N, names), NaN where missing, and the categories of categorical ones.

    A categorical column has the codes of its categories: those in `known`, else its own. A category that is not in
    `known` has the code behind the last one. A column of text is categorical; one of truth values is 0 and 1.
    """
    columns, found = [], dict[str, tuple[str, ...]]()
    for name in names:
        column, own = _coded(frame[name], name, known.get(str(name)))
        columns.append(column)
        if own:
            found[str(name)] = own
    return np.column_stack(columns), found


def frame_numbers(frame: DataFrame, known: Categories = NONE) -> tuple[Array, Categories]:
    """All columns of a frame, as `coded` has them."""
    names = list(getattr(frame, "column_names", frame.columns))
    if len(set(names)) == len(names):
        return coded(frame, names, known)
    return _numbers(np.asarray(frame), "x"), NONE


def _coded(column: Any, name: object, known: tuple[str, ...] | None) -> tuple[Array, tuple[str, ...]]:
    """A column as numbers, and its categories, none if it is not categorical."""
    own = _own_categories(column)
    if known is not None or own is not None:
        given = _texts(column)
        known = known or own or tuple(sorted({text for text in given if text is not None}))
        return codes(given, known), known
    if not is_text(np.asarray(column)):
        return _numbers(column, name), ()
    given = _texts(column)
    there = {text for text in given if text is not None}
    numeric = {text for text in there if is_number(text)}
    if not numeric:
        return codes(given, tuple(sorted(there))), tuple(sorted(there))
    if numeric < there:
        row = next(row for row, text in enumerate(given) if text in there - numeric)
        raise DataError(f"Column {name!r} must be numbers, or categories; row {row + 1} is {given[row]!r:.80}.")
    return np.array([np.nan if text is None else float(text) for text in given]), ()


def codes(texts: Iterable[str | None], known: Sequence[str]) -> Array:
    """The codes of texts (N,): NaN for None, and the number of categories for what is none of them."""
    found: dict[str | None, float] = {text: float(code) for code, text in enumerate(known)}
    found[None] = np.nan
    return np.array([found.get(text, float(len(known))) for text in texts], np.float64)


def _own_categories(column: Any) -> tuple[str, ...] | None:
    """The categories of a column's type, none if it does not list them; None if its type is no categorical one."""
    kind: Any = getattr(column, "dtype", getattr(column, "type", None))
    if getattr(kind, "name", "") == "category" or str(kind).startswith("Enum"):  # pandas, polars
        return tuple(map(category_text, kind.categories))
    return () if str(kind).startswith(("Categorical", "dictionary")) else None  # polars, pyarrow


def _texts(column: Any) -> list[str | None]:
    """The values of a column as texts, None where missing."""
    reader = getattr(column, "to_pylist", getattr(column, "to_list", None))
    listed = np.asarray(column).tolist() if reader is None else reader()
    return [None if value is None or value != value else category_text(value) for value in map(_plain, listed)]


def category_text(value: object) -> str:
    """The text of a category; a whole number has the same in every type: "1" for 1.0."""
    return str(int(value)) if isinstance(value, float | np.floating) and value.is_integer() else str(value)


def _plain(value: Any) -> Any:
    """None for pandas' missing value, whose comparison with itself is no truth value."""
    return None if type(value).__name__ in ("NAType", "NaTType") else value


def is_number(text: str | None) -> bool:
    """Whether a text is a number."""
    try:
        float(text or "")
    except ValueError:
        return False
    return True


def is_categorical(column: Any) -> bool:
    """Whether a column holds text or is of the type category."""
    return getattr(getattr(column, "dtype", None), "name", "") == "category" or is_text(np.asarray(column))


def column_names(table: object, count: int) -> tuple[str, ...]:
    """The names of a frame's or a series' `count` columns; empty if they are not strings or not all different."""
    found = getattr(table, "column_names", getattr(table, "columns", None))
    if found is None:
        found = [getattr(table, "name", None)]
    names = tuple(found)
    usable = all(isinstance(name, str) and name for name in names) and len(set(names)) == len(names) == count
    return names if usable else ()


def _numbers(column: Any, name: object) -> Array:
    if getattr(column, "hasnans", False):  # of pandas; its nullable types would be objects
        column = column.to_numpy(na_value=np.nan)
    values = np.asarray(column)
    if values.dtype.kind not in "mMc":
        try:
            return values.astype(np.float64)
        except (TypeError, ValueError):
            pass
    raise DataError(f"Column {name!r} must be numbers, got {getattr(column, 'dtype', values.dtype)}.")


def named_columns(frame: DataFrame, names: Sequence[str]) -> Array:
    """The columns with these names as rows (N, names), in this order; DataError for a column that is not there."""
    check_columns([str(name) for name in getattr(frame, "column_names", frame.columns)], names)
    return np.column_stack([_numbers(frame[name], name) for name in names])


def input_columns(frame: DataFrame, inputs: Categories) -> Array:
    """The columns of a network's inputs (N, inputs), by their names and with these categories, () for a number.

    Other columns of the frame are left out. Where none of the names is there and the frame has as many columns as there
    are inputs, they count by position, since a network that was trained on an array has no names of columns.
    """
    columns = list(getattr(frame, "column_names", frame.columns))
    texts = [str(name) for name in columns]
    names = list(inputs)
    if not set(names) & set(texts) and len(texts) == len(names):
        chosen = columns
    else:
        check_columns(texts, names)
        chosen = [columns[texts.index(name)] for name in names]
    known = {str(column): inputs[name] for column, name in zip(chosen, names, strict=True) if inputs[name]}
    numbers, found = coded(frame, chosen, known)
    for column, name in zip(chosen, names, strict=True):
        if str(column) in found and not inputs[name]:
            raise DataError(f"Input {name!r} has categories in the data, and is a number in the network.")
    return numbers


def check_columns(columns: Sequence[str], names: Iterable[str]) -> None:
    """DataError unless each of the names is that of one column."""
    missing = [name for name in names if name not in columns]
    if missing:
        raise DataError(f"The table lacks the column {missing[0]!r}. Its columns: {', '.join(columns[:30])}.")
    twice = [name for name in names if columns.count(name) > 1]
    if twice:
        raise DataError(f"The table has {columns.count(twice[0])} columns called {twice[0]!r}; rename them.")
