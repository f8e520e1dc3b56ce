"""The schedule of a least-squares fit: several starts on a coarse grid, then finer grids while validation improves.

Training on a fine grid from the start ends in poor minima, and settings for exact data fail on noisy data (R² -4.8
where 0.5 is possible). So the grid is refined step by step, and held-out rows choose the start, the grid and the
smoothness of the splines.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kanserve.data.dataset import Dataset
from kanserve.network.kan import Kan
from kanserve.train.common.checkpoints import Checkpoint
from kanserve.train.common.constant_guard import errors, errors_of_constant, scores
from kanserve.train.common.events import Event
from kanserve.train.common.fit_progress import Watch
from kanserve.train.common.fit_settings import Settings
from kanserve.train.common.grids import regrid, set_ranges
from kanserve.train.common.jumps import regrid_with_jumps, with_jumps
from kanserve.train.common.losses import LossFunction, sharper
from kanserve.train.common.training_settings import TRAINING
from kanserve.train.lm.fresh_weights import fresh
from kanserve.train.lm.levenberg_marquardt import refine
from kanserve.train.lm.parameter_vector import free_parameters
from kanserve.train.lm.residual_bins import explained_by_bins
from kanserve.train.lm.schedule_candidates import Candidate, as_good, best_of, error_of, smoothest

Array = NDArray[np.float64]

STRENGTHS = (0.0, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
CLASS_STRENGTHS = STRENGTHS[1:-1]  # separable classes have no finite best weights
EXACT = ("squared", "huber", "quantile")  # losses with a best network on every data
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
    def loss(self) -> LossFunction:
        return self.settings.function

    @property
    def judges(self) -> Dataset:
        return self.train if self.held is None else self.held


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
        one = Candidate(result, smooth, errors(result, plan.judges, plan.loss), plan.judges.shares)
        self.units += 1
        self.done = min(self.done + effort, self.work)
        best = plan.watch.best
        if np.isfinite(one.error) and (best is None or one.error < best[0]):
            plan.watch.best = one.error, lambda: one.kan
        return one

    def tell(self, stage: str, error: float, share: float | None = None) -> None:
        """Report that a stage has ended with this error on the validation rows."""
        if self.plan.loss.name == "squared":
            error = float(np.sqrt(error))
        self.plan.watch.tell(stage, error, self.loss, self.done / self.work if share is None else share)

    def _refined(self, kan: Kan, rows: Dataset, smooth: float, steps: int) -> Kan:
        def report(event: Event) -> None:
            squared = self.plan.loss.name == "squared"
            self.loss = np.sqrt(2 * event.loss / rows.y.shape[1]) if squared else event.loss

        exact = self.plan.loss.name in EXACT
        least = TRAINING.schedule_exact_ridge if exact else TRAINING.schedule_scores_ridge
        return refine(
            kan,
            rows.x,
            rows.y,
            steps=steps,
            smooth=smooth,
            ridge=smooth / 10 if smooth > 0 else least,
            jumps=TRAINING.schedule_exact_jumps if exact and smooth == 0 and _is_deep(kan) else 0.0,
            weights=rows.weights,
            patience=self.plan.settings.patience,
            report=report,
            loss=self.plan.loss,
            monotonic=self.plan.settings.monotonic,
        )


def run(kan: Kan, data: Dataset, plan: Schedule) -> tuple[Kan, Kan]:
    """Fit a normalised network from new random weights; the last `steps` are on all rows of `data`.

    The second network is the one before these, which has not seen the validation rows.
    """
    now = Run(plan, _whole_work(kan, data, plan))
    first, *others = _compared(_finalists_of(kan, now), now)
    best, stalled = _grown(first, now)
    for other in others:
        if not stalled:
            break
        found, stalled = _grown(other, now)
        stalled &= abs(found.error - best.error) > TRAINING.schedule_alike * best.error  # else noise is the limit
        best = best_of([best, found])
    chosen = best.kan
    now.plan = plan = replace(plan, settings=_sharper(chosen, plan))
    steps = plan.settings.steps
    if _is_deep(chosen) and best.smooth == 0 and _is_good(best, plan):  # hidden values have left their grids
        best = replace(best, kan=set_ranges(chosen, data.x, keep_first=True))
    few = _enough(data, best.kan, plan)
    if len(few) < len(data):
        best = now.fitted(best.kan, few, best.smooth, steps)
        steps = min(steps, TRAINING.schedule_all_rows_steps)
    last = now.fitted(best.kan, data, best.smooth, steps)
    now.tell("all rows", last.error, 1.0)
    return last.kan, chosen


def _sharper(kan: Kan, plan: Schedule) -> Settings:
    """The settings with Huber's threshold for the residuals of this network on the validation rows."""
    u, t = scores(kan, plan.judges.x), plan.loss.answers(kan, plan.judges.y)
    return replace(plan.settings, shape=sharper(plan.loss, u, t).shape)


