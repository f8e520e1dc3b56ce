"""Heavy tails: noise with large errors here and there, which are cut off before the structure of a law is looked for.

A polynomial is fitted as for outliers. If what it leaves has heavy tails, and is noise but for these, it follows the
law, and residuals beyond some deviations are cut off there (Winsorised). Near a pole or a jump, which it does not
follow, its residuals are no noise, and nothing is cut off.
"""

from dataclasses import replace

import numpy as np

from kanserve.data.dataset import Dataset
from kanserve.data.row_weights import deviation, square_roots
from kanserve.formula.constants.robust_fit import noise_of, tail_evidence
from kanserve.search.fit.residual_test import adequate, lack_of_fit
from kanserve.search.search_settings import SEARCH
from kanserve.search.structure.outliers import RobustFit


def winsorised(rows: Dataset) -> Dataset:
    """The samples of one output with the large errors cut off, if their noise has heavy tails; else as they are."""
    settings = SEARCH.get().evidence
    y = rows.y[:, 0]
    varying = np.ptp(rows.x, axis=0) > 0
    if not varying.any() or len(rows) < settings.outlier_rows or y.min() == y.max():
        return rows
    x = rows.x[:, varying]
    roots = np.ones(len(y)) if rows.weights is None else square_roots(rows.weights)
    residuals = roots * RobustFit(x, y, roots).residuals
    if tail_evidence(residuals) <= settings.tail_evidence:
        return rows
    limit = settings.tail_deviations * noise_of(residuals, "huber").scale
    large = np.where(np.abs(residuals) > limit, 1.0, 0.0)
    if max(lack_of_fit(large, some) for some in (x, *x.T[:, :, None])) > settings.deviation_limit:
        return rows  # they are large in one region, as near a pole or a kink, which the polynomial does not follow
    cut = np.clip(residuals, -limit, limit)
    if not adequate(cut, x, deviation(y, rows.weights)):
        return rows
    cut /= np.mean(np.abs(residuals) < limit)  # a law fits these as it would by Huber's loss: see `robust_fit`
    return replace(rows, y=(y - (residuals - cut) / roots)[:, None])
