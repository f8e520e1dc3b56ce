"""Prediction intervals by split conformal prediction (Papadopoulos et al., 2002; Lei et al., JASA 113, 2018).

On samples that the network has not seen, and that are drawn as those to come are, the interval answer ± half_width has
the next measured value with at least the given probability, whatever the noise is like. The half width is the
⌈(n + 1)·level⌉-th smallest of the n absolute residuals, the same for all rows; or, where the samples show that large
answers have other errors than small ones, that of the residuals divided by a scale at their answers (`width_scales`).
"""

import itertools
import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kanserve.data.row_weights import mean_difference, quantiles
from kanserve.errors import InputError, NotFoundError

Array = NDArray[np.float64]
Scale = tuple[tuple[float, float], ...]
"""Answers in ascending order and a factor of the half width at each, linear between and constant beyond."""

LEVELS = (0.8, 0.9, 0.95)
_BISECTIONS = 60  # more change nothing in a double
# Numbers of places at which a scale is estimated: few follow a trend on 60 rows, many a bend on 2000.
_PLACES = (3, 6, 12)
_ROWS_OF_A_PLACE = 20  # at least: of fewer a quantile of .9 is about the largest error
_PARTS = 5  # of the rows: each is judged by a scale of the others
# Standard errors by which a scale must predict errors better than none does: with 1, one in ten tables whose errors are
# the same everywhere gets a scale, with 2 one in a hundred, and uneven errors are still seen on 100 rows.
_CLEARLY = 2.0
_LEAST = 1e-3  # of the largest factor: where all errors at hand are 0, the width is not


