"""How good a simpler network is: its loss on held-out rows, and whether that is worse than chance explains."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import DataError
from kanserve.ir import Kan
from kanserve.reference import activations, evaluate, softmax
from kanserve.simplification.naming import domains_hold
from kanserve.table import Dataset
from kanserve.train.grids import set_ranges
from kanserve.train.levenberg import refine

Array = NDArray[np.float64]

HELD_OUT = 0.2
MOST_ROWS = 5000
DEFAULT_TOLERANCE = 1e-2
SMOOTHNESS = (0.0, 1e-4, 1e-3, 1e-2, 1e-1)
SMOOTHING_STEPS = 15
LAST_STEPS = 100
MOST_LOSS = 0.2
MOST_MOVED = 1.1
RESOLVED = 1e-3
MOST_PARAMETERS = 1500


@dataclass(frozen=True)
class Step:
    """One thing that was done to a network, and where that left it."""

    action: str
    edges: int
    loss: float
    """On held-out rows: the mean squared error in units of the outputs' variances, a classifier's cross-entropy."""


Report = Callable[[Step], None]


@dataclass(frozen=True, eq=False)
class Judge:
    """The rows to learn from, the rows held out, and what is good enough.

    `goal` (N, outputs) is what a simpler network is fitted to on the rows of `learn`: the answers, or for a
    classifier the scores of the network that it came from, which least squares can be fitted to. `spread` (outputs,)
    is its standard deviation.
    """

    learn: Dataset
    held: Dataset
    goal: Array
    spread: Array
    tolerance: float

    def losses(self, kan: Kan) -> Array:
        """The loss of each held-out row (N,), infinite where the network is not finite."""
        return self.losses_of(evaluate(kan, self.held.x), bool(kan.classes))

    def losses_of(self, answers: Array, classifier: bool) -> Array:
        """The same from the answers (N, outputs) on the held-out rows."""
        if classifier:
            with np.errstate(all="ignore"):
                chances = np.where(self.held.y > 0, softmax(answers), 1.0)
                losses = -np.log(np.maximum(chances, np.finfo(np.float64).tiny)).sum(axis=1)
        else:
            losses = (((answers - self.held.y) / self.spread) ** 2).mean(axis=1)
        return np.where(np.isfinite(losses), losses, np.inf)

    def error_of(self, answers: Array) -> float:
        """The root mean square error of the fit from the answers on the rows it learns from, in units of `spread`."""
        return float(np.sqrt(np.mean(((answers - self.goal) / self.spread) ** 2)))

    def accepts(self, losses: Array, best: Array) -> bool:
        """Whether losses (N,) are above the best by the square of the tolerance at most, or `no_worse`."""
        return bool(losses.mean() <= best.mean() + self.tolerance**2) or no_worse(losses, best)


def no_worse(losses: Array, best: Array) -> bool:
    """Whether losses (N,) exceed the best by no more than one standard error, and by no more than a fifth.

    The standard error is of the differences row by row, since what one network finds hard, so does the other. The
    fifth is for few rows or outliers, of which a standard error says little.
    """
    if not np.isfinite(losses).all():
        return False
    if not np.isfinite(best).all():
        return True
    worse = losses - best
    standard_error = worse.std() / np.sqrt(len(worse))
    return bool(worse.mean() <= min(standard_error, MOST_LOSS * best.mean()))


def judge(kan: Kan, data: Dataset, tolerance: float | Literal["auto"], seed: int) -> Judge:
    """Hold out a fifth of the rows, the same for the same seed. DataError for rows of another network."""
    if data.x.shape[1] != len(kan.inputs) or data.y.shape[1] != len(kan.outputs):
        raise DataError(
            f"A network of {len(kan.inputs)} inputs and {len(kan.outputs)} outputs needs such data, "
            f"got x {data.x.shape} and y {data.y.shape}."
        )
    if tolerance != "auto" and not tolerance >= 0:
        raise DataError(f"The tolerance is 'auto' or a number from 0 on, got {tolerance}.")
    learn, held = data.split(HELD_OUT, seed) if len(data) >= 10 else (data, data)
    learn, held = (some(one, MOST_ROWS, seed) for one in (learn, held))
    goal = evaluate(kan, learn.x) if kan.classes else learn.y
    finite = np.isfinite(goal).all(axis=1)
    spread = goal[finite].std(axis=0) if finite.any() else np.ones(goal.shape[1])
    return Judge(
        learn=learn.take(np.flatnonzero(finite)),
        held=held,
        goal=goal[finite],
        spread=np.where(spread > 0, spread, 1.0),
        tolerance=DEFAULT_TOLERANCE if tolerance == "auto" else tolerance,
    )


def some(data: Dataset, most: int, seed: int) -> Dataset:
    """At most so many of the rows, drawn at random, in their order: a search needs no more to tell two networks."""
    if len(data) <= most:
        return data
    return data.take(np.sort(np.random.default_rng(seed).permutation(len(data))[:most]))


def refit(kan: Kan, one: Judge, steps: int, smooth: float = 0.0) -> Kan:
    """The network fitted again from where it is; left as it is when it has too many parameters for that."""
    if free_parameters(kan) > MOST_PARAMETERS:
        return kan
    if not kan.symbolic:
        moved = set_ranges(kan, one.learn.x)
        # Moving a grid is a fit of its own, and on rows far outside a poor one.
        before, after = (one.error_of(evaluate(each, one.learn.x)) for each in (kan, moved))
        kan = moved if after <= MOST_MOVED * before + RESOLVED else kan
    return refine(kan, one.learn.x, one.goal, steps=steps, smooth=smooth)


def free_parameters(kan: Kan) -> int:
    """How many numbers a refit may change."""
    return sum(
        int(layer.spline_mask.sum()) * (layer.coefficients.shape[2] + 1) + 4 * int(layer.symbolic_mask.sum())
        for layer in kan.layers
    )


def smoothness(kan: Kan, one: Judge) -> float:
    """How strongly to smooth splines in refits: the most that is no worse on the held-out rows than the best."""
    if kan.symbolic or free_parameters(kan) > MOST_PARAMETERS:
        return 0.0
    losses = [one.losses(refit(kan, one, SMOOTHING_STEPS, strength)) for strength in SMOOTHNESS]
    best = min(losses, key=lambda each: float(each.mean()))
    return max(
        strength for strength, each in zip(SMOOTHNESS, losses, strict=True) if each is best or no_worse(each, best)
    )


def refitted_on_all_rows(kan: Kan, data: Dataset, seed: int) -> Kan:
    """The network fitted to all rows, smoothed as the held-out ones ask for; as it is where that leaves a domain."""
    one = judge(kan, data, "auto", seed)
    goal = evaluate(kan, data.x) if kan.classes else data.y
    finite = np.flatnonzero(np.isfinite(goal).all(axis=1))
    every = replace(one, learn=data.take(finite), goal=goal[finite])
    result = refit(kan, every, LAST_STEPS, smoothness(kan, one))
    return result if domains_hold(result, activations(result, every.learn.x)) else kan
