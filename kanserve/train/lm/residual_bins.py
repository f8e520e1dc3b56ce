"""Whether residuals have structure along one input that a grid is too coarse for."""

import numpy as np
from numpy.typing import NDArray

from kanserve.data.dataset import Dataset

Array = NDArray[np.float64]

SCHEDULE_BINS = 100  # of an input, to look for structure in the residuals that a grid is too coarse for
SCHEDULE_ROWS_PER_BIN = 8  # at least; with fewer rows there are fewer bins


def explained_by_bins(train: Dataset, held: Dataset, learned: Array, judged: Array) -> float:
    """The largest share of the validation rows' residuals that their means in narrow bins of one input explain."""
    bins = min(SCHEDULE_BINS, len(train) // SCHEDULE_ROWS_PER_BIN)
    found = 0.0
    if bins < 2:
        return found
    for i in range(train.x.shape[1]):
        low, high = float(train.x[:, i].min()), float(train.x[:, i].max())
        edges = np.linspace(low, high, bins + 1)[1:-1]
        own, other = np.searchsorted(edges, train.x[:, i]), np.searchsorted(edges, held.x[:, i])
        count = np.maximum(np.bincount(own, minlength=bins), 1)
        for q in range(learned.shape[1]):
            means = np.bincount(own, learned[:, q], bins) / count
            total = float(np.square(judged[:, q]).sum())
            if total > 0:
                found = max(found, 1 - float(np.square(judged[:, q] - means[other]).sum()) / total)
    return found
