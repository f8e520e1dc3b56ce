"""What a search has found: formulas from the simplest to the most exact, each a network with its errors."""

from collections.abc import Sequence
from dataclasses import dataclass
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

Array = NDArray[np.float64]

Ending = Literal["settled", "exhausted", "seconds", "max_fits", "interrupted"]

MOST_LISTED = 12
BETTER = 0.95
"""Times the error of a simpler formula: what a more complex one must reach to be listed."""
WITHIN = 1.1
"""Times the least error: the simplest formula up to there is the one to take where none settles the matter."""


@dataclass(frozen=True, eq=False)
class ScoredFormula:
    """One formula: its network, its complexity, its root mean square errors and whether it is exact.

    `error` is on the rows that it was fitted to, `data`. `validation` is on a fifth of all rows, by which no constant
    was fitted and no shape chosen; the list of formulas is ordered by it. Both are in units of the answers, on the rows
    where the formula is finite, whose share is `defined`.

    `exact`: finite on all rows, with errors on both that are rounding: up to 1e-9 of the answers' standard deviation.
    """

    kan: Kan
    complexity: float
    error: float
    validation: float
    exact: bool
    data: Dataset
    defined: float = 1.0

    @cached_property
    def formula(self) -> Formula:
        return formulas(self.kan, strict=False, named=True)[0]

    @cached_property
    def constants(self) -> tuple[Constant, ...]:
        """The numbers of the formula with their standard errors; those that were recognised have none."""
        return constants_of(self.formula.tree, *self._rows)

    @cached_property
    def uncertainty(self) -> Uncertainty:
        """DataError where the rows cannot tell, as when there are no more of them than constants."""
        tree = self.formula.tree
        return uncertainty(tree, *self._rows, known_constants(tree))

    def interval(self, x: ArrayLike, level: float = 0.95) -> tuple[Array, Array]:
        """Where a new answer at rows x (N, inputs) is expected with this probability: low and high, (N,) each.

        DataError for rows of another width, and where the rows cannot tell, as for `uncertainty`.
        """
        return self.uncertainty.interval(as_rows(self.kan, x), level)

    @cached_property
    def _rows(self) -> tuple[Array, Array]:
        """The rows that it was fitted to, where it is finite."""
        finite = np.isfinite(evaluate_tree(self.formula.tree, {}, self.data.x))
        return self.data.x[finite], self.data.y[finite, 0]

    def __str__(self) -> str:
        notes = [f"complexity {self.complexity:g}", f"validation error {self.validation:.3g}"]
        notes += ["exact"] if self.exact else []
        notes += [f"finite on {self.defined:.1%} of the rows"] if self.defined < 1 else []
        notes += [f"where {', '.join(self.formula.domain)}"] if self.formula.domain else []
        return f"{self.formula.text}   ({', '.join(notes)})"


@dataclass(frozen=True, eq=False)
class Findings:
    """`candidates`: each better by a twentieth, on rows held out, than all that are simpler; the simplest first, up to
    `best`, the one to take.

    `ended` says why the search ended: "settled" by a law that is exact or leaves only noise, "exhausted" when all was
    tried, "seconds" or "max_fits" when that limit left something untried, "interrupted" by Ctrl-C.
    """

    candidates: tuple[ScoredFormula, ...]
    best: ScoredFormula
    ended: Ending = "settled"

    def __str__(self) -> str:
        return "\n".join(f"{'*' if candidate is self.best else ' '} {candidate}" for candidate in self.candidates)

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
        return f"<table><tr>{head}</tr>{body}</table>"


def pareto_front(found: Sequence[ScoredFormula], settled: ScoredFormula | None, ended: Ending = "settled") -> Findings:
    """The list and the best of it: what settled the search, else the simplest that is about as good as any.

    DataError where there is none, as no formula has an error that a double can hold.
    """
    if not found:
        raise DataError("No formula of these rows can be computed with doubles: give the columns in other units.")
    listed: list[ScoredFormula] = []
    for one in sorted(found, key=lambda one: (one.complexity, one.validation)):
        if not listed or one is settled or one.validation < BETTER * listed[-1].validation:
            listed.append(one)
        if one is settled or one.exact:
            break
    exact = next((one for one in listed if one.exact), None)
    least = min(one.validation for one in listed)
    best = exact or settled or next(one for one in listed if one.validation <= WITHIN * least)
    return Findings(tuple(_shortened(listed, best)), best, ended)


def _shortened(listed: Sequence[ScoredFormula], best: ScoredFormula) -> list[ScoredFormula]:
    """At most so many: those go first that gain least over the one before."""
    kept = list(listed)
    while len(kept) > MOST_LISTED:
        gains = {after.validation / before.validation: after for before, after in pairwise(kept) if after is not best}
        kept.remove(gains[max(gains)])
    return kept
