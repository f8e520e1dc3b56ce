"""The candidate networks of a schedule, and how they are compared."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kanserve.data.row_weights import mean_difference
from kanserve.network.kan import Kan

Array = NDArray[np.float64]

SHARE = 0.5  # of a standard error: by so much the smoother of two networks may be worse


@dataclass(frozen=True, eq=False)
class Candidate:
    """A network, its smoothing strength, and its loss on each validation row (N,)."""

    kan: Kan
    smooth: float
    errors: Array
    shares: Array  # (N,), the weights of the rows; they sum to 1

    @property
    def error(self) -> float:
        return float(self.shares @ self.errors)


def best_of(candidates: list[Candidate]) -> Candidate:
    return min(candidates, key=lambda run: run.error)


def smoothest(candidates: list[Candidate]) -> Candidate:
    """The smoothest candidate whose validation error is not clearly worse than the lowest."""
    best = best_of(candidates)
    return max(
        [best, *(candidate for candidate in candidates if candidate.smooth > best.smooth and as_good(candidate, best))],
        key=_strength,
    )


def error_of(candidate: Candidate) -> float:
    return candidate.error


def _strength(candidate: Candidate) -> float:
    return candidate.smooth


def as_good(candidate: Candidate, best: Candidate) -> bool:
    """Whether a candidate is not clearly worse than the best: by less than a share of the standard error of the
    row-by-row difference. On exact data only the best qualifies; on noisy data the smoother one is safer."""
    if candidate is best:
        return True
    if not np.isfinite(candidate.error):
        return False
    worse, error = mean_difference(candidate.errors, best.errors, candidate.shares)
    return worse <= SHARE * error
