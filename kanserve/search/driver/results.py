"""The results of a search, a Pareto front: formulas from the simplest to the most exact, with their errors."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from html import escape
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kanserve.data.dataset import Dataset
from kanserve.errors import DataError
from kanserve.formula import evaluate_tree, formulas
from kanserve.formula.constants.constants import Constant, constants_of, known_constants
from kanserve.formula.constants.uncertainty import Uncertainty, uncertainty
from kanserve.formula.expressions.formula import Formula
from kanserve.network.evaluate import as_rows
from kanserve.network.kan import Kan
from kanserve.search.search_settings import SEARCH

Array = NDArray[np.float64]

Status = Literal["exact", "within noise", "refuted", "out of time"]
Ending = Literal["settled", "exhausted", "seconds", "max_fits", "interrupted"]


@dataclass(frozen=True, eq=False)
class ScoredFormula:
    """One formula: its network, its complexity, its root mean square errors and whether it is exact.

    `error` is on the rows that it was fitted to, `data`. `validation` is on the held-out fifth of the rows, which were
    used neither to fit constants nor to choose shapes; the list of formulas is ordered by it. Both are in units of the
    output, on the rows where the formula is finite, whose share is `defined`.

    `refuted`: the residuals of all rows depend on the inputs, so the formula is not the law, and its constants have no
    standard errors.

    `exact`: finite on all rows, with both errors at rounding level: up to 1e-9 of the output's standard deviation.
    """

    kan: Kan
    complexity: float
    error: float
    validation: float
    exact: bool
    data: Dataset
    defined: float = 1.0
    refuted: bool = False

    @cached_property
    def formula(self) -> Formula:
        return formulas(self.kan, strict=False, named=True)[0]

    @cached_property
    def constants(self) -> tuple[Constant, ...]:
        """The constants of the formula with their standard errors: 0 for recognised ones, NaN if it is refuted."""
        found = constants_of(self.formula.tree, *self._rows)
        return tuple(replace(constant, standard_error=math.nan) for constant in found) if self.refuted else found

    @cached_property
    def uncertainty(self) -> Uncertainty:
        """The uncertainty of the constants; DataError if the rows do not suffice, as with no more than constants, or if
        they refute the formula."""
        if self.refuted:
            raise DataError("The residuals depend on the inputs: a formula that is refuted has no standard errors.")
        tree = self.formula.tree
        return uncertainty(tree, *self._rows, known_constants(tree))

    def interval(self, x: ArrayLike, level: float = 0.95) -> tuple[Array, Array]:
        """Prediction interval (low, high), (N,) each: for a new measurement at rows x (N, inputs).

        DataError for rows of another width, and if the data do not suffice, as for `uncertainty`.
        """
        return self.uncertainty.interval(as_rows(self.kan, x), level)

    @cached_property
    def _rows(self) -> tuple[Array, Array]:
        """The rows that the formula was fitted to, where it is finite."""
        finite = np.isfinite(evaluate_tree(self.formula.tree, {}, self.data.x))
        return self.data.x[finite], self.data.y[finite, 0]

    def __str__(self) -> str:
        notes = [f"complexity {self.complexity:g}", f"validation error {self.validation:.3g}"]
        notes += ["exact"] if self.exact else []
        notes += ["refuted"] if self.refuted else []
        notes += [f"finite on {self.defined:.1%} of the rows"] if self.defined < 1 else []
        notes += [f"where {', '.join(self.formula.domain)}"] if self.formula.domain else []
        return f"{self.formula.text}   ({', '.join(notes)})"


@dataclass(frozen=True, eq=False)
class Findings:
    """The Pareto front of a search: `candidates`, the simplest first, each at least 5% better on held-out rows than all
    simpler ones; and `best`, the recommended one.

    `status` says what the samples tell of `best`: "exact"; "within noise", its residuals on all samples are noise;
    "refuted", they depend on the inputs, and everything was tried; "out of time", likewise, and something was not.

    `ended` says why the search ended: "settled" by a law that is exact or leaves only noise, "exhausted" when
    everything was tried, "seconds" or "max_fits" at that limit, "interrupted" by Ctrl-C.
    """

    candidates: tuple[ScoredFormula, ...]
    best: ScoredFormula
    ended: Ending = "settled"

    @property
    def status(self) -> Status:
        if self.best.exact:
            return "exact"
        if not self.best.refuted:
            return "within noise"
        return "refuted" if self.ended in ("settled", "exhausted") else "out of time"

    @property
    def meaning(self) -> str:
        """The status, and what it says."""
        return f"{self.status}: {_MEANING[self.status]}"

    def __str__(self) -> str:
        return "\n".join([self.meaning, *self._lines()])

    def _lines(self) -> list[str]:
        return [f"{'*' if candidate is self.best else ' '} {candidate}" for candidate in self.candidates]

    def _repr_html_(self) -> str:
        titles = ("", "formula", "complexity", "error", "validation", "exact", "where")
        rows = [
            (
                "→" if candidate is self.best else "",
                f"{candidate.formula.name} = {candidate.formula.text}",
                f"{candidate.complexity:g}",
                f"{candidate.error:.3g}",
                f"{candidate.validation:.3g}",
                "yes" if candidate.exact else "no",
                ", ".join(candidate.formula.domain),
            )
            for candidate in self.candidates
        ]
        head = "".join(f"<th>{title}</th>" for title in titles)
        body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
        return f"<p>{escape(self.meaning)}</p><table><tr>{head}</tr>{body}</table>"


_MEANING: dict[Status, str] = {
    "exact": "the formula agrees with all samples to rounding.",
    "within noise": "what the formula leaves of the samples is noise.",
    "refuted": "what the best formula leaves of the samples depends on the inputs.",
    "out of time": "what the best formula so far leaves of the samples depends on the inputs.",
}


def pareto_front(found: Sequence[ScoredFormula], settled: ScoredFormula | None, ended: Ending = "settled") -> Findings:
    """The Pareto front, and its best formula: the exact one, or that which settled the search, else the simplest
    within `results_best_error_ratio` of the least error.

    DataError without any formula, as when no error fits in a double.
    """
    settings = SEARCH.get()
    if not found:
        raise DataError("No formula of these rows can be computed in doubles: give the columns in other units.")
    listed: list[ScoredFormula] = []
    for candidate in sorted(found, key=lambda candidate: (candidate.complexity, candidate.validation)):
        if (
            not listed
            or candidate is settled
            or candidate.validation < settings.results_pareto_error_ratio * listed[-1].validation
        ):
            listed.append(candidate)
        if candidate is settled or candidate.exact:
            break
    exact = next((candidate for candidate in listed if candidate.exact), None)
    least = min(candidate.validation for candidate in listed)
    best = (
        exact
        or settled
        or next(candidate for candidate in listed if candidate.validation <= settings.results_best_error_ratio * least)
    )
    return Findings(tuple(_shortened(listed, best)), best, ended)


def _shortened(listed: Sequence[ScoredFormula], best: ScoredFormula) -> list[ScoredFormula]:
    """At most `results_most_listed` formulas: drops those that improve least on the one before."""
    kept = list(listed)
    while len(kept) > SEARCH.get().results_most_listed:
        gains = {after.validation / before.validation: after for before, after in pairwise(kept) if after is not best}
        kept.remove(gains[max(gains)])
    return kept
