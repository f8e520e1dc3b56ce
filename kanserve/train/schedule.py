"""The schedule of a least-squares fit: several starts on a coarse grid, then finer grids while held-out rows gain.

Training straight on a fine grid ends in poor minima, and the settings for exact data fail on noisy ones (R² -4.8
where 0.5 can be had); so the grid grows, and rows that are held out choose the start, the grid and how smooth the
splines must be.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kanserve.ir import Kan, Layer
from kanserve.reference import evaluate
from kanserve.splines import uniform_knots
from kanserve.table import Dataset
from kanserve.train.creation import SPREAD
from kanserve.train.grids import regrid
from kanserve.train.levenberg import refine
from kanserve.train.normalising import without_edges
from kanserve.train.parameters import free_parameters
from kanserve.train.progress import Tell

Array = NDArray[np.float64]

STRENGTHS = (0.0, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
EXACT_RIDGE = 1e-13  # the floor of the error on exact data is near 1e5 times the root of it
MOST_PARAMETERS = 1500  # each step solves a dense system of this size
START_ROWS = 2000  # a start needs no more rows to show what it is worth
START_STEPS, SETTLE_STEPS, GROW_STEPS = 25, 40, 60
SHARE = 0.5  # of a standard error, by which the smoother of two networks may be worse


@dataclass(frozen=True, eq=False)
class Schedule:
    """Rows to fit to, rows to judge by (None: the same), and how to go on."""

    train: Dataset
    held: Dataset | None
    grids: tuple[int, ...]
    starts: int
    strengths: tuple[float, ...]
    patience: int
    seed: int
    tell: Tell


@dataclass(frozen=True, eq=False)
class Candidate:
    """A network, the strength of its smoothness, and its squared error on each row to judge by (N,)."""

    kan: Kan
    smooth: float
    errors: Array

    @property
    def error(self) -> float:
        return float(self.errors.mean())


def run(kan: Kan, data: Dataset, plan: Schedule, steps: int) -> Kan:
    """Fit a normalised network, its weights drawn anew; at last `steps` on all rows of `data`."""
    best = _best_start(kan, plan)
    best = _smoothed(best, plan)
    best = _grown(best, plan)
    last = _fitted(best.kan, data, best.smooth, steps, plan)
    plan.tell("all rows", np.sqrt(last.error))
    return no_worse_than_the_mean(last.kan, data)


def _best_start(kan: Kan, plan: Schedule) -> Candidate:
    """The best of several short runs on few rows, after the best of them went on for longer on all."""
    few = _sample(plan.train, START_ROWS, plan.seed)
    runs = []
    for start in range(plan.starts):
        begin = fresh(kan, plan.grids[0], (plan.seed, start))
        runs.append(_fitted(begin, few, plan.strengths[0], START_STEPS, plan))
        plan.tell(f"start {start + 1} of {plan.starts}", np.sqrt(_best(runs).error))
    runs.sort(key=lambda one: one.error)
    finalists = runs[: 3 if len(kan.layers) > 2 else 2]
    return _best([_fitted(one.kan, plan.train, one.smooth, SETTLE_STEPS, plan) for one in finalists])


def _smoothed(best: Candidate, plan: Schedule) -> Candidate:
    """The candidate as smooth as the rows to judge by want it."""
    others = [_fitted(best.kan, plan.train, smooth, SETTLE_STEPS, plan) for smooth in plan.strengths[1:]]
    chosen = smoothest([best, *others])
    plan.tell(f"grid {plan.grids[0]}", np.sqrt(chosen.error))
    return chosen


def _grown(best: Candidate, plan: Schedule) -> Candidate:
    """The candidate on finer grids, until that is no better or there are more parameters than answers."""
    for intervals in plan.grids[1:]:
        moved = regrid(best.kan, plan.train.x, intervals)
        if parameters(moved) > min(plan.train.y.size, MOST_PARAMETERS):
            break
        # A finer grid may need to be smoother, or less smooth.
        at = plan.strengths.index(best.smooth)
        near = plan.strengths[max(at - 1, 0) : at + 2]
        finer = smoothest([_fitted(moved, plan.train, smooth, GROW_STEPS, plan) for smooth in near])
        plan.tell(f"grid {intervals}", np.sqrt(finer.error))
        if plan.held is not None and not finer.error < best.error:
            break
        best = finer
    return best


def _fitted(kan: Kan, rows: Dataset, smooth: float, steps: int, plan: Schedule) -> Candidate:
    ridge = smooth / 10 if smooth > 0 else EXACT_RIDGE
    result = refine(kan, rows.x, rows.y, steps=steps, smooth=smooth, ridge=ridge, patience=plan.patience)
    return Candidate(result, smooth, errors(result, plan.train if plan.held is None else plan.held))


def _best(candidates: list[Candidate]) -> Candidate:
    return min(candidates, key=lambda one: one.error)


def smoothest(candidates: list[Candidate]) -> Candidate:
    """The smoothest candidate that is as good as the best one, as far as the rows to judge by can tell.

    As good is: worse by less than a share of the standard error of the difference, row by row. On exact data errors
    differ by orders of magnitude and the best is alone; on noisy data the smoother one is the safer one.
    """
    best = _best(candidates)
    equal = [best]
    for one in candidates:
        if one.smooth > best.smooth and np.isfinite(one.error):
            worse = one.errors - best.errors
            if worse.mean() <= SHARE * worse.std() / np.sqrt(len(worse)):
                equal.append(one)
    return max(equal, key=lambda one: one.smooth)


def errors(kan: Kan, data: Dataset) -> Array:
    """The squared error of each row (N,) in units of the output scales, infinite where the network is not finite."""
    with np.errstate(all="ignore"):
        squares: Array = (((evaluate(kan, data.x) - data.y) / kan.output_scale) ** 2).mean(axis=1)
    return np.where(np.isfinite(squares), squares, np.inf)


def no_worse_than_the_mean(kan: Kan, data: Dataset) -> Kan:
    """The network with each output that is worse than the mean of its answers replaced by that mean."""
    with np.errstate(all="ignore"):
        squares = (((evaluate(kan, data.x) - data.y) / kan.output_scale) ** 2).mean(axis=0)
        mean = (((data.y - kan.output_shift) / kan.output_scale) ** 2).mean(axis=0)
    return without_edges(kan, ~(squares <= mean))


def parameters(kan: Kan) -> int:
    """How many numbers a fit may change."""
    return sum(one.size for one in free_parameters(kan))


def fresh(kan: Kan, intervals: int, seed: tuple[int, ...]) -> Kan:
    """The same structure with random splines on grids over [-1, 1]; pruned and named edges stay as they are."""
    generator = np.random.default_rng(seed)
    return replace(kan, layers=tuple(_fresh(one, intervals, generator) for one in kan.layers))


def _fresh(one: Layer, intervals: int, generator: np.random.Generator) -> Layer:
    spread = SPREAD / np.sqrt(one.inputs)
    edges = one.base_weight.shape
    coefficients = generator.normal(0, spread, (*edges, intervals + one.order))
    return replace(
        one,
        knots=np.tile(uniform_knots(-1, 1, intervals, one.order), (one.inputs, 1)),
        coefficients=np.where(one.spline_mask[:, :, None], coefficients, 0.0),
        base_weight=np.where(one.base_weight != 0, generator.normal(0, spread, edges), 0.0),
    )


def _sample(data: Dataset, count: int, seed: int) -> Dataset:
    """At most `count` rows, drawn at random and in their order."""
    if len(data) <= count:
        return data
    return data.take(np.sort(np.random.default_rng(seed).permutation(len(data))[:count]))
