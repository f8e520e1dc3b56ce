"""Validate a simpler network: its loss on held-out rows, and whether that is significantly worse."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kanserve.data.dataset import Dataset
from kanserve.data.row_weights import mean_difference
from kanserve.errors import DataError
from kanserve.network.kan import Kan, Variable
from kanserve.simplification.activations import answers, values
from kanserve.simplification.symbolic_edges import domains_hold
from kanserve.train.argument_checks import not_negative, whole
from kanserve.train.fit_arguments import hold_out, training_rows
from kanserve.train.fit_progress import Event
from kanserve.train.grids import regrid, set_ranges
from kanserve.train.lm import jacobian
from kanserve.train.lm.levenberg_marquardt import refine
from kanserve.train.lm.parameter_vector import Constant, free_parameters, gather, penalty
from kanserve.train.scoring import cross_entropies

Array = NDArray[np.float64]

# Lower bound of 1 - h: a row with h near 1 is fitted exactly whatever its output, and carries no information.
LEAST_DENOMINATOR = 1e-3
JITTER = 1e-13  # added to the diagonal, relative to its largest element, so that the system is solvable


def loo_factor(kan: Kan, data: Dataset, goal: Array, smooth: float, ridge: float) -> Array:
    """1 / (1 - h) for each row and output (N, outputs) of a network fitted to the goal (N, outputs), with h = J_n (JᵀJ
    + R)⁻¹ J_nᵀ. The leave-one-out residual is r / (1 - h), to first order, so that few rows serve both for training and
    for validation."""
    free = free_parameters(kan)
    if sum(group.size for group in free) == 0:
        return np.ones(goal.shape)
    problem = jacobian.problem(kan, data.x, goal, data.weights)
    vector = gather(kan, free)
    rows = jacobian.jacobian(problem, vector)
    normal = rows.T @ rows
    penalty(kan, free, ridge, smooth).add_to(normal, np.zeros(len(vector)), vector)
    normal.flat[:: len(normal) + 1] += JITTER * np.diag(normal).max() + np.finfo(np.float64).tiny
    leverage = np.einsum("np,pn->n", rows, np.linalg.solve(normal, rows.T))
    result: Array = 1 / np.maximum(1 - leverage, LEAST_DENOMINATOR).reshape(goal.shape)
    return result


HELD_OUT_SHARE = 0.2  # share of the rows that is held out for validation
MOST_ROWS = 5000  # training rows, and likewise held-out rows, that are used, at most
# Tolerance, in standard deviations of the outputs: of "auto" at first and at most, and the least of the loose rule of
# pruning.
VALIDATION_DEFAULT_TOLERANCE = 1e-2
# Least ridge penalty. Prototype's value: from 1e-8 on, the penalty limited the accuracy.
LEAST_RIDGE = 1e-12
RIDGE_PER_SMOOTHING = 0.1  # ridge penalty, relative to the strength of smoothing
SMOOTHING_STEPS = 15  # steps of the refit at each strength of smoothing
VALIDATION_LAST_STEPS = 100  # steps of the last refit
LARGEST_LOSS_INCREASE = 0.2  # largest increase of the loss that chance may explain, relative to the best loss
SMOOTHING_LOSS_RATIO = 2.0  # smoothing is not increased further when the loss exceeds this times the least one
REGRID_ERROR_RATIO = 1.1  # grids that move may increase the error to this times the error before
REGRID_ERROR_MARGIN = 1e-3  # increase of the error that is allowed in addition, in standard deviations of the outputs
VALIDATION_MOST_PARAMETERS = 1500  # number of parameters above which a network is not refitted

SMOOTHNESS = (0.0, 1e-4, 1e-3, 1e-2, 1e-1)


@dataclass(frozen=True)
class SimplifyStep(Event):
    """One step of a simplification, and its result, as `simplify` and its like give it to `report`.

    Parameters
    ----------
    stage : str
        What was done.
    loss : float
        On the validation rows: the mean squared error in units of the variances, or a classifier's cross-entropy.
    edges : int
        The edges that are left.
    kan : Kan
        The network after the step: with `progress=steps.append`, taking steps[n].kan undoes all later steps.

    Examples
    --------
    >>> import kanserve, numpy as np
    >>> x = np.random.default_rng(0).uniform(-1, 1, (200, 2))
    >>> data = x, x[:, 0] ** 2
    >>> steps = []
    >>> kan = kanserve.prune(kanserve.fit([2, 1], data), data, progress=steps.append)
    >>> steps[-1].edges
    1
    """

    edges: int
    kan: Kan = field(repr=False)

    def __str__(self) -> str:
        return f"{self.stage}: {self.edges} edges, loss {self.loss:.3g}"


SimplifyReport = Callable[[SimplifyStep], None]
"""What a callable `progress` is: it is called with each step."""


def with_inputs(report: SimplifyReport | None, inputs: tuple[Variable, ...]) -> SimplifyReport | None:
    """The report, given networks with the caller's inputs, categories included, rather than their numbers."""
    if report is None:
        return None
    return lambda step: report(replace(step, kan=replace(step.kan, inputs=inputs)))


