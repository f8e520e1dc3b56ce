"""Turn splines into named functions, the surest edge first, with a joint refit after each.

A small beam search: each state offers several functions for its surest edges, each is put in and everything is
refitted together, and the states with the least error for their complexity go on. Greedy choice alone loses where
two functions look alike on one edge and only the refit tells them apart.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from kanserve.ir import Kan, Symbolic
from kanserve.simplification import signals
from kanserve.simplification.edges import LIBRARY, Array, Candidate, candidates
from kanserve.simplification.judging import LAST_STEPS, Judge, Report, Step, judge, refit, smoothed
from kanserve.simplification.naming import Place, domains_hold, named, price, splines
from kanserve.simplification.sensitivity import samples
from kanserve.simplification.straightening import straightened
from kanserve.table import Dataset, dataset

BEAM = 3
OFFERS = (5, 3)
"""How many functions are tried on a state's surest edge, and on its second."""
MANY_EDGES = 12
COMPLEXITY_WEIGHT = 0.012
CERTAIN = 0.3
"""A straight line that errs by less than this share of the network's error is named without a search."""
NEAR = 3.0
ASTRAY = 10.0
"""A function is tried at an error of `NEAR`, a search given up at one of `ASTRAY` tolerances or errors so far."""
STEPS = 12


@dataclass(frozen=True, eq=False)
class _State:
    kan: Kan
    losses: Array
    score: float
    done: bool = False
    """No spline is left, or none that anything could be put in place of."""


@dataclass(frozen=True, eq=False)
class _Search:
    """What stays the same during one search."""

    judge: Judge
    functions: tuple[str, ...]
    complexity: float
    resolution: float
    """What the splines can tell: while some are left, errors below it count as equal and simple functions go first."""
    report: Report | None


def symbolify(
    kan: Kan,
    data: Dataset | tuple[ArrayLike, ArrayLike],
    *,
    functions: Sequence[str] = LIBRARY,
    complexity: float = COMPLEXITY_WEIGHT,
    all_edges: bool = False,
    tolerance: float | Literal["auto"] = "auto",
    seed: int = 0,
    report: Report | None = None,
) -> Kan:
    """The network with named functions in place of splines, refitted on four fifths of the rows.

    Names are kept when the error on the other fifth rises by no more than `tolerance` or than chance explains, as for
    `prune`; otherwise edges stay splines. With `all_edges` only those stay that every function would leave its domain
    on. Among networks `complexity` is the price, in powers of ten of the error, of one unit in the table of functions.
    """
    _, one = smoothed(kan, judge(kan, dataset(data), tolerance, seed))
    straight = straightened(refit(kan, one, STEPS), one)
    one = replace(one, folds=0)  # a named function has so few constants that the rows it is fitted to can judge it
    error = one.error_of(signals.answers(straight, one.learn.x))
    search = _Search(one, tuple(functions), complexity, min(error, one.tolerance), report)
    start = _State(straight, one.losses(straight), 0.0, not splines(straight))
    _tell(report, "before named functions", start)
    chosen = _all_named(search, start, patient=all_edges)
    if chosen is None or not (all_edges or one.accepts(chosen.losses, start.losses)):
        chosen = _some_named(search, start)
    _tell(report, "refitted", chosen)
    return chosen.kan


def _all_named(search: _Search, start: _State, patient: bool) -> _State | None:
    """The best network with all edges named, by a beam search; None when it goes far astray, unless `patient`.

    Errors on the way are not judged closely: a spline that is left may be too coarse for what the named ones ask.
    """
    states = [start]
    astray = ASTRAY**2 * max(search.judge.tolerance**2, float(start.losses.mean()))
    while not all(state.done for state in states):
        children = [state for state in states if state.done]
        for state in states:
            if not state.done:
                children += _children(search, state)
        states = _fittest(children)
        _tell(search.report, "named " + ", ".join(_names(states[0].kan)), states[0])
        if not patient and states[0].losses.mean() > astray:
            return None
    return min((_finished(search, state) for state in states), key=lambda state: state.score)


