"""Read columns of a pandas or polars DataFrame, a pyarrow table or a dict, without importing these packages."""

import datetime
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol, TypeGuard

import numpy as np
from numpy.typing import NDArray

from kanserve.data.labels import is_text
from kanserve.data.near_names import first_names, near
from kanserve.data.number_texts import TableWarning, date_refusal, is_dates, looks_numeric, mostly_numbers, number_texts
from kanserve.errors import DataError, warn

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


@dataclass(frozen=True, eq=False)
class Columns:
    """A dict of columns as a table. Raises DataError unless they have equal lengths."""

    given: Mapping[Any, Any]

    def __post_init__(self) -> None:
        shapes = {str(name): np.shape(column) for name, column in self.given.items()}
        if not shapes or any(len(shape) != 1 for shape in shapes.values()) or len(set(shapes.values())) != 1:
            shown = ", ".join(f"{name!r} {shape}" for name, shape in list(shapes.items())[:30])
            raise DataError(
                f"A dict of columns has a list of values for each name, equally long; got {shown or 'none'}."
            )

    @property
    def columns(self) -> list[Any]:
        return list(self.given)

    @property
    def shape(self) -> tuple[int, int]:
        return len(next(iter(self.given.values()))), len(self.given)

    def __getitem__(self, name: Any, /) -> Any:
        column = self.given[name]
        return (
            column if hasattr(column, "dtype") or hasattr(column, "type") else np.asarray(column, dtype=_kind(column))
        )


def _kind(column: Sequence[Any]) -> Any:
    """The dtype `object` for a list that contains text (NumPy would turn its numbers into text), else None."""
    return object if any(isinstance(value, str) or value is None for value in column) else None


def is_columns(data: object) -> TypeGuard[Mapping[Any, Any]]:
    """Whether this is a dict of columns. (Some SciPy sparse matrices are dicts too.)"""
    return isinstance(data, Mapping) and not hasattr(data, "shape")


def as_table(data: Any) -> Any:
    """A dict of columns as a table; anything else unchanged."""
    return Columns(data) if is_columns(data) else data


def is_frame(data: object) -> TypeGuard[DataFrame]:
    """Whether this is a table with named columns."""
    return all(hasattr(data, name) for name in ("columns", "shape", "__getitem__"))


def split_frame(
    frame: DataFrame, target: str | Sequence[str] | None, known: Categories = NONE, wanted: Sequence[str] = ()
) -> tuple[Array, tuple[str, ...], tuple[str, ...], Any, Categories]:
    """x, the names of inputs and targets, y (numbers (N, targets) or a column of labels), and the inputs' categories,
    those in `known` if present. The inputs are the columns `wanted`, in this order, or all non-targets if none of these
    exists."""
    names = list(getattr(frame, "column_names", frame.columns))
    targets = _targets(names, target)
    inputs = [name for name in names if name not in targets]
    texts = [str(name) for name in inputs]
    if wanted and (set(wanted) & set(texts) or len(texts) != len(wanted)):
        check_columns(texts, wanted)
        inputs = [inputs[texts.index(name)] for name in wanted]
    if not targets or not inputs:
        raise DataError("Choose at least one target column and leave at least one input column.")
    x, categories = encode_columns(frame, inputs, known)
    y: Any
    if len(targets) == 1 and _is_label(frame[targets[0]], targets[0]):
        y = frame[targets[0]]
    else:
        y = np.column_stack([_numbers(frame[name], name) for name in targets])
    return x, tuple(str(name) for name in inputs), tuple(str(name) for name in targets), y, categories


def _targets(names: list[Any], target: str | Sequence[str] | None) -> list[Any]:
    """The target columns. Raises DataError unless they are columns of the frame."""
    shown = ", ".join(str(name) for name in names[:30])
    if target is None:
        raise DataError(f"Say which column of the DataFrame to learn, as target='name'. Its columns: {shown}.")
    targets = [target] if isinstance(target, str) else list(target)
    for name in targets:
        if name not in names:
            hint = near(str(name), map(str, names))
            raise DataError(f"The DataFrame has no column {name!r}. {hint}Its columns: {shown}.")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise DataError(f"The DataFrame has {names.count(twice[0])} columns called {twice[0]!r}; rename them.")
    return targets


