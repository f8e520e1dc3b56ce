"""Read data sets from CSV and Parquet files."""

import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kanserve.data.csv_files import Table, read_file
from kanserve.data.dataset import Dataset
from kanserve.data.frames import NONE, Categories, category_text, codes, strangers
from kanserve.data.labels import check_learnable, one_hot
from kanserve.data.near_names import near
from kanserve.data.number_texts import Decimal, TableWarning, date_refusal, is_dates, looks_numeric, mostly_numbers
from kanserve.errors import DataError, warn

Array = NDArray[np.float64]
Kind = Literal["auto", "regression", "classification"]
MOST_SAID = 5  # columns in a warning: more are not read
MOST_LABELS = 10  # different whole numbers that may be labels of classes: the ten digits; grades and counts have more


def read_table(
    path: str | os.PathLike[str],
    target: str | Sequence[str],
    inputs: Sequence[str] = (),
    kind: Kind = "auto",
    *,
    decimal: Decimal | None = None,
) -> Dataset:
    """Read a CSV or Parquet file: `target` columns to learn, from `inputs` (default: every other column).

    A single target of text, or any single target with kind="classification", makes a classifier whose classes are
    the sorted distinct values. Inputs of text are categorical, and empty fields of inputs are missing values.

    The separator of a CSV file (comma, semicolon, tab or |) is looked for. Text is numbers where one convention fits
    every value of a column: "$175,349", "12 %" (0.12), "1.234,5", "54 km"; NA, N/A, null, - and ? among numbers are
    missing values. A `TableWarning` says what was read so.

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
    decimal : {".", ","}, optional
        The decimal mark of numbers that may be read in two ways: "1,234" alone is 1234 with "." and 1.234 with ",".

    Returns
    -------
    Dataset
        The samples.

    Raises
    ------
    NotFoundError
        The file does not exist.
    DataError
        A column is missing, is neither numbers nor text, holds dates or has numbers in doubt; or a target of text is
        different in nearly every row.

    Examples
    --------
    >>> import kanserve, tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "rows.csv"
    >>> _ = path.write_text("x,y\\n0,1\\n1,3\\n")
    >>> kanserve.read_table(path, "y")
    Dataset(2 rows, 1 inputs, outputs y)
    """
    target = [target] if isinstance(target, str) else target
    table = read_file(path, decimal)
    wanted = list(inputs) or [name for name in table.names if name not in target]
    _check_choice(table, target, wanted)
    said: list[str] = []
    x, categories = _encode_columns(table, wanted, said)
    if kind == "classification" or (kind == "auto" and len(target) == 1 and table.is_text(target[0])):
        y, classes = _one_hot(table, target)
        if kind == "auto":
            if all(map(looks_numeric, classes)):
                _column(table, target[0], said)  # which says why these are no numbers
            check_learnable(classes, len(table), f"{path}: column {target[0]!r}")
        _say(said)
        return Dataset(x, y, tuple(wanted), classes, classes, categories=categories)
    y = np.column_stack([_column(table, name, said) for name in target])
    _say(said)
    return Dataset(x, y, tuple(wanted), tuple(target), categories=categories)


def read_rows(
    path: str | os.PathLike[str],
    inputs: Sequence[str],
    absent: Mapping[str, float] = MappingProxyType({}),
    categories: Categories = NONE,
    *,
    decimal: Decimal | None = None,
) -> Array:
    """Read rows (N, inputs) for prediction from a CSV or Parquet file; categories become their codes, a missing column
    or value of an input in `absent` that input's value, and other missing values NaN."""
    said: list[str] = []
    x = _inputs(read_file(path, decimal), inputs, absent, categories, said)
    _say(said)
    return np.where(np.isnan(x), [absent.get(name, np.nan) for name in inputs], x)


def count_labels(values: Array) -> int:
    """How many different numbers there are, if they may be the labels of classes: few and whole. 0 otherwise."""
    different = np.unique(values[np.isfinite(values)])
    whole = bool((different == np.trunc(different)).all())
    return len(different) if whole and 2 <= len(different) <= MOST_LABELS else 0


def column_names(path: str | os.PathLike[str]) -> list[str]:
    return read_file(path).names


def read_samples(
    path: str | os.PathLike[str],
    target: Sequence[str],
    inputs: Sequence[str],
    classes: Sequence[str] = (),
    absent: Mapping[str, float] = MappingProxyType({}),
    categories: Categories = NONE,
    *,
    decimal: Decimal | None = None,
) -> Dataset:
    """Read samples to score a network on; labels of the target must be among `classes`."""
    table, said = read_file(path, decimal), list[str]()
    _check_columns(table, target)
    x = _inputs(table, inputs, absent, categories, said)
    if not len(x):
        raise DataError(f"{path} has a header but no rows.")
    if classes:
        y, names = _one_hot(table, target, classes)
        _say(said)
        return Dataset(x, y, tuple(inputs), (), names, categories=categories)
    y = np.column_stack([_column(table, name, said) for name in target])
    _say(said)
    return Dataset(x, y, tuple(inputs), tuple(target), categories=categories)


