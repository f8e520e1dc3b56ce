"""Nearest neighbours by brute force, in blocks of rows to save memory."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_BLOCK = 2_000_000  # distances at once


def nearest(x: Array, among: Array, count: int) -> NDArray[np.int64]:
    """Indices of the `count` rows of `among` (M, d) nearest to each row of x (N, d), unordered: (N, count)."""
    squares = (among**2).sum(axis=1)
    size = max(1, _BLOCK // len(among))
    found = [
        np.argpartition(squares - 2 * x[start : start + size] @ among.T, count - 1, axis=1)[:, :count]
        for start in range(0, len(x), size)
    ]
    return np.concatenate(found)


def neighbours(x: Array, count: int) -> NDArray[np.int64]:
    """Indices of the `count` other rows nearest to each row of x (N, d), unordered: (N, count)."""
    near = nearest(x, x, count + 1)
    others = np.argsort(near == np.arange(len(x))[:, None], axis=1, kind="stable")[:, :count]
    return np.take_along_axis(near, others, axis=1)
