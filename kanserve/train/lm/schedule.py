"""The schedule of a least-squares fit: several starts on a coarse grid, then finer grids while validation improves.

Training on a fine grid from the start ends in poor minima, and settings for exact data fail on noisy data (R² -4.8
where 0.5 is possible). So the grid is refined step by step, and held-out rows choose the start, the grid and the
smoothness of the splines.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kanserve.data.dataset import Dataset
from kanserve.network.evaluate import evaluate
from kanserve.network.kan import Kan, Layer
from kanserve.network.splines import uniform_knots
from kanserve.train.common.checkpoints import Checkpoint
from kanserve.train.common.events import Event
from kanserve.train.common.fit_progress import Watch
from kanserve.train.common.fit_settings import Settings
from kanserve.train.common.grids import regrid
from kanserve.train.common.normalising import without_edges
from kanserve.train.common.scoring import cross_entropies
from kanserve.train.common.training_settings import TRAINING
from kanserve.train.lm.levenberg_marquardt import refine
from kanserve.train.lm.parameter_vector import free_parameters

Array = NDArray[np.float64]

STRENGTHS = (0.0, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
MOST_PARAMETERS = 1500  # each step solves a dense system of this size


@dataclass(frozen=True, eq=False)
class Schedule:
    """Training rows, validation rows (None: the same), and settings."""

    train: Dataset
    held: Dataset | None
    settings: Settings
    watch: Watch
    checkpoint: Checkpoint

    @property
    def judges(self) -> Dataset:
        return self.train if self.held is None else self.held


@dataclass(frozen=True, eq=False)
class Candidate:
    """A network, its smoothing strength, and its squared error on each validation row (N,)."""

    kan: Kan
    smooth: float
    errors: Array
    shares: Array  # (N,), the weights of the rows; they sum to 1

    @property
    def error(self) -> float:
        return float(self.shares @ self.errors)


@dataclass
class Run:
    """The state of a schedule: how much of the work is done; it writes the checkpoint and reports progress."""

    plan: Schedule
    work: float
    """Multiply-adds of the whole schedule: an estimate, since it may end early."""
    done: float = 0.0
    units: int = 0
    loss: float = np.nan

    def fitted(self, kan: Kan, rows: Dataset, smooth: float, steps: int) -> Candidate:
        """The network fitted to these rows, from the checkpoint if it is there; else it is fitted and kept."""
        plan = self.plan
        name, effort = f"unit {self.units}", _work(kan, rows, steps)
        if plan.checkpoint.holds(name):
            plan.watch.recalled += effort / self.work
        result = plan.checkpoint.recall(name, lambda: self._refined(kan, rows, smooth, steps))
        one = Candidate(result, smooth, errors(result, plan.judges), plan.judges.shares)
        self.units += 1
        self.done = min(self.done + effort, self.work)
        best = plan.watch.best
        if np.isfinite(one.error) and (best is None or one.error < best[0]):
            plan.watch.best = one.error, lambda: one.kan
        return one

    def tell(self, stage: str, error: float, share: float | None = None) -> None:
        """Report that a stage has ended with this squared error."""
        self.plan.watch.tell(stage, np.sqrt(error), self.loss, self.done / self.work if share is None else share)

    def _refined(self, kan: Kan, rows: Dataset, smooth: float, steps: int) -> Kan:
        def report(event: Event) -> None:
            self.loss = np.sqrt(2 * event.loss / rows.y.shape[1])

        return refine(
            kan,
            rows.x,
            rows.y,
            steps=steps,
            smooth=smooth,
            ridge=smooth / 10 if smooth > 0 else TRAINING.schedule_exact_ridge,
            weights=rows.weights,
            patience=self.plan.settings.patience,
            report=report,
        )


def run(kan: Kan, data: Dataset, plan: Schedule) -> Kan:
    """Fit a normalised network from new random weights; the last `steps` are on all rows of `data`."""
    now = Run(plan, _whole_work(kan, data, plan))
    best = _best_start(kan, now)
    best = _smoothed(best, now)
    best = _grown(best, now)
    steps = plan.settings.steps
    few = _enough(data, best.kan, plan)
    if len(few) < len(data):
        best = now.fitted(best.kan, few, best.smooth, steps)
        steps = min(steps, TRAINING.schedule_all_rows_steps)
    last = now.fitted(best.kan, data, best.smooth, steps)
    now.tell("all rows", last.error, 1.0)
    return last.kan


def _enough(rows: Dataset, kan: Kan, plan: Schedule) -> Dataset:
    """A sample of the rows, large enough for choices about this network."""
    return rows.sample(
        max(TRAINING.schedule_enough_rows, TRAINING.schedule_enough_each * parameters(kan)), plan.settings.seed
    )


def _work(kan: Kan, rows: Dataset, steps: int) -> float:
    """The approximate multiply-adds of so many steps: J'J and its factorisation."""
    size = parameters(kan)
    return steps * (rows.y.size * size * (size + 20.0) + size**3 / 3)


