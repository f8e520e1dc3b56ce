"""Postprocess the hits of a search: simplify, recognise constants, compute the errors on held-out rows."""

import math
import time
from collections.abc import Callable, Collection

import numpy as np
from numpy.typing import NDArray

from kanserve.data.dataset import Dataset
from kanserve.data.row_weights import deviation, join_weights, root_mean_square, weight_rows
from kanserve.errors import DataError, FormulaError
from kanserve.formula import evaluate_tree
from kanserve.formula.algebra.saturation import without_saturation
from kanserve.formula.algebra.simplify import simplify_tree
from kanserve.formula.constants.nonlinear_fit import Constants, refit
from kanserve.formula.constants.recognition import (
    exact_form,
    find_named_constants,
    noisy_form,
    recognise_constants,
    recognise_noisy_constants,
)
from kanserve.formula.constants.robust_fit import FitLoss, noise_of, pseudo_values, robust_refit
from kanserve.formula.expressions.complexity import complexity
from kanserve.formula.expressions.tree import Tree, references
from kanserve.formula.from_network.expression_trees import trees
from kanserve.formula.to_network.from_formula import kan_of
from kanserve.network.kan import Variable
from kanserve.search.findings.constraints import Constraints
from kanserve.search.findings.scored_formula import ScoredFormula
from kanserve.search.findings.units import Units
from kanserve.search.fit.overfit_test import memorises
from kanserve.search.fit.problem import TRAINING_EXACT_ERROR
from kanserve.search.fit.residual_test import refutes
from kanserve.search.trees.nodes import Node
from kanserve.search.trees.to_network import network

Array = NDArray[np.float64]

Recognise = Callable[..., Tree]

# Share of finite rows above which the others are left out: rounding alone may leave a function's domain.
FINITE_SHARE = 0.98
POSTPROCESS_RECOGNITION_ROWS = 20_000  # rows, at most, on which constants are compared with simple numbers
ROUNDING = 4e-15  # rounding error, relative to the largest output, of an exact formula whose outputs vary little
# Fewest rows per constant: with fewer, a formula may pass through all rows by chance, and is dropped.
ROWS_PER_CONSTANT = 2
UNDETERMINED = 1e-9  # singular values of the derivatives by the constants, relative to the largest, that are rounding
STEP_ERROR = 1.01  # error of a step, relative to that of the steep curve that it replaces, at most
# Of a sum that the samples refute; a longer one, such as a cubic polynomial, is listed as it was fitted.
MOST_SIMPLIFIED_TERMS = 6
LISTING_SECONDS = 0.5  # seconds beyond the limit of time in which simple formulas are still listed, as they were fitted


