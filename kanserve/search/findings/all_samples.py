"""Refit the constants to all samples, including the held-out ones, after the formulas were ranked on these."""

import math
from dataclasses import replace

import numpy as np

from kanserve.data.dataset import Dataset
from kanserve.data.row_weights import join_weights
from kanserve.errors import DataError, FormulaError
from kanserve.formula.algebra.simplify import simplify_tree
from kanserve.formula.constants.nonlinear_fit import refit
from kanserve.formula.constants.recognised_numbers import believable_constants
from kanserve.formula.constants.recognition import find_named_constants, recognise_noisy_constants
from kanserve.formula.constants.robust_fit import pseudo_values, robust_refit
from kanserve.formula.expressions.complexity import complexity
from kanserve.formula.expressions.tree import Step, Tree
from kanserve.formula.to_network.from_formula import kan_of
from kanserve.search.findings.decision import distinct
from kanserve.search.findings.postprocess import POSTPROCESS_RECOGNITION_ROWS, Finisher, finite_rows, tree_error
from kanserve.search.findings.results import Findings
from kanserve.search.findings.scored_formula import ScoredFormula

BESIDE_ONE = 1e-9  # what a factor of -1 is more than that, from which it is fitted: -1 itself is a sign, no constant


def refit_on_all_samples(found: Findings, finisher: Finisher) -> Findings:
    """Refit the constants to all samples, keeping recognised numbers if both parts still agree with them; `validation`
    stays that of the first fit. Constants of a law that leaves only noise are compared with simple numbers again: those
    stay that the first part and all samples agree with."""
    learn, held = finisher.learn, finisher.held
    if held is learn:
        return found
    weights = join_weights(learn.weights, held.weights)
    every = replace(learn, x=np.concatenate([learn.x, held.x]), y=np.concatenate([learn.y, held.y]), weights=weights)
    made = {candidate: _refit_formula(candidate, every) for candidate in found}
    best = made[found.best]
    if found.status in ("within noise", "not decided") and best.loss == "squared":
        made[found.best] = best = _recognise_again(best, every, finisher)
    rivals = distinct(
        (_refit_formula(rival, every) for rival in found.rivals), best
    )  # some differed in their constants alone
    simpler = (formula for formula in made.values() if formula is not best and formula.complexity >= best.complexity)
    dropped = set(simpler) if found.best is found[-1] else set()
    return replace(
        found,
        candidates=tuple(formula for formula in made.values() if formula not in dropped),
        best=best,
        rivals=rivals,
    )


def _recognise_again(formula: ScoredFormula, every: Dataset, finisher: Finisher) -> ScoredFormula:
    """Drop the recognised numbers of a law that all samples would not give; a term's factor may become 1 again."""
    if finisher.over():
        return formula
    many = finite_rows(formula.formula.tree, every.sample(POSTPROCESS_RECOGNITION_ROWS, 0))
    x, y, weights = many.x, many.y[:, 0], many.weights
    try:
        tree = simplify_tree(recognise_noisy_constants(_with_factors(formula.formula.tree), x, y, weights=weights), x)
        if tree == formula.formula.tree or not finisher.constraints.allow(tree):
            return formula
        numbers = {1.0, *(abs(formula.formula.tree[n][1]) for n in find_named_constants(formula.formula.tree))}
        known = {
            n for n in find_named_constants(tree) if any(math.isclose(abs(tree[n][1]), number) for number in numbers)
        }
        rows, learn = finite_rows(tree, every), finite_rows(tree, finisher.learn)
        before = refit(tree, learn.x, learn.y[:, 0], known, learn.weights)
        tree = refit(tree, rows.x, rows.y[:, 0], known, rows.weights)
        kan = kan_of(tree, formula.kan.inputs, formula.kan.outputs)
    except (DataError, FormulaError):
        return formula
    error, validation = tree_error(tree, every)[0], tree_error(before, finisher.held)[0]
    return replace(formula, kan=kan, complexity=complexity(tree), error=error, validation=validation)


def _with_factors(tree: Tree) -> Tree:
    """Give every term of a sum that has no coefficient, or only a sign, an explicit numeric factor."""
    steps: list[Step] = list(tree[:-1])
    kind, *operands = tree[-1]
    if kind != "add":
        return tree
    terms = []
    for operand in operands:
        step = tree[operand]
        factors = [tree[factor] for factor in step[1:]] if step[0] == "mul" else []
        number = 1.0
        if step[0] == "const" or any(factor[0] == "const" and factor[1] != -1 for factor in factors):
            terms.append(operand)
            continue
        if ("const", -1.0) in factors:  # -1 is a sign, which stays as it is
            number = -1.0 - BESIDE_ONE
            operand = _product(steps, [n for n in step[1:] if tree[n] != ("const", -1.0)])
        steps.append(("const", number))
        terms.append(_product(steps, [operand, len(steps) - 1]))
    return (*steps, ("add", *terms))


def _product(steps: list[Step], factors: list[int]) -> int:
    """Append the product of these factors to `steps`, and return its index."""
    if len(factors) > 1:
        steps.append(("mul", *factors))
        return len(steps) - 1
    return factors[0]


def _refit_formula(formula: ScoredFormula, every: Dataset) -> ScoredFormula:
    tree = formula.formula.tree
    if not formula.exact:
        rows = finite_rows(tree, every)
        try:
            x, y, weights = rows.x, rows.y[:, 0], rows.weights
            if formula.loss == "squared":
                tree = refit(tree, x, y, believable_constants(tree, x, y, weights), weights)
            else:
                pseudo = pseudo_values(tree, x, y, formula.loss, weights)
                known = believable_constants(tree, x, pseudo, weights)
                tree = robust_refit(tree, x, y, formula.loss, known, weights)
        except (DataError, FormulaError):
            tree = formula.formula.tree
    kan = formula.kan if tree == formula.formula.tree else kan_of(tree, formula.kan.inputs, formula.kan.outputs)
    return replace(formula, kan=kan, error=tree_error(tree, every)[0], data=every)
