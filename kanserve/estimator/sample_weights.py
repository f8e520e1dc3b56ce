"""Sample weights: merge and sort equal rows; and class names."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import _check_sample_weight

from kanserve.errors import DataError

Array = NDArray[np.float64]


def check_weights(sample_weight: ArrayLike | None, x: Array) -> Array | None:
    """Validate one finite weight of at least 0 per row of x. Raises ValueError if that fails, or if all are 0."""
    if sample_weight is None:
        return None
    weights: Array = _check_sample_weight(sample_weight, x, dtype=np.float64, ensure_non_negative=True)
    if not weights.any():
        raise DataError("sample_weight is zero for every row; at least one must count.")
    return weights


def distinct(x: Array, y: Array, weights: Array | None) -> tuple[Array, Array, Array | None]:
    """The distinct rows of x (N, inputs) and y (N, outputs) in ascending order, with the sums of their weights (None if
    all are equal). So a weight of 2 equals a repeated row bit for bit, the order does not matter, and equal rows are on
    the same side of a split."""
    weights = np.ones(len(x)) if weights is None else weights
    kept = weights > 0
    rows = np.column_stack([x, y])[kept] + 0.0  # + 0.0 turns -0.0 into 0.0
    # Sorted by the weights too, since a sum of floats depends on the order.
    order = np.lexsort((weights[kept], *rows.T[::-1]))
    rows, weights = rows[order], weights[kept][order]
    differ = (rows[1:] != rows[:-1]) & ~(np.isnan(rows[1:]) & np.isnan(rows[:-1]))
    first = np.flatnonzero(np.r_[True, differ.any(axis=1)])
    total = np.add.reduceat(weights, first)
    if len(first) == 1:  # a fit needs two rows
        first, total = np.repeat(first, 2), np.repeat(total, 2)
    rows = rows[first]
    return rows[:, : x.shape[1]], rows[:, x.shape[1] :], None if (total == total[0]).all() else total


def class_names(classes: Iterable[object]) -> tuple[str, ...]:
    """The labels as distinct, non-empty texts, as a network needs them."""
    names = tuple(str(class_name) for class_name in classes)
    if all(names) and len(set(names)) == len(names):
        return names
    return tuple(f"{number}: {name}" for number, name in enumerate(names))
