"""Turn splines into named functions, the surest edge first, with a joint refit after each.

A small beam search: each state offers several functions for its surest edges, each is put in and everything is
refitted together, and the states with the least error for their complexity go on. Greedy choice alone loses where
two functions look alike on one edge and only the refit tells them apart.

Single functions are tried first. Where what they make is not as good as the splines were, or so much better that the
data have no noise and yet not exact, a second search goes deeper (`offers.further_offers`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from kanserve.data.dataset import Target, TrainingData, dataset
from kanserve.errors import InputError
from kanserve.network.edge_names import EdgeIndex
from kanserve.network.functions import function
from kanserve.network.kan import Kan
from kanserve.simplification import activations
from kanserve.simplification.edge_candidates import LIBRARY, Array
from kanserve.simplification.gauge_fixing import straightened
from kanserve.simplification.merge_1d_chains import without_chains
from kanserve.simplification.replacements import Named, Offer, Role, further_offers, offers, put_in, roles
from kanserve.simplification.sensitivity import samples
from kanserve.simplification.symbolic_edges import domains_hold, price, splines
from kanserve.simplification.validation import LAST_STEPS, Judge, SimplifyReport, SimplifyStep, judge, refit, smoothed

BEAM = 3
OFFERS = (5, 3)
"""How many functions are tried on a state's surest edge, and on its second."""
MANY_EDGES = 12
COMPLEXITY_WEIGHT = 0.012
CERTAIN = 0.3
"""A straight line that errs by less than this share of the network's error is named without a search."""
NEAR, ASTRAY = 3.0, 10.0
"""A function is tried at an error of `NEAR`, a search given up at one of `ASTRAY` tolerances or errors so far."""
EXACT, FAR_LESS, AS_GOOD = 1e-10, 0.7, 1.3
"""What is left of the splines' error when names are exact, have told it from noise, or share the noise with it."""
WORSE = 3.0
"""Times the error that splines have, or names without functions of functions: a search for these ends there."""
DEEP, SPECIAL = 3, 2
"""On how many edges functions of functions are looked for, and how many are tried on each, beside the others."""
STEPS = 12


@dataclass(frozen=True, eq=False)
class _State:
    net: Named
    losses: Array
    score: float
    done: bool = False
    """No spline is left, or none that anything could be put in place of."""

    @property
    def kan(self) -> Kan:
        return self.net.kan


@dataclass(frozen=True, eq=False)
class _Choice:
    """What is offered for each spline of a state, the splines with the surest first, and the state's error."""

    offers: dict[EdgeIndex, tuple[Offer, ...]]
    roles: Mapping[EdgeIndex, Role]
    surest: list[EdgeIndex]
    error: float