def _whole_work(kan: Kan, data: Dataset, plan: Schedule) -> float:
    """The work of all stages if none ends early."""
    first = fresh(kan, plan.settings.grids[0], (plan.settings.seed,))
    total = plan.settings.starts * _work(
        first, plan.train.sample(TRAINING.schedule_start_rows, plan.settings.seed), TRAINING.schedule_start_steps
    )
    enough = _enough(plan.train, first, plan)
    total += (_finalists(kan, plan) + len(plan.settings.strengths) - 1) * _work(
        first, enough, TRAINING.schedule_settle_steps
    )
    finer = first
    for intervals in plan.settings.grids[1:]:
        finer = fresh(kan, intervals, (plan.settings.seed,))
        total += min(3, len(plan.settings.strengths)) * _work(
            finer, _enough(plan.train, finer, plan), TRAINING.schedule_grow_steps
        )
    few, steps = _enough(data, finer, plan), plan.settings.steps
    if len(few) == len(data):
        return total + _work(finer, data, steps)
    return total + _work(finer, few, steps) + _work(finer, data, min(steps, TRAINING.schedule_all_rows_steps))


def _finalists(kan: Kan, plan: Schedule) -> int:
    return min(plan.settings.starts, 3 if len(kan.layers) > 2 else 2)


def _best_start(kan: Kan, now: Run) -> Candidate:
    """The best of several random starts: short runs on few rows, then longer ones of the finalists on more rows."""
    plan = now.plan
    few = plan.train.sample(TRAINING.schedule_start_rows, plan.settings.seed)
    runs: list[Candidate] = []
    for start in range(plan.settings.starts):
        begin = fresh(kan, plan.settings.grids[0], (plan.settings.seed, start))
        runs.append(now.fitted(begin, few, plan.settings.strengths[0], TRAINING.schedule_start_steps))
        now.tell(f"start {start + 1} of {plan.settings.starts}", _best(runs).error)
    runs.sort(key=lambda run: run.error)
    finalists = runs[: _finalists(kan, plan)]
    enough = _enough(plan.train, finalists[0].kan, plan)
    return _best(
        [now.fitted(finalist.kan, enough, finalist.smooth, TRAINING.schedule_settle_steps) for finalist in finalists]
    )


def _smoothed(best: Candidate, now: Run) -> Candidate:
    """The candidate with the smoothing strength that the validation rows choose."""
    plan = now.plan
    enough = _enough(plan.train, best.kan, plan)
    others = [
        now.fitted(best.kan, enough, smooth, TRAINING.schedule_settle_steps) for smooth in plan.settings.strengths[1:]
    ]
    chosen = smoothest([best, *others])
    now.tell(f"grid {plan.settings.grids[0]}", chosen.error)
    return chosen


def _grown(best: Candidate, now: Run) -> Candidate:
    """The candidate on finer grids, until the error no longer falls or there are more parameters than answers."""
    plan = now.plan
    most = different_answers(plan.train)
    for intervals in plan.settings.grids[1:]:
        moved = regrid(best.kan, plan.train.x, intervals)
        if parameters(moved) > min(most, MOST_PARAMETERS):
            break
        # A finer grid may need to be smoother, or less smooth.
        at = plan.settings.strengths.index(best.smooth)
        near = plan.settings.strengths[max(at - 1, 0) : at + 2]
        enough = _enough(plan.train, moved, plan)
        finer = smoothest([now.fitted(moved, enough, smooth, TRAINING.schedule_grow_steps) for smooth in near])
        now.tell(f"grid {intervals}", finer.error)
        if plan.held is not None and not finer.error < best.error:
            break
        best = finer
    return best