def _some_named(search: _Search, start: _State) -> _State:
    """The network when each edge has been named or found to have no name that the held-out rows accept."""
    one = search.judge
    state, best, progress = start, start.losses, True
    while progress:
        progress = False
        offers, surest, error = _offers(search, state)
        for place in surest:
            near = [offer for offer in offers[place] if offer.error <= NEAR * max(one.tolerance, error)]
            children = _judged_all(search, state, [{place: offer.symbolic} for offer in near[: OFFERS[0]]])
            accepted = [child for child in children if one.accepts(child.losses, best)]
            if accepted:
                # The refit may have bent edges that had no name before, so all are looked at again.
                state, progress = min(accepted, key=lambda child: child.score), True
                best = min(best, state.losses, key=lambda each: float(each.mean()))
                _tell(search.report, "named " + ", ".join(_names(state.kan)), state)
                break
    finished = _finished(search, state)
    return finished if one.accepts(finished.losses, best) else state


def _children(search: _Search, state: _State) -> list[_State]:
    """The states one step further, with one more edge named, or several that need no search."""
    offers, surest, error = _offers(search, state)
    together = _together(surest, offers, error)
    if len(together) > 1:
        children = _judged_all(search, state, [{place: offers[place][0].symbolic for place in together}])
        if children:
            return children
    for start in range(0, len(surest), len(OFFERS)):
        chosen = _choices(surest[start : start + len(OFFERS)], offers)
        children = _judged_all(search, state, [{place: offer.symbolic} for place, offer in chosen])
        if children:
            return children
    return [replace(state, done=True)]


def _offers(search: _Search, state: _State) -> tuple[dict[Place, tuple[Candidate, ...]], list[Place], float]:
    """For each spline the functions that fit it, the splines with the surest first, and the network's error."""
    one = search.judge
    error = one.error_of(signals.answers(state.kan, one.learn.x))
    points = samples(state.kan, one.learn.x, one.spread)
    offers = {place: candidates(points[place], 1e-9 + 0.1 * error, search.functions) for place in points}
    return offers, sorted(offers, key=lambda place: offers[place][0].rank if offers[place] else np.inf), error


def _together(surest: list[Place], offers: dict[Place, tuple[Candidate, ...]], error: float) -> list[Place]:
    """Edges that need no search: straight lines as far as the fit can tell and, of very many edges, the surest."""
    lines = [
        place
        for place in surest
        if offers[place] and offers[place][0].symbolic.function == "x" and offers[place][0].error < CERTAIN * error
    ]
    if lines or len(surest) <= MANY_EDGES:
        return lines
    return [place for place in surest[: len(surest) // 4] if offers[place]]


def _choices(surest: list[Place], offers: dict[Place, tuple[Candidate, ...]]) -> list[tuple[Place, Candidate]]:
    """What to try on the surest edges. A straight line always is: what bends may be bent back by another edge."""
    chosen = []
    for place, count in zip(surest, OFFERS, strict=False):
        lines = [offer for offer in offers[place][count:] if offer.symbolic.function == "x"]
        chosen += [(place, offer) for offer in (*offers[place][:count], *lines)]
    return chosen


def _judged_all(search: _Search, state: _State, attempts: Iterable[Mapping[Place, Symbolic]]) -> list[_State]:
    """The state with each of these names put in and everything refitted, without those that went wrong."""
    children = [_judged(search, named(state.kan, names), search.resolution) for names in attempts]
    return [child for child in children if child is not None]


def _judged(search: _Search, kan: Kan, floor: float, steps: int = STEPS) -> _State | None:
    """The network after a joint refit; None when it is not finite on every row or leaves a domain."""
    one = search.judge
    refitted = refit(kan, one, steps)
    values = signals.values(refitted, one.x)
    answers = values[-1]
    if not (np.isfinite(answers).all() and domains_hold(refitted, values)):
        return None
    losses = one.losses_at(kan, answers)
    score = float(np.log10(one.error_of(answers[: len(one.learn)]) + floor + 1e-16))
    return _State(refitted, losses, score + search.complexity * price(refitted), refitted.symbolic)


def _finished(search: _Search, state: _State) -> _State:
    """The state after a long refit, if that did not leave a domain."""
    return _judged(search, state.kan, 0.0, LAST_STEPS) or state


def _fittest(states: list[_State]) -> list[_State]:
    """The best few states, of those that name the same functions only the best."""
    by_names: dict[tuple[bytes, ...], _State] = {}
    for state in sorted(states, key=lambda each: each.score):
        key = tuple(layer.functions.tobytes() for layer in state.kan.layers)
        by_names.setdefault(key, state)
    return list(by_names.values())[:BEAM]


def _names(kan: Kan) -> list[str]:
    return [str(name) for layer in kan.layers for name in layer.functions[layer.symbolic_mask]]


def _tell(report: Report | None, action: str, state: _State) -> None:
    if report is not None:
        report(Step(action, state.kan.edges, float(state.losses.mean()), state.kan))
