"""Heavy-tailed noise: cut off the large errors before the search looks for the structure of a law. A polynomial is
fitted robustly. If its residuals are noise but for heavy tails, it follows the law, and residuals beyond some
deviations are cut off (Winsorised). Near a pole or a jump its residuals are not noise, and nothing is cut off."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kanserve.data.dataset import Dataset
from kanserve.data.row_weights import deviation, square_roots
from kanserve.formula.constants.robust_fit import noise_of, tail_evidence
from kanserve.search.fit.residual_test import DEVIATION_LIMIT, adequate, lack_of_fit
from kanserve.search.structure.outliers import OUTLIER_ROWS, RobustFit

Array = NDArray[np.float64]

# Twice the logarithm of how much more likely the residuals are under a t than normal, from which their tails are
# heavy: for normal residuals once in twenty thousand searches.
TAIL_EVIDENCE = 15.0
TAIL_DEVIATIONS = 2.0  # deviations beyond which errors with heavy tails are cut off while structure is looked for


def has_heavy_tails(residuals: Array) -> bool:
    """Whether residuals are clearly not normal but have heavy tails."""
    return tail_evidence(residuals) > TAIL_EVIDENCE


def winsorise(rows: Dataset) -> Dataset:
    """Cut off the large errors of one output if its noise has heavy tails; otherwise return the samples unchanged."""
    y = rows.y[:, 0]
    varying = np.ptp(rows.x, axis=0) > 0
    if not varying.any() or len(rows) < OUTLIER_ROWS or y.min() == y.max():
        return rows
    x = rows.x[:, varying]
    roots = np.ones(len(y)) if rows.weights is None else square_roots(rows.weights)
    residuals = roots * RobustFit(x, y, roots).residuals
    if not has_heavy_tails(residuals):
        return rows
    limit = TAIL_DEVIATIONS * noise_of(residuals, "huber").scale
    large = np.where(np.abs(residuals) > limit, 1.0, 0.0)
    if max(lack_of_fit(large, some) for some in (x, *x.T[:, :, None])) > DEVIATION_LIMIT:
        return rows  # they are large in one region, as near a pole or a kink, which the polynomial does not follow
    cut = np.clip(residuals, -limit, limit)
    if not adequate(cut, x, deviation(y, rows.weights)):
        return rows
    cut /= np.mean(np.abs(residuals) < limit)  # a law fits these as it would by Huber's loss: see `robust_fit`
    return replace(rows, y=(y - (residuals - cut) / roots)[:, None])
