"""Suggestions of named functions for an edge: R² to the edge, and the effect on the held-out loss. Both are shown since
they may disagree: other edges compensate for a poor fit, or depend on the part that a good fit misses."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from kanserve.editing.edge_constants import units
from kanserve.editing.edge_fits import Fit, closest, points
from kanserve.editing.session_data import SessionData, of_numbers, require_sound
from kanserve.editing.steps import STEPS_SHORT, put_in
from kanserve.errors import InputError
from kanserve.network.edge_names import EdgeIndex
from kanserve.network.functions import FUNCTIONS
from kanserve.network.kan import Kan, Symbolic
from kanserve.simplification.edge_candidates import EDGE_CANDIDATES_COMPLEXITY_WEIGHT
from kanserve.simplification.validation import Judge, count_free_parameters
from kanserve.train.lm.blas_threads import threads_for

MOST_WORK = 1.5e10  # multiply-adds of a refit: about half a second
FEWEST_ANSWERS = 4  # per parameter, that a refit to fewer rows has: the losses of ten classes changed by up to 0.003


@dataclass(frozen=True)
class Suggestion:
    """A named function for an edge, as `Session.suggest` gives it.

    Parameters
    ----------
    function : str
        Its name.
    r2 : float
        Its R² to the edge, weighted by the edge's effect on the outputs.
    loss : float
        The held-out loss after `Session.snap`, that is, with the function in place and a short refit. An estimate where
        that takes over half a second: its refit has fewer steps and, if the outputs are many, fewer rows.
    change : float
        The difference to the present loss.
    constants : (float, float, float, float)
        a, b, c, d of c·f(a·x + b) + d in the user's units, before the refit.

    Examples
    --------
    >>> import kanserve
    >>> kan = kanserve.from_formula("2*sin(3*x) + 1", ranges={"x": (-1, 1)})
    >>> x = [[n / 10] for n in range(-10, 11)]
    >>> session = kanserve.Session(kan, (x, kan(x)))
    >>> session.free("x->y").suggest("x->y")[0].function
    'sin'
    """

    function: str
    r2: float
    loss: float
    change: float
    constants: tuple[float, float, float, float]


@np.errstate(all="ignore")
def suggestions(
    kan: Kan, place: EdgeIndex, rows: SessionData, functions: Sequence[str], top: int
) -> tuple[Suggestion, ...]:
    """Suggestions for the `top` functions that fit the edge best for their complexity, sorted by the loss after a refit
    and by complexity. Functions that leave their domain, or make another function leave its domain, are left out."""
    kan = of_numbers(kan)
    with threads_for(rows.work(kan)):
        found, error, now = points(kan, place, rows), rows.error(kan), rows.loss(kan)
        fits = [fit for name in functions if (fit := closest(found, name, error)) is not None]
        judge, steps = _affordable(kan, rows)
        offered = []
        for fit in sorted(fits, key=lambda fit: fit.rank)[:top]:
            try:
                after = require_sound(kan, put_in(kan, place, fit.symbolic, judge, steps), rows)
            except InputError:
                continue
            offered.append(_suggestion(kan, place, fit, rows.loss(after), now))
    floor = 1e-9 + 0.1 * float(np.sqrt(now)) if np.isfinite(now) else 1e-9
    return tuple(sorted(offered, key=lambda step: _price(step, floor)))


def _affordable(kan: Kan, rows: SessionData) -> tuple[Judge, int]:
    """The rows and the steps of a refit that takes at most MOST_WORK."""
    judge, parameters = rows.judge, count_free_parameters(kan)
    step = judge.goal.size * parameters**2
    if STEPS_SHORT * step <= MOST_WORK:
        return judge, STEPS_SHORT
    enough = max(FEWEST_ANSWERS * parameters, MOST_WORK // (STEPS_SHORT * parameters**2)) // judge.goal.shape[1]
    if enough < len(judge.learn):
        some = np.sort(np.random.default_rng(rows.seed).permutation(len(judge.learn))[:enough])
        judge = replace(judge, learn=judge.learn.take(some), goal=judge.goal[some])
    return judge, max(1, int(MOST_WORK // (judge.goal.size * parameters**2)))


def _suggestion(kan: Kan, place: EdgeIndex, fit: Fit, loss: float, now: float) -> Suggestion:
    own: Symbolic = units(kan, place).to_user_units(fit.symbolic)
    return Suggestion(own.function, fit.r2, loss, loss - now, (own.a, own.b, own.c, own.d))


def _price(suggestion: Suggestion, floor: float) -> float:
    """The logarithm (base 10) of the error plus a penalty for complexity; errors below the floor count as equal."""
    return (
        float(np.log10(np.sqrt(suggestion.loss) + floor))
        + EDGE_CANDIDATES_COMPLEXITY_WEIGHT * FUNCTIONS[suggestion.function].complexity
    )
