"""Columns of DataFrames with categories and missing values as the numbers that scikit-learn checks."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kanserve.data.frames import Categories, column_names, frame_numbers, is_frame
from kanserve.errors import DataError
from kanserve.network.kan import Kan

Array = NDArray[np.float64]


def coded(X: ArrayLike, kan: Kan | None = None) -> tuple[Any, Categories]:
    """X, a frame's categories as codes: those of a fitted network, or else X's own; and the categories of each column.

    Another frame of the same package is returned if there are any; anything else stays as it is.
    """
    if not is_frame(X) or len(X.columns) == 0:
        return X, {}
    columns = list(X.columns)
    known = {} if kan is None else {str(c): one.categories for c, one in zip(columns, kan.inputs, strict=False)}
    known = {name: categories for name, categories in known.items() if categories}
    if len(set(columns)) < len(columns):
        return X, {}
    numbers, found = frame_numbers(X, known)
    if not found:
        return X, {}
    names = column_names(X, len(columns)) or tuple(f"x{i + 1}" for i in range(len(columns)))
    if kan is not None and names == tuple(one.name for one in kan.inputs):  # else scikit-learn refuses the names
        for name in found.keys() - known.keys():
            raise DataError(f"Column {name!r} has categories, and is a number in the network.")
    package: Any = type(X)
    made = package(numbers, columns=columns, index=X.index) if hasattr(X, "index") else package(numbers, schema=columns)
    return made, {names[i]: found[str(c)] for i, c in enumerate(columns) if str(c) in found}


def check_missing(kan: Kan, x: Array) -> None:
    """DataError for a missing value that the network has no number for."""
    for i, one in enumerate(kan.inputs):
        if one.fill_value is None and (bad := np.flatnonzero(np.isnan(x[:, i]))).size:
            raise DataError(
                f"Input X contains NaN in column {one.name!r}, row {bad[0] + 1}; in training none was missing there."
            )