def _best(candidates: list[Candidate]) -> Candidate:
    return min(candidates, key=lambda run: run.error)


def smoothest(candidates: list[Candidate]) -> Candidate:
    """The smoothest candidate whose validation error is not clearly worse than the best one's.

    "Not clearly" is by less than a share of the standard error of the row-by-row difference. On exact data errors
    differ by orders of magnitude and only the best qualifies; on noisy data the smoother one is safer.
    """
    best = _best(candidates)
    equal = [best]
    for candidate in candidates:
        if candidate.smooth > best.smooth and np.isfinite(candidate.error):
            worse = candidate.errors - best.errors
            mean = float(candidate.shares @ worse)
            if mean <= TRAINING.schedule_share * np.linalg.norm(candidate.shares * (worse - mean)):
                equal.append(candidate)
    return max(equal, key=lambda run: run.smooth)


def errors(kan: Kan, data: Dataset) -> Array:
    """The squared error of each row (N,) relative to the output scales, infinite where the network is not finite."""
    with np.errstate(all="ignore"):
        squares: Array = (((evaluate(kan, data.x) - data.y) / kan.output_scale) ** 2).mean(axis=1)
    return np.where(np.isfinite(squares), squares, np.inf)


def no_worse_than_the_mean(kan: Kan, data: Dataset) -> Kan:
    """The network, with each output that is worse than the mean of its answers replaced by that mean."""
    with np.errstate(all="ignore"):
        squares = data.mean(((evaluate(kan, data.x) - data.y) / kan.output_scale) ** 2)
        mean = data.mean(((data.y - kan.output_shift) / kan.output_scale) ** 2)
    return without_edges(kan, ~(squares <= mean))


def no_worse_than_the_shares(kan: Kan, data: Dataset) -> Kan:
    """The classifier, or a constant one that gives the class frequencies if their cross-entropy is lower."""
    scores = np.log(np.maximum(data.mean(data.y), TRAINING.schedule_least_share))
    constant = data.mean(cross_entropies(np.broadcast_to(scores, data.y.shape), data.y))
    with np.errstate(all="ignore"):
        answers = evaluate(kan, data.x)
    if data.mean(cross_entropies(answers, data.y)) <= constant:
        return kan
    plain = without_edges(kan, np.ones(len(scores), bool))
    return replace(plain, layers=(*plain.layers[:-1], replace(plain.layers[-1], node_bias=scores)))


def parameters(kan: Kan) -> int:
    """The number of free parameters."""
    return sum(parameter.size for parameter in free_parameters(kan))


def different_answers(data: Dataset) -> int:
    """The number of answers at distinct inputs: a repeated row determines no more parameters."""
    return len(np.unique(data.x, axis=0)) * int(data.y.shape[1])


def fresh(kan: Kan, intervals: int, seed: tuple[int, ...], hidden: float = 1.0) -> Kan:
    """The same structure with random splines on grids over [-1, 1]; pruned and named edges stay as they are.

    `hidden` is the half-width of the grids of all layers but the first.
    """
    generator = np.random.default_rng(seed)
    widths = (1.0, *[hidden] * (len(kan.layers) - 1))
    layers = zip(kan.layers, widths, strict=True)
    return replace(kan, layers=tuple(_fresh(layer, intervals, width, generator) for layer, width in layers))


def _fresh(one: Layer, intervals: int, width: float, generator: np.random.Generator) -> Layer:
    spread = TRAINING.creation_spread / np.sqrt(one.inputs)
    edges = one.base_weight.shape
    coefficients = generator.normal(0, spread, (*edges, intervals + one.order))
    return replace(
        one,
        knots=np.tile(uniform_knots(-width, width, intervals, one.order), (one.inputs, 1)),
        coefficients=np.where(one.spline_mask[:, :, None], coefficients, 0.0),
        base_weight=np.where(one.base_weight != 0, generator.normal(0, spread, edges), 0.0),
    )
