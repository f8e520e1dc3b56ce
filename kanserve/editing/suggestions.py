"""What an edge could be, with the cost before the act: R² to the edge, and what it does to the held-out rows.

The two disagree: a tanh with an R² of 0.994 may cost 4 % of the loss, because the other edges lean on what it misses,
and a function with a poor R² nothing, because they make up for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kanserve.editing.edge_constants import units
from kanserve.editing.edge_fits import Fit, closest, points
from kanserve.editing.session_data import SessionData, require_sound
from kanserve.editing.steps import SHORT, put_in
from kanserve.errors import InputError
from kanserve.network.edge_names import EdgeIndex
from kanserve.network.functions import FUNCTIONS
from kanserve.network.kan import Kan, Symbolic
from kanserve.simplification.simplification_settings import SIMPLIFICATION


@dataclass(frozen=True)
class Suggestion:
    """A named function for an edge.

    `r2` compares it with the edge, weighted by what the edge does to the outputs. `loss` is that of the held-out rows
    once the function is put in and everything refitted shortly, `change` how much that is above the loss now: what
    `Session.snap` of the function does. `constants` are a, b, c, d of c·f(a·x + b) + d in the user's units, before
    the refit.
    """

    function: str
    r2: float
    loss: float
    change: float
    constants: tuple[float, float, float, float]


@np.errstate(all="ignore")
def suggestions(
    kan: Kan, place: EdgeIndex, rows: SessionData, functions: Sequence[str], top: int, refit: int = SHORT
) -> tuple[Suggestion, ...]:
    """The best `top` of these functions, of which those that are closest to the edge for their complexity are tried.

    The order is that of the loss after the refit and of complexity, weighed as `edges.candidates` does. Functions
    that leave their domain, or make another one leave its own, are not offered.
    """
    found, error, now = points(kan, place, rows), rows.error(kan), rows.loss(kan)
    fits = [fit for name in functions if (fit := closest(found, name, error)) is not None]
    offered = []
    for fit in sorted(fits, key=lambda fit: fit.rank)[:top]:
        try:
            after = require_sound(kan, put_in(kan, place, fit.symbolic, rows, refit), rows)
        except InputError:
            continue
        offered.append(_suggestion(kan, place, fit, rows.loss(after), now))
    floor = 1e-9 + 0.1 * float(np.sqrt(now)) if np.isfinite(now) else 1e-9
    return tuple(sorted(offered, key=lambda step: _price(step, floor)))


def _suggestion(kan: Kan, place: EdgeIndex, fit: Fit, loss: float, now: float) -> Suggestion:
    own: Symbolic = units(kan, place).shown(fit.symbolic)
    return Suggestion(own.function, fit.r2, loss, loss - now, (own.a, own.b, own.c, own.d))


def _price(one: Suggestion, floor: float) -> float:
    """Powers of ten of the error, and the price of complexity; errors below the floor count as equal."""
    return (
        float(np.log10(np.sqrt(one.loss) + floor))
        + SIMPLIFICATION.get().edge_candidates_complexity_weight * FUNCTIONS[one.function].complexity
    )