class Finisher:
    """Turns trees into scored formulas. Constants are recognised on the rows `few` of `learn`, errors computed on
    `held`; `deadline` is a value of `time.perf_counter`."""

    def __init__(
        self,
        learn: Dataset,
        held: Dataset,
        few: Dataset,
        units: Units | None,
        deadline: float,
        constraints: Constraints | None = None,
    ) -> None:
        self.learn, self.held, self.few, self.deadline = learn, held, few, deadline
        self.constraints = constraints or Constraints()
        low = np.minimum(learn.x.min(axis=0), held.x.min(axis=0))
        high = np.maximum(learn.x.max(axis=0), held.x.max(axis=0))
        of_inputs = [""] * len(low) if units is None else units.inputs
        self.inputs = [
            Variable(name, unit, float(a), float(b))
            for name, unit, a, b in zip(learn.inputs, of_inputs, low, high, strict=True)
        ]
        self.output = Variable(learn.outputs[0], "" if units is None else units.output)

    def over(self) -> bool:
        return time.perf_counter() > self.deadline

    def listing_over(self) -> bool:
        """Whether there is no time even to list a formula without simplifying it."""
        return time.perf_counter() > self.deadline + LISTING_SECONDS

    def finish(self, node: Node, *, law: bool = False) -> ScoredFormula | None:
        """Simplify the tree and recognise its constants; unchanged if no time is left. On exact data recognised numbers
        must agree to seven digits, on noisy data within the error. A refuted formula keeps its fitted constants, unless
        it is the `law` that ended the search. None if it overflows, is finite on no row, or has too many constants."""
        try:
            (tree,) = trees(network(node, len(self.inputs)).kan).trees
        except FormulaError:
            return None
        return self.finish_tree(tree, law=law)

    def finish_tree(self, tree: Tree, *, law: bool = False) -> ScoredFormula | None:
        """Simplify and score a tree. Returns None if the result is not finite or not allowed."""
        try:
            settled = tree if self.over() else self._with_steps(self._settle(self._with_steps(tree), law))
            found = self._score(settled)
            if found is None or not self.constraints.any or self.constraints.allow(found.formula.tree):
                return found
            found = self._score(tree)  # the simplest form may have functions that the form found has not
            return found if found is not None and self.constraints.allow(found.formula.tree) else None
        except FormulaError:
            return None

    def fit_tree(self, tree: Tree) -> ScoredFormula | None:
        """Fit the constants of the tree to all rows, but not its structure. None if not usable (see `finish`)."""
        try:
            found = self._score(tree if self.few is self.learn else self._refit_on_all(tree))
            return found if found is not None and self.constraints.allow(found.formula.tree) else None
        except FormulaError:
            return None

    def _with_steps(self, tree: Tree) -> Tree:
        """Replace each tanh that is as steep as a step by a sign, if that fits as well."""
        few = self.few
        stepped = without_saturation(tree, few.x)
        if stepped == tree:
            return tree
        before, after = tree_error(tree, few)[0], tree_error(stepped, few)[0]
        limit = max(STEP_ERROR * before, _exact(few.y[:, 0], few.weights))
        return stepped if after <= limit else tree

    def _settle(self, tree: Tree, law: bool) -> Tree:
        few, share = self.few, FINITE_SHARE
        limit = _exact(few.y[:, 0], few.weights)
        exact = tree_error(tree, few)[0] < limit
        few = finite_rows(tree, few, share)  # rounding alone takes arcsin(1 + 1e-16) out of range
        x, y, weights = few.x, few.y[:, 0], few.weights
        if not (exact or law):
            tree = refit(tree, x, y, weights=weights)
            exact = tree_error(tree, few)[0] < limit
            if not exact and self._is_refuted(tree):
                return self._without_names(tree, few)
        form, recognise = (exact_form, recognise_constants) if exact else (noisy_form, recognise_noisy_constants)
        found = form(tree, x, y, self.over, weights)
        if not self.over():
            # In the printed form, c*sqrt(u) and not sqrt(c^2*u), other constants may be recognised.
            (printed,) = trees(kan_of(found, self.inputs)).trees
            if printed != found:
                other = simplify_tree(recognise(printed, x, y, weights=weights), x)
                found = min(found, other, key=_count_estimates)
        return found if self.few is self.learn else self._on_all(found, recognise)

    def _on_all(self, tree: Tree, recognise: Recognise) -> Tree:
        """Refit the constants on all rows; numbers recognised on few rows may no longer be supported there."""
        if self.over():
            return tree
        many = self.learn.sample(POSTPROCESS_RECOGNITION_ROWS, 0)
        found = recognise(tree, many.x, many.y[:, 0], weights=many.weights)
        return found if many is self.learn else self._refit_on_all(found, find_named_constants(found))

    def _refit_on_all(self, tree: Tree, known: Collection[int] = ()) -> Tree:
        learn = self.learn
        return tree if self.over() else refit(tree, learn.x, learn.y[:, 0], known, learn.weights)

    def _without_names(self, tree: Tree, rows: Dataset) -> Tree:
        """Simplify a formula that was refuted: drop the terms that the data do not need, without turning constants
        into named ones such as pi. Long sums are skipped to save time."""
        if len(references(tree[-1])) <= MOST_SIMPLIFIED_TERMS:
            y, weights = rows.y[:, 0], rows.weights
            tree = simplify_tree(recognise_noisy_constants(tree, rows.x, y, names=False, weights=weights), rows.x)
        return tree if self.few is self.learn else self._refit_on_all(tree)

    def by_loss(self, found: ScoredFormula, loss: FitLoss) -> ScoredFormula:
        """Refit the constants to all rows with another loss, and recognise them again."""
        try:
            made = None if found.exact else self._by_loss(found.formula.tree, loss)
        except (DataError, FormulaError):
            made = None
        return found if made is None else made

    def _by_loss(self, tree: Tree, loss: FitLoss) -> ScoredFormula | None:
        many = finite_rows(tree, self.learn.sample(POSTPROCESS_RECOGNITION_ROWS, 0))
        x, y, weights = many.x, many.y[:, 0], many.weights
        tree = robust_refit(tree, x, y, loss, weights=weights)
        made = self._score(tree, loss)
        if not (made is None or made.refuted or self.over()):
            pseudo = pseudo_values(tree, x, y, loss, weights)
            tree = simplify_tree(recognise_noisy_constants(tree, x, pseudo, weights=weights), x)
            rows = finite_rows(tree, self.learn)
            known = find_named_constants(tree)
            simpler = self._score(robust_refit(tree, rows.x, rows.y[:, 0], loss, known, rows.weights), loss)
            allowed = simpler is not None and self.constraints.allow(simpler.formula.tree)
            made = simpler if allowed else made
        return made

    def _score(self, tree: Tree, loss: FitLoss = "squared") -> ScoredFormula | None:
        learn, held = self.learn, self.held
        error, fitted = tree_error(tree, learn)
        validation, judged = tree_error(tree, held)
        if held is learn:
            validation = leave_one_out_error(tree, learn)
        enough = ROWS_PER_CONSTANT * len(Constants(tree).places) <= len(learn)
        if not (enough and math.isfinite(error) and math.isfinite(validation)):
            return None
        defined = (fitted * len(learn) + judged * len(held)) / (len(learn) + len(held))
        limit = _exact(np.concatenate([learn.y[:, 0], held.y[:, 0]]), join_weights(learn.weights, held.weights))
        exact = max(error, validation) <= limit and defined == 1 and not memorises(tree, learn.x)
        kan = kan_of(tree, self.inputs, [self.output])
        refuted = not exact and self._is_refuted(tree, loss)
        return ScoredFormula(kan, complexity(tree), error, validation, exact, learn, defined, refuted, loss=loss)

    def _is_refuted(self, tree: Tree, loss: FitLoss = "squared") -> bool:
        """Whether the residuals on all rows, including the held-out ones, depend on the inputs."""
        x = np.concatenate([self.learn.x, self.held.x])
        y = np.concatenate([self.learn.y[:, 0], self.held.y[:, 0]])
        with np.errstate(all="ignore"):
            residuals = y - evaluate_tree(tree, {}, x)
        residuals = weight_rows(residuals, join_weights(self.learn.weights, self.held.weights))
        finite = np.isfinite(residuals)
        if not finite.any():
            return False
        residuals = noise_of(residuals[finite], loss).influence(residuals[finite])
        return refutes(residuals, x[finite])