def encode_columns(frame: DataFrame, names: Sequence[Any], known: Categories = NONE) -> tuple[Array, Categories]:
    """Columns as numbers (N, names), NaN if missing, and the categories of categorical ones. Categories are those in
    `known`, else the column's own; an unknown one gets the code after the last. Text is categorical, truth values are 0
    and 1."""
    columns, found = [], dict[str, tuple[str, ...]]()
    for name in names:
        column, own = _encode_column(frame[name], name, known.get(str(name)))
        columns.append(column)
        if own:
            found[str(name)] = own
    return np.column_stack(columns), found


def frame_numbers(frame: DataFrame, known: Categories = NONE) -> tuple[Array, Categories]:
    """All columns of a frame, in the format of `encode_columns`."""
    names = list(getattr(frame, "column_names", frame.columns))
    if len(set(names)) == len(names):
        return encode_columns(frame, names, known)
    return _numbers(np.asarray(frame), "x"), NONE


def _encode_column(column: Any, name: object, known: tuple[str, ...] | None) -> tuple[Array, tuple[str, ...]]:
    """A column as numbers, and its categories (none if it is not categorical)."""
    own = _own_categories(column)
    if known is not None or own is not None:
        return _categorical(_texts(column), name, known, own)
    if not is_text(np.asarray(column)):
        return _numbers(column, name), ()
    given = _texts(column)
    there = {text for text in given if text is not None}
    if is_dates(there):
        raise date_refusal(name)
    numbers = _parse_texts(given, name)
    if numbers is not None:
        return numbers, ()
    if not mostly_numbers(there):
        return codes(given, tuple(sorted(there))), tuple(sorted(there))
    for row, text in enumerate(given):
        if text is not None and not looks_numeric(text):
            raise DataError(f"Column {name!r} must be numbers, or categories; row {row + 1} is {text!r:.80}.")
    raise DataError(f"Column {name!r} has numbers in several notations or units. Write all in one.")


def _categorical(
    texts: list[str | None], name: object, known: tuple[str, ...] | None, own: tuple[str, ...] | None
) -> tuple[Array, tuple[str, ...]]:
    """The codes of a categorical column and its categories: those `known`, else its own, else all of its texts."""
    for said in strangers(name, texts, known) if known else ():
        warn(said, TableWarning)
    known = known or own or tuple(sorted({text for text in texts if text is not None}))
    return codes(texts, known), known


def _parse_texts(texts: Sequence[str | None], name: object) -> Array | None:
    """The numbers in a column of text, with a warning about how they were read; None if there is other text."""
    found = number_texts(texts)
    if found is None:
        return None
    numbers = found.chosen(None)
    if numbers is None:
        raise DataError(
            f"Column {name!r} is in doubt: {found.doubt(texts)}. Make it numbers first; kanserve.read_table(file, .., "
            "decimal=',') reads a file with decimal commas, and decimal='.' one with commas between thousands."
        )
    if said := found.describe(texts, numbers):
        warn(f"column {name!r}: {said}", TableWarning)
    return numbers


def _is_label(column: Any, name: object) -> bool:
    """Whether a target holds class labels: categories, or text other than numbers (texts of integers are labels)."""
    if not is_categorical(column) or _own_categories(column) is not None:
        return is_categorical(column)
    texts = _texts(column)
    found = number_texts(texts)
    return found is None or (found.plain and found.same)


def codes(texts: Iterable[str | None], known: Sequence[str]) -> Array:
    """Encode strings as category codes (N,): the position in `known`, len(known) for an unknown one, NaN for None."""
    found: dict[str | None, float] = {text: float(code) for code, text in enumerate(known)}
    found[None] = np.nan
    return np.array([found.get(text, float(len(known))) for text in texts], np.float64)


def strangers(name: object, texts: Iterable[str | None], known: Sequence[str]) -> list[str]:
    """Warnings about texts that are not categories of the network; misspelt ones are predicted all the same."""
    found = sorted({text for text in texts if text is not None}.difference(known))
    if not found:
        return []
    shown, categories = first_names([repr(text) for text in found], 3), first_names(known, 10, ", ...")
    verb = "is not a category" if len(found) == 1 else "are not categories"
    return [f"column {name!r}: {shown} {verb} of the network ({categories}) and counted as unknown"]


def _own_categories(column: Any) -> tuple[str, ...] | None:
    """The categories of a column's type, () if it does not list them; None if the type is not categorical."""
    kind: Any = getattr(column, "dtype", getattr(column, "type", None))
    if getattr(kind, "name", "") == "category" or str(kind).startswith("Enum"):  # pandas, polars
        return tuple(map(category_text, kind.categories))
    return () if str(kind).startswith(("Categorical", "dictionary")) else None  # polars, pyarrow


