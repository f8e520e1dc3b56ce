"""The last fit of the constants: to all samples, those held out too, once the formulas are judged by these."""

import math
from dataclasses import replace

import numpy as np

from kanserve.data.dataset import Dataset
from kanserve.data.row_weights import joined
from kanserve.errors import DataError, FormulaError
from kanserve.formula.algebra.simplify import simplified
from kanserve.formula.constants.nonlinear_fit import refit
from kanserve.formula.constants.recognised_numbers import believable_constants
from kanserve.formula.constants.recognition import known_constants, recognise_noisy_constants
from kanserve.formula.constants.robust_fit import pseudo_values, robust_refit
from kanserve.formula.expressions.complexity import complexity
from kanserve.formula.expressions.tree import Step, Tree
from kanserve.formula.to_network.from_formula import kan_of
from kanserve.search.findings.decision import distinct
from kanserve.search.findings.postprocess import POSTPROCESS_RECOGNITION_ROWS, Finisher, finite_rows, tree_error
from kanserve.search.findings.results import Findings
from kanserve.search.findings.scored_formula import ScoredFormula

BESIDE_ONE = 1e-9  # what a factor of -1 is more than that, from which it is fitted: -1 itself is a sign, no constant


def fitted_to_all(found: Findings, finisher: Finisher) -> Findings:
    """The findings with their constants fitted to both parts of the samples, but for recognised ones, if both parts
    still agree with these. `validation` stays that of the fit to the first part, which had not seen the others.

    The constants of a law that leaves only noise are compared with simple numbers anew, and those stay that both the
    first part and all samples agree with.
    """
    learn, held = finisher.learn, finisher.held
    if held is learn:
        return found
    weights = joined(learn.weights, held.weights)
    every = replace(learn, x=np.concatenate([learn.x, held.x]), y=np.concatenate([learn.y, held.y]), weights=weights)
    made = {candidate: _fitted(candidate, every) for candidate in found}
    best = made[found.best]
    if found.status in ("within noise", "not decided") and best.loss == "squared":
        made[found.best] = best = _recognised_anew(best, every, finisher)
    rivals = distinct((_fitted(rival, every) for rival in found.rivals), best)  # some differed in their constants alone
    simpler = (one for one in made.values() if one is not best and one.complexity >= best.complexity)
    dropped = set(simpler) if found.best is found[-1] else set()
    return replace(
        found, candidates=tuple(one for one in made.values() if one not in dropped), best=best, rivals=rivals
    )


def _recognised_anew(one: ScoredFormula, every: Dataset, finisher: Finisher) -> ScoredFormula:
    """The law without those simple numbers that would not be recognised on all samples, and with no others, but for 1.

    A factor of 1, which is no constant of the formula any more, is one again, if it is that of a term.
    """
    if finisher.over():
        return one
    many = finite_rows(one.formula.tree, every.sample(POSTPROCESS_RECOGNITION_ROWS, 0))
    x, y, weights = many.x, many.y[:, 0], many.weights
    try:
        tree = simplified(recognise_noisy_constants(_with_factors(one.formula.tree), x, y, weights=weights), x)
        if tree == one.formula.tree or not finisher.constraints.allow(tree):
            return one
        numbers = {1.0, *(abs(one.formula.tree[n][1]) for n in known_constants(one.formula.tree))}
        known = {n for n in known_constants(tree) if any(math.isclose(abs(tree[n][1]), number) for number in numbers)}
        rows, learn = finite_rows(tree, every), finite_rows(tree, finisher.learn)
        before = refit(tree, learn.x, learn.y[:, 0], known, learn.weights)
        tree = refit(tree, rows.x, rows.y[:, 0], known, rows.weights)
        kan = kan_of(tree, one.kan.inputs, one.kan.outputs)
    except (DataError, FormulaError):
        return one
    error, validation = tree_error(tree, every)[0], tree_error(before, finisher.held)[0]
    return replace(one, kan=kan, complexity=complexity(tree), error=error, validation=validation)


def _with_factors(tree: Tree) -> Tree:
    """The tree of a sum with a number in each term that has none, not even in a product, or only the sign of one."""
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
    """The place of the product of these steps, which is added to them."""
    if len(factors) > 1:
        steps.append(("mul", *factors))
        return len(steps) - 1
    return factors[0]


def _fitted(one: ScoredFormula, every: Dataset) -> ScoredFormula:
    tree = one.formula.tree
    if not one.exact:
        rows = finite_rows(tree, every)
        try:
            x, y, weights = rows.x, rows.y[:, 0], rows.weights
            if one.loss == "squared":
                tree = refit(tree, x, y, believable_constants(tree, x, y, weights), weights)
            else:
                pseudo = pseudo_values(tree, x, y, one.loss, weights)
                known = believable_constants(tree, x, pseudo, weights)
                tree = robust_refit(tree, x, y, one.loss, known, weights)
        except (DataError, FormulaError):
            tree = one.formula.tree
    kan = one.kan if tree == one.formula.tree else kan_of(tree, one.kan.inputs, one.kan.outputs)
    return replace(one, kan=kan, error=tree_error(tree, every)[0], data=every)
