"""Suggestions of named functions for an edge: R² to the edge, and the effect on the held-out loss. Both are shown since
they may disagree: other edges compensate for a poor fit, or depend on the part that a good fit misses."""

from collections.abc import Sequence
from dataclasses import dataclass

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
from kanserve.train.lm.blas_threads import threads_for


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
        The held-out loss after `Session.snap`, that is, with the function in place and a short refit.
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
        offered = []
        for fit in sorted(fits, key=lambda fit: fit.rank)[:top]:
            try:
                after = require_sound(kan, put_in(kan, place, fit.symbolic, rows, STEPS_SHORT), rows)
            except InputError:
                continue
            offered.append(_suggestion(kan, place, fit, rows.loss(after), now))
    floor = 1e-9 + 0.1 * float(np.sqrt(now)) if np.isfinite(now) else 1e-9
    return tuple(sorted(offered, key=lambda step: _price(step, floor)))


def _suggestion(kan: Kan, place: EdgeIndex, fit: Fit, loss: float, now: float) -> Suggestion:
    own: Symbolic = units(kan, place).to_user_units(fit.symbolic)
    return Suggestion(own.function, fit.r2, loss, loss - now, (own.a, own.b, own.c, own.d))


def _price(suggestion: Suggestion, floor: float) -> float:
    """The logarithm (base 10) of the error plus a penalty for complexity; errors below the floor count as equal."""
    return (
        float(np.log10(np.sqrt(suggestion.loss) + floor))
        + EDGE_CANDIDATES_COMPLEXITY_WEIGHT * FUNCTIONS[suggestion.function].complexity
    )