def _texts(column: Any) -> list[str | None]:
    """The values of a column as texts, None if missing."""
    reader = getattr(column, "to_pylist", getattr(column, "to_list", None))
    listed = np.asarray(column).tolist() if reader is None else reader()
    return [None if value is None or value != value else category_text(value) for value in map(_plain, listed)]


def category_text(value: object) -> str:
    """The text of a category. An integer has the same text in every type: "1" for 1.0."""
    return str(int(value)) if isinstance(value, float | np.floating) and value.is_integer() else str(value)


def _plain(value: Any) -> Any:
    """None for pandas' missing values, whose comparison with themselves has no truth value."""
    return None if type(value).__name__ in ("NAType", "NaTType") else value


def is_categorical(column: Any) -> bool:
    """Whether a column holds text, or has the type category."""
    return getattr(getattr(column, "dtype", None), "name", "") == "category" or is_text(np.asarray(column))


def column_names(table: object, count: int) -> tuple[str, ...]:
    """The names of a frame's or series' `count` columns as texts. Empty for columns numbered 0, 1, .., as pandas
    numbers those of an array. Raises DataError for two columns with one name."""
    found = getattr(table, "column_names", getattr(table, "columns", None))
    if found is None:
        name = getattr(table, "name", None)
        return (name,) if isinstance(name, str) and name and count == 1 else ()
    names = tuple(str(name) for name in found)
    if len(names) != count or list(found) == list(range(count)) or not all(names):
        return ()
    check_columns(names, names)
    return names


def _numbers(column: Any, name: object) -> Array:
    if getattr(column, "hasnans", False):  # of pandas; its nullable types would be objects
        column = column.to_numpy(na_value=np.nan)
    values = np.asarray(column)
    if values.dtype.kind not in "mMc":
        try:
            return values.astype(np.float64)
        except (TypeError, ValueError):
            pass
    if values.dtype.kind in "OUT" and is_text(values):
        numbers = _parse_texts(_texts(column), name)
        if numbers is not None:
            return numbers
    times = (datetime.date, datetime.time, datetime.timedelta)
    if values.dtype.kind in "mM" or (
        values.dtype.kind == "O" and any(isinstance(value, times) for value in values.flat)
    ):
        raise date_refusal(name)
    raise DataError(f"Column {name!r} must be numbers, got {getattr(column, 'dtype', values.dtype)}.")


def select_columns(frame: DataFrame, names: Sequence[str]) -> Array:
    """The columns with these names as an array (N, names), in this order. Raises DataError for a missing column."""
    check_columns([str(name) for name in getattr(frame, "column_names", frame.columns)], names)
    return np.column_stack([_numbers(frame[name], name) for name in names])


def input_columns(frame: DataFrame, inputs: Categories) -> Array:
    """The input columns (N, inputs) of a network, by name and with its categories, () for a number; other columns are
    ignored. If no name occurs and the count is right, columns are taken by position, since a network trained on an
    array has no names."""
    columns = list(getattr(frame, "column_names", frame.columns))
    texts = [str(name) for name in columns]
    names = list(inputs)
    if not set(names) & set(texts) and len(texts) == len(names):
        chosen = columns
    else:
        check_columns(texts, names)
        chosen = [columns[texts.index(name)] for name in names]
    known = {str(column): inputs[name] for column, name in zip(chosen, names, strict=True) if inputs[name]}
    numbers, found = encode_columns(frame, chosen, known)
    for column, name in zip(chosen, names, strict=True):
        if str(column) in found and not inputs[name]:
            raise DataError(f"Input {name!r} has categories in the data, and is a number in the network.")
    return numbers


def check_columns(columns: Sequence[str], names: Iterable[str]) -> None:
    """Raise DataError unless each name is that of exactly one column."""
    missing = [name for name in names if name not in columns]
    if missing:
        hint = near(missing[0], columns)
        raise DataError(f"The table lacks the column {missing[0]!r}. {hint}Its columns: {', '.join(columns[:30])}.")
    twice = [name for name in names if columns.count(name) > 1]
    if twice:
        raise DataError(f"The table has {columns.count(twice[0])} columns called {twice[0]!r}; rename them.")
