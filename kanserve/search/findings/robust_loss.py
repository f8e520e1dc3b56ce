"""The loss of the final fits: chosen by the user, or by the tails of the residuals."""

from dataclasses import replace

import numpy as np

from kanserve.data.row_weights import weight_rows
from kanserve.formula.constants.robust_fit import FitLoss
from kanserve.search.findings.heavy_tails import has_heavy_tails
from kanserve.search.findings.pareto_front import pareto_front
from kanserve.search.findings.postprocess import POSTPROCESS_RECOGNITION_ROWS, Finisher
from kanserve.search.findings.results import Findings
from kanserve.search.findings.rows import Loss


def refit_with_loss(found: Findings, finisher: Finisher, loss: Loss) -> Findings:
    """Refit the constants of all formulas with a loss. "auto" means Student's t if the residuals of the best formula
    are noise with heavy tails, else no change."""
    chosen = _choose_loss(found, finisher) if loss == "auto" else loss
    if chosen == "squared" or found.best.exact:
        return found
    made = {candidate: finisher.by_loss(candidate, chosen) for candidate in (*found, *found.rivals)}
    settled = made[found.best] if found.ended == "settled" else None
    return replace(pareto_front(list(made.values()), settled, found.ended), compared=found.compared)


def _choose_loss(found: Findings, finisher: Finisher) -> FitLoss:
    best = found.best
    if best.exact or best.refuted:
        return "squared"
    rows = finisher.learn.sample(POSTPROCESS_RECOGNITION_ROWS, 0)
    residuals = weight_rows(rows.y[:, 0] - best(rows.x), rows.weights)
    return "student_t" if has_heavy_tails(residuals[np.isfinite(residuals)]) else "squared"
