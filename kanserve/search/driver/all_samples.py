"""The last fit of the constants: to all samples, those held out too, once the formulas are judged by these."""

from dataclasses import replace

import numpy as np

from kanserve.data.dataset import Dataset
from kanserve.data.row_weights import joined
from kanserve.errors import DataError, FormulaError
from kanserve.formula.constants.nonlinear_fit import refit
from kanserve.formula.constants.recognised_numbers import believable_constants
from kanserve.formula.constants.robust_fit import pseudo_values, robust_refit
from kanserve.formula.to_network.from_formula import kan_of
from kanserve.search.driver.postprocess import finite_rows, tree_error
from kanserve.search.driver.results import Findings
from kanserve.search.driver.scored_formula import ScoredFormula


def fitted_to_all(found: Findings, learn: Dataset, held: Dataset) -> Findings:
    """The findings with their constants fitted to both parts of the samples, but for recognised ones, if both parts
    still agree with these. `validation` stays that of the fit to the first part, which had not seen the others.
    """
    if held is learn:
        return found
    weights = joined(learn.weights, held.weights)
    every = replace(learn, x=np.concatenate([learn.x, held.x]), y=np.concatenate([learn.y, held.y]), weights=weights)
    made = {candidate: _fitted(candidate, every) for candidate in found}
    return replace(found, candidates=tuple(made.values()), best=made[found.best])


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
