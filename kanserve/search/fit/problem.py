"""The problem that a search solves, and the state of the search: its budget and its results."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from kanserve.data.row_weights import deviation, weight_rows
from kanserve.errors import FormulaError
from kanserve.formula.constants.recognition import exact_form
from kanserve.formula.from_network.expression_trees import trees
from kanserve.network.evaluate import evaluate
from kanserve.search.fit.overfit_test import few_values, memorises
from kanserve.search.fit.residual_test import RESIDUAL_TEST_LARGEST_ERROR, adequate, refutes
from kanserve.search.fit.training import FittedNetwork, SearchSamples, judge, refine_network, split
from kanserve.search.fit.workers import Taken, Workers, alone
from kanserve.search.regression.budget import Budget, Limit, current_budget
from kanserve.search.regression.surrogates import Surrogate, surrogates
from kanserve.search.trees.nodes import Node
from kanserve.search.trees.to_network import network
from kanserve.simplification.edge_candidates import LIBRARY

Array = NDArray[np.float64]

PROBLEM_REFIT_STEPS = 60  # steps of the joint refit of a law of named functions
TRAINING_EXACT_ERROR = 1e-9  # error, relative to the outputs' spread, of a law that is exact up to rounding
# Error of a polynomial, relative to the outputs' spread, from which noise is looked for even if the polynomial leaves
# more than noise.
NOISY_LEAST_ERROR = 0.03
REFIT_STEPS = 20  # steps of the fit to them
T = TypeVar("T")


def anything(node: Node) -> bool:
    return True


@dataclass(frozen=True, eq=False)
class SearchProblem:
    """Find the law of outputs y (N,) at inputs x (N, d), exact below the relative error `exact`. `measured` is False
    for a part's values, which come from a fit, so that residuals are not noise. `more` are further samples that a noisy
    law must fit too."""

    x: Array
    y: Array
    exact: float = field(default_factory=lambda: TRAINING_EXACT_ERROR)
    measured: bool = True
    depth: int = 0
    weights: Array | None = None
    """The weights of the rows (N,), None if all are equal."""
    more: SearchSamples | None = None
    allowed: Callable[[Node], bool] = anything
    """Whether a law keeps to the constraints of the search; only the whole law is asked for."""

    def __post_init__(self) -> None:
        """Make the arrays contiguous, as workers receive them: sums over other layouts round differently."""
        if not (self.x.flags.c_contiguous or self.x.flags.f_contiguous):
            object.__setattr__(self, "x", np.ascontiguousarray(self.x))
        object.__setattr__(self, "y", np.ascontiguousarray(self.y))

    @property
    def inputs(self) -> int:
        return int(self.x.shape[1])

    @property
    def spread(self) -> float:
        return deviation(self.y, self.weights) or 1.0

    @cached_property
    def surrogates(self) -> tuple[Surrogate, ...]:
        """A polynomial surrogate for each link that applies, best first; fitted once."""
        return surrogates(self.x, self.y)

    @cached_property
    def noisy(self) -> bool:
        """Whether the outputs may be noisy: a polynomial leaves only noise, or an error too large to tell."""
        if not self.measured:
            return False
        (smooth,) = (known.value(self.x) for known in self.surrogates if known.link.name == "identity")
        residuals = self.y - smooth
        if adequate(weight_rows(residuals, self.weights), self.x, self.spread):
            return True
        return float(residuals.std()) >= NOISY_LEAST_ERROR * self.spread

    def part(self, x: Array, y: Array, exact: float | None = None, measured: bool = True) -> "SearchProblem":
        """A smaller problem, one level deeper, on the same rows with their weights."""
        exact = self.exact if exact is None else exact
        return SearchProblem(x, y, exact, self.measured and measured, self.depth + 1, self.weights)

    def divide(self, x: Array, divisor: Array, usable: NDArray[np.bool_]) -> "SearchProblem":
        """The problem of y / divisor (N,) at x (N, k), one level deeper, on the `usable` rows. Noise is divided too, so
        weights are multiplied by the square of the divisor."""
        y, weights, divisor = self.y[usable] / divisor[usable], self.weights, divisor[usable]
        weights = None if weights is None else weights[usable]
        if self.noisy:
            own = (divisor / np.abs(divisor).max()) ** 2
            weights = own if weights is None else weights * own
        return SearchProblem(x[usable], y, self.exact, self.measured, self.depth + 1, weights)

    def on(self, usable: NDArray[np.bool_]) -> "SearchProblem":
        """The same problem, restricted to some rows."""
        weights = None if self.weights is None else self.weights[usable]
        return replace(self, x=self.x[usable], y=self.y[usable], weights=weights)


@dataclass(eq=False)
class Search:
    """The state of one search: its budget, and the networks found for the whole problem."""

    budget: Budget
    seed: int = 0
    library: tuple[str, ...] = LIBRARY
    log: Callable[[str], None] = lambda message: None
    workers: Workers = field(default_factory=Workers)
    found: list[FittedNetwork] = field(default_factory=list)
    reached: Limit | None = None
    """The limit that left something untried."""
    compared: int = 0
    """Forms that were fitted and compared, but for those in `found`."""

    def over(self) -> bool:
        limit = self.budget.limit_reached()
        self.reached = limit or self.reached
        return limit is not None

    def within(self, share: float) -> AbstractContextManager[None]:
        """Limit the block to this share of the remaining time and fits."""
        return self._limited(self.budget.part(share))

    def within_fits(self, most: int) -> AbstractContextManager[None]:
        """Limit the block to this many more fits."""
        return self._limited(self.budget.of_fits(most))

    @contextmanager
    def _limited(self, budget: Budget) -> Iterator[None]:
        whole, self.budget = self.budget, budget
        try:
            yield
        finally:
            self.budget = whole

    def rows(self, problem: SearchProblem) -> SearchSamples:
        return split(problem.x, problem.y, self.seed, problem.weights)

    def keep(self, found: FittedNetwork, problem: SearchProblem) -> FittedNetwork:
        if problem.depth == 0:
            self.found.append(found)
        return found

    def judge(self, tree: Node, problem: SearchProblem, steps: int | None = None) -> FittedNetwork:
        """Compute the errors of a tree on a problem's rows, after refitting its constants unless it is exact."""
        rows = self.rows(problem)
        steps = PROBLEM_REFIT_STEPS if steps is None else steps
        found = judge(network(tree, problem.inputs), rows)
        if steps and not found.error < 1e-13:
            found = min(
                found, judge(refine_network(found.net, rows, steps), rows), key=lambda candidate: candidate.error
            )
        return self.keep(found, problem)

    def ahead(self, steps: Sequence[Callable[[], T]]) -> Iterator[Taken[T]]:
        """Run independent steps in order; workers may run some of them ahead."""
        return self.workers.ahead(steps, self.budget)

    def attempts_ahead(
        self, attempts: Sequence["ProblemAttempt"], problem: SearchProblem
    ) -> Iterator[Callable[[], FittedNetwork | None]]:
        """Run attempts at a problem in order; workers may run some ahead, unless the search has constraints."""
        if problem.allowed is not anything:
            yield from (partial(alone, partial(attempt, problem, self)) for attempt in attempts)
            return
        steps = [partial(_attempt_ahead, attempt, problem, self.seed, self.library) for attempt in attempts]
        for attempt, taken in zip(attempts, self.ahead(steps), strict=True):
            yield partial(self._adopt, attempt, problem, taken)

    def _adopt(
        self, attempt: "ProblemAttempt", problem: SearchProblem, taken: Taken["_MadeAhead"]
    ) -> FittedNetwork | None:
        outcome = taken.outcome()
        if outcome is None:
            return alone(partial(attempt, problem, self))
        for network_found in outcome.value.kept:
            self.keep(network_found, problem)
        self.reached = outcome.value.reached or self.reached
        return outcome.value.found


