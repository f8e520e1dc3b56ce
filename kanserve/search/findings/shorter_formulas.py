"""Shorter forms of a formula: remove its least important part, refit the constants, and repeat. They fill the gap
between a long law that was found at once and the simplest formulas."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kanserve.data.dataset import Dataset
from kanserve.data.row_weights import deviation, root_mean_square, weight_rows
from kanserve.errors import FormulaError
from kanserve.formula import evaluate_tree
from kanserve.formula.algebra.simplify import simplify_tree
from kanserve.formula.constants.nonlinear_fit import refit
from kanserve.formula.expressions.complexity import complexity
from kanserve.formula.expressions.linear_forms import renumber
from kanserve.formula.expressions.tree import Step, Tree, references
from kanserve.search.findings.pareto_front import GAP_ERROR_RATIO, pareto_front
from kanserve.search.findings.postprocess import Finisher, tree_error
from kanserve.search.findings.results import Ending, Findings
from kanserve.search.findings.scored_formula import ScoredFormula

Array = NDArray[np.float64]

# Complexity of a formula, at most, of which shorter forms are looked for; larger ones are long sums.
SHORTER_MOST_COMPLEXITY = 80.0
SHORTER_ROWS = 200  # rows, at most, on which shorter forms of a formula are compared before the best is fitted to all
SHORTER_STEP = 0.8  # largest complexity of a shorter form, relative to the one before, if there is any such form
SHORTER_ERROR = 1.02  # error of a shorter form of a refuted law on few samples, relative to the law's, at most
SHORTER_TRIED = 3  # shorter forms, at most, of which the first that is still shorter with its constants fitted is taken


@dataclass(frozen=True, eq=False)
class _Shorter:
    """A shorter form before its constants are fitted: complexity, error, and whether it is already in simplest form."""

    tree: Tree
    size: float
    error: float
    simple: bool


def without_gaps(
    found: Sequence[ScoredFormula], settled: ScoredFormula | None, ended: Ending, finisher: Finisher
) -> Findings:
    """The Pareto front of the formulas; gaps are filled with shorter forms of the longer ones. `settled` is the law
    that ended a search on few rows; if all samples refute it, a shorter form of it may be listed instead."""
    every = list(found)
    if settled is not None and settled.refuted:
        every += _shortest_unrefuted(settled, finisher)
    listed = pareto_front(every, settled, ended)
    done: set[ScoredFormula] = set()
    while True:
        gaps = [(before, listed[-1]) for before, _ in listed.gaps[:1]] + list(listed.gaps)
        open_gap = next(((before, after) for before, after in gaps if after not in done), None)
        if open_gap is None or finisher.listing_over():
            return listed
        before, after = open_gap
        if not done and before is listed[0]:
            every += filter(None, map(finisher.fit_tree, _unit_lines(finisher.few)))
        done.add(after)
        every += _shorter_than(after, before.complexity, listed, finisher)
        listed = pareto_front(every, settled, ended)


def _shortest_unrefuted(law: ScoredFormula, finisher: Finisher) -> list[ScoredFormula]:
    """The longest shorter form that fits the few samples as well and is not refuted by all samples, in a list. A law
    with a superfluous part may only be right in a limit, as c*(x - sin(x)/c) is for small c."""
    most = SHORTER_ERROR * tree_error(law.formula.tree, finisher.few)[0]
    for tree in shorter_formulas(law.formula.tree, finisher.few, 0.0, largest=1.0):
        if finisher.over():
            break
        made = finisher.finish_tree(tree, law=True) if tree_error(tree, finisher.few)[0] <= most else None
        if made is not None and not made.refuted:
            return [made]
    return []


def propose_shorter(law: ScoredFormula, finisher: Finisher) -> Iterator[ScoredFormula]:
    """Forms of a noisy law with one term, factor or function less, repeated as long as the residuals are only noise."""
    if law.exact or law.refuted or law.complexity > SHORTER_MOST_COMPLEXITY:
        return
    for tree in shorter_formulas(law.formula.tree, finisher.few, 0.0, largest=1.0):
        made = None if finisher.over() else finisher.finish_tree(tree, law=True)
        if made is None or made.refuted:
            return
        yield made


def _unit_lines(rows: Dataset) -> list[Tree]:
    """The best model c ± x_i, with one input."""
    found = []
    for i, values in enumerate(rows.x.T):
        for sign in (1.0, -1.0):
            rest = rows.y[:, 0] - sign * values
            level, error = float(rows.mean(rest[:, None])[0]), deviation(rest, rows.weights)
            steps = (("var", i), ("const", -1.0), ("mul", 1, 0), ("const", level))
            tree = (*steps, ("add", 2, 3)) if sign < 0 else (steps[0], steps[3], ("add", 0, 1))
            found.append((error, i, tree))
    return [tree for _, _, tree in sorted(found)[:1]]


def _shorter_than(
    formula: ScoredFormula, least: float, listed: Findings, finisher: Finisher
) -> Iterator[ScoredFormula]:
    """The shorter forms of a formula that may join the list."""
    if formula.complexity > SHORTER_MOST_COMPLEXITY:
        return
    largest = SHORTER_STEP  # steps of a few per cent would fill no gap, and each costs a fit
    for tree in shorter_formulas(formula.formula.tree, finisher.few, least, largest):
        size, error = complexity(tree), tree_error(tree, finisher.held)[0]
        if all(error < other.validation for other in listed if other.complexity <= size):
            made = finisher.fit_tree(tree)
            if made is not None:
                yield made
        if finisher.listing_over():
            return


def shorter_formulas(tree: Tree, rows: Dataset, least: float, largest: float) -> Iterator[Tree]:
    """Repeatedly drop the part of a formula that costs least accuracy, and refit. Each form is, if possible, at most
    `largest` times as complex as the one before; stops at complexity `least`."""
    few = rows.sample(SHORTER_ROWS, 0)
    own = complexity(tree)
    while True:
        forms = [form for form in _shorter(tree, few, own) if form.size > least and math.isfinite(form.error)]
        large = [form for form in forms if form.size <= largest * own] or forms
        for form in sorted(large, key=lambda form: (form.error, form.size))[:SHORTER_TRIED]:
            made = _fit_form(form, rows)
            size = math.inf if made is None else complexity(made)
            if made is not None and least < size < own:
                tree, own = made, size
                yield tree
                break
        else:
            return


def _fit_form(form: _Shorter, rows: Dataset) -> Tree | None:
    """Fit the constants of a form and simplify it; None if that fails."""
    try:
        tree = refit(form.tree, rows.x, rows.y[:, 0], weights=rows.weights)
        return tree if form.simple else simplify_tree(tree, rows.x)
    except FormulaError:
        return None


def _shorter(tree: Tree, rows: Dataset, own: float) -> Iterator[_Shorter]:
    y = weight_rows(rows.y[:, 0], rows.weights)
    for form, simple in dict(_without_one(tree)).items():
        size = complexity(form)
        if size >= own:
            continue
        values = weight_rows(evaluate_tree(form, {}, rows.x), rows.weights)
        with np.errstate(all="ignore"):
            factor = float(values @ y / (values @ values))
            error, least = root_mean_square(y - values), root_mean_square(y - factor * values)
        if _has_factor(form):
            yield _Shorter(form, size, least, simple)
        elif size + 2.0 < own and least < GAP_ERROR_RATIO * error:
            last = len(form)
            yield _Shorter((*form, ("const", factor), ("mul", last - 1, last)), size + 2.0, least, False)
        else:
            yield _Shorter(form, size, error, simple)


def _has_factor(tree: Tree) -> bool:
    """Whether the constants of a form already include an overall factor."""
    terms = [tree[operand] for operand in tree[-1][1:]] if tree[-1][0] == "add" else [tree[-1]]
    return all(step[0] == "const" or (step[0] == "mul" and _numbers(tree, step)) for step in terms)


def _numbers(tree: Tree, product: Step) -> bool:
    return any(tree[n][0] == "const" and tree[n][1] != -1 for n in references(product))


def _without_one(tree: Tree) -> Iterator[tuple[Tree, bool]]:
    """The trees without one term, factor, function or power, each with whether it is still in simplest form."""
    for place, step in enumerate(tree):
        operands = references(step)
        if step[0] in ("add", "mul"):
            for n, operand in enumerate(operands):
                rest = operands[:n] + operands[n + 1 :]
                if all(tree[other][0] == "const" for other in rest):
                    continue
                if step[0] == "mul" and tree[operand][0] == "const" and tree[operand][1] < 0:
                    yield with_step(tree, operand, ("const", -1.0)), False  # the sign stays
                    continue
                simple = step[0] == "add" and place + 1 == len(tree)
                yield with_step(tree, place, (step[0], *rest) if len(rest) > 1 else rest[0]), simple
        elif step[0] in ("pow", "call"):
            yield with_step(tree, place, operands[0]), False


def with_step(tree: Tree, place: int, new: Step | int, last: int | None = None) -> Tree:
    """Replace a step by another, or by a reference to one's value. The result ends at `last`, nothing unused."""
    used: set[int] = set()
    alias = {place: new} if isinstance(new, int) else {}
    steps = [new if n == place and not isinstance(new, int) else step for n, step in enumerate(tree)]

    def target(n: int) -> int:
        return alias.get(n, n)

    waiting = [target(len(steps) - 1 if last is None else last)]
    while waiting:
        n = waiting.pop()
        if n not in used:
            used.add(n)
            waiting += [target(operand) for operand in references(steps[n])]
    places = {n: k for k, n in enumerate(sorted(used))}
    number = {n: places[target(n)] for n in range(len(steps)) if target(n) in places}
    return tuple(renumber(steps[n], number) for n in sorted(used))
