"""The simplest form of a formula on the data where it is used.

    simplified(tree, x)                       # 0.5*exp(log(m) + 2*log(v)) is 0.5*m*v^2 where m, v > 0

The identities of `linear_forms` hold wherever a formula is defined; those here hold only on the rows x: c for sqrt(c^2)
where c > 0, 1 for x/x. Each result is compared with the formula on all rows before it is returned.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kanserve.errors import FormulaError
from kanserve.formula.algebra.extract import Shaper
from kanserve.formula.algebra.identities import apply_identities
from kanserve.formula.algebra.polynomials import ONE, Algebra, Polynomial, sum_of
from kanserve.formula.expressions.complexity import complexity
from kanserve.formula.expressions.linear_forms import Steps, step_of
from kanserve.formula.expressions.tree import Step, Tree, check_tree, evaluate_tree
from kanserve.formula.expressions.tree_to_forms import form_of_tree

Array = NDArray[np.float64]

MOST_ROWS = 128  # on which signs and sizes are evaluated
MOST_STEPS = 300  # a longer tree is only folded
WORTH = 0.5  # complexity that a result may add, so that equal formulas get one form: 1/sqrt(u^3), exp(-1.5*log(u))
DIFFERS = 1e-9  # relative to the root mean square of the values


def simplify_tree(tree: Sequence[Sequence[Any]], x: ArrayLike) -> Tree:
    """The simplest form found with the same values at rows x (N, inputs), for closed forms of up to 300 steps. A longer
    one, or one finite on no row, is only folded; one with a spline is unchanged. The result is at most half an
    operation more complex, and adds no divisor. Raises DataError for rows that do not fit the tree."""
    if any(step[0] == "spline" for step in tree):
        return tuple(tuple(step) for step in tree)
    given = check_tree(tree, {})
    rows = np.asarray(x, dtype=np.float64)
    wanted = evaluate_tree(given, {}, rows)
    finite = rows[np.isfinite(wanted)]
    agreeing = [folded for folded in _fold(given) if _agrees(folded, rows, wanted)]
    most = max(complexity(tree) for tree in (*agreeing, given)) + WORTH
    if len(finite) and len(given) <= MOST_STEPS:
        for shaped in _shape(given, finite[:: -(-len(finite) // MOST_ROWS)]):
            if complexity(shaped) <= most and _agrees(shaped, rows, wanted):
                return shaped
    return min([*agreeing, given], key=complexity)


def _fold(tree: Tree) -> list[Tree]:
    """Apply the identities that hold everywhere; empty if constants become too large."""
    steps = Steps()
    try:
        return [steps.tree(step_of(steps, form_of_tree(steps, tree)))]
    except FormulaError:
        return []


def _shape(tree: Tree, rows: Array) -> list[Tree]:
    """Simplify the tree on these rows; empty if that takes too long, or a constant is not finite and real."""
    algebra = Algebra(rows)
    try:
        return [Shaper(algebra).tree(_polynomial(algebra, tree))]
    except (FormulaError, ArithmeticError):
        return []


def _polynomial(algebra: Algebra, tree: Tree) -> Polynomial:
    values: list[Polynomial] = []
    for step in tree:
        # Trimmed at once: inside a bracket or a function, rounding residue would look like a term.
        values.append(algebra.trim(_combine(algebra, step, values)))
        algebra.note_divisors(values[-1])
    return values[-1]


def _combine(algebra: Algebra, step: Step, values: list[Polynomial]) -> Polynomial:
    match step:
        case ("const", value):
            return {ONE: value} if value else {}
        case ("var", column):
            return algebra.variable(column)
        case ("add", *arguments):
            return sum_of(values[operand] for operand in arguments)
        case ("mul", *arguments):
            result: Polynomial = {ONE: 1.0}
            for factor in arguments:
                result = algebra.multiply(result, values[factor])
            return result
        case ("pow", base, exponent):
            return algebra.power(values[base], float(exponent))
        case (_, name, argument):
            return apply_identities(algebra, name, values[argument])
    raise AssertionError(step)


def _agrees(tree: Tree, rows: Array, wanted: Array) -> bool:
    """Whether the tree has the values `wanted` on all rows where these are finite."""
    got = evaluate_tree(tree, {}, rows)
    finite = np.isfinite(wanted)
    if not finite.any():
        return True
    size = float(np.sqrt(np.mean(wanted[finite] ** 2)))
    return bool((np.abs(got - wanted)[finite] <= DIFFERS * np.maximum(np.abs(wanted[finite]), size)).all())