def _enough(rows: Dataset, kan: Kan, plan: Schedule) -> Dataset:
    """A sample of the rows, large enough for choices about this network, and small enough for quick steps."""
    size = parameters(kan)
    enough = min(TRAINING.schedule_enough_each * size, int(TRAINING.schedule_enough_work / max(size, 1) ** 2))
    return rows.sample(max(TRAINING.schedule_enough_rows, enough), plan.settings.seed)


def _work(kan: Kan, rows: Dataset, steps: int) -> float:
    """The approximate multiply-adds of so many steps: J'J and its factorisation."""
    size = parameters(kan)
    return steps * (rows.y.size * size * (size + 20.0) + size**3 / 3)


def _whole_work(kan: Kan, data: Dataset, plan: Schedule) -> float:
    """The work of all stages if none ends early."""
    first = fresh(kan, plan.settings.grids[0], (plan.settings.seed,))
    few = plan.train.sample(TRAINING.schedule_start_rows, plan.settings.seed)
    total = plan.settings.starts * _work(first, few, TRAINING.schedule_start_steps)
    settled = _finalists(kan, plan) + len(plan.settings.strengths) - 1
    total += settled * _work(first, _enough(plan.train, first, plan), TRAINING.schedule_settle_steps)
    finer = first
    for n, intervals in enumerate(plan.settings.grids[1:]):
        finer = fresh(kan, intervals, (plan.settings.seed,))
        compared = _finalists(kan, plan) - n if _is_deep(kan) and n < 2 else 1
        total += max(compared, min(3, len(plan.settings.strengths))) * _work(
            finer, _enough(plan.train, finer, plan), TRAINING.schedule_grow_steps
        )
    few, steps = _enough(data, finer, plan), plan.settings.steps
    if len(few) == len(data):
        return total + _work(finer, data, steps)
    return total + _work(finer, few, steps) + _work(finer, data, min(steps, TRAINING.schedule_all_rows_steps))


def _finalists(kan: Kan, plan: Schedule) -> int:
    return min(plan.settings.starts, 3 if _is_deep(kan) else 2)


def _finalists_of(kan: Kan, now: Run) -> list[Candidate]:
    """The best of several random starts, best first, each with its smoothing strength: short runs on few rows, then
    longer ones of the finalists on more rows.

    Of a network with many parameters, most starts are given up after a few steps.
    """
    plan = now.plan
    few = plan.train.sample(TRAINING.schedule_start_rows, plan.settings.seed)
    count, smooth = plan.settings.starts, plan.settings.strengths[0]
    wide = _is_wide(kan, now)
    steps = TRAINING.schedule_ahead_steps if wide and count > 1 else TRAINING.schedule_start_steps
    runs: list[Candidate] = []
    for start in range(count):
        begin = fresh(kan, plan.settings.grids[0], (plan.settings.seed, start), own_knots=True)
        runs.append(now.fitted(begin, few, smooth, steps))
        now.tell(f"start {start + 1} of {count}", best_of(runs).error)
    runs.sort(key=error_of)
    if wide:
        return [_settled(runs[0], now)]
    enough = _enough(plan.train, runs[0].kan, plan)
    finalists = runs[: _finalists(kan, plan)]
    settling = TRAINING.schedule_settle_steps
    settled = sorted((now.fitted(one.kan, enough, one.smooth, settling) for one in finalists), key=error_of)
    return [_smoothed(settled[0], settled[0].kan, settling, now), *settled[1:]]


def _is_wide(kan: Kan, now: Run) -> bool:
    """Whether choices about this network are made by short runs: with more parameters than answers these would not
    show how much noise a long run fits."""
    return TRAINING.schedule_wide < parameters(kan) <= len(now.plan.train) * len(kan.outputs)