@dataclass(frozen=True, eq=False)
class Judge:
    """The training rows, the held-out rows, and the criterion for what is good enough. If `held` is None, leave-one-out
    losses of the training rows are used. `smooth`: smoothing strength of refits. `goal` (N, outputs): the training
    target, for a classifier the original network's scores; `spread` (outputs,): its standard deviation."""

    learn: Dataset
    held: Dataset | None
    goal: Array
    spread: Array
    tolerance: float
    smooth: float = 0.0

    @property
    def x(self) -> Array:
        """All rows (N, inputs), held-out ones included: grids must cover them."""
        alone = self.held is None or self.held is self.learn
        return self.learn.x if self.held is None or alone else np.concatenate([self.learn.x, self.held.x])

    @property
    def ridge(self) -> float:
        """The ridge penalty on all coefficients, which grows with the smoothing."""
        return max(LEAST_RIDGE, RIDGE_PER_SMOOTHING * self.smooth)

    def losses(self, kan: Kan) -> Array:
        """The loss of each validation row (N,), infinite if the network is not finite. Row weights are included, so
        that the plain mean is the weighted mean."""
        if self.held is not None:
            return self.losses_of(answers(kan, self.held.x), bool(kan.classes))
        given = answers(kan, self.learn.x)
        if not np.isfinite(given).all():
            return np.full(len(self.learn), np.inf)
        residuals = (given - self.goal) / self.spread * loo_factor(kan, self.learn, self.goal, self.smooth, self.ridge)
        return _count((residuals**2).mean(axis=1), self.learn)

    def losses_of(self, given: Array, classifier: bool) -> Array:
        """Like `losses`, from the network's outputs (N, outputs) on the held-out rows."""
        assert self.held is not None
        if classifier:
            losses = cross_entropies(given, self.held.y)
        else:
            losses = (((given - self.held.y) / self.spread) ** 2).mean(axis=1)
        return _count(np.where(np.isfinite(losses), losses, np.inf), self.held)

    def losses_at(self, kan: Kan, given: Array) -> Array:
        """Like `losses`, from the network's outputs on the rows `x`."""
        alone = self.held is None or self.held is self.learn
        return self.losses_of(given if alone else given[len(self.learn) :], bool(kan.classes))

    def leaving_out(self) -> "Judge":
        """A judge that trains on all rows and validates by leave-one-out; not for classifiers."""
        if self.held is None or self.held is self.learn:
            return replace(self, held=None)
        x, goal = np.concatenate([self.learn.x, self.held.x]), np.concatenate([self.goal, self.held.y])
        weights = (
            None
            if self.learn.weights is None or self.held.weights is None
            else np.concatenate([self.learn.weights, self.held.weights])
        )
        return replace(self, learn=replace(self.learn, x=x, y=goal, weights=weights), held=None, goal=goal)

    def error_of(self, given: Array) -> float:
        """The root mean square training error in units of `spread`, from the outputs on the training rows."""
        return float(np.sqrt(self.learn.mean((((given - self.goal) / self.spread) ** 2).mean(axis=1))))

    def accepts(self, losses: Array, best: Array) -> bool:
        """Whether the mean of losses (N,) exceeds the best by at most tolerance², or `no_worse` holds."""
        return bool(losses.mean() <= best.mean() + self.tolerance**2) or no_worse(losses, best)