@dataclass(frozen=True)
class ConformalInterval:
    """A prediction interval for each output: with probability `level`, a new value is within prediction ± half
    width. With `scales`, one per output, the half width is multiplied by a factor that depends on the prediction,
    with mean 1."""

    level: float
    half_widths: tuple[float, ...]
    scales: tuple[Scale, ...] = ()

    def __post_init__(self) -> None:
        level: object = self.level  # of a file, it may be anything
        if not isinstance(level, float) or not 0 < level < 1:
            raise InputError(f"The level of an interval is a number between 0 and 1, got {self.level!r:.40}.")
        widths: tuple[object, ...] = self.half_widths
        if not all(isinstance(width, float) and 0 <= width < math.inf for width in widths):
            raise InputError(f"Half widths are numbers of 0 or more, got {self.half_widths!r:.80}.")
        if self.scales and len(self.scales) != len(widths):
            raise InputError(f"An interval has a scale for each of its {len(widths)} outputs, got {len(self.scales)}.")
        for scale in self.scales:
            _check_scale(scale)

    def around(self, answers: ArrayLike) -> tuple[Array, Array]:
        """The ends (low, high) of the intervals around predictions (N, outputs)."""
        values = np.asarray(answers, np.float64)
        widths = self.half_widths_at(values)
        return values - widths, values + widths

    def half_widths_at(self, answers: Array) -> Array:
        """The half widths at predictions (..., outputs), or (outputs,) if they are constant."""
        widths = np.array(self.half_widths)
        if not self.scales:
            return widths
        factors = [factor_at(scale, answers[..., q]) for q, scale in enumerate(self.scales)]
        return widths * np.stack(factors, axis=-1)

    def to_json(self) -> dict[str, Any]:
        """The interval as JSON data, for a manifest, ModelMetadata and ONNX files."""
        plain: dict[str, Any] = {"level": self.level, "half_widths": list(self.half_widths)}
        return {**plain, "scales": [list(map(list, scale)) for scale in self.scales]} if self.scales else plain

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read an interval from JSON data. Raises InputError, KeyError or TypeError if it is invalid."""
        scales = tuple(tuple((at, factor) for at, factor in scale) for scale in value.get("scales", ()))
        return cls(value["level"], tuple(value["half_widths"]), scales)

    @property
    def percent(self) -> str:
        """The level in percent, as "90" or "99.5"."""
        return f"{100 * self.level:.10g}"


def _check_scale(scale: Scale) -> None:
    """Raise InputError unless the predictions ascend and the factors are positive."""
    numbers: tuple[object, ...] = tuple(number for place in scale for number in place)
    if not all(isinstance(number, float) and math.isfinite(number) for number in numbers):
        raise InputError(f"A scale is pairs of numbers, got {scale!r:.80}.")
    if any(factor <= 0 for _, factor in scale) or any(a >= b for (a, _), (b, _) in itertools.pairwise(scale)):
        raise InputError(f"The answers of a scale ascend, and its factors are above 0, got {scale!r:.80}.")


def factor_at(scale: Scale, answers: Array) -> Array:
    """The factors of a scale at answers of any shape; NaN at NaN."""
    if not scale:
        return np.ones_like(answers)
    factors: Array = np.interp(answers, *np.array(scale).T)
    return factors


def width_scales(answers: Array, sizes: Array, parts: NDArray[np.intp], level: float) -> tuple[Scale, ...] | None:
    """A scale of the errors' sizes (N,) by the answers (N,) without each part of the rows, and one of all rows.

    Scales are quantiles or means of the sizes near a few answers. None unless the best of them predicts the quantile
    `level` of the sizes in the parts left out clearly better than one number does, by the quantile's own loss; so rows
    whose errors are alike, and few rows, have intervals of one width.

    Examples
    --------
    >>> import numpy as np
    >>> answers, parts = np.linspace(1, 2, 200), np.arange(200) % 5
    >>> sizes = np.abs(np.random.default_rng(0).normal(size=200))
    >>> width_scales(answers, sizes, parts, 0.9) is None
    True
    >>> low, *_, high = width_scales(answers, sizes * answers**3, parts, 0.9)[-1]
    >>> low[1] < 0.5 < 1.5 < high[1]
    True
    """
    left_out = range(int(parts.max(initial=0)) + 1)
    counts = _PLACES[: bisect_right(_PLACES, len(answers) // _ROWS_OF_A_PLACE)]
    if not counts or not np.isfinite([answers, sizes]).all() or not sizes.any():
        return None
    constant, best = np.empty_like(sizes), None
    for part in left_out:
        constant[parts == part] = np.quantile(sizes[parts != part], level)
    least = plain = _quantile_losses(sizes, constant, level)
    for count in counts:
        for share in (level, None):
            scales, guessed = [], np.empty_like(sizes)
            for part in left_out:
                inside, outside = parts != part, parts == part
                scales.append(_scale(answers[inside], sizes[inside], count, share))
                factors = factor_at(scales[-1], answers)
                guessed[outside] = np.quantile(sizes[inside] / factors[inside], level) * factors[outside]
            losses = _quantile_losses(sizes, guessed, level)
            if losses.mean() < least.mean():
                least, best = losses, (*scales, _scale(answers, sizes, count, share))
    gain, error = mean_difference(plain, least)
    return best if gain > _CLEARLY * error else None


def _quantile_losses(sizes: Array, quantiles: Array, level: float) -> Array:
    """The quantile (pinball) loss (N,), whose mean is lowest at the quantile `level` of the sizes."""
    beyond = sizes - quantiles
    return np.maximum(level * beyond, (level - 1) * beyond)


def _scale(answers: Array, sizes: Array, count: int, share: float | None) -> Scale:
    """A scale at `count` predictions: nearby, the quantile `share` of the residuals' sizes, or their mean if None."""
    places = np.unique(np.quantile(answers, (np.arange(count) + 0.5) / count))
    position = np.interp(answers, places, np.arange(len(places)))
    near = np.maximum(0, 1 - np.abs(position[:, None] - np.arange(len(places))))
    if share is None:
        factors = sizes @ near / near.sum(axis=0)
    else:
        factors = np.array([quantiles(sizes, weights, (share,))[0] for weights in near.T])
    factors = np.maximum(factors, _LEAST * factors.max())
    if not factors.any():
        return ()
    factors /= np.interp(answers, places, factors).mean()
    return tuple(zip(places.tolist(), factors.tolist(), strict=True))