def _settled(begun: Candidate, now: Run) -> Candidate:
    """The candidate of many parameters on more rows: a few steps of each strength, all from the same network, choose
    one; longer runs might fit noise before a strength that prevents it is tried."""
    enough, steps = _enough(now.plan.train, begun.kan, now.plan), TRAINING.schedule_ahead_steps
    chosen = _smoothed(now.fitted(begun.kan, enough, begun.smooth, steps), begun.kan, steps, now)
    return now.fitted(chosen.kan, enough, chosen.smooth, TRAINING.schedule_start_steps)


def _smoothed(best: Candidate, begin: Kan, steps: int, now: Run) -> Candidate:
    """The candidate with the smoothing strength that the validation rows choose, of so many steps from `begin` each."""
    plan = now.plan
    enough, wide = _enough(plan.train, best.kan, plan), _is_wide(best.kan, now)
    tried = [best]
    for smooth in plan.settings.strengths[1:]:
        tried.append(now.fitted(begin, enough, smooth, steps))
        if wide and _falls_off(tried):
            break
    chosen = smoothest(tried[_weakest(best_of(tried), now) :])
    now.tell(f"grid {plan.settings.grids[0]}", chosen.error)
    return chosen


def _weakest(best: Candidate, now: Run) -> int:
    """The place of the weakest smoothing strength to take: of noisy data not 0, without which splines are wild in gaps
    between the rows, which no held-out row may show."""
    strengths = now.plan.settings.strengths
    return 1 if len(strengths) > 1 and strengths[0] == 0 and not _is_good(best, now.plan) else 0


def _is_good(best: Candidate, plan: Schedule) -> bool:
    constant = errors_of_constant(best.kan, plan.train, plan.judges, plan.loss)
    return best.error < TRAINING.schedule_good_share * float(plan.judges.shares @ constant)


def _falls_off(tried: list[Candidate]) -> bool:
    """Whether the last two strengths are both clearly worse than the best: stronger smoothing will not gain."""
    best = best_of(tried)
    return len(tried) > 2 and not any(as_good(one, best) for one in tried[-2:])


def _compared(finalists: list[Candidate], now: Run) -> list[Candidate]:
    """The finalists of a deep network on exact data, best first: the first three on the second grid, two of them on the
    third. On the first grid the error of all splines hides how good a start is, and that they need not be smoothed."""
    plan = now.plan
    if not _is_deep(finalists[0].kan) or plan.settings.strengths[0] > 0 or not _is_good(finalists[0], plan):
        return finalists
    for count, intervals in zip((3, 2), plan.settings.grids[1:-1], strict=False):
        moved = [regrid(one.kan, plan.train.x, intervals, keep_first=True) for one in finalists[:count]]
        if len(moved) < count or parameters(moved[0]) > min(different_answers(plan.train), MOST_PARAMETERS):
            break
        fitted = [now.fitted(kan, _enough(plan.train, kan, plan), 0.0, TRAINING.schedule_grow_steps) for kan in moved]
        fitted.sort(key=error_of)
        if fitted[0].error > finalists[0].error / TRAINING.schedule_exact_gain:
            break
        finalists = [*fitted, *finalists[count:]]
        now.tell(f"grid {intervals}", finalists[0].error)
    return finalists


def _is_deep(kan: Kan) -> bool:
    return len(kan.layers) > 2


def _grown(best: Candidate, now: Run) -> tuple[Candidate, bool]:
    """The candidate on finer grids, until several in a row gain nothing or there are more parameters than answers, and
    with knots at jumps; and whether it is stuck: see `_stuck`."""
    plan, before = now.plan, best
    most = different_answers(plan.train)
    grids = [size for size in plan.settings.grids if size > best.kan.layers[0].intervals]
    without_gain = last = more = 0
    looked = not plan.settings.finer or plan.held is None
    while True:
        if not grids and not looked:
            best, more = _with_jumps(best, now)
            looked = True
        if not grids and not (grids := [size for size in _finer(best, plan) if size > last]):
            break
        last = intervals = grids.pop(0)
        moved = regrid_with_jumps(best.kan, intervals, more, plan.train.x)
        if parameters(moved) > min(most, MOST_PARAMETERS):
            break
        unsure = without_gain > 0 or _is_wide(moved, now)
        finer = _tried(moved, best, unsure, now)
        now.tell(f"grid {intervals}", finer.error)
        if plan.held is None or finer.error < best.error:
            best, before, without_gain = finer, best, 0
            continue
        before = best
        without_gain += 1
        if without_gain > plan.settings.look_ahead and intervals in plan.settings.grids:
            grids = []
    return best, _stuck(best, before, plan)


