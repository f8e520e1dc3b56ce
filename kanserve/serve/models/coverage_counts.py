"""Counts how many measured values, which clients send back, lie in the prediction intervals of a version."""

from threading import Lock

import numpy as np
from numpy.typing import NDArray

from kanserve.network.conformal_intervals import ConformalInterval

Array = NDArray[np.float64]


class CoverageCounts:
    """By the level of an interval, the values that were compared with it and how many of them it has. Thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._total: dict[float, tuple[int, int]] = {}

    def add(self, interval: ConformalInterval, answers: Array, measured: Array) -> tuple[int, int]:
        """Compare measured values (N, outputs) with the intervals around answers; returns how many were compared, and
        how many of them the intervals have. A value that is NaN, or whose answer is, is not compared."""
        low, high = interval.around(answers)
        compared = int((~np.isnan(measured) & ~np.isnan(answers)).sum())
        covered = int(((measured >= low) & (measured <= high)).sum())
        with self._lock:
            values, inside = self._total.get(interval.level, (0, 0))
            self._total[interval.level] = values + compared, inside + covered
        return compared, covered

    def total(self) -> dict[float, tuple[int, int]]:
        """The values compared with each interval since the version was loaded, and those in it."""
        with self._lock:
            return dict(self._total)