@dataclass(frozen=True, eq=False)
class _Search:
    """What stays the same during one search."""

    judge: Judge
    functions: tuple[str, ...]
    complexity: float
    resolution: float
    """What the splines can tell: while some are left, errors below it count as equal and simple functions go first."""
    report: SimplifyReport | None
    deep: bool = False
    """Whether functions of functions are looked for, and what a product leaves open."""


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
    report: SimplifyReport | None = None,
) -> Kan:
    """The network with named functions in place of splines, refitted on four fifths of the rows.

    Names are kept when the error on the other fifth rises by no more than `tolerance` or than chance explains, as for
    `prune`; otherwise edges stay splines. With `all_edges` only those stay that every function would leave its domain
    on. Among networks `complexity` is the price, in powers of ten of the error, of one unit in the table of functions.

    Parameters
    ----------
    kan : Kan
        The network.
    data : Dataset, tuple of array_like or DataFrame
        Samples: a Dataset, (x, y), or a table of pandas or polars with `target`.
    target : str or sequence of str, optional
        Of a DataFrame, the columns to learn.
    functions : sequence of str
        The functions of the table that an edge may be named after.
    complexity : float
        The price of a unit of complexity, in powers of ten of the error.
    all_edges : bool
        Name every edge that a function can stand for, whatever it costs.
    tolerance : float or "auto", default="auto"
        What a simpler network may lose, in standard deviations of each output.
    seed : int, default=0
        Equal seeds give equal networks, bit for bit.
    report : callable, optional
        Called with each step that is kept.

    Returns
    -------
    Kan
        The network with named functions.

    Raises
    ------
    DataError
        The data are of another shape, or not numbers.
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
    if isinstance(functions, str):
        raise InputError(f"functions is a list of names, as in ['sin', 'exp']; got {functions!r:.80}.")
    for name in functions:
        function(name)
    _, one = smoothed(kan, judge(kan, dataset(data, target, classes=kan.classes), tolerance, seed))
    straight = without_chains(straightened(refit(kan, one, STEPS), one), one)
    one = replace(one, folds=0)  # a named function has so few constants that the rows it is fitted to can judge it
    error = one.error_of(activations.answers(straight, one.learn.x))
    search = _Search(one, tuple(functions), complexity, min(error, one.tolerance), report)
    start = _State(Named(straight), one.losses(straight), 0.0, not splines(straight))
    _tell(report, "before named functions", start)
    astray = ASTRAY**2 * max(one.tolerance**2, float(start.losses.mean()))
    chosen = _all_named(search, start, np.inf if all_edges else astray)
    if chosen is not None and not _as_good(chosen, error, one) and len(splines(straight)) <= MANY_EDGES:
        most = WORSE**2 * max(float(each.losses.mean()) for each in (chosen, start))
        deeper = _all_named(replace(search, deep=True), start, most)
        chosen = min((each for each in (chosen, deeper) if each), key=lambda each: each.score)
    if chosen is None or not (all_edges or one.accepts(chosen.losses, start.losses)):
        chosen = _some_named(search, start)
    _tell(report, "refitted", chosen)
    return chosen.kan


def _as_good(chosen: _State, error: float, one: Judge) -> bool:
    """Whether names err as the splines did, so that both have the noise, or not at all.

    Names that err far less have told the splines' error from the noise, of which there is none then.
    """
    left = one.error_of(activations.answers(chosen.kan, one.learn.x))
    return left <= EXACT or FAR_LESS * error <= left <= AS_GOOD * error


def _all_named(search: _Search, start: _State, astray: float) -> _State | None:
    """The best network with all edges named, by a beam search; None when its loss goes above `astray`.

    Errors on the way are not judged closely: a spline that is left may be too coarse for what the named ones ask.
    """
    states = [start]
    while not all(state.done for state in states):
        children = [state for state in states if state.done]
        for state in states:
            if not state.done:
                children += _children(search, state)
        states = _fittest(children)
        _tell(search.report, "named " + ", ".join(_names(states[0].kan)), states[0])
        if states[0].losses.mean() > astray:
            return None
    return min((_finished(search, state) for state in states), key=lambda state: state.score)


def _some_named(search: _Search, start: _State) -> _State:
    """The network when each edge has been named or found to have no name that the held-out rows accept."""
    one = search.judge
    state, best, progress = start, start.losses, True
    while progress:
        progress = False
        choice = _choice(search, state)
        for place in choice.surest:
            near = [offer for offer in choice.offers[place] if offer.error <= NEAR * max(one.tolerance, choice.error)]
            children = _judged_all(search, state, [[offer] for offer in near[: OFFERS[0]]])
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
    choice = _choice(search, state)
    together = _together(choice, search.deep)
    if len(together) > 1:
        children = _judged_all(search, state, [together])
        if children:
            return children
    for start in range(0, len(choice.surest), len(OFFERS)):
        attempts = _tried(choice.surest[start : start + len(OFFERS)], choice.offers)
        children = _judged_all(search, state, [[offer] for offer in attempts])
        if children:
            return children
    return [replace(state, done=True)]


def _choice(search: _Search, state: _State) -> _Choice:
    one = search.judge
    values = activations.values(state.kan, one.learn.x)
    error = one.error_of(values[-1])
    floor = 1e-9 + 0.1 * error
    parts, points = roles(state.kan), samples(state.kan, one.learn.x, one.spread)
    found = {place: offers(place, point, floor, search.functions) for place, point in points.items()}

    def rank(place: EdgeIndex) -> float:
        return found[place][0].rank if found[place] else np.inf

    surest = sorted(found, key=rank)
    if search.deep:
        for place in surest[:DEEP]:
            more = further_offers(state.kan, parts[place], points[place], found[place], values, floor, search.functions)
            found[place] = more
        surest = sorted(found, key=rank)
    return _Choice(found, parts, surest, error)


def _together(choice: _Choice, deep: bool) -> list[Offer]:
    """Names that need no search: straight lines as far as the fit can tell and, of very many edges, the surest.

    When all is looked for, a line whose constant may be another term's needs one.
    """
    best = [choice.offers[place][0] for place in choice.surest if choice.offers[place]]
    lines = [
        offer
        for offer in best
        if offer.symbolic.function == "x"
        and offer.plain
        and offer.error < CERTAIN * choice.error
        and not (deep and choice.roles[offer.place].traded)
    ]
    if lines or len(choice.surest) <= MANY_EDGES:
        return lines
    return [offer for offer in best[: len(choice.surest) // 4] if offer.plain]


def _tried(surest: list[EdgeIndex], offered: dict[EdgeIndex, tuple[Offer, ...]]) -> list[Offer]:
    """What to try on the surest edges. A straight line always is: what bends may be bent back by another edge."""
    chosen: list[Offer] = []
    for place, count in zip(surest, OFFERS, strict=False):
        plain = [offer for offer in offered[place] if offer.plain]
        special = [offer for offer in offered[place] if not offer.plain]
        lines = [offer for offer in plain[count:] if offer.symbolic.function == "x"]
        chosen += [*plain[:count], *lines, *special[:SPECIAL]]
    return chosen


def _judged_all(search: _Search, state: _State, attempts: Iterable[Sequence[Offer]]) -> list[_State]:
    """The state with each of these names put in and everything refitted, without those that went wrong."""
    children = []
    for attempt in attempts:
        net = state.net
        for offer in attempt:
            net = put_in(net, offer)
        children.append(_judged(search, net, search.resolution))
    return [child for child in children if child is not None]


def _judged(search: _Search, net: Named, floor: float, steps: int = STEPS) -> _State | None:
    """The network after a joint refit; None when it is not finite on every row or leaves a domain."""
    one = search.judge
    refitted = refit(net.kan, one, steps, net.fixed)
    values = activations.values(refitted, one.x)
    answers = values[-1]
    if not (np.isfinite(answers).all() and domains_hold(refitted, values)):
        return None
    losses = one.losses_at(refitted, answers)
    score = float(np.log10(one.error_of(answers[: len(one.learn)]) + floor + 1e-16))
    after = replace(net, kan=refitted)
    return _State(after, losses, score + search.complexity * price(refitted), refitted.symbolic)


def _finished(search: _Search, state: _State) -> _State:
    """The state after a long refit, if that did not leave a domain."""
    return _judged(search, state.net, 0.0, LAST_STEPS) or state


def _fittest(states: list[_State]) -> list[_State]:
    """The best few states, of those that name the same functions only the best."""
    by_names: dict[tuple[bytes, ...], _State] = {}
    for state in sorted(states, key=lambda each: each.score):
        key = tuple(layer.functions.tobytes() for layer in state.kan.layers)
        by_names.setdefault(key, state)
    return list(by_names.values())[:BEAM]


def _names(kan: Kan) -> list[str]:
    return [str(name) for layer in kan.layers for name in layer.functions[layer.symbolic_mask]]


def _tell(report: SimplifyReport | None, action: str, state: _State) -> None:
    if report is not None:
        report(SimplifyStep(action, state.kan.edges, float(state.losses.mean()), state.kan))
