"""The checks of a `Dataset`: numbers, names, categories and weights."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kanserve.data.frames import Categories
from kanserve.errors import DataError

Array = NDArray[np.float64]

CHECKED_AT_ONCE = 2**16  # rows


def as_numbers(values: object, name: str) -> Array:
    """Convert to an array of float64. Raises DataError if the values are not numbers."""
    try:
        given = np.asarray(values)
        if given.dtype.kind == "c":  # NumPy would drop the imaginary parts
            raise TypeError
        return np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        lengths = {np.shape(row)[:1] for row in values} if isinstance(values, list | tuple) else set()
        ragged = " Its rows have different lengths." if len(lengths) > 1 else ""
        raise DataError(f"{name} must be numbers.{ragged}") from None


def check_names(kind: str, names: Sequence[str]) -> None:
    """Raise DataError for names that no network can have, with the message of the network's own check."""
    if len(set(names)) != len(names) or not all(names):
        raise DataError(f"The names of the {kind} must differ and not be empty, got {list(names)}.")


def check_categories(given: Categories, x: Array, names: Sequence[str]) -> Categories:
    """The categories as texts. Raises DataError unless their inputs contain valid codes."""
    for name, known in given.items():
        if name not in names:
            raise DataError(f"Categories name {name!r}, which is not an input; the inputs are {', '.join(names)}.")
        column = x[:, names.index(name)]
        bad = np.flatnonzero(~np.isnan(column) & ~((column >= 0) & (column == np.floor(column))))
        if len(bad) or not len(known) or len(set(known)) != len(known):
            example = f"; row {bad[0] + 1} is {column[bad[0]]}" if len(bad) else ""
            raise DataError(f"The categorical input {name!r} needs categories that differ, and their codes{example}.")
    return {name: tuple(map(str, known)) for name, known in given.items()}


def check_finite(values: Array, kind: str, labels: Sequence[str], missing: bool = False) -> None:
    """Raise DataError for the first number that is not finite; in blocks, since a file of rows may exceed memory."""
    found, first = 0, (0, 0)
    for start in range(0, len(values), CHECKED_AT_ONCE):
        block = values[start : start + CHECKED_AT_ONCE]
        bad = np.argwhere(np.isinf(block) if missing else ~np.isfinite(block))
        if len(bad) and not found:
            first = (start + int(bad[0, 0]), int(bad[0, 1]))
        found += len(bad)
    if found:
        row, column = first
        raise DataError(
            f"Samples need finite numbers: {kind} {labels[column]!r} is {values[row, column]} "
            f"in row {row + 1} ({found} such values). Drop or fill those rows."
        )


def row_weights(values: object, rows: int) -> Array:
    """Validate the weights (rows,): finite, at least 0, and not all 0. Raises DataError."""
    weights = as_numbers(values, "weights")
    if weights.shape != (rows,):
        raise DataError(f"Weights are one number a row, ({rows},); got {weights.shape}.")
    bad = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if len(bad):
        raise DataError(f"Weights are finite numbers from 0 on; that of row {bad[0] + 1} is {weights[bad[0]]}.")
    if not weights.any():
        raise DataError("All weights are 0, so no row counts. Give at least one row a weight above 0.")
    return weights
