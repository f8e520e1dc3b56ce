"""The candidates of an edge as the page shows them: what each costs, and its curve."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kanserve.editing import Session, Suggestion
from kanserve.network.functions import FUNCTIONS
from kanserve.network.own_functions import OWN
from kanserve.studio.page_views import edge_curve

LEAST_LOSS = 1e-20  # a loss below it is rounding: what changes it by a factor says nothing


@dataclass(frozen=True)
class CandidateView:
    """A suggestion with its complexity, its values along the curve of the edge (in the network's own unit), and the
    relative change of the held-out RMSE, or of a classifier's cross-entropy; None where that is rounding."""

    suggestion: Suggestion
    complexity: float
    change: float | None
    curve: tuple[float, ...]
    formula: str = ""


def candidate_views(session: Session, name: str, found: Sequence[Suggestion]) -> tuple[CandidateView, ...]:
    """The suggestions for an edge, in the same order."""
    curve, now = edge_curve(session, name), session.loss
    views = []
    for one in found:
        (a, b, c, d), row = one.constants, FUNCTIONS[one.function]
        with np.errstate(all="ignore"):
            values = (c * row.numpy(a * np.array(curve.u) + b) + d) / curve.factor
            root = 1.0 if session.kan.classes else 0.5
            change = float((one.loss / now) ** root - 1) if now > LEAST_LOSS else None
        formula = OWN[one.function].formula if one.function in OWN else ""
        views.append(CandidateView(one, row.complexity, change, tuple(values.tolist()), formula or ""))
    return tuple(views)
