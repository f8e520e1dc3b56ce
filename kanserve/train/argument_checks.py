"""Checks of numeric arguments."""

from collections.abc import Iterable
from math import inf
from typing import Any

import numpy as np

GRIDS = (3, 5, 10, 20, 50, 100, 200)
"""The intervals of coarser grids to train on first, where only the finest grid is given."""


def whole(value: Any, least: int) -> bool:
    """Whether `value` is an integer, of Python or NumPy, of at least `least`."""
    return isinstance(value, int | np.integer) and bool(value >= least)


def is_number(value: Any) -> bool:
    """Whether `value` is a number, of Python or NumPy, and not a bool."""
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def not_negative(value: Any) -> bool:
    """Whether `value` is a finite number of at least 0."""
    return isinstance(value, int | float | np.number) and bool(0 <= value < inf)


def grid_sequence(grid: Any) -> Any:
    """The sequence of grid sizes that ends with this number of intervals; all but an integer is left unchanged."""
    return (*(size for size in GRIDS if size < grid), int(grid)) if whole(grid, 1) else grid


def increasing(grids: Any) -> bool:
    """Whether these are numbers of intervals in ascending order."""
    sizes = list(grids) if isinstance(grids, Iterable) else []
    return bool(sizes) and all(whole(size, 1) for size in sizes) and sizes == sorted(set(sizes))