def conformal_intervals(
    answers: ArrayLike, y: ArrayLike, levels: Sequence[float] = LEVELS
) -> tuple[ConformalInterval, ...]:
    """The intervals of these levels, by a network's answers (N, outputs) and the measured values y of unseen samples.

    Without a level for which there are too few samples: 0.9 takes 9 and 0.95 takes 19. Samples whose answer is not
    finite count as infinitely wrong. Each residual is divided by a scale that has not seen it, if there are scales
    (`width_scales`), so that these samples may choose them and still say how often the intervals cover.

    Examples
    --------
    >>> import numpy as np
    >>> y = np.arange(99.0)[:, None]
    >>> [(one.level, one.half_widths) for one in conformal_intervals(np.zeros((99, 1)), y)]
    [(0.8, (79.0,)), (0.9, (89.0,)), (0.95, (94.0,))]
    """
    with np.errstate(all="ignore"):
        values = np.asarray(answers, np.float64)
        sizes = np.abs(values - np.asarray(y, np.float64))
    sizes = np.where(np.isnan(sizes), np.inf, sizes)
    found = []
    for level in levels:
        rank = math.ceil((len(sizes) + 1) * level - 1e-9)  # .95 * 20 is 19, and rounds to more
        if rank > len(sizes) or not np.isfinite(np.sort(sizes, axis=0)[rank - 1]).all():
            continue
        widths = [_half_width(*pair, level, rank) for pair in zip(values.T, sizes.T, strict=True)]
        scales = tuple(scale for _, scale in widths)
        found.append(
            ConformalInterval(float(level), tuple(width for width, _ in widths), scales if any(scales) else ())
        )
    return tuple(found)


def _half_width(answers: Array, sizes: Array, level: float, rank: int) -> tuple[float, Scale]:
    """The half width of one output (the size with this rank), and its scale."""
    # By their order, so that each part has small and large answers, and the order of the rows does not matter.
    parts = np.argsort(np.argsort(answers, kind="stable"), kind="stable") % _PARTS
    scales = width_scales(answers, sizes, parts, level)
    if scales is None:
        return float(np.sort(sizes)[rank - 1]), ()
    *others, scale = scales
    factors = np.choose(parts, [factor_at(scale, answers) for scale in others])
    return float(np.sort(sizes / factors)[rank - 1]), scale


def cross_conformal(
    errors: Sequence[Array], answers: Sequence[Array], level: float, factors: Sequence[Array] | None = None
) -> tuple[Array, Array] | None:
    """The ends (N,) of intervals by networks each of which has not seen one part of the rows (CV+; Barber et al. 2021).

    `errors` are those of each network on its part, `answers` (N,) its answers for new rows. Each network's errors are
    put around its own answers, since the network of all rows may be worse than these: of a law without noise ten times.
    With `factors` (N,), of a scale of each network at its answers, the errors are those divided by the same scale.
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
    factors = [np.ones_like(answer) for answer in answers] if factors is None else factors
    return -_rank(sizes, [-answer for answer in answers], factors, rank), _rank(sizes, answers, factors, rank)


def _rank(sizes: Sequence[Array], answers: Sequence[Array], factors: Sequence[Array], rank: int) -> Array:
    """The numbers (N,) with this rank among the sums of a prediction and a scaled residual size, by bisection."""
    low: Array = np.min(answers, axis=0)
    largest = max(part[np.isfinite(part)].max(initial=0.0) for part in sizes)
    high: Array = np.max(answers, axis=0) + largest * np.max(factors, axis=0)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        below = sum(
            np.searchsorted(part, (middle - answer) / factor, "right")
            for part, answer, factor in zip(sizes, answers, factors, strict=True)
        )
        low, high = np.where(below < rank, middle, low), np.where(below < rank, high, middle)
    return high


def interval_of(intervals: Sequence[ConformalInterval], level: float, of: str) -> ConformalInterval:
    """The interval with this level. Raises NotFoundError if there is none, naming `of`."""
    for interval in intervals:
        if math.isclose(interval.level, level, abs_tol=1e-9):
            return interval
    known = ", ".join(f"{interval.level:g}" for interval in intervals)
    raise NotFoundError(
        f"{of} has no prediction interval of {level:g}. "
        + (f"It has those of {known}." if known else "Compile it with samples that it was not trained on: data=.")
    )