def _count(losses: Array, rows: Dataset) -> Array:
    return losses if rows.weights is None else losses * (rows.shares * len(rows))


def no_worse(losses: Array, best: Array) -> bool:
    """Whether losses (N,) exceed the best by at most one standard error and a fifth; the fifth is for few rows or
    outliers, where a standard error is unreliable."""
    if not np.isfinite(losses).all():
        return False
    if not np.isfinite(best).all():
        return True
    worse, error = mean_difference(losses, best)
    return bool(worse <= min(error, LARGEST_LOSS_INCREASE * best.mean()))


def split_rows(data: Dataset, seed: int) -> tuple[Dataset, Dataset]:
    """The training rows, and a held-out fifth that depends only on the seed. Of fewer than ten rows all are both."""
    out, held = hold_out(data, HELD_OUT_SHARE, MOST_ROWS, seed)
    learn = training_rows(data, out, MOST_ROWS, seed)
    return learn, learn if held is None else held


def judge_of(kan: Kan, data: Dataset, tolerance: float | Literal["auto"], seed: int) -> Judge:
    """Hold out a fifth of the rows, depending only on the seed. Raises DataError if the rows do not fit the network."""
    _check(kan, data, tolerance, seed)
    data = data.counted()
    learn, held = split_rows(data, seed)
    goal = answers(kan, learn.x) if kan.classes else learn.y
    finite = np.isfinite(goal).all(axis=1)
    if not finite.any():
        raise DataError("The network is not finite on any of these rows, so it cannot be validated.")
    alone = held is learn
    learn, goal = learn.take(np.flatnonzero(finite)), goal[finite]
    spread = np.sqrt(learn.mean((goal - learn.mean(goal)) ** 2))
    return Judge(
        learn=learn,
        held=learn if alone else held,
        goal=goal,
        spread=np.where(spread > 0, spread, 1.0),
        tolerance=VALIDATION_DEFAULT_TOLERANCE if tolerance == "auto" else tolerance,
    )


def _check(kan: Kan, data: Dataset, tolerance: float | Literal["auto"], seed: int) -> None:
    if data.x.shape[1] != len(kan.inputs) or data.y.shape[1] != len(kan.outputs):
        raise DataError(
            f"A network of {len(kan.inputs)} inputs and {len(kan.outputs)} outputs needs data of that width, "
            f"got x {data.x.shape} and y {data.y.shape}."
        )
    if tolerance != "auto" and not (not_negative(tolerance) or tolerance == np.inf):
        raise DataError(f"The tolerance is 'auto' or a number from 0 on, got {tolerance!r}.")
    if not whole(seed, 0):
        raise DataError(f"A seed is a whole number from 0 on, got {seed!r}.")


def refit(kan: Kan, judge: Judge, steps: int, fixed: frozenset[Constant] = frozenset()) -> Kan:
    """Refit the network from its current parameters; unchanged if it has too many."""
    if too_large(kan):
        return kan
    return _refine(_follow_signals(kan, judge), judge, steps, fixed)


def _refine(kan: Kan, judge: Judge, steps: int, fixed: frozenset[Constant] = frozenset()) -> Kan:
    return refine(
        kan,
        judge.learn.x,
        judge.goal,
        steps=steps,
        smooth=judge.smooth,
        ridge=judge.ridge,
        weights=judge.learn.weights,
        fixed=fixed,
    )


