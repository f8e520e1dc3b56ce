"""The schedule of a least-squares fit: several starts on a coarse grid, then finer grids while validation improves.
Training on a fine grid from the start ends in poor minima or overfits noise. Held-out rows choose the start, the grid
and the smoothness of the splines."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kanserve.data.dataset import Dataset
from kanserve.network.kan import Kan
from kanserve.train.constant_guard import scores
from kanserve.train.creation import random_init
from kanserve.train.fit_settings import Settings
from kanserve.train.grids import regrid, set_ranges
from kanserve.train.jumps import JUMPS_ROWS, regrid_with_jumps, with_jumps
from kanserve.train.lm.extreme_rows import extreme_rows
from kanserve.train.lm.parameter_vector import parameters
from kanserve.train.lm.schedule_candidates import Candidate, as_good, best_of, error_of, smoothest
from kanserve.train.lm.schedule_run import (
    EXACT,
    Run,
    Schedule,
    different_answers,
    enough_rows,
    is_deep,
    is_good,
    is_narrow,
    work_of,
)
from kanserve.train.losses import sharper

Array = NDArray[np.float64]

BINS = 100  # of an input, to look for structure in the residuals that a grid is too coarse for
ROWS_PER_BIN = 8  # at least; with fewer rows there are fewer bins


def share_explained_by_bins(train: Dataset, held: Dataset, learned: Array, judged: Array) -> float:
    """The largest share of the variance of the validation residuals that means in narrow bins of an input explain."""
    bins = min(BINS, len(train) // ROWS_PER_BIN)
    found = 0.0
    if bins < 2:
        return found
    for i in range(train.x.shape[1]):
        low, high = float(train.x[:, i].min()), float(train.x[:, i].max())
        edges = np.linspace(low, high, bins + 1)[1:-1]
        own, other = np.searchsorted(edges, train.x[:, i]), np.searchsorted(edges, held.x[:, i])
        count = np.maximum(np.bincount(own, minlength=bins), 1)
        for q in range(learned.shape[1]):
            means = np.bincount(own, learned[:, q], bins) / count
            total = float(np.square(judged[:, q]).sum())
            if total > 0:
                found = max(found, 1 - float(np.square(judged[:, q] - means[other]).sum()) / total)
    return found


TRIES = 3  # of the starts of a deep network on exact data, at most, if its error falls too slowly
START_ROWS = 2000  # enough to compare starts
START_STEPS = 25  # of each start
SETTLE_STEPS = 40  # of the best start
GROW_STEPS = 60  # on each finer grid
AHEAD_STEPS = 10  # on a grid after one that gained nothing, before it is known to gain
WIDE = 300  # parameters from which on starts take few steps, and only the best is continued
# The squared error of a deep network falls at least with this power of the step, or it is stuck: 8 in theory, from 6
# on in good fits on grids as coarse as 5 and 10.
RATE = 6.0
CONVERGED = 1e-11  # of the variance: a squared error that no further start need improve on
BINS_SHARE = 0.1  # of the validation rows' residuals that bins must explain to ask for finer grids
ALL_ROWS_STEPS = 10  # for a network that is fitted to enough of the rows already

STRENGTHS = (0.0, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
CLASS_STRENGTHS = STRENGTHS[1:-1]  # separable classes have no finite best weights
MOST_PARAMETERS = 1500  # each step solves a dense system of this size


def run(kan: Kan, data: Dataset, plan: Schedule) -> tuple[Kan, Kan]:
    """Fit a normalised network from random weights; the last `steps` use all rows of `data`. Returns the result, and
    the network before these steps, which has not seen the validation rows."""
    now = Run(plan, _whole_work(kan, data, plan))
    first, *others = _compare(_finalists_of(kan, now), now)
    best, stalled = _grow(first, now)
    for other in others:
        if not stalled:
            break
        found, stalled = _grow(other, now)
        best = best_of([best, found])
    chosen = best.kan
    now.plan = plan = replace(plan, settings=_sharper(chosen, plan))
    steps = plan.settings.steps
    if is_deep(chosen) and best.smooth == 0 and is_good(best, plan):  # hidden values have left their grids
        best = replace(best, kan=set_ranges(chosen, _with_extremes(best, data.x, plan), keep_first=True))
    few = enough_rows(data, best.kan, plan)
    if len(few) < len(data):
        best = now.fit_rows(best.kan, few, best.smooth, steps)
        steps = min(steps, ALL_ROWS_STEPS)
    last = now.fit_rows(best.kan, data, best.smooth, steps)
    now.tell("all rows", last.error, 1.0)
    return last.kan, chosen


def _sharper(kan: Kan, plan: Schedule) -> Settings:
    """The settings with Huber's threshold adjusted to this network's residuals on the validation rows."""
    u, t = scores(kan, plan.judges.x), plan.loss.answers(kan, plan.judges.y)
    return replace(plan.settings, shape=sharper(plan.loss, u, t).shape)


def _whole_work(kan: Kan, data: Dataset, plan: Schedule) -> float:
    """The work of all stages, if none ends early."""
    first = random_init(kan, plan.settings.grids[0], (plan.settings.seed,))
    few = plan.train.sample(START_ROWS, plan.settings.seed)
    total = plan.settings.starts * work_of(first, few, START_STEPS)
    settled = _finalists(kan, plan) + len(plan.settings.strengths) - 1
    total += settled * work_of(first, enough_rows(plan.train, first, plan), SETTLE_STEPS)
    finer = first
    for n, intervals in enumerate(plan.settings.grids[1:]):
        finer = random_init(kan, intervals, (plan.settings.seed,))
        compared = _finalists(kan, plan) - n if is_deep(kan) and n < 2 else 1
        total += max(compared, min(3, len(plan.settings.strengths))) * work_of(
            finer, enough_rows(plan.train, finer, plan), GROW_STEPS
        )
    few, steps = enough_rows(data, finer, plan), plan.settings.steps
    if len(few) == len(data):
        return total + work_of(finer, data, steps)
    return total + work_of(finer, few, steps) + work_of(finer, data, min(steps, ALL_ROWS_STEPS))


def _finalists(kan: Kan, plan: Schedule) -> int:
    return min(plan.settings.starts, 3 if is_deep(kan) else 2)


def _finalists_of(kan: Kan, now: Run, before: int = 0) -> list[Candidate]:
    """The best of several random starts, best first, with their smoothing strengths: short runs on few rows, then
    longer ones on more rows; further starts, after `before`, are not smoothed. With many parameters, most starts are
    given up early."""
    plan = now.plan
    few = plan.train.sample(START_ROWS, plan.settings.seed)
    count, smooth = plan.settings.starts, plan.settings.strengths[0]
    wide = _is_wide(kan, now)
    steps = AHEAD_STEPS if wide and count > 1 else START_STEPS
    runs: list[Candidate] = []
    for start in range(before, before + count):
        begin = random_init(kan, plan.settings.grids[0], (plan.settings.seed, start), own_knots=True)
        runs.append(now.fit_rows(begin, few, smooth, steps))
        now.tell(f"start {start + 1} of {before + count}", best_of(runs).error)
    runs.sort(key=error_of)
    if wide:
        return [_settle(runs[0], now)]
    enough = enough_rows(plan.train, runs[0].kan, plan)
    finalists = runs[: _finalists(kan, plan)]
    settling = SETTLE_STEPS
    settled = sorted(
        (now.fit_rows(finalist.kan, enough, finalist.smooth, settling) for finalist in finalists), key=error_of
    )
    return settled if before else [_smooth(settled[0], settled[0].kan, settling, now), *settled[1:]]


def _is_wide(kan: Kan, now: Run) -> bool:
    """Whether choices about this network are made by short runs. They mislead for networks with more parameters than
    targets (noise shows only in long runs) and for narrow classifiers (good starts show late)."""
    if now.plan.loss.name == "cross_entropy" and is_narrow(kan):
        return False
    return WIDE < parameters(kan) <= len(now.plan.train) * len(kan.outputs)


def _settle(begun: Candidate, now: Run) -> Candidate:
    """Fit a large network to more rows: first a few steps at each smoothing strength to choose one, then more. Longer
    runs might fit noise before a strength that prevents it is tried."""
    enough, steps = enough_rows(now.plan.train, begun.kan, now.plan), AHEAD_STEPS
    chosen = _smooth(now.fit_rows(begun.kan, enough, begun.smooth, steps), begun.kan, steps, now)
    return now.fit_rows(chosen.kan, enough, chosen.smooth, START_STEPS)


def _smooth(best: Candidate, begin: Kan, steps: int, now: Run) -> Candidate:
    """Choose the smoothing strength by the validation rows, after `steps` steps from `begin` with each."""
    plan = now.plan
    enough = enough_rows(plan.train, best.kan, plan)
    tried = [best, *(now.fit_rows(begin, enough, smooth, steps) for smooth in plan.settings.strengths[1:])]
    chosen = smoothest(tried[_weakest(best_of(tried), now) :])
    now.tell(f"grid {plan.settings.grids[0]}", chosen.error)
    return chosen


def _weakest(best: Candidate, now: Run) -> int:
    """The index of the weakest smoothing strength to allow. It is not 0 for noisy data: splines would oscillate in gaps
    between the rows, which held-out rows may not show."""
    strengths = now.plan.settings.strengths
    return 1 if len(strengths) > 1 and strengths[0] == 0 and not is_good(best, now.plan) else 0


def _compare(finalists: list[Candidate], now: Run) -> list[Candidate]:
    """Rank the finalists of a deep network on exact data: three on the second grid, two on the third, since the spline
    error on the first grid hides which start is good. If the error falls too slowly, further starts are tried."""
    plan = now.plan
    if not is_deep(finalists[0].kan) or plan.settings.strengths[0] > 0 or not is_good(finalists[0], plan):
        return finalists
    tries, start = 1, finalists[0].kan
    grids = list(zip((3, 2), plan.settings.grids[1:-1], strict=False))
    for at, (count, intervals) in enumerate(grids):
        coarse = finalists[0]
        fitted = _on_finer_grid(finalists[:count], intervals, now)
        if len(fitted) < count:
            break
        while tries < TRIES and _is_slow(fitted[0], coarse):
            more = _finalists_of(start, now, tries * plan.settings.starts)
            for few, size in grids[:at]:
                more = _on_finer_grid(more[:few], size, now)
            coarse = best_of([coarse, more[0]])
            fitted = sorted([*fitted, *_on_finer_grid(more[:count], intervals, now)], key=error_of)
            tries += 1
        finalists = [*fitted[:3], *finalists[count:]]
        now.tell(f"grid {intervals}", finalists[0].error)
    return finalists


def _on_finer_grid(finalists: list[Candidate], intervals: int, now: Run) -> list[Candidate]:
    """Refit the finalists of a deep network on a finer grid, best first; empty if that needs too many parameters."""
    plan = now.plan
    moved = [
        regrid(finalist.kan, _with_extremes(finalist, plan.train.x, plan), intervals, keep_first=True)
        for finalist in finalists
    ]
    if parameters(moved[0]) > min(different_answers(plan.train), MOST_PARAMETERS):
        return []
    fitted = (now.fit_rows(kan, enough_rows(plan.train, kan, plan), 0.0, GROW_STEPS) for kan in moved)
    return sorted(fitted, key=error_of)


def _is_slow(finer: Candidate, coarse: Candidate) -> bool:
    """Whether the finer grid lowered the error less than theory says for smooth functions: squared error ∝ step^8."""
    ratio = finer.kan.layers[-1].intervals / coarse.kan.layers[-1].intervals
    return bool(finer.error >= coarse.error / max(ratio, 1.0) ** RATE)


def _is_exact(candidate: Candidate, plan: Schedule) -> bool:
    """Whether this is a deep network that fits exact data."""
    return is_deep(candidate.kan) and candidate.smooth == 0 and plan.loss.name in EXACT and is_good(candidate, plan)


def _with_extremes(candidate: Candidate, x: Array, plan: Schedule) -> Array:
    """The rows that set the hidden ranges: for exact data also those with the least and largest hidden values."""
    return np.concatenate([x, extreme_rows(candidate.kan, x)]) if _is_exact(candidate, plan) else x


def _grow(best: Candidate, now: Run) -> tuple[Candidate, bool]:
    """Refine the grids until several in a row bring no gain or parameters outnumber targets, and add knots at jumps.
    Returns the candidate, and whether it is stuck (see `_stuck`)."""
    plan, before = now.plan, best
    most = different_answers(plan.train)
    grids = _above(best.kan.layers[0].intervals, plan.settings.grids)
    without_gain = last = more = 0
    looked = not plan.settings.finer or plan.held is None
    while True:
        if not grids and not looked:
            best, more = _with_jumps(best, now)
            looked = True
        if not grids and not (grids := _above(last, _finer(best, plan))):
            break
        last = intervals = grids.pop(0)
        moved = regrid_with_jumps(best.kan, intervals, more, _with_extremes(best, plan.train.x, plan))
        if parameters(moved) > min(most, MOST_PARAMETERS):
            break
        unsure = without_gain > 0 or _is_wide(moved, now)
        finer = _try(moved, best, unsure, now)
        now.tell(f"grid {intervals}", finer.error)
        if plan.held is None or finer.error < best.error:
            best, before, without_gain = finer, best, 0
            continue
        before = best
        without_gain += 1
        if without_gain > plan.settings.look_ahead and intervals in plan.settings.grids:
            grids = []
    return best, _stuck(best, before, plan)


def _above(least: int, sizes: Iterable[int]) -> list[int]:
    return [size for size in sizes if size > least]


def _try(moved: Kan, best: Candidate, unsure: bool, now: Run) -> Candidate:
    """Fit the network on its new grid; if `unsure`, take a few steps first, and stop if they bring no gain."""
    finer = _ahead(moved, best, now) if unsure else None
    return _on_finer(moved, best.smooth, now) if finer is None or finer.error < best.error else finer


def _with_jumps(best: Candidate, now: Run) -> tuple[Candidate, int]:
    """Add knots where the residuals jump, if validation rows gain. Returns the candidate and added intervals."""
    if is_good(best, now.plan):
        return best, 0
    moved = with_jumps(best.kan, now.plan.train.sample(JUMPS_ROWS, now.plan.settings.seed), now.plan.loss)
    if moved is None or parameters(moved) > min(different_answers(now.plan.train), MOST_PARAMETERS):
        return best, 0
    found = _try(moved, best, _is_wide(moved, now), now)
    now.tell("jumps", found.error)
    added = moved.layers[0].intervals - best.kan.layers[0].intervals
    return (found, added) if found.error < best.error else (best, 0)


def _stuck(best: Candidate, before: Candidate, plan: Schedule) -> bool:
    """Whether a deep network on exact data is in a poor minimum: the last finer grid brought too little."""
    if not is_deep(best.kan) or plan.held is None or best.smooth > 0 or best.error < CONVERGED:
        return False
    return _is_slow(best, before)


def _on_finer(moved: Kan, smooth: float, now: Run) -> Candidate:
    """Fit the network on its new grid with the smoothing that the validation rows choose, perhaps another."""
    plan, enough = now.plan, enough_rows(now.plan.train, moved, now.plan)
    strengths = plan.settings.strengths
    at = strengths.index(smooth)
    tried = [now.fit_rows(moved, enough, smooth, GROW_STEPS)]
    for way in (1, -1):
        near = at + way
        while _weakest(best_of(tried), now) <= near < len(strengths):
            begun = now.fit_rows(best_of(tried).kan, enough, strengths[near], AHEAD_STEPS)
            if not as_good(begun, best_of(tried)):
                break
            tried.append(now.fit_rows(begun.kan, enough, strengths[near], GROW_STEPS))
            if way > 0 or best_of(tried) is not tried[-1]:
                break
            near += way
    return smoothest(tried)


def _ahead(moved: Kan, best: Candidate, now: Run) -> Candidate:
    """A few steps on a grid, after one without gain, to see whether it deserves more."""
    enough = enough_rows(now.plan.train, moved, now.plan)
    strengths = dict.fromkeys((best.smooth, now.plan.settings.strengths[_weakest(best, now)]))
    return best_of([now.fit_rows(moved, enough, strength, AHEAD_STEPS) for strength in strengths])


def _finer(best: Candidate, plan: Schedule) -> list[int]:
    """Finer grids to continue with, if the residuals show structure that the present grid is too coarse for."""
    beyond = [size for size in plan.settings.finer if size > best.kan.layers[0].intervals]
    if plan.held is None or not beyond:
        return []
    if is_good(best, plan):
        return []
    slopes = [
        plan.loss.slopes(scores(best.kan, rows.x), plan.loss.answers(best.kan, rows.y))[0]
        for rows in (plan.train, plan.held)
    ]
    if not all(np.isfinite(slope).all() for slope in slopes):
        return []
    return beyond if share_explained_by_bins(plan.train, plan.held, *slopes) > BINS_SHARE else []
