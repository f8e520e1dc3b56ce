"""Replace splines by named functions, the most certain edge first, with a joint refit after each. Several functions of
the two most certain edges are tried, since functions may look alike on an edge until the others have followed; the one
with the least error for its complexity is kept. If the result is not as good as the splines, a second search goes
deeper (`replacements.further_offers`)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from kanserve.data.dataset import Target, TrainingData
from kanserve.errors import InputError
from kanserve.network.edge_names import EdgeIndex
from kanserve.network.fitted_rows import hash_rows, record_rows
from kanserve.network.functions import function
from kanserve.network.kan import Kan, require_kan
from kanserve.network.parameter_names import names_parameters
from kanserve.simplification import activations
from kanserve.simplification.edge_candidates import LIBRARY, Array
from kanserve.simplification.gauge_fixing import straighten
from kanserve.simplification.replacements import Named, Offer, further_offers, offers, put_in, roles
from kanserve.simplification.sensitivity import samples
from kanserve.simplification.symbolic_edges import domains_hold, price, splines
from kanserve.simplification.validation import (
    VALIDATION_LAST_STEPS,
    Judge,
    SimplifyReport,
    SimplifyStep,
    judge_of,
    refit,
    smooth,
    with_inputs,
)
from kanserve.train.encoded_data import in_numbers, samples_for
from kanserve.train.fit_progress import reporting

MANY_EDGES = 12  # number of splines above which the most certain quarter is named at once, and composites are not tried
# Largest error of a function to try edge by edge, relative to the tolerance or the current error, if larger.
NEAR_ERROR_RATIO = 3.0
EXACT_ERROR = 1e-10  # error, in standard deviations of the outputs, up to which named functions are exact
LARGEST_NOISE_RATIO = 1.3  # error of named functions, relative to the splines' error, up to which they are as good
DEEP_EDGES = 3  # number of edges on which composites and variants are tried, the most certain first
DEEP_OFFERS = 2  # composites and variants to try on each of these edges, in addition to single functions
# Steps of the joint refit after each name. Prototype's value; a single step lost two laws of 30.
REFIT_STEPS = 12

OFFERS = (5, 3)
"""Functions tried on a state's most certain edge, and on its second."""
COMPLEXITY_WEIGHT = 0.012


@dataclass(frozen=True, eq=False)
class _State:
    net: Named
    losses: Array
    score: float
    done: bool = False
    """Whether no spline is left, or none that could be replaced."""

    @property
    def kan(self) -> Kan:
        return self.net.kan


@dataclass(frozen=True, eq=False)
class _Choice:
    """The offers for each spline of a state, the splines in order of certainty, and the state's error."""

    offers: dict[EdgeIndex, tuple[Offer, ...]]
    surest: list[EdgeIndex]
    error: float


@dataclass(frozen=True, eq=False)
class _Search:
    """The constant settings of a search."""

    judge: Judge
    functions: tuple[str, ...]
    complexity: float
    resolution: float
    """The resolution of the splines: while some are left, errors below it count as equal, and simplicity decides."""
    report: SimplifyReport | None
    deep: bool = False
    """Whether to try functions of functions, and variants that a product allows."""