def _tried(moved: Kan, best: Candidate, unsure: bool, now: Run) -> Candidate:
    """The network fitted on its new grid; only a few steps if these gain nothing on an unsure one."""
    finer = _ahead(moved, best, now) if unsure else None
    return _on_finer(moved, best.smooth, now) if finer is None or finer.error < best.error else finer


def _with_jumps(best: Candidate, now: Run) -> tuple[Candidate, int]:
    """The candidate with knots where its residuals jump, if there are such places and the validation rows gain; and how
    many intervals these knots add."""
    if _is_good(best, now.plan):
        return best, 0
    moved = with_jumps(best.kan, now.plan.train.sample(TRAINING.jumps_rows, now.plan.settings.seed), now.plan.loss)
    if moved is None or parameters(moved) > min(different_answers(now.plan.train), MOST_PARAMETERS):
        return best, 0
    found = _tried(moved, best, _is_wide(moved, now), now)
    now.tell("jumps", found.error)
    added = moved.layers[0].intervals - best.kan.layers[0].intervals
    return (found, added) if found.error < best.error else (best, 0)


def _stuck(best: Candidate, before: Candidate, plan: Schedule) -> bool:
    """Whether a deep network on exact data is in a poor minimum: the last finer grid has gained too little.

    The error of splines that approximate a smooth function falls with the eighth power of the step, squared.
    """
    if not _is_deep(best.kan) or plan.held is None or best.smooth > 0 or best.error < TRAINING.schedule_converged:
        return False
    finer = best.kan.layers[-1].intervals / before.kan.layers[-1].intervals
    return bool(best.error >= before.error / max(finer, 1.0) ** TRAINING.schedule_rate)


def _on_finer(moved: Kan, smooth: float, now: Run) -> Candidate:
    """The network fitted on its new grid, as smooth as the validation rows choose: a finer grid may need to be
    smoother, or less smooth."""
    plan, enough = now.plan, _enough(now.plan.train, moved, now.plan)
    strengths = plan.settings.strengths
    at = strengths.index(smooth)
    tried = [now.fitted(moved, enough, smooth, TRAINING.schedule_grow_steps)]
    for way in (1, -1):
        near = at + way
        while _weakest(best_of(tried), now) <= near < len(strengths):
            begun = now.fitted(best_of(tried).kan, enough, strengths[near], TRAINING.schedule_ahead_steps)
            if not as_good(begun, best_of(tried)):
                break
            tried.append(now.fitted(begun.kan, enough, strengths[near], TRAINING.schedule_grow_steps))
            if way > 0 or best_of(tried) is not tried[-1]:
                break
            near += way
    return smoothest(tried)


def _ahead(moved: Kan, best: Candidate, now: Run) -> Candidate:
    """A few steps on a grid after one that gained nothing: whether it deserves the others."""
    enough = _enough(now.plan.train, moved, now.plan)
    strengths = dict.fromkeys((best.smooth, now.plan.settings.strengths[_weakest(best, now)]))
    return best_of([now.fitted(moved, enough, one, TRAINING.schedule_ahead_steps) for one in strengths])


def _finer(best: Candidate, plan: Schedule) -> list[int]:
    """The grids to go on to, if the residuals have structure in an input that this grid is too coarse for."""
    beyond = [size for size in plan.settings.finer if size > best.kan.layers[0].intervals]
    if plan.held is None or not beyond:
        return []
    if _is_good(best, plan):
        return []
    slopes = [
        plan.loss.slopes(scores(best.kan, rows.x), plan.loss.answers(best.kan, rows.y))[0]
        for rows in (plan.train, plan.held)
    ]
    if not all(np.isfinite(slope).all() for slope in slopes):
        return []
    return beyond if explained_by_bins(plan.train, plan.held, *slopes) > TRAINING.schedule_bins_share else []


def parameters(kan: Kan) -> int:
    """The number of free parameters."""
    return sum(parameter.size for parameter in free_parameters(kan))


def different_answers(data: Dataset) -> int:
    """The number of answers at distinct inputs: a repeated row determines no more parameters."""
    return len(np.unique(data.x, axis=0)) * int(data.y.shape[1])