def _say(said: Sequence[str]) -> None:
    """Give one warning with the first notes about how columns were read."""
    if said:
        more = f"; and {len(said) - MOST_SAID} more columns" if len(said) > MOST_SAID else ""
        warn("; ".join(said[:MOST_SAID]) + more, TableWarning)


def _inputs(
    table: Table, inputs: Sequence[str], absent: Mapping[str, float], categories: Categories, said: list[str]
) -> Array:
    """The input columns (N, inputs); absent ones are filled with their value in `absent`."""
    present = set(table.names)
    _check_columns(table, [name for name in inputs if name in present or name not in absent])
    columns = [
        np.full((len(table), 1), absent[name])
        if name not in present
        else _encode_columns(table, [name], said, categories)[0]
        if name in categories
        else _column(table, name, said)[:, None]
        for name in inputs
    ]
    return np.concatenate(columns, axis=1)


def _encode_columns(
    table: Table, names: Sequence[str], said: list[str], known: Categories = NONE
) -> tuple[Array, Categories]:
    """Columns as numbers (N, names), and the categories of categorical ones: those in `known`, else of columns that are
    all text. Raises an error if only some texts are numbers."""
    columns, found = [], dict[str, tuple[str, ...]]()
    for name in names:
        texts = _texts(table, name, known.get(name, ())) if name in known or table.is_text(name) else []
        there = {text for text in texts if text is not None}
        if name not in known and is_dates(there):
            raise date_refusal(name, f"{table.path}: column")
        if there and (name in known or not mostly_numbers(there)):
            found[name] = known.get(name) or tuple(sorted(there))
            said += strangers(name, there, found[name])
            columns.append(codes(texts, found[name]))
        else:
            columns.append(_column(table, name, said))
    return np.column_stack(columns), found


def _texts(table: Table, name: str, known: Sequence[str]) -> list[str | None]:
    """The texts of a categorical column, None if missing."""
    listed = [_spelt(value, known) for value in table.values(name)]
    return [None if value is None or value == "" else category_text(value) for value in listed]


def _spelt(value: object, known: Sequence[str]) -> object:
    """Spell a truth value as the network's categories do: the words true and false in a file are truth values."""
    small = str(value).lower()
    return small if isinstance(value, bool) and str(value) not in known and small in known else value


def _check_choice(table: Table, target: Sequence[str], inputs: Sequence[str]) -> None:
    """Raise DataError unless the table has rows and all these columns, and no column is both input and target."""
    _check_columns(table, [*target, *inputs])
    if not target or not inputs:
        raise DataError("Choose at least one target column and leave at least one input column.")
    if set(target) & set(inputs):
        raise DataError(f"Column {sorted(set(target) & set(inputs))[0]!r} is both an input and a target.")
    if not len(table):
        raise DataError(f"{table.path} has a header but no rows.")


def _check_columns(table: Table, wanted: Sequence[str]) -> None:
    """Raise DataError for the first column that the table lacks."""
    for name in wanted:
        if name not in table.names:
            raise DataError(
                f"{table.path} has no column {name!r}. {near(name, table.names)}Its columns: {', '.join(table.names)}."
            )


def _column(table: Table, name: str, said: list[str]) -> Array:
    """One column as float64, missing values as NaN. Notes for the user about how it was read are appended to `said`."""
    written = table.numbers(name)
    if written is not None:
        numbers, described = written
        said += [f"column {name!r}: {described}"] if described else []
        return numbers
    values = table.values(name)
    if table.is_text(name):
        _check_empty(f"{table.path}: column {name!r}", values)
        return np.full(len(table), np.nan)
    marks = table.marks(name)
    if marks:
        said.append(
            f"column {name!r}: {', '.join(map(repr, marks))} {'is' if len(marks) == 1 else 'are'} read as missing"
        )
    try:
        return np.array([np.nan if v is None else float(v) for v in values])
    except (TypeError, ValueError):
        kind = str(table.columns.schema.field(name).type)
        if kind.startswith(("date", "time", "duration")):
            raise date_refusal(name, f"{table.path}: column") from None
        got = "text that is not UTF-8. Save the file as UTF-8" if kind == "binary" else kind
        raise DataError(f"{table.path}: column {name!r} must be numbers, got {got}.") from None


def _check_empty(column: str, texts: Sequence[str | None]) -> None:
    """Raise DataError for a text that is not a number in a column that should hold numbers."""
    for row, text in enumerate(texts):
        if text and not looks_numeric(text):
            raise DataError(f"{column} must be numbers; row {row + 1} is {text!r:.80}.")
    if any(texts):
        raise DataError(f"{column} has numbers in several notations or units, as {_examples(texts)}. Write all in one.")


def _examples(values: Sequence[str | None]) -> str:
    there = sorted({value for value in values if value}, key=lambda value: (len(value), value))
    return f"{there[0]!r:.40} and {there[-1]!r:.40}"


def _one_hot(table: Table, target: Sequence[str], classes: Sequence[str] = ()) -> tuple[Array, tuple[str, ...]]:
    """The class of each row one-hot (N, classes), and the class names."""
    if len(target) != 1:
        raise DataError(f"A classifier has one target column, got {len(target)}.")
    labels = np.array([_spelt(value, classes) for value in table.values(target[0])], dtype=object)
    return one_hot(labels, classes, what=f"{table.path}: column {target[0]!r}")