@names_parameters()
def symbolify(
    kan: Kan,
    data: TrainingData,
    *,
    target: Target = None,
    functions: Sequence[str] = LIBRARY,
    complexity: float = COMPLEXITY_WEIGHT,
    all_edges: bool = False,
    tolerance: float | Literal["auto"] = "auto",
    seed: int = 0,
    progress: bool | SimplifyReport = False,
) -> Kan:
    """The network with splines replaced by named functions, refitted on four fifths of the rows.

    Replacements are kept if the error on the held-out fifth rises by no more than `tolerance` or than chance explains,
    as for `prune`; other edges stay splines. With `all_edges`, only those edges stay splines on which every function
    would leave its domain. `complexity` is the penalty for one unit of complexity, in powers of ten of the error.

    Parameters
    ----------
    kan : Kan
        The network.
    data : Dataset, tuple of array_like or DataFrame
        Samples: a Dataset, (x, y), or a pandas or polars table with `target`.
    target : str or sequence of str, optional
        The columns of a DataFrame to learn.
    functions : sequence of str
        Names of the functions that edges may become.
    complexity : float
        The penalty for a unit of complexity, in powers of ten of the error.
    all_edges : bool
        Name every edge for which there is a function, regardless of the error.
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
        The network with named functions.

    Raises
    ------
    DataError
        The data do not fit the network, or are not numbers.
    NotFoundError
        One of `functions` is not in the table; the message has the nearest names.

    Examples
    --------
    >>> import kanserve, numpy as np
    >>> x = np.random.default_rng(0).uniform(-1, 1, (100, 2))
    >>> data = x, x[:, 0] ** 2
    >>> kan = kanserve.fit([2, 1], data, starts=1)
    >>> kanserve.symbolify(kanserve.prune(kan, data), data).symbolic
    True
    """
    require_kan(kan)
    if isinstance(functions, str):
        raise InputError(f"functions must be a list of names, as in ['sin', 'exp']; got {functions!r:.80}.")
    for name in functions:
        function(name)
    first, samples = kan, samples_for(kan, data, target)
    kan, rows = in_numbers(kan, samples)
    _, judge = smooth(kan, judge_of(kan, rows, tolerance, seed))
    straight = straighten(refit(kan, judge, REFIT_STEPS), judge)
    error = judge.error_of(activations.answers(straight, judge.learn.x))
    with reporting(progress) as report:
        search = _Search(
            judge, tuple(functions), complexity, min(error, judge.tolerance), with_inputs(report, first.inputs)
        )
        start = _State(Named(straight), judge.losses(straight), 0.0, not splines(straight))
        _tell(search.report, "before named functions", start)
        chosen = _name_all(search, start)
        if not _as_good(chosen, error, judge) and len(splines(straight)) <= MANY_EDGES:
            deeper = _name_all(replace(search, deep=True), start)
            chosen = min(chosen, deeper, key=lambda state: state.score)
        if not (all_edges or judge.accepts(chosen.losses, start.losses)):
            chosen = _name_some(search, start)
        _tell(search.report, "refitted", chosen)
    return record_rows(replace(chosen.kan, inputs=first.inputs), first.fitted_rows, hash_rows(samples))


def _as_good(chosen: _State, error: float, judge: Judge) -> bool:
    """Whether the named functions are exact, or have no larger error than the splines."""
    left = judge.error_of(activations.answers(chosen.kan, judge.learn.x))
    return left <= max(EXACT_ERROR, LARGEST_NOISE_RATIO * error)


def _name_all(search: _Search, start: _State) -> _State:
    """Name all edges, each by what is best after a refit. Intermediate errors are not tested strictly, since remaining
    splines may be too coarse for the named edges."""
    state = start
    while not state.done:
        state = min(_children(search, state), key=lambda child: child.score)
        _tell(search.report, "named " + ", ".join(_names(state.kan)), state)
    return _finish(search, state)


def _name_some(search: _Search, start: _State) -> _State:
    """Name each edge for which the held-out rows accept a name."""
    judge = search.judge
    state, best, progress = start, start.losses, True
    while progress:
        progress = False
        choice = _choice(search, state)
        for place in choice.surest:
            near = [
                offer
                for offer in choice.offers[place]
                if offer.error <= NEAR_ERROR_RATIO * max(judge.tolerance, choice.error)
            ]
            children = _judge_all(search, state, [[offer] for offer in near[: OFFERS[0]]])
            accepted = [child for child in children if judge.accepts(child.losses, best)]
            if accepted:
                # The refit may have changed edges that had no acceptable name, so all are tried again.
                state, progress = min(accepted, key=lambda child: child.score), True
                best = min(best, state.losses, key=lambda losses: float(losses.mean()))
                _tell(search.report, "named " + ", ".join(_names(state.kan)), state)
                break
    finished = _finish(search, state)
    return finished if judge.accepts(finished.losses, best) else state


