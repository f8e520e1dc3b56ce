"""The Pareto front of the formulas of a search, and the choice of the best one."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TypeVar

from kanserve.errors import DataError
from kanserve.search.findings.decision import Decision, decision
from kanserve.search.findings.explained_share import Explained, overall_error
from kanserve.search.findings.results import GAP_RATIO, Ending, Findings, simplest_good
from kanserve.search.findings.scored_formula import ScoredFormula

# Number of formulas in the Pareto front, at most: those that improve least on the one before are dropped.
MOST_LISTED = 12
# A more complex formula is listed if its held-out error is below this times that of the simpler ones.
PARETO_ERROR_RATIO = 0.95
GAP_ERROR_RATIO = 0.99  # error of these, relative to the simpler one's, at most
T = TypeVar("T")


def pareto_front(found: Sequence[ScoredFormula], settled: ScoredFormula | None, ended: Ending = "settled") -> Findings:
    """The Pareto front and its best formula: an exact one; for a noisy law that ended the search, the one with the best
    description length; else the simplest within BEST_ERROR_RATIO of the least error. Raises DataError without any
    formula."""
    if not found:
        raise DataError("No formula of these rows can be computed in doubles: give the columns in other units.")
    ordered = sorted(found, key=lambda candidate: (candidate.complexity, candidate.validation))
    decided = None if settled is not None and settled.exact else decision(ordered)
    settled = settled if settled is None or decided is None else decided.best
    last = next((n for n, formula in enumerate(ordered) if formula is settled or formula.exact), len(ordered) - 1)
    ratio = PARETO_ERROR_RATIO
    explains_more = Explained.of(map(overall_error, ordered), len(ordered[0].data)).more_by(overall_error)
    listed = front(
        ordered[: last + 1],
        lambda formula: formula.complexity,
        lambda formula: formula.validation,
        ratio,
        explains_more,
    )
    if settled is not None and settled is ordered[last] and settled not in listed:
        listed.append(settled)
    exact = next((candidate for candidate in listed if candidate.exact), None)
    best = exact or settled or simplest_good(listed)
    return _with_decision(Findings(tuple(_shorten(listed, best)), best, ended), decided)


def _with_decision(found: Findings, decided: Decision | None) -> Findings:
    """Add the rivals and the margin of `decided` to the findings, if the best formula leaves only noise."""
    best = found.best
    if decided is None or best.exact or best.refuted:
        return found
    if best is decided.best:
        return replace(found, rivals=decided.rivals, margin=decided.margin, decided=decided.decided)
    others = (decided.best, *(rival for rival in decided.rivals if rival is not best))
    return replace(found, rivals=others, margin=0.0, decided=False)


def front(
    ordered: Sequence[T],
    size: Callable[[T], float],
    error: Callable[[T], float],
    ratio: float,
    explains_more: Callable[[T, T], bool],
) -> list[T]:
    """Those, in order of size, whose error is below `ratio` times that of all smaller ones, or that explain more. If
    the next one is over GAP_RATIO times as large, ones with a smaller improvement fill the gap."""
    kept: list[T] = []
    for formula in ordered:
        if not kept or error(formula) < ratio * error(kept[-1]) or explains_more(formula, kept[-1]):
            kept.append(formula)
    n = 0
    while n + 1 < len(kept):
        low, high = size(kept[n]), size(kept[n + 1])
        limit = GAP_ERROR_RATIO * error(kept[n])
        inside = [scored for scored in ordered if low < size(scored) < high and error(scored) < limit]
        if high > GAP_RATIO * low and inside:
            kept.insert(
                n + 1, min(inside, key=lambda scored: (max(size(scored) / low, high / size(scored)), error(scored)))
            )
        else:
            n += 1
    return kept


def _shorten(listed: Sequence[ScoredFormula], best: ScoredFormula) -> list[ScoredFormula]:
    """Keep at most MOST_LISTED formulas: drop those that improve least on the one before, unless that opens a gap."""
    kept = list(listed)
    while len(kept) > MOST_LISTED:
        gains = [(after.validation / before.validation, n) for n, (before, after) in enumerate(pairwise(kept), 1)]
        allowed = [(gain, n) for gain, n in gains if kept[n] is not best]
        closed = [(gain, n) for gain, n in allowed if n + 1 == len(kept) or _close(kept[n - 1], kept[n + 1])]
        del kept[max(closed or allowed)[1]]
    return kept


def _close(formula: ScoredFormula, other: ScoredFormula) -> bool:
    return other.complexity <= GAP_RATIO * formula.complexity
