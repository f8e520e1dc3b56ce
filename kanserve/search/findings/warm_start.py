"""Warm start: known formulas are refitted to the rows of a search and compete with what it finds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kanserve.data.dataset import Dataset
from kanserve.data.row_weights import deviation, weight_rows
from kanserve.errors import DataError, FormulaError, InputError
from kanserve.formula.constants.nonlinear_fit import refit
from kanserve.formula.expressions.tree import Tree
from kanserve.formula.from_network.expression_trees import trees
from kanserve.formula.to_network.from_formula import from_formula
from kanserve.network.kan import Kan
from kanserve.search.findings.pareto_front import pareto_front
from kanserve.search.findings.postprocess import Finisher
from kanserve.search.findings.results import Findings
from kanserve.search.findings.scored_formula import ScoredFormula
from kanserve.search.fit.residual_test import adequate


def starting_trees(start: Any, inputs: Sequence[str]) -> list[Tree]:
    """The trees of the starting formulas over these inputs. `start` is None, findings, a formula of them, a network of
    named functions, a text, a sympy expression, or a sequence of these. Raises InputError for an unusable one."""
    if start is None:
        return []
    if isinstance(start, Sequence) and not isinstance(start, str):
        return [tree for formula in start for tree in starting_trees(formula, inputs)]
    if isinstance(start, ScoredFormula):
        start = start.kan
    if isinstance(start, Mapping):
        raise InputError("start is a mapping from outputs to formulas only for data with several outputs.")
    kan = start if isinstance(start, Kan) else from_formula(start, inputs=list(inputs))
    if not kan.symbolic or len(kan.outputs) != 1:
        raise InputError(f"A formula to start from has one output and no splines, unlike {kan}. Simplify it first.")
    names = [variable.name for variable in kan.inputs]
    (tree,) = trees(kan).trees
    unknown = [names[step[1]] for step in tree if step[0] == "var" and names[step[1]] not in inputs]
    if unknown:
        raise InputError(
            f"A formula to start from has the input {unknown[0]!r}; those of the data are {', '.join(inputs)}."
        )
    columns = [list(inputs).index(name) if name in inputs else -1 for name in names]
    return [tuple(("var", columns[step[1]]) if step[0] == "var" else step for step in tree)]


@dataclass(frozen=True, eq=False)
class StartingFormulas:
    """The formulas that a search starts from, fitted to its rows, and the one that makes a search needless, if any."""

    formulas: tuple[ScoredFormula, ...]
    settled: ScoredFormula | None
    mean: ScoredFormula | None

    def alone(self) -> Findings:
        """The Pareto front of these formulas and the mean."""
        found = self.formulas if self.mean is None else (self.mean, *self.formulas)
        return pareto_front(found, self.settled)

    def join(self, found: Findings) -> Findings:
        """The Pareto front of these formulas and those of a search."""
        settled = found.best if found.ended == "settled" else None
        if not self.formulas:
            return found
        joined = pareto_front([*found, *found.rivals, *self.formulas], settled, found.ended)
        return replace(joined, compared=found.compared + len(self.formulas))


def refit_starts(start: Sequence[Tree], finisher: Finisher) -> StartingFormulas:
    """Refit the constants of the formulas to the rows. Formulas that are finite on no row are dropped."""
    few = finisher.few
    found = [finisher.finish_tree(_refit_or_keep(tree, few)) for tree in dict.fromkeys(start)]
    formulas = tuple(formula for formula in found if formula is not None)
    settled = [formula for formula in formulas if _settles(formula, few)]
    mean = finisher.finish_tree((("const", float(few.mean(few.y)[0])),)) if settled else None
    return StartingFormulas(formulas, min(settled, key=lambda formula: formula.complexity, default=None), mean)


def _refit_or_keep(tree: Tree, rows: Dataset) -> Tree:
    try:
        return refit(tree, rows.x, rows.y[:, 0], weights=rows.weights)
    except (DataError, FormulaError):
        return tree


def _settles(formula: ScoredFormula, rows: Dataset) -> bool:
    """Whether a formula makes a search on these rows unnecessary: it is exact, or its residuals are only noise."""
    if formula.exact or formula.refuted:
        return formula.exact
    residuals = rows.y[:, 0] - formula(rows.x)
    spread = deviation(rows.y[:, 0], rows.weights) or 1.0
    return bool(np.isfinite(residuals).all()) and adequate(weight_rows(residuals, rows.weights), rows.x, spread)
