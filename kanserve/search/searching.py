"""`find_formulas`: from rows to formulas, by a search over small networks with named functions on their edges."""

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kanserve.errors import DataError, InputError
from kanserve.functions import function
from kanserve.search import joining
from kanserve.search.findings import Findings, Found, finished, pareto
from kanserve.search.networks import network
from kanserve.search.problem import Problem, Search, settles
from kanserve.search.reducing import solved
from kanserve.search.training import Fitted, judged, split
from kanserve.search.trees import Node, price
from kanserve.simplification.edges import LIBRARY
from kanserve.table import Dataset, dataset
from kanserve.train.settings import not_negative

Array = NDArray[np.float64]

MOST_ROWS = 1000
"""That the search itself looks at; the best formulas are then fitted to all."""
HELD_OUT = 0.2
FEWEST_ROWS = 10
MOST_CANDIDATES = 12
"""Formulas that are brought into their simplest form: the best of each complexity."""


def find_formulas(
    data: Dataset | tuple[ArrayLike, ArrayLike],
    *,
    seconds: float = 60.0,
    seed: int = 0,
    functions: Sequence[str] = LIBRARY,
    report: Callable[[str], None] | None = None,
) -> Findings:
    """Formulas of one output, from the simplest to the most exact.

    Small networks are tried in order of their size: trees of sums, products and curves. The law is taken apart first
    where the rows show how: inputs that do nothing, powers, parts that know nothing of one another, inputs that act
    through one number only. Each candidate is fitted by Levenberg-Marquardt, its curves are named, and everything is
    fitted again. The search ends with the first law that is exact, or, on noisy rows, with the first that leaves
    nothing but noise, or after `seconds`; the best so far is always there.

    A fifth of the rows is held out to judge. `functions` are those of the table that an edge may be named after.
    Equal arguments give equal formulas unless time runs out. DataError for classes, several outputs or too few rows.
    """
    rows = _checked(data, seconds, functions)
    learn, held = rows.split(HELD_OUT, seed)
    few = rows.sample(MOST_ROWS, seed)
    x, y = few.x, few.y[:, 0]
    search = Search(
        time.perf_counter() + seconds,
        np.random.default_rng(seed),
        seed,
        tuple(functions),
        report if report is not None else lambda message: None,
    )
    problem = Problem(x, y)
    best = solved(problem, search)
    settled = finished(best.tree, learn, held) if best is not None and settles(best, problem) else None
    others = _worth_finishing([*search.found, *_baselines(x, y, search)])
    found = [finished(one.tree, learn, held) for one in others if one is not best]
    candidates = pareto([one for one in (settled, *found) if one is not None], settled)
    return Findings(candidates, settled if settled is not None else _chosen(candidates))


def _checked(data: Dataset | tuple[ArrayLike, ArrayLike], seconds: float, functions: Sequence[str]) -> Dataset:
    rows = dataset(data)
    if rows.classes:
        raise DataError("Formulas are found for numbers, these rows have classes. Fit a KANClassifier and simplify it.")
    if rows.y.shape[1] != 1:
        raise DataError(f"Formulas are found for one output at a time, these rows have {rows.y.shape[1]}.")
    if rows.weights is not None:
        raise DataError("Rows with weights cannot be searched; leave the weights out, or repeat rows.")
    if len(rows) < FEWEST_ROWS:
        raise DataError(f"At least {FEWEST_ROWS} rows are needed to find a formula, got {len(rows)}.")
    if not (not_negative(seconds) and seconds > 0):
        raise InputError(f"seconds must be a number above 0, got {seconds!r}.")
    for name in functions:
        function(name)
    return rows


def _worth_finishing(found: Sequence[Fitted]) -> list[Fitted]:
    """Of each complexity the best, of these those that are better than all that are simpler; the last few."""
    kept: list[Fitted] = []
    for one in sorted(found, key=lambda one: (price(one.tree), one.held)):
        if np.isfinite(one.held) and (not kept or one.held < 0.9 * kept[-1].held):
            kept.append(one)
    return kept[-MOST_CANDIDATES:]


def _baselines(x: Array, y: Array, search: Search) -> list[Fitted]:
    """The mean, and the best plane: what any other formula has to beat."""
    rows = split(x, y, search.seed)
    columns = np.column_stack([np.ones(len(rows.x)), rows.x])
    level, *slopes = np.linalg.lstsq(columns, rows.y, rcond=1e-12)[0].tolist()
    plane = joining.total([joining.monomial([i], [1.0], slope) for i, slope in enumerate(slopes)])
    plane = joining.total([plane, joining.constant(level, 0)])
    nodes: list[Node] = [joining.constant(float(rows.y.mean()), 0), plane]
    return [judged(network(node, x.shape[1], 1), rows) for node in nodes]


def _chosen(candidates: Sequence[Found]) -> Found:
    """The simplest that is exact; else the simplest whose error on held-out rows is within a tenth of the least."""
    exact = [one for one in candidates if one.exact]
    if exact:
        return exact[0]
    least = min(one.validation for one in candidates)
    return next(one for one in candidates if one.validation <= 1.1 * least)
