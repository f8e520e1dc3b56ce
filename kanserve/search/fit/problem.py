"""One problem of a search, and what the whole search has to spend and has found."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import FormulaError
from kanserve.formula.constants.constants import exact_form
from kanserve.formula.from_network.expression_trees import trees
from kanserve.network.evaluate import evaluate
from kanserve.search.fit.overfit_test import few_values, memorises
from kanserve.search.fit.residual_test import MOST, adequate
from kanserve.search.fit.training import EXACT, FittedNetwork, SearchSamples, judged, refined, split
from kanserve.search.regression.budget import Budget, Limit
from kanserve.search.trees.to_network import network
from kanserve.search.trees.trees import Node
from kanserve.simplification.edge_candidates import LIBRARY

Array = NDArray[np.float64]

JOINT_STEPS = 60


@dataclass(frozen=True, eq=False)
class SearchProblem:
    """Inputs x (N, d) and answers y (N,) whose law is wanted, and from which relative error on it counts as exact.

    `measured` is False for the values of a part, which are known from a fit only: what is left of them is no noise.
    """

    x: Array
    y: Array
    exact: float = EXACT
    measured: bool = True
    depth: int = 0

    @property
    def inputs(self) -> int:
        return int(self.x.shape[1])

    def part(self, x: Array, y: Array, exact: float | None = None, measured: bool = True) -> "SearchProblem":
        """A smaller problem on the way to this one."""
        return SearchProblem(x, y, self.exact if exact is None else exact, self.measured and measured, self.depth + 1)


@dataclass(eq=False)
class Search:
    """What one search has to spend, and what it has found for the whole problem."""

    budget: Budget
    generator: np.random.Generator
    seed: int = 0
    library: tuple[str, ...] = LIBRARY
    log: Callable[[str], None] = lambda message: None
    found: list[FittedNetwork] = field(default_factory=list)
    reached: Limit | None = None
    """The limit by which something was left untried."""

    def over(self) -> bool:
        limit = self.budget.spent()
        self.reached = limit or self.reached
        return limit is not None

    @contextmanager
    def within(self, share: float) -> Iterator[None]:
        """Spend no more than this share of the time and of the fits that are left."""
        whole = self.budget
        self.budget = whole.part(share)
        try:
            yield
        finally:
            self.budget = whole

    def rows(self, one: SearchProblem) -> SearchSamples:
        return split(one.x, one.y, self.seed)

    def keep(self, found: FittedNetwork, one: SearchProblem) -> FittedNetwork:
        if one.depth == 0:
            self.found.append(found)
        return found

    def judge(self, tree: Node, one: SearchProblem, steps: int = JOINT_STEPS) -> FittedNetwork:
        """A tree with names on the rows of a problem, refitted to them unless it is exact already."""
        rows = self.rows(one)
        found = judged(network(tree, one.inputs), rows)
        if steps and not found.error < 1e-13:
            found = min(found, judged(refined(found.net, rows, steps), rows), key=lambda each: each.error)
        return self.keep(found, one)


def settles(found: FittedNetwork | None, one: SearchProblem) -> bool:
    """Whether the search for this law may end here: it is exact, or leaves nothing but noise."""
    if found is None:
        return False
    if found.error < one.exact:
        suspect = one.measured and few_values(one.x)
        return not (suspect and _by_heart(found, one))
    return one.measured and max(found.error, found.held) < MOST and noise_alone(found, one.x, one.y)


def _by_heart(found: FittedNetwork, one: SearchProblem) -> bool:
    """Whether an exact law knows the few values of an input by heart, when the numbers that have a name are known."""
    (tree,) = trees(found.net.kan).trees
    try:
        return memorises(exact_form(tree, one.x, one.y), one.x)
    except FormulaError:
        return True


def noise_alone(found: FittedNetwork, x: Array, y: Array) -> bool:
    """Whether what the network leaves of the answers is noise."""
    with np.errstate(all="ignore"):
        residuals = y - evaluate(found.net.kan, x)[:, 0]
    return bool(np.isfinite(residuals).all()) and adequate(residuals, x, float(y.std()) or 1.0)