def _follow_signals(kan: Kan, judge: Judge) -> Kan:
    """Move the grids to the signals; unchanged if the move costs too much accuracy."""
    if kan.symbolic:
        return kan
    moved = set_ranges(kan, judge.x)
    # Moving a grid is a fit of its own, and a poor one on rows far outside.
    before, after = (judge.error_of(answers(trained, judge.learn.x)) for trained in (kan, moved))
    return moved if after <= REGRID_ERROR_RATIO * before + REGRID_ERROR_MARGIN else kan


def count_free_parameters(kan: Kan) -> int:
    """The number of parameters that a refit may change."""
    return sum(
        int(layer.spline_mask.sum()) * (layer.coefficients.shape[2] + 1) + 4 * int(layer.symbolic_mask.sum())
        for layer in kan.layers
    )


def too_large(kan: Kan) -> bool:
    return count_free_parameters(kan) > VALIDATION_MOST_PARAMETERS


def smooth(kan: Kan, judge: Judge) -> tuple[Kan, Judge]:
    """Refit briefly, and choose the strongest smoothing that is as good as the best."""
    if kan.symbolic or too_large(kan):
        return refit(kan, judge, SMOOTHING_STEPS), judge
    tried: list[tuple[Kan, Judge, Array]] = []
    for strength in SMOOTHNESS:
        smoother = replace(judge, smooth=strength)
        fitted = refit(kan, smoother, SMOOTHING_STEPS)
        losses = smoother.losses(fitted)
        if tried and losses.mean() > SMOOTHING_LOSS_RATIO * min(earlier.mean() for _, _, earlier in tried):
            break
        tried.append((fitted, smoother, losses))
    best = min((losses for _, _, losses in tried), key=lambda losses: float(losses.mean()))
    fitted, smoother, _ = [trial for trial in tried if trial[2] is best or no_worse(trial[2], best)][-1]
    return fitted, smoother


def refit_on_all_rows(kan: Kan, data: Dataset, seed: int) -> Kan:
    """Refit to all rows, smoothed as held-out rows choose; unchanged if the result leaves a function's domain."""
    judge = judge_of(kan, data, "auto", seed)
    data = data.counted()
    goal = answers(kan, data.x) if kan.classes else data.y
    finite = np.flatnonzero(np.isfinite(goal).all(axis=1))
    every = replace(smooth(kan, judge)[1], learn=data.take(finite), goal=goal[finite])
    result = refit(kan, every, VALIDATION_LAST_STEPS)
    return result if domains_hold(result, values(result, every.learn.x)) else kan


REFIT_STEPS = 30  # steps of the refit on each finer grid
# Error that is small enough if it is still falling, in standard deviations of the outputs.
GRID_REFINEMENT_EXPLAINED_ERROR = 1e-2
# An error falls if it is at most this times that on the grid before; the right shape often gets far below.
FALLING_RATIO = 0.7


@dataclass(frozen=True, eq=False)
class Finer:
    """A network refitted on a finer grid, its training error, and whether that error fell."""

    kan: Kan
    error: float
    falling: bool


def refine_grids(kan: Kan, judge: Judge, grids: Iterable[int], most: int) -> Iterator[Finer]:
    """Refit on finer and finer grids, while the error falls and the network has at most `most` parameters."""
    error = judge.error_of(answers(kan, judge.learn.x))
    for intervals in grids:
        moved = regrid(kan, judge.x, intervals)
        if count_free_parameters(moved) > most:
            return
        before, kan = error, refit(moved, judge, REFIT_STEPS)
        error = judge.error_of(answers(kan, judge.learn.x))
        falling = error <= FALLING_RATIO * before
        yield Finer(kan, error, falling)
        if not falling:
            return
