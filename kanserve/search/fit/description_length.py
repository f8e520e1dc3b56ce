"""The information criterion by which rival laws for noisy samples are compared: fit against length."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from kanserve.data.row_weights import root_mean_square
from kanserve.errors import FormulaError
from kanserve.formula import evaluate_tree
from kanserve.formula.constants.nonlinear_fit import Constants
from kanserve.formula.constants.recognition import find_named_constants, noisy_form
from kanserve.formula.expressions.complexity import complexity
from kanserve.formula.expressions.tree import Tree
from kanserve.formula.from_network.expression_trees import trees
from kanserve.search.fit.problem import Search, SearchProblem
from kanserve.search.fit.training import FittedNetwork
from kanserve.search.regression.rivals import SMALLEST_ERROR

Array = NDArray[np.float64]

BY_SHAPE_COMPLEXITY_PENALTY = 2.0  # penalty for a unit of complexity in the information criterion, in nats


def information_criterion(found: FittedNetwork, x: Array, y: Array, weights: Array | None = None) -> float:
    """The Bayesian information criterion of a simplified law, plus a penalty for its complexity; lower is better.
    Recognised constants do not count as estimates."""
    try:
        tree = _simplest(found, x, y, weights)
    except FormulaError:
        return np.inf
    error = root_mean_square(evaluate_tree(tree, {}, x) - y, weights)
    if not np.isfinite(error):
        return np.inf
    return (
        len(y) * float(np.log(max(error, SMALLEST_ERROR)))
        + 0.5 * float(np.log(len(y))) * _estimates(tree)
        + BY_SHAPE_COMPLEXITY_PENALTY * complexity(tree)
    )


def all_recognised(found: FittedNetwork, x: Array, y: Array, weights: Array | None = None) -> bool:
    """Whether all constants of the simplified law are simple numbers."""
    try:
        return not _estimates(_simplest(found, x, y, weights))
    except FormulaError:
        return False


def _simplest(found: FittedNetwork, x: Array, y: Array, weights: Array | None) -> Tree:
    (tree,) = trees(found.net.kan).trees
    return noisy_form(tree, x, y, weights=weights)


def _estimates(tree: Tree) -> int:
    return len(Constants(tree, find_named_constants(tree)).places)


def most_informative(laws: Sequence[FittedNetwork], problem: SearchProblem, search: Search) -> FittedNetwork | None:
    """The law with the lowest information criterion, or None if there are no laws."""
    steps = [partial(information_criterion, found, problem.x, problem.y, problem.weights) for found in laws]
    criteria = [taken() for taken in search.ahead(steps)]
    return min(zip(criteria, laws, strict=True), key=lambda pair: pair[0], default=(np.inf, None))[1]
