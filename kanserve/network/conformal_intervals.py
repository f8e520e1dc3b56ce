"""Prediction intervals by split conformal prediction (Papadopoulos et al., 2002; Lei et al., JASA 113, 2018).

On samples that the network has not seen, and that are drawn as those to come are, the interval answer ± half_width has
the next measured value with at least the given probability, whatever the noise is like. The half width is the
⌈(n + 1)·level⌉-th smallest of the n absolute residuals: the same for all rows.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kanserve.errors import InputError, NotFoundError

Array = NDArray[np.float64]

LEVELS = (0.8, 0.9, 0.95)
_BISECTIONS = 60  # more change nothing in a double


@dataclass(frozen=True)
class ConformalInterval:
    """The probability that a new value is within answer ± half width, and the half width of each output."""

    level: float
    half_widths: tuple[float, ...]

    def __post_init__(self) -> None:
        level: object = self.level  # of a file, it may be anything
        if not isinstance(level, float) or not 0 < level < 1:
            raise InputError(f"The level of an interval is a number between 0 and 1, got {self.level!r:.40}.")
        widths: tuple[object, ...] = self.half_widths
        if not all(isinstance(width, float) and 0 <= width < math.inf for width in widths):
            raise InputError(f"Half widths are numbers of 0 or more, got {self.half_widths!r:.80}.")

    def around(self, answers: ArrayLike) -> tuple[Array, Array]:
        """The ends (low, high) of the intervals around answers (N, outputs)."""
        values, widths = np.asarray(answers, np.float64), np.array(self.half_widths)
        return values - widths, values + widths

    @property
    def percent(self) -> str:
        """The level in percent, as "90" or "99.5"."""
        return f"{100 * self.level:.10g}"


def conformal_intervals(
    answers: ArrayLike, y: ArrayLike, levels: Sequence[float] = LEVELS
) -> tuple[ConformalInterval, ...]:
    """The intervals of these levels, by a network's answers (N, outputs) and the measured values y of unseen samples.

    Without a level for which there are too few samples: 0.9 takes 9 and 0.95 takes 19. Samples whose answer is not
    finite count as infinitely wrong.

    Examples
    --------
    >>> import numpy as np
    >>> y = np.arange(99.0)[:, None]
    >>> [(one.level, one.half_widths) for one in conformal_intervals(np.zeros((99, 1)), y)]
    [(0.8, (79.0,)), (0.9, (89.0,)), (0.95, (94.0,))]
    """
    with np.errstate(all="ignore"):
        sizes = np.abs(np.asarray(answers, np.float64) - np.asarray(y, np.float64))
    sizes = np.sort(np.where(np.isnan(sizes), np.inf, sizes), axis=0)
    found = []
    for level in levels:
        rank = math.ceil((len(sizes) + 1) * level - 1e-9)  # .95 * 20 is 19, and rounds to more
        if rank <= len(sizes) and np.isfinite(sizes[rank - 1]).all():
            found.append(ConformalInterval(float(level), tuple(sizes[rank - 1].tolist())))
    return tuple(found)


def cross_conformal(errors: Sequence[Array], answers: Sequence[Array], level: float) -> tuple[Array, Array] | None:
    """The ends (N,) of intervals by networks each of which has not seen one part of the rows (CV+; Barber et al. 2021).

    `errors` are those of each network on its part, `answers` (N,) its answers for new rows. Each network's errors are
    put around its own answers, since the network of all rows may be worse than these: of a law without noise ten times.
    None where the errors are too few for the level, or not finite.

    Examples
    --------
    >>> import numpy as np
    >>> errors = [np.arange(10.0), np.arange(9.0)]
    >>> low, high = cross_conformal(errors, [np.zeros(1), np.ones(1)], 0.9)
    >>> round(float(low[0]), 6), round(float(high[0]), 6)
    (-8.0, 9.0)
    """
    with np.errstate(invalid="ignore"):
        sizes = [np.sort(np.where(np.isnan(part), np.inf, np.abs(part))) for part in errors]
    rank = math.ceil((sum(map(len, sizes)) + 1) * level - 1e-9)
    if rank > sum(int(np.isfinite(part).sum()) for part in sizes):
        return None
    return -_rank(sizes, [-answer for answer in answers], rank), _rank(sizes, answers, rank)


def _rank(sizes: Sequence[Array], answers: Sequence[Array], rank: int) -> Array:
    """The number (N,) with this rank among the sums of each network's answer and its sorted sizes, by bisection."""
    low: Array = np.min(answers, axis=0)
    high: Array = np.max(answers, axis=0) + max(part[np.isfinite(part)].max(initial=0.0) for part in sizes)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        below = sum(
            np.searchsorted(part, middle - answer, "right") for part, answer in zip(sizes, answers, strict=True)
        )
        low, high = np.where(below < rank, middle, low), np.where(below < rank, high, middle)
    return high


def interval_of(intervals: Sequence[ConformalInterval], level: float, of: str) -> ConformalInterval:
    """The interval of this level; NotFoundError without one, with `of` as what lacks it."""
    for interval in intervals:
        if math.isclose(interval.level, level, abs_tol=1e-9):
            return interval
    known = ", ".join(f"{interval.level:g}" for interval in intervals)
    raise NotFoundError(
        f"{of} has no prediction interval of {level:g}. "
        + (f"It has those of {known}." if known else "Compile it with samples that it was not trained on: data=.")
    )