def _children(search: _Search, state: _State) -> list[_State]:
    """The next states: with one more edge named, or with several that need no search."""
    choice = _choice(search, state)
    together = _together(choice)
    if len(together) > 1:
        children = _judge_all(search, state, [together])
        if children:
            return children
    for start in range(0, len(choice.surest), len(OFFERS)):
        attempts = _offers_to_try(choice.surest[start : start + len(OFFERS)], choice.offers)
        children = _judge_all(search, state, [[offer] for offer in attempts])
        if children:
            return children
    return [replace(state, done=True)]


def _choice(search: _Search, state: _State) -> _Choice:
    judge = search.judge
    values = activations.values(state.kan, judge.learn.x)
    error = judge.error_of(values[-1])
    floor = 1e-9 + 0.1 * error
    points = samples(state.kan, judge.learn.x, judge.spread)
    found = {place: offers(place, point, floor, search.functions) for place, point in points.items()}

    def rank(place: EdgeIndex) -> float:
        return found[place][0].rank if found[place] else np.inf

    surest = sorted(found, key=rank)
    if search.deep:
        parts = roles(state.kan)
        for place in surest[:DEEP_EDGES]:
            more = further_offers(state.kan, parts[place], points[place], found[place], values, floor, search.functions)
            found[place] = more
        surest = sorted(found, key=rank)
    return _Choice(found, surest, error)


def _together(choice: _Choice) -> list[Offer]:
    """With very many edges, the most certain quarter of the names, without a search."""
    if len(choice.surest) <= MANY_EDGES:
        return []
    best = [choice.offers[place][0] for place in choice.surest if choice.offers[place]]
    return [offer for offer in best[: len(choice.surest) // 4] if offer.plain]


def _offers_to_try(surest: list[EdgeIndex], offered: dict[EdgeIndex, tuple[Offer, ...]]) -> list[Offer]:
    """The offers to try on the most certain edges, always with a line, since another edge may compensate."""
    chosen: list[Offer] = []
    for place, count in zip(surest, OFFERS, strict=False):
        plain = [offer for offer in offered[place] if offer.plain]
        special = [offer for offer in offered[place] if not offer.plain]
        lines = [offer for offer in plain[count:] if offer.symbolic.function == "x"]
        chosen += [*plain[:count], *lines, *special[:DEEP_OFFERS]]
    return chosen


def _judge_all(search: _Search, state: _State, attempts: Iterable[Sequence[Offer]]) -> list[_State]:
    """The states after each attempt and a joint refit; failed attempts are left out."""
    children = []
    for attempt in attempts:
        net = state.net
        for offer in attempt:
            net = put_in(net, offer)
        children.append(_judge(search, net, search.resolution))
    return [child for child in children if child is not None]


def _judge(search: _Search, net: Named, floor: float, steps: int | None = None) -> _State | None:
    """Refit the network jointly; None if it is not finite on every row, or leaves a function's domain."""
    judge = search.judge
    steps = REFIT_STEPS if steps is None else steps
    refitted = refit(net.kan, judge, steps, net.fixed)
    values = activations.values(refitted, judge.x)
    answers = values[-1]
    if not (np.isfinite(answers).all() and domains_hold(refitted, values)):
        return None
    losses = judge.losses_at(refitted, answers)
    score = float(np.log10(judge.error_of(answers[: len(judge.learn)]) + floor + 1e-16))
    after = replace(net, kan=refitted)
    return _State(after, losses, score + search.complexity * price(refitted), refitted.symbolic)


def _finish(search: _Search, state: _State) -> _State:
    """Refit for many steps; unchanged if that leaves a function's domain."""
    return _judge(search, state.net, 0.0, VALIDATION_LAST_STEPS) or state


def _names(kan: Kan) -> list[str]:
    return [str(name) for layer in kan.layers for name in layer.functions[layer.symbolic_mask]]


def _tell(report: SimplifyReport | None, action: str, state: _State) -> None:
    if report is not None:
        report(SimplifyStep(action, float(state.losses.mean()), state.kan.edges, state.kan))
