"""Decide which of the formulas that leave only noise describes the samples best for its length, and whether it is far
enough ahead. Formulas are compared by their description length in nats: N·log(error), half of log(N) for each estimated
number, and a price for complexity. The best one is decided if it leads by 5 nats (odds of 150 to 1), also without the
price of complexity."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kanserve.data.row_weights import root_mean_square
from kanserve.errors import DataError, FormulaError
from kanserve.formula import evaluate_tree
from kanserve.formula.constants.nonlinear_fit import Constants, refit
from kanserve.formula.constants.recognition import find_named_constants
from kanserve.formula.expressions.tree import Step, Tree
from kanserve.network.powers import EXPONENTS, exponent_of
from kanserve.search.findings.explained_share import count_held_rows, overall_error
from kanserve.search.findings.results import DECIDED_MARGIN
from kanserve.search.findings.scored_formula import ScoredFormula
from kanserve.search.fit.description_length import BY_SHAPE_COMPLEXITY_PENALTY
from kanserve.search.regression.rivals import SMALLEST_ERROR, ahead_of_approximations

Array = NDArray[np.float64]

# Fitted constants beyond which a formula must be further ahead, and by how much for each: the forms that were not
# compared grow in number with every constant, and come as close to any smooth curve.
FREE_CONSTANTS = 4
CONSTANT_MARGIN = 8.0
# Nats up to which forms are listed as rivals by what the samples alone say: of those that a fit to all samples leaves
# within 5, a fit to four fifths and the errors of the others leave some beyond 5, by up to 3.
LISTED_MARGIN = 8.0
LONGEST_DECIDED = 25.0  # complexity of a formula that can be decided, at most: of longer ones few forms are compared
LONGEST_UNRIVALLED = 18.0  # the same where no other formula leaves only noise: then none as long was compared
# Difference of two formulas up to which they are one, written twice: relative to their spread; or to the noise, if one
# is a case of the other, since fits of one form end a little apart, and a form and the same with one constant more
# differ by a thirtieth of that.
SAME_FUNCTION, SAME_WITHIN = 1e-6, 0.1
# Error, relative to the noise, with which a formula becomes a case of itself when its constants are fitted to that
# case: other forms that are within SAME_WITHIN keep at least a hundredth of it.
SAME_CASE = 1e-3
# Nats by which a formula is behind one that it contains, at least, if the samples do not ask for its constants more: by
# chance a constant gains more in one of 20.
LEAST_DOUBT = 1.0
HOMOGENEOUS = {"log", "abs", "sign"}  # functions that make a factor of their argument one of theirs, or a constant
FAR_BEYOND = 0.5  # share of the inputs' range, around it, in which they are compared too: different forms part there
COMPARED_ROWS = 500  # samples on which they are compared
APPROXIMATED_ROWS = 5000  # samples on which a formula is compared with approximations, at most


@dataclass(frozen=True, eq=False)
class Decision:
    """The formula that describes the samples best, those that do as well, and the lead over the next in nats."""

    best: ScoredFormula
    rivals: tuple[ScoredFormula, ...]
    margin: float
    decided: bool


@dataclass(frozen=True, eq=False)
class _Other:
    """A formula compared with the best one. `gap`: nats behind by description length; `by_samples`: nats behind by the
    samples alone; `more`: how many more numbers it has."""

    found: ScoredFormula
    gap: float
    by_samples: float
    more: int

    @classmethod
    def than(cls, best: ScoredFormula, found: ScoredFormula, gap: float) -> "_Other":
        more = numbers_of_form(found) - numbers_of_form(best)
        return cls(found, gap, evidence(found) - evidence(best), more)

    @property
    def lead(self) -> float:
        """How far the formula is inside the margin within which rivals are listed; a wider margin if it has several
        numbers more, since such forms also fit noise."""
        margin = DECIDED_MARGIN if self.more > 1 else LISTED_MARGIN
        return max(DECIDED_MARGIN - self.gap, margin - self.by_samples)


def decision(found: Sequence[ScoredFormula]) -> Decision | None:
    """Choose among the formulas whose residuals are only noise. None if there is no such formula."""
    lengths = {
        formula: description_length(formula) for formula in found if not formula.refuted and formula.defined == 1
    }
    ordered = sorted(lengths, key=lambda formula: lengths[formula])
    if not ordered or not np.isfinite(lengths[ordered[0]]):
        return None
    best, *rest = ordered
    compared = [
        _Other.than(best, formula, lengths[formula] - lengths[best])
        for formula in rest
        if not same_function(formula, best)
    ]
    others = [other for other in compared if not (other.lead > 0 and _is_idle_extension(other, best))]
    margin = float(min((other.gap for other in others), default=np.inf))
    if _is_decided(best, margin) and not _equalled(others):
        return Decision(best, (), margin, True)
    return Decision(best, _near(others, best), margin, False)


def _near(others: Sequence[_Other], best: ScoredFormula) -> tuple[ScoredFormula, ...]:
    return distinct((other.found for other in others if other.lead > 0), best)


def _equalled(others: Sequence[_Other]) -> bool:
    """Whether some formula with no more numbers than the best fits the samples about as well, so that only its
    description length tells them apart. Formulas with more numbers are skipped: they can imitate any simpler one."""
    return any(other.by_samples < DECIDED_MARGIN for other in others if other.more <= 0)


def _is_idle_extension(other: _Other, best: ScoredFormula) -> bool:
    """Whether a formula is only the best one with extra constants that the samples do not support."""
    if other.by_samples < LEAST_DOUBT or count_estimates(other.found) <= count_estimates(best):
        return False
    x, limit = best.data.sample(COMPARED_ROWS, 0).x, SAME_CASE * overall_error(best)
    return _is_case(best, other.found, x, limit)


def _is_decided(best: ScoredFormula, margin: float) -> bool:
    """Whether the best formula is short enough, and far enough ahead of the next for its number of constants."""
    extra = max(0, count_estimates(best) - FREE_CONSTANTS)
    longest = LONGEST_DECIDED if np.isfinite(margin) else LONGEST_UNRIVALLED
    ahead = margin >= DECIDED_MARGIN + CONSTANT_MARGIN * extra and best.complexity <= longest
    return bool(ahead) and _outdoes_approximations(best)


def _outdoes_approximations(found: ScoredFormula) -> bool:
    """Whether a formula that is not a polynomial beats, by the margin, the polynomials and quotients with as many
    numbers. These approximate any smooth curve, but the search compares few of them."""
    tree = found.formula.tree
    if not any(step[0] == "call" or (step[0] == "pow" and step[2] < 0) for step in tree):
        return True
    rows = found.data.sample(APPROXIMATED_ROWS, 0)
    columns = sorted({int(step[1]) for step in tree if step[0] == "var"})
    y = rows.y[:, 0]
    error = root_mean_square(y - evaluate_tree(tree, {}, rows.x), rows.weights)
    numbers = max(numbers_of_form(found), 1)
    return ahead_of_approximations(rows.x[:, columns], y, numbers, error, rows.weights) >= DECIDED_MARGIN


def description_length(found: ScoredFormula) -> float:
    """The description length of the samples under a formula, in nats; infinite if the formula is not finite on them."""
    rows = len(found.data) + count_held_rows(len(found.data))
    estimated = count_estimates(found)
    error = max(overall_error(found), SMALLEST_ERROR)
    return float(rows * np.log(error) + 0.5 * np.log(rows) * estimated + BY_SHAPE_COMPLEXITY_PENALTY * found.complexity)


def evidence(found: ScoredFormula) -> float:
    """The description length by the samples alone: without the price of complexity, and with every number counted as an
    estimate, recognised or not. A formula should not lose for being long to write, nor win because one of its numbers
    happens to be near a simple one."""
    fitted, held = len(found.data), count_held_rows(len(found.data))
    rows, numbers = fitted + held, numbers_of_form(found)
    squares = fitted * found.error**2 * (1 + 2 * numbers / fitted) + held * found.validation**2
    error = max(float(np.sqrt(squares / rows)), SMALLEST_ERROR)
    return float(rows * np.log(error) + 0.5 * np.log(rows) * numbers)


def numbers_of_form(found: ScoredFormula) -> int:
    """How many numbers a fit of the formula's form estimates: also recognised ones, exponents, and unwritten factors of
    1, since other values were compared too. Powers in polynomials do not count, but 2 in tanh(x^2) and -1 in log(x)/x
    do. Without this, three of the wrong formulas in the pairs benchmark were believed; with it, one."""
    tree = found.formula.tree
    numbers = len(Constants(tree).places)
    terms = tree[-1][1:] if tree[-1][0] == "add" else (len(tree) - 1,)
    numbers += sum(not _has_number(tree, int(term)) for term in terms) + _count_simple_exponents(tree)
    for step in tree:
        name = str(step[1])
        if step[0] == "call" and exponent_of(name) is not None:
            numbers += name not in EXPONENTS
        elif step[0] == "call" and name not in HOMOGENEOUS:
            inside = tree[step[2]]
            parts = inside[1:] if inside[0] == "add" else (step[2],)
            numbers += not any(_has_number(tree, int(n)) for n in parts if tree[int(n)][0] != "const")
    return numbers


def _count_simple_exponents(tree: Tree) -> int:
    """Count the simple exponents of inputs that are not polynomial, or that are inside a function or multiply one."""
    beside: set[int] = set()
    for step in tree:
        if _is_function(step):
            inside = tree[step[2]]
            beside |= {int(n) for n in inside[1:]} if inside[0] == "mul" else {int(step[2])}
        elif step[0] == "mul" and any(_is_function(tree[int(n)]) for n in step[1:]):
            beside |= {int(n) for n in step[1:]}
    return sum(
        exponent != 1 and (n in beside or exponent < 0 or exponent != round(exponent))
        for n, step in enumerate(tree)
        if (exponent := _exponent_of_input(tree, step)) is not None
    )


def _is_function(step: Step) -> bool:
    return bool(step[0] == "call" and step[1] not in HOMOGENEOUS and exponent_of(str(step[1])) is None)


def _exponent_of_input(tree: Tree, step: Step) -> float | None:
    """The exponent if the step is a simple power of an input, else None."""
    if step[0] == "pow" and tree[step[1]][0] == "var":
        return float(step[2])
    return EXPONENTS.get(str(step[1])) if step[0] == "call" and tree[step[2]][0] == "var" else None


def _has_number(tree: Tree, n: int) -> bool:
    """Whether a step is a number, or a product with a numeric factor."""
    factors = [tree[int(operand)] for operand in tree[n][1:]] if tree[n][0] == "mul" else []
    return tree[n][0] == "const" or any(factor[0] == "const" and factor[1] != -1 for factor in factors)


def count_estimates(found: ScoredFormula) -> int:
    """How many numbers of a formula are estimates: neither recognised nor exponents."""
    tree = found.formula.tree
    return len(Constants(tree, find_named_constants(tree)).places)


def same_function(formula: ScoredFormula, other: ScoredFormula) -> bool:
    """Whether two formulas have the same values, also far outside the samples. Allowed differences: rounding; a small
    part of the noise if one formula is a special case of the other; the noise itself if both have the same form."""
    noise = 0.0 if formula.exact or other.exact else min(overall_error(formula), overall_error(other))
    x = formula.data.sample(COMPARED_ROWS, 0).x
    middle = (x.max(axis=0) + x.min(axis=0)) / 2
    around = np.concatenate([x, middle + (1 + FAR_BEYOND) * (x - middle)])
    values, others = (evaluate_tree(found.formula.tree, {}, around) for found in (formula, other))
    finite = np.isfinite(values)
    if (finite != np.isfinite(others)).any():
        return False
    spread = float(np.nanstd(values[: len(x)])) or 1.0
    apart = float(np.abs((values - others)[finite]).max(initial=0.0))
    less, more = sorted((formula, other), key=count_estimates)
    within = 1.0 if count_estimates(less) == count_estimates(more) else SAME_WITHIN
    if apart > within * noise:
        return apart <= SAME_FUNCTION * spread
    return _is_case(less, more, x, SAME_CASE * noise)


def _is_case(less: ScoredFormula, more: ScoredFormula, x: Array, limit: float) -> bool:
    """Whether the second formula, with other constants, equals the first at rows x within `limit`."""
    values = evaluate_tree(less.formula.tree, {}, x)
    try:
        fitted = refit(more.formula.tree, x, values)
    except (DataError, FormulaError):
        return False
    return root_mean_square(evaluate_tree(fitted, {}, x) - values) <= limit


def distinct(found: Iterable[ScoredFormula], beside: ScoredFormula) -> tuple[ScoredFormula, ...]:
    """Drop the formulas that are the same function as `beside` or as an earlier one."""
    kept = [beside]
    for formula in found:
        if not any(same_function(formula, other) for other in kept):
            kept.append(formula)
    return tuple(kept[1:])
