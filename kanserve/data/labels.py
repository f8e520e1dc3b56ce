"""One-hot encoding of class labels, integers or text: a column per class, 0 or 1."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import DataError

Array = NDArray[np.float64]


def label_column(values: object) -> NDArray[Any] | None:
    """The values as one column (N,) if they are a single column that may hold labels, else None."""
    try:
        column = np.asarray(values)
    except ValueError:  # rows of different lengths
        return None
    if column.ndim == 2 and column.shape[1] == 1:
        column = column[:, 0]
    return column if column.ndim == 1 and len(column) else None


def is_text(column: NDArray[Any]) -> bool:
    """Whether a column contains text, which can only be class labels."""
    kind: str = column.dtype.kind
    return kind in "UST" or (kind == "O" and any(isinstance(value, str) for value in column))


def is_whole(column: NDArray[Any]) -> bool:
    """Whether a column holds integers, which may be class labels."""
    if column.dtype.kind == "f":
        return bool(np.isfinite(column).all() and (column == np.trunc(column)).all())
    return column.dtype.kind in "iub"


def one_hot(column: NDArray[Any], classes: Sequence[object] = (), what: str = "y") -> tuple[Array, tuple[str, ...]]:
    """One-hot columns (N, classes), and the class names: by default the sorted distinct labels. With `classes`, a label
    is a class name or, if no label is one, an index. Raises DataError for other labels."""
    column = _check_labels(column, what)
    given = column.tolist()
    if len(classes) == 0:
        try:
            distinct = sorted(set(given))
        except TypeError:
            raise DataError(f"{what} has labels of different types; give all as text or all as integers.") from None
        if len(distinct) < 2:
            raise DataError(f"{what} has the single class {distinct[0]!r}; there is nothing to learn.")
        numbers = {label: number for number, label in enumerate(distinct)}
        names = tuple(str(label) for label in distinct)
    else:
        names = tuple(str(name) for name in classes)
        numbers = _numbers(set(given), names)
    missing = next((row for row, label in enumerate(given) if label not in numbers), None)
    if missing is not None:
        raise DataError(
            f"{what} has the label {given[missing]!r:.80} in row {missing + 1}; the classes are {', '.join(names)}."
        )
    return np.eye(len(names))[[numbers[label] for label in given]], names


MANY_CLASSES = 20
"""Of up to so many classes a few rows are a fair, if small, table: each of three rows may have its own label."""


def check_learnable(classes: Sequence[str], rows: int, what: str = "y") -> None:
    """Raise DataError for a target of text that differs in nearly every row, such as names or unrecognised numbers,
    unless it is declared to be classes: most classes would occur once, and could neither be learned nor checked."""
    if len(classes) > max(MANY_CLASSES, rows / 2):
        raise DataError(
            f"{what} has {len(classes)} different texts in {rows} rows, as {classes[0]!r:.40} and {classes[1]!r:.40}: "
            "too many for classes. If they are numbers, write all in one notation; decimal=',' reads a decimal comma. "
            "If they are classes, say so: kind='classification' of read_table, --classify, or loss='cross_entropy'."
        )


def _numbers(labels: set[Any], names: tuple[str, ...]) -> dict[Any, int]:
    """The index of each label's class: by name or, if no label is a name, by index."""
    by_name = {label: names.index(str(label)) for label in labels if str(label) in names}
    if by_name or not all(isinstance(label, int) for label in labels):
        return by_name
    return {label: label for label in labels if 0 <= label < len(names)}


def _check_labels(column: NDArray[Any], what: str) -> NDArray[Any]:
    if column.dtype.kind == "f":
        if not is_whole(column):
            row = int(np.flatnonzero(~(column == np.trunc(column)) | ~np.isfinite(column))[0])
            raise DataError(f"{what} must be class labels, integers or text; row {row + 1} is {column[row]}.")
        return column.astype(np.int64)
    if column.dtype.kind == "O":
        bad = [row for row, value in enumerate(column) if value is None or value != value]
        if bad:
            raise DataError(f"{what} has no class in row {bad[0] + 1}.")
    elif column.dtype.kind not in "iubUST":
        raise DataError(f"{what} must be class labels, integers or text; got {column.dtype}.")
    return column
