"""Pruning by greedy backward elimination: remove the least important, refit, keep what the held-out rows accept.

Nodes are removed first, then edges, those with the least share first (`signal_shares`). Large networks lose several at
once; a rejected handful is halved until single removals are tried. Penalties on the size of edges were measured and are
far worse: they shrink needed functions before they remove needless ones.

The tolerance is found from the data (`_allowance`). On the same grid, a smaller network has a larger error than a large
one, even if it is the right one, because it has fewer splines; on a finer grid, which it can afford, its error is
smaller. So the search runs on a coarse grid with a loose rule, and its result must pass the strict rule on finer grids.
If it fails, the search continues strictly from the last network on the way that passes.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from kanserve.data.dataset import Target, TrainingData
from kanserve.network.fitted_rows import hash_rows, record_rows
from kanserve.network.kan import Kan, require_kan
from kanserve.network.parameter_names import names_parameters
from kanserve.simplification import removal_order
from kanserve.simplification.activations import Signals, signals, values
from kanserve.simplification.merge_nodes import propose_merges
from kanserve.simplification.removal_order import Removal
from kanserve.simplification.symbolic_edges import domains_hold
from kanserve.simplification.validation import (
    GRID_REFINEMENT_EXPLAINED_ERROR,
    VALIDATION_DEFAULT_TOLERANCE,
    VALIDATION_MOST_PARAMETERS,
    Array,
    Judge,
    SimplifyReport,
    SimplifyStep,
    count_free_parameters,
    judge_of,
    refine_grids,
    refit,
    smooth,
    too_large,
    with_inputs,
)
from kanserve.train.encoded_data import in_numbers, samples_for
from kanserve.train.fit_progress import reporting
from kanserve.train.grids import regrid

# A removal is given up if its error exceeds this times the tolerance or the best error, whichever is larger: without
# that, `discover` took a quarter more seconds on five small laws, with equal results.
HOPELESS_ERROR_RATIO = 20.0
PATIENCE = 6  # single removals to try, the least important first, before there is nothing to remove
# Error, relative to the tolerance, up to which the grid may be the cause, so that a finer one is tried.
NEAR_ERROR_RATIO = 3.0
NOISY_ERROR = 0.05  # error, in standard deviations of the outputs, above which the data count as noisy
ROWS_PER_PARAMETER = 2  # rows, counted once per output, per parameter that leave-one-out validation needs
# Intervals during the search, at most: without it e^-xy keeps five splines of which three are enough, and
# exp(sin πx + y²) a second hidden node, at a sixth less CPU time.
COARSE_INTERVALS = 5

STEPS = (10, 20)
"""Steps of a refit; after the first ten, good results are accepted and hopeless ones given up."""
MERGE_STEPS = (15, 25)
Rule = Callable[["_Run", "_State"], "_State | None"]
"""Returns the state, perhaps with more known about it, or None if it is not good enough."""


@dataclass(frozen=True, eq=False)
class _Run:
    """The constant settings of a pruning run."""

    strict: Judge
    loose: Judge
    whole: Kan
    """The original network, refitted, on its own grids."""
    losses: Array
    """Losses of the whole network."""
    found: bool
    """Whether the tolerance is found from the data."""
    report: SimplifyReport | None

    @property
    def intervals(self) -> int:
        """The least number of intervals of the final network."""
        return max(layer.intervals for layer in self.whole.layers)


@dataclass(frozen=True, eq=False)
class _State:
    kan: Kan
    losses: Array
    best: Array
    """The least losses so far."""
    seen: Signals
    held: Kan | None = None
    """The network on grids on which the strict rule holds, if that was tested."""


@names_parameters()
def prune(
    kan: Kan,
    data: TrainingData,
    *,
    target: Target = None,
    tolerance: float | Literal["auto"] = "auto",
    seed: int = 0,
    progress: bool | SimplifyReport = False,
) -> Kan:
    """The network without the nodes, inputs and edges that the data do not need, refitted on four fifths of the rows.

    A removal is kept if the mean squared error on the held-out fifth exceeds that of the whole network by at most the
    square of `tolerance` (in units of the standard deviation of each output), or by at most one standard error. This is
    measured after a refit, on the finest grid that the remaining edges can have without more parameters than the
    original network. "auto" allows the error that the whole network would gain on a grid half as fine, at most 1 %: on
    noisy data that is nothing; on exact data, small terms that the data can resolve are kept.

    A classifier is refitted to its own scores and validated by its cross-entropy. With more than 1500 parameters there
    is only validation, without a refit. Inputs keep their positions: an input that is not needed has no edges left.

    A callable `progress` gets each step and the network after it, so `progress=steps.append` collects what was removed
    in a list, and any `steps[n].kan` is a network to go back to. A step may also restore what was removed before.

    Parameters
    ----------
    kan : Kan
        The network.
    data : Dataset, tuple of array_like or DataFrame
        Samples: a Dataset, (x, y), or a pandas or polars table with `target`.
    target : str or sequence of str, optional
        The columns of a DataFrame to learn.
    tolerance : float or "auto", default="auto"
        The error that a simpler network may add, in standard deviations of each output.
    seed : int, default=0
        Equal seeds give equal networks.
    progress : bool or callable, default=False
        True shows the progress: in a notebook as a picture, elsewhere as lines on the standard error. A callable is
        called with each step that is kept, a `SimplifyStep`.

    Returns
    -------
    Kan
        The network with fewer edges.

    Raises
    ------
    DataError
        The data do not fit the network, or are not numbers.

    Examples
    --------
    >>> import kanserve, numpy as np
    >>> x = np.random.default_rng(0).uniform(-1, 1, (100, 2))
    >>> data = x, x[:, 0] ** 2
    >>> kan = kanserve.fit([2, 1], data, starts=1)
    >>> kan.edges, kanserve.prune(kan, data).edges
    (2, 1)
    """
    require_kan(kan)
    samples = samples_for(kan, data, target)
    plain, rows = in_numbers(kan, samples)
    judge = judge_of(plain, rows, tolerance, seed)
    with reporting(progress) as report:
        told = with_inputs(report, kan.inputs)
        result = prune_by(plain, judge, found=tolerance == "auto", seed=seed, report=told)[0]
    return record_rows(replace(result, inputs=kan.inputs), kan.fitted_rows, hash_rows(samples))


def prune_by(kan: Kan, judge: Judge, *, found: bool, seed: int, report: SimplifyReport | None) -> tuple[Kan, Judge]:
    """Like `prune`, with a judge. If `found`, the tolerance comes from the data; also returns the updated judge."""
    # Refitted first without the held-out rows, which its training may have seen, for a fair comparison.
    whole, judge = smooth(kan, _judging_best(kan, judge))
    losses = judge.losses(whole)
    coarse = _coarser(whole, judge, min(COARSE_INTERVALS, max(layer.intervals for layer in whole.layers) // 2))
    if found:
        judge = replace(judge, tolerance=_allowance(losses, coarse, judge))
    loose = replace(judge, tolerance=max(judge.tolerance, VALIDATION_DEFAULT_TOLERANCE))
    run = _Run(judge, loose, whole, losses, found, report)
    _tell(report, "before pruning", whole, losses)
    start = _state(run, whole, losses, losses)
    if (
        coarse is not None
        and coarse.layers[0].intervals == COARSE_INTERVALS
        and _near(loose, judge.losses(coarse), losses)
    ):
        start = _state(run, coarse, judge.losses(coarse), judge.losses(coarse))
    state = _settle(run, start) or replace(start, held=whole)
    while (after := _merge(run, state, seed)) is not None:
        state = after
    return state.held or whole, judge


def _judging_best(kan: Kan, judge: Judge) -> Judge:
    """Use leave-one-out validation if the data are noisy, to reduce the effect of chance."""
    few = count_free_parameters(kan) <= min(
        VALIDATION_MOST_PARAMETERS, judge.x.shape[0] * len(kan.outputs) / ROWS_PER_PARAMETER
    )
    noisy = not kan.classes and judge.losses(kan).mean() > NOISY_ERROR**2
    return judge.leaving_out() if few and noisy else judge


def _coarser(kan: Kan, judge: Judge, intervals: int) -> Kan | None:
    """Refit the network on coarser grids; None if its grids are the coarsest already, or it is too large."""
    if kan.symbolic or not 1 <= intervals < min(layer.intervals for layer in kan.layers):
        return None
    moved = regrid(kan, judge.x, intervals)
    return None if too_large(moved) else refit(moved, judge, sum(STEPS))


def _allowance(losses: Array, coarse: Kan | None, judge: Judge) -> float:
    """The root mean square error that halving the grid would add, at most 1 %."""
    if coarse is None:
        return VALIDATION_DEFAULT_TOLERANCE
    lost = float(judge.losses(coarse).mean() - losses.mean())
    return float(np.sqrt(np.clip(lost, 0.0, VALIDATION_DEFAULT_TOLERANCE**2)))


def _settle(run: _Run, start: _State) -> _State | None:
    """The smallest state of the search that satisfies the strict rule, or None."""
    path = [start, *_search(run, start, _loosely)]
    if (last := _hold(run, path[-1])) is not None:
        return last
    # Bisection for the smallest earlier state that holds: removals are never undone along the path.
    good, bad, state = -1, len(path) - 1, None
    while bad - good > 1:
        middle = (good + bad) // 2
        if (tried := _hold(run, path[middle])) is None:
            bad = middle
        else:
            good, state = middle, tried
    if state is not None:
        _tell(run.report, "put back what only the coarse grid did not need", state.kan, state.losses)
        state = [state, *_search(run, state, _hold)][-1]
    return state


def _search(run: _Run, state: _State, accepted: Rule) -> Iterator[_State]:
    """Yield smaller and smaller states."""
    while True:
        edges_left = state.kan.edges
        for candidates in (removal_order.nodes, removal_order.edges):
            for smaller in _eliminate(run, state, candidates, accepted):
                state = smaller
                yield state
        if state.kan.edges == edges_left:
            return


def _eliminate(
    run: _Run, state: _State, candidates: Callable[[Kan, Signals], list[Removal]], accepted: Rule
) -> Iterator[_State]:
    """Remove as many candidates as possible, least important first."""
    handful = max(1, len(candidates(state.kan, state.seen)) // 4)
    while True:
        found = candidates(state.kan, state.seen)
        attempts = [found[:handful]] if handful > 1 else [[single] for single in found[:PATIENCE]]
        smaller = next((after for attempt in attempts if (after := _without(run, state, attempt, accepted))), None)
        if smaller is not None:
            state = smaller
            yield state
        elif handful == 1:
            return
        else:
            handful //= 2


def _without(run: _Run, state: _State, attempt: Sequence[Removal], accepted: Rule) -> _State | None:
    """Remove these and refit; None if the held-out rows reject the result."""
    if not attempt:
        return None
    smaller = removal_order.without(state.kan, attempt, state.seen.means)
    if smaller.edges >= state.kan.edges:
        return None
    return _refit(run, state, smaller, "removed " + ", ".join(removal.name for removal in attempt), accepted)


def _merge(run: _Run, state: _State, seed: int) -> _State | None:
    """Merge two nodes, then remove what has become removable; None if no two nodes can be merged."""
    for smaller in propose_merges(state.kan, run.strict, seed):
        after = _refit(run, state, smaller, "merged two nodes", _loosely, MERGE_STEPS)
        if after is not None and (settled := _settle(run, after)) is not None:
            return settled
    return None


def _refit(
    run: _Run, state: _State, smaller: Kan, action: str, accepted: Rule, steps: tuple[int, ...] = STEPS
) -> _State | None:
    """Refit the smaller network; None unless it is accepted, on its own grids or on finer ones."""
    judge = run.loose
    large = too_large(smaller)
    best = float(np.sqrt(state.best.mean()))
    losses = state.losses
    for some in steps[:1] if large else steps:
        smaller = refit(smaller, judge, some)
        losses = judge.losses(smaller)
        if judge.accepts(losses, state.best) and (after := _accept(run, state, smaller, losses, action, accepted)):
            return after
        if losses.mean() > (HOPELESS_ERROR_RATIO * max(judge.tolerance, best)) ** 2:
            return None
    if large or smaller.symbolic or losses.mean() > (NEAR_ERROR_RATIO * judge.tolerance) ** 2:
        return None
    intervals = 2 * max(layer.intervals for layer in smaller.layers)
    for finer in refine_grids(smaller, judge, (intervals,), count_free_parameters(run.whole)):
        if judge.accepts(losses := judge.losses(finer.kan), state.best):
            return _accept(run, state, finer.kan, losses, action, accepted)
    return None


def _accept(run: _Run, state: _State, smaller: Kan, losses: Array, action: str, accepted: Rule) -> _State | None:
    if not domains_hold(smaller, values(smaller, run.strict.learn.x)):
        return None
    best = losses if losses.mean() < state.best.mean() else state.best
    after = accepted(run, _state(run, smaller, losses, best))
    if after is not None:
        _tell(run.report, action, smaller, losses)
    return after


def _loosely(run: _Run, state: _State) -> _State:
    """The acceptance rule of the first search, on a coarse grid: no further test."""
    return state


def _hold(run: _Run, state: _State) -> _State | None:
    """The strict rule: refit on the coarsest grid that is accepted; None if no grid is."""
    judge, kan = run.strict, state.kan
    best = min(run.losses, state.best, key=lambda losses: float(losses.mean()))
    intervals = max(layer.intervals for layer in kan.layers)
    if intervals >= run.intervals and judge.accepts(state.losses, best):
        return replace(state, held=kan)
    if kan.symbolic:
        return None
    falling, error, losses = False, np.inf, state.losses
    for finer in refine_grids(kan, judge, _finer_than(intervals, run.intervals), count_free_parameters(run.whole)):
        kan, error, falling, losses = finer.kan, finer.error, finer.falling, judge.losses(finer.kan)
        if judge.accepts(losses, best):
            return replace(state, held=kan)
    if run.found and falling and max(error, np.sqrt(losses.mean())) <= GRID_REFINEMENT_EXPLAINED_ERROR:
        return replace(state, held=kan)
    return None


def _finer_than(intervals: int, least: int) -> Iterator[int]:
    """Ever larger numbers of intervals: `least` or twice the present number, whichever comes first, then doubling."""
    intervals = least if intervals < least else 2 * intervals
    while True:
        yield intervals
        intervals *= 2


def _state(run: _Run, kan: Kan, losses: Array, best: Array) -> _State:
    return _State(kan, losses, best, signals(kan, run.strict.learn.x, run.strict.learn.shares))


def _near(judge: Judge, losses: Array, best: Array) -> bool:
    """Whether losses exceed the best by so little that a finer grid may make up for it."""
    return bool(losses.mean() <= best.mean() + (NEAR_ERROR_RATIO * judge.tolerance) ** 2)


def _tell(report: SimplifyReport | None, action: str, kan: Kan, losses: Array) -> None:
    if report is not None:
        report(SimplifyStep(action, float(losses.mean()), kan.edges, kan))
