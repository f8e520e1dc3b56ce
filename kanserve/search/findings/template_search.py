"""Search for the unknown functions of a template: solve for the values of each on the rows, then search its formula."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanserve.data.dataset import Dataset
from kanserve.errors import DataError, InputError
from kanserve.formula import evaluate_tree, formulas
from kanserve.formula.expressions.tree import Tree
from kanserve.formula.to_network.from_formula import kan_of
from kanserve.search.findings.pareto_front import pareto_front
from kanserve.search.findings.postprocess import Finisher
from kanserve.search.findings.results import Ending, Findings
from kanserve.search.findings.scored_formula import ScoredFormula
from kanserve.search.findings.template import Filled, Template, read_template
from kanserve.search.findings.template_constants import Smooth

Array = NDArray[np.float64]

FIND_FORMULAS_FEWEST_ROWS = 5  # fewest rows with which a search starts; fewer are a DataError
# Least slope of the template by an unknown function, relative to its 0.9 quantile: less amplifies the noise.
TEMPLATE_LEAST_SENSITIVITY = 0.1
TEMPLATE_MOST_LEFT_OUT = 0.5  # largest share of the rows that are left out because their slope is smaller
# Rounds of searches for the unknown functions, at most, where there are several of them, or unknown constants.
TEMPLATE_ROUNDS = 3


def by_template(
    text: str, finisher: Finisher, search: Callable[..., Findings], functions: Any, seconds: float, max_fits: int | None
) -> Findings:
    """The formulas that have the template's form. `search` (with the arguments of `find_formulas`) finds the unknown
    functions. `finisher` must have no time left, so that it does not change the form."""
    template = read_template(text, finisher.few.inputs, finisher.few.outputs[0])
    return _TemplateSearch(template, finisher, search, functions, time.perf_counter() + seconds, max_fits).run()


class _TemplateSearch:
    def __init__(
        self,
        template: Template,
        finisher: Finisher,
        search: Callable[..., Findings],
        functions: Any,
        deadline: float,
        max_fits: int | None,
    ) -> None:
        self.template, self.finisher, self.search, self.deadline = template, finisher, search, deadline
        self.functions, self.names = functions, finisher.few.inputs
        self.x, self.y = finisher.few.x, finisher.few.y[:, 0]
        several = len(template.unknowns) > 1 or bool(template.constants)
        self.rounds = TEMPLATE_ROUNDS if several else 1
        self.joint = several
        self.left = self.rounds * len(template.unknowns)
        self.fits = None if max_fits is None else max(1, max_fits // self.left)
        self.made: list[ScoredFormula] = []
        self.trees: dict[int, Tree] = {}
        self.ended: Ending = "exhausted"
        self.exact_as_found = False
        """Whether an exact formula needed no refit, which leaves numbers such as 1e-16 where there are none."""

    def run(self) -> Findings:
        template, x = self.template, self.x
        generator = np.random.default_rng(0)
        some = generator.uniform(0.5, 2, len(template.constants))
        if len(template.unknowns) > 1 and not template.linear(x, some):
            raise InputError(
                f"The template {template.text!r} has several unknown functions, and is not a linear function of them. "
                "Write it as a sum of known factors times unknown functions, or with one unknown function."
            )
        template.solve(0, x, self.y, np.ones((len(x), len(template.unknowns))), some)  # an error before a search
        self.constants, self.parts = Smooth(template, x, self.y).fit()
        for round_number in range(self.rounds):
            for unknown in range(len(template.unknowns)):
                if round_number and time.perf_counter() > self.deadline:
                    break
                self._search_unknown(unknown)
            if self.exact_as_found or (self.ended == "settled" and self._within_noise()):
                break
        if not self.made:
            raise DataError(f"No formula of the form {template.text!r} is finite on the rows.")
        settled = next((formula for formula in self.made if formula.exact), None)
        if settled is None and self.ended == "settled":
            settled = min(self._within_noise(), key=lambda formula: formula.complexity, default=None)
        ended: Ending = "settled" if settled else "exhausted" if self.ended == "settled" else self.ended
        return pareto_front(self.made, settled, ended)

    def _within_noise(self) -> list[ScoredFormula]:
        return [formula for formula in self.made if not (formula.exact or formula.refuted)]

    def _search_unknown(self, unknown: int) -> None:
        """Search for one unknown function while the others are fixed."""
        template = self.template
        wanted = template.solve(unknown, self.x, self.y, self.parts, self.constants)
        solved = self.parts.copy()
        solved[:, unknown] = wanted
        sensitivity = np.nan_to_num(template.sensitivity(unknown, self.x, solved, self.constants))
        usable = np.isfinite(wanted) & (sensitivity > 0)
        if usable.any():
            least, large = np.quantile(sensitivity[usable], (TEMPLATE_MOST_LEFT_OUT, 0.9))
            usable &= sensitivity >= min(TEMPLATE_LEAST_SENSITIVITY * large, least)
        if usable.sum() < FIND_FORMULAS_FEWEST_ROWS:
            label = list(template.unknowns)[unknown]
            raise DataError(
                f"The template {template.text!r} determines {label} on {usable.sum()} of {len(usable)} rows only; at "
                f"least {FIND_FORMULAS_FEWEST_ROWS} are needed. Look at the signs of the output and of the "
                "known parts."
            )
        columns = list(template.unknowns.values())[unknown]
        names = tuple(self.names[column] for column in columns)
        label, weights = list(template.unknowns)[unknown], self.finisher.few.weights
        weights = None if weights is None else weights[usable]
        data = Dataset(self.x[usable][:, columns], wanted[usable], names, (label,), weights=weights)
        limits: dict[str, Any] = {}
        if np.isfinite(self.deadline):
            limits["seconds"] = max((self.deadline - time.perf_counter()) / self.left, 1e-3)
        if self.fits is not None:
            limits["max_fits"] = self.fits
        self.left -= 1
        functions = self.functions
        if isinstance(functions, Mapping):
            functions = {name: functions[name] for name in names if name in functions}
        found = self.search(data, functions=functions, **limits)
        self.ended = found.ended
        self._compose(unknown, found)

    def _compose(self, unknown: int, found: Findings) -> None:
        """Insert the formulas found for one unknown function, and the others' best ones, into the template."""
        best: Filled | None = None
        for candidate in found:
            trees: Sequence[Tree | None] = [
                candidate.formula.tree if k == unknown else self.trees.get(k)
                for k in range(len(self.template.unknowns))
            ]
            complete = [tree for tree in trees if tree is not None]
            if len(complete) < len(trees):
                continue
            filled = self.template.fill(complete, self.constants)
            made = self.finisher.finish_tree(filled.tree)
            if made is not None and made.exact:
                self.exact_as_found = True
            elif self.joint:
                filled = filled.refit(self.finisher.few)
                made = self.finisher.finish_tree(filled.tree)
            if made is not None:
                self.made.append(replace(made, parts=self._texts(filled.parts)))
            best = filled if candidate is found.best else best
        self.trees[unknown] = found.best.formula.tree
        if best is not None:
            self.constants, self.trees = best.constants, dict(enumerate(best.parts))
        for k, tree in self.trees.items():
            columns = list(self.template.unknowns.values())[k]
            self.parts[:, k] = evaluate_tree(tree, {}, self.x[:, columns])

    def _texts(self, parts: Sequence[Tree]) -> dict[str, str]:
        """The formula of each unknown function as text."""
        return {
            label: formulas(kan_of(tree, [self.names[column] for column in columns]), strict=False, named=True)[0].text
            for (label, columns), tree in zip(self.template.unknowns.items(), parts, strict=True)
        }
