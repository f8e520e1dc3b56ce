"""The samples of a search: those to learn from, the held-out ones, and the outliers that were removed."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from kanserve.data.dataset import Dataset
from kanserve.data.row_weights import deviation
from kanserve.errors import InputError
from kanserve.network.fitted_rows import hash_rows, record_rows
from kanserve.network.kan import Kan
from kanserve.network.training_bins import with_training_bins
from kanserve.search.findings.explained_share import FIND_FORMULAS_HELD_OUT_SHARE
from kanserve.search.findings.results import Findings
from kanserve.search.findings.scored_formula import ScoredFormula
from kanserve.search.fit.problem import TRAINING_EXACT_ERROR
from kanserve.search.fit.training import HELD_OUT_ROWS
from kanserve.search.structure.outliers import OUTLIER_DEVIATIONS, outliers

Loss = Literal["auto", "squared", "huber", "student_t"]

# Share of all weights that the samples have, at least, on which laws are looked for: the heaviest that do.
INFORMATIVE_SHARE = 0.99
INFORMATIVE_ROWS = 100  # samples that these are, at least


@dataclass(frozen=True, eq=False)
class SearchRows:
    """The training and validation samples, and the outliers. If there are few samples, `held` is `learn`, and formulas
    are validated by leave-one-out errors."""

    learn: Dataset
    held: Dataset
    left_out: Dataset | None

    def judge(self, found: Findings) -> Findings:
        """Count the removed samples that the best formula does not explain, and record them as outliers."""
        if self.left_out is None:
            return found
        best = found.best
        off = np.abs(self.left_out.y[:, 0] - best(self.left_out.x))
        if self.left_out.weights is not None and self.learn.weights is not None:
            off *= np.sqrt(self.left_out.weights / self.learn.weights.mean())
        limit = max(
            OUTLIER_DEVIATIONS * best.error, TRAINING_EXACT_ERROR * deviation(self.learn.y[:, 0], self.learn.weights)
        )
        return replace(found, outliers=int(np.sum(~(off <= limit))))


def record_search_rows(found: Findings, rows: Dataset) -> Findings:
    """Record in every network which rows it was fitted to, and how these are spread over the inputs."""
    hashes = hash_rows(rows)

    def record(kan: Kan) -> Kan:
        return with_training_bins(record_rows(kan, hashes), rows.x)

    recorded = {id(formula): replace(formula, kan=record(formula.kan)) for formula in _all_of(found)}
    candidates, rivals = (tuple(recorded[id(formula)] for formula in some) for some in (found.candidates, found.rivals))
    return replace(found, candidates=candidates, best=recorded[id(found.best)], rivals=rivals)


def _all_of(found: Findings) -> tuple[ScoredFormula, ...]:
    return (*found.candidates, found.best, *found.rivals)


def search_rows(rows: Dataset, seed: int, loss: Loss) -> SearchRows:
    """The samples of a search of one output; those of weight 0 are in no part.

    Raises
    ------
    InputError
        The loss does not exist.
    """
    if loss not in get_args(Loss):
        raise InputError(f"loss is one of {', '.join(map(repr, get_args(Loss)))}, got {loss!r:.40}.")
    rows = rows.counted()
    if rows.weights is not None and np.ptp(rows.weights) == 0:
        rows = replace(rows, weights=None)
    off = np.zeros(len(rows), np.bool_)
    if loss != "squared":
        off = outliers(rows.x, rows.y[:, 0], seed, rows.weights)
    left_out = rows.take(np.flatnonzero(off)) if off.any() else None
    kept = rows.take(np.flatnonzero(~off))
    if len(kept) < HELD_OUT_ROWS:
        return SearchRows(kept, kept, left_out)
    return SearchRows(*kept.split(FIND_FORMULAS_HELD_OUT_SHARE, seed), left_out)


def informative(rows: Dataset) -> Dataset:
    """Drop the samples with little weight: they would hide the law in tests that weight all rows equally."""
    if rows.weights is None:
        return rows
    order = np.argsort(-rows.weights, kind="stable")
    held = np.cumsum(rows.shares[order])
    count = max(int(np.searchsorted(held, INFORMATIVE_SHARE)) + 1, INFORMATIVE_ROWS)
    return rows if count >= len(rows) else rows.take(np.sort(order[:count]))