def leave_one_out_error(tree: Tree, rows: Dataset) -> float:
    """The root mean square of the leave-one-out residuals r / (1 - h), where the unnamed constants count as fitted."""
    constants = Constants(tree, find_named_constants(tree))
    y = rows.y[:, 0]
    got, jacobian = constants.derivatives(constants.values, rows.x)
    if not np.isfinite(jacobian).all():
        return math.inf
    u, sizes, _ = np.linalg.svd(weight_rows(jacobian, rows.weights), full_matrices=False)
    u = u[:, sizes > UNDETERMINED * sizes.max(initial=0.0)]
    rest = 1 - np.sum(u**2, axis=1)
    with np.errstate(all="ignore"):
        residuals = np.where(y == got, 0.0, (y - got) / np.maximum(rest, 0.0))
    return root_mean_square(residuals, rows.weights)


def finite_rows(tree: Tree, rows: Dataset, share: float = 0.0) -> Dataset:
    """The rows where a formula is finite, if they are more than `share` of all; otherwise all rows."""
    finite = np.isfinite(evaluate_tree(tree, {}, rows.x))
    return rows.take(np.flatnonzero(finite)) if share < finite.mean() < 1 else rows


def _count_estimates(tree: Tree) -> int:
    """How many constants are neither named nor round to six digits."""
    constants = Constants(tree)
    unnamed = set(constants.places) - find_named_constants(constants.tree)
    return sum(float(f"{constants.tree[place][1]:.6g}") != constants.tree[place][1] for place in unnamed)


def _exact(y: Array, weights: Array | None) -> float:
    """The error below which a formula counts as exact for these outputs."""
    return max(TRAINING_EXACT_ERROR * deviation(y, weights), ROUNDING * float(np.abs(y).max()))


def tree_error(tree: Tree, rows: Dataset) -> tuple[float, float]:
    """The root mean square error on the rows where the tree is finite (infinite if there are none), and their share."""
    with np.errstate(all="ignore"):
        got = evaluate_tree(tree, {}, rows.x)
        finite = np.isfinite(got)
        if not finite.any():
            return math.inf, 0.0
        misses = np.abs(got[finite] - rows.y[finite, 0])
        weights = None if rows.weights is None else rows.weights[finite]
        largest = float(misses.max()) or 1.0  # the square of 1e-200 underflows
        return largest * root_mean_square(misses / largest, weights), float(finite.mean())
