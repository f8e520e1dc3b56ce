"""Progress of a search: a callback for each better formula, and a progress line."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import nan

import numpy as np

from kanserve.data.row_weights import deviation
from kanserve.errors import FormulaError
from kanserve.formula import formulas
from kanserve.formula.expressions.complexity import complexity
from kanserve.formula.expressions.tree import Tree
from kanserve.formula.from_network.expression_trees import trees
from kanserve.network.kan import Variable
from kanserve.search.findings.constraints import Constraints
from kanserve.search.findings.preprocess import Prepared
from kanserve.search.fit.problem import Search, SearchProblem
from kanserve.search.fit.training import FittedNetwork
from kanserve.search.trees.nodes import Node
from kanserve.search.trees.to_network import network
from kanserve.train.fit_progress import Event, Watch

LONGEST = 60  # characters of a formula on the progress line


@dataclass(frozen=True)
class Improvement(Event):
    """A formula that is better than all before, as `find_formulas` gives it to a callable `progress`.

    Parameters
    ----------
    stage : str
        "better formula".
    loss : float
        Its root mean square error on held-out rows, in units of the output.
    seconds : float
        Since the start of the search.
    tried : int
        Formulas so far.
    text : str
        The formula.
    complexity : float
        That of the formula; NaN where a double cannot hold it.

    Examples
    --------
    >>> import kanserve, numpy as np
    >>> x = np.random.default_rng(0).uniform(1, 2, (100, 2))
    >>> seen = []
    >>> found = kanserve.find_formulas((x, 3 * x[:, 0] / x[:, 1]), max_fits=1000, progress=seen.append)
    >>> seen[-1].text
    '3*x1/x2'
    """

    seconds: float
    tried: int
    text: str
    complexity: float = nan

    def __str__(self) -> str:
        return f"{self.seconds:.1f} s, error {self.loss:.3g}: {self.text}"


SearchReport = Callable[[Improvement], None]


@dataclass(frozen=True, eq=False)
class Hit:
    """A fitted network, and its tree in the user's inputs and units."""

    found: FittedNetwork
    node: Node


@dataclass(eq=False)
class ProgressSearch(Search):
    """A search on some columns of preprocessed rows that reports its progress."""

    ready: Prepared = field(kw_only=True)
    constraints: Constraints = field(default_factory=Constraints)
    names: Sequence[str] = ()
    columns: tuple[int, ...] = ()
    began: float = field(default_factory=time.perf_counter)
    seconds: float = np.inf
    max_fits: float = np.inf
    watch: Watch = field(default_factory=Watch)
    report: SearchReport | None = None
    improved: Callable[[Hit], None] | None = None
    """Called with each hit that is better than all before."""
    kept: list[Hit] = field(default_factory=list)
    tried: int = 0
    least: float = np.inf
    stage: str = "searching"

    def over(self) -> bool:
        self._tell()
        return super().over()

    def keep(self, found: FittedNetwork, problem: SearchProblem) -> FittedNetwork:
        self.tried += 1
        if problem.depth == 0 and self.may_allow(found.tree):
            self.kept.append(self.to_hit(found))
            if found.held < self.least:
                self.least = found.held
                if self.improved is not None:
                    self.improved(self.kept[-1])
                self._tell_improvement(found)
        return super().keep(found, problem)

    def allowed(self, node: Node) -> bool:
        """Whether a law that would end the search satisfies the constraints."""
        if not self.constraints.any:
            return True
        tree = self._formula(node)
        return tree is not None and self.constraints.allow_law(tree, *self.ready.given)

    def may_allow(self, node: Node) -> bool:
        """Whether a candidate could still become an allowed formula."""
        if not self.constraints.any:
            return True
        tree = self._formula(node)
        return tree is not None and self.constraints.may_allow(tree)

    def _formula(self, node: Node) -> Tree | None:
        """The formula's tree in the user's inputs, or None if it cannot be written."""
        try:
            return trees(network(self.ready.raw(node, self.columns), self.ready.x.shape[1]).kan).trees[0]
        except FormulaError:
            return None

    def to_hit(self, found: FittedNetwork) -> Hit:
        return Hit(found, self.ready.raw(found.tree, self.columns))

    def _tell_improvement(self, found: FittedNetwork) -> None:
        if self.report is None and not self.watch.show and self.watch.live is None:
            return
        text, size = self._text(found.tree)
        self.stage = text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
        self._tell()
        seconds = time.perf_counter() - self.began
        error = found.held * deviation(self.ready.y, self.ready.weights) * self.ready.scale
        for report in (self.report, self.watch.live):
            if report is not None:
                report(Improvement("better formula", error, seconds, self.tried, text, size))

    def _text(self, node: Node) -> tuple[str, float]:
        """The formula's text and complexity."""
        variables = tuple(Variable(name) for name in self.names)
        kan = network(self.ready.raw(node, self.columns), len(self.names)).kan
        try:
            found = formulas(replace(kan, inputs=variables), strict=False, named=True)[0]
        except FormulaError:
            return "a formula that a double cannot hold", nan
        return found.text, complexity(found.tree)

    def _tell(self) -> None:
        time_share = (time.perf_counter() - self.began) / self.seconds
        share = min(max(time_share, self.budget.fits / self.max_fits), 1.0)
        self.watch.tell(self.stage, self.least, np.nan, share)
