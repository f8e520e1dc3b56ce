"""The samples of a search: those that it learns from, those held out, and the outliers that it leaves out."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from kanserve.data.dataset import Dataset
from kanserve.errors import InputError
from kanserve.search.driver.results import Findings
from kanserve.search.search_settings import SEARCH
from kanserve.search.structure.outliers import outliers

Loss = Literal["auto", "squared", "huber", "student_t"]


@dataclass(frozen=True, eq=False)
class SearchRows:
    """Samples to learn from and to validate on, and the outliers.

    Of few samples none is held out: `held` is then `learn`, and formulas are validated by leave-one-out errors.
    """

    learn: Dataset
    held: Dataset
    left_out: Dataset | None

    def judged(self, found: Findings) -> Findings:
        """The findings with the number of outliers: the samples left out that the best formula does not explain."""
        if self.left_out is None:
            return found
        settings, best = SEARCH.get(), found.best
        off = np.abs(self.left_out.y[:, 0] - best(self.left_out.x))
        limit = max(
            settings.evidence.outlier_deviations * best.error,
            settings.training_exact_error * float(self.learn.y.std()),
        )
        return replace(found, outliers=int(np.sum(~(off <= limit))))


def search_rows(rows: Dataset, seed: int, loss: Loss) -> SearchRows:
    """The samples of a search of one output; those of weight 0 are in no part.

    Raises
    ------
    InputError
        There is no such loss.
    """
    settings = SEARCH.get()
    if loss not in get_args(Loss):
        raise InputError(f"loss is one of {', '.join(map(repr, get_args(Loss)))}, got {loss!r:.40}.")
    rows = rows.counted()
    off = np.zeros(len(rows), np.bool_) if loss == "squared" else outliers(rows.x, rows.y[:, 0], seed)
    left_out = rows.take(np.flatnonzero(off)) if off.any() else None
    kept = rows.take(np.flatnonzero(~off))
    if len(kept) < settings.evidence.held_out_rows:
        return SearchRows(kept, kept, left_out)
    return SearchRows(*kept.split(settings.find_formulas_held_out_share, seed), left_out)