ProblemAttempt = Callable[[SearchProblem, Search], FittedNetwork | None]


@dataclass(frozen=True, eq=False)
class _MadeAhead:
    """The result of an attempt that a worker made ahead: the law, all laws it kept, and the limit that stopped it."""

    found: FittedNetwork | None
    kept: list[FittedNetwork]
    reached: Limit | None


class _SearchAhead(Search):
    """The search that an attempt in a worker uses."""

    def keep(self, found: FittedNetwork, problem: SearchProblem) -> FittedNetwork:
        self.found.append(found)
        return found


def _attempt_ahead(attempt: ProblemAttempt, problem: SearchProblem, seed: int, library: tuple[str, ...]) -> _MadeAhead:
    search = _SearchAhead(current_budget(), seed, library)
    found = attempt(problem, search)
    return _MadeAhead(found, search.found, search.reached)


def is_exact(found: FittedNetwork) -> bool:
    """Whether a law is exact up to rounding on the training rows."""
    return found.error < TRAINING_EXACT_ERROR


def settles(found: FittedNetwork | None, problem: SearchProblem) -> bool:
    """Whether the law solves the problem: it is allowed, and exact or with residuals that are only noise."""
    return found is not None and _explains(found, problem) and problem.allowed(found.tree)


def _explains(found: FittedNetwork, problem: SearchProblem) -> bool:
    if found.error < problem.exact:
        suspect = problem.measured and few_values(problem.x)
        return not (suspect and _by_heart(found, problem))
    return (
        problem.measured
        and max(found.error, found.held) < RESIDUAL_TEST_LARGEST_ERROR
        and noise_alone(found, problem.x, problem.y, problem.weights)
        and (problem.more is None or _noise_on_more(found, problem.more))
    )


def _noise_on_more(found: FittedNetwork, more: SearchSamples) -> bool:
    """Whether the law, with refitted constants, leaves only noise on further samples."""
    net = refine_network(network(found.tree, more.x.shape[1]), more, REFIT_STEPS)
    with np.errstate(all="ignore"):
        residuals = more.y - evaluate(net.kan, more.x)[:, 0]
    return bool(np.isfinite(residuals).all()) and not refutes(weight_rows(residuals, more.weights), more.x)


def _by_heart(found: FittedNetwork, problem: SearchProblem) -> bool:
    """Whether an exact law, once its constants are recognised, memorises the few values of an input."""
    (tree,) = trees(found.net.kan).trees
    try:
        return memorises(exact_form(tree, problem.x, problem.y, weights=problem.weights), problem.x)
    except FormulaError:
        return True


def noise_alone(found: FittedNetwork, x: Array, y: Array, weights: Array | None = None) -> bool:
    with np.errstate(all="ignore"):
        residuals = y - evaluate(found.net.kan, x)[:, 0]
    spread = deviation(y, weights) or 1.0
    return bool(np.isfinite(residuals).all()) and adequate(weight_rows(residuals, weights), x, spread)
