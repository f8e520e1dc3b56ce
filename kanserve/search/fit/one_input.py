"""Laws of one input with noise: fit every form that people fit to curves, and compare them by description length.

The first form that leaves only noise need not be the law, since longer ones do so too. So all forms that the library of
functions allows are fitted (`regression.form_fits`), and of those that leave only noise the one with the least
description length is taken.

The search had the right form of 13 of 20 curves that users fit (300 rows, 1% or 5% of noise) and of 14 of 25 others
(1000 rows, 1%); with this stage and the choice among its forms by description length it has 20, 19 and 23. Left out
alone, of 14 laws of one input with 1% (`benchmarks/noisy_formulas.py --every 3`) 5 are right instead of 12, and 3 wrong
ones are believed instead of none. Of six curves with a kink, such as x*|x|, exp(-|x|) and sin(|x|) with 1%, the forms
of |x| find six instead of two, and the sum of x*exp(-|x|) and functions of two other inputs.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from kanserve.data.row_weights import deviation, root_mean_square
from kanserve.errors import FormulaError
from kanserve.formula.expressions.complexity import complexity
from kanserve.formula.from_network.expression_trees import trees
from kanserve.network.powers import exponent_of
from kanserve.search.fit.description_length import BY_SHAPE_COMPLEXITY_PENALTY, information_criterion
from kanserve.search.fit.noisy_forms import polynomial_or_quotient
from kanserve.search.fit.overfit_test import few_values
from kanserve.search.fit.problem import Search, SearchProblem, settles
from kanserve.search.fit.training import Array, FittedNetwork
from kanserve.search.regression.form_fits import Curve as FormRows
from kanserve.search.regression.form_fits import FittedForm, fit_exactly, fit_forms
from kanserve.search.regression.noisy_polynomial import noisy_polynomial
from kanserve.search.regression.one_input_forms import NESTED, Form, one_input_forms
from kanserve.search.regression.rivals import SMALLEST_ERROR, outdoes_polynomials
from kanserve.search.trees import compose
from kanserve.search.trees.nodes import Curve, Node, curves, map_curves, rename_inputs
from kanserve.search.trees.to_network import network
from kanserve.search.trees.written import Written
from kanserve.simplification.edge_candidates import LIBRARY

FORMS_JUDGED = 12  # forms that are judged as laws, the best first: rivals that are further behind do not decide
RIVAL_MARGIN = 8.0  # nats within which other curves are compared again on all samples
MOST_RIVALS = 50  # such curves, at most: where noise is large, most smooth forms are near
SURE_MARGIN = 5.0  # nats, odds of 150 to 1, by which a form must be ahead of all other curves to be sure
SAME_CURVE = 0.03  # difference of two curves, relative to the error of the outputs, up to which they are the same
# Error, relative to the spread, from which the network is not fitted again: that gives each curve a shift, of noise.
NOISE = 1e-5
FEWEST_ROWS = 30  # rows without which forms with several constants cannot be compared
RARE = {"erf", "j0"}  # functions that only these forms try if the user chose none
SAMPLE_CONSTANTS = {
    **{"r": -0.7, "f": 2.3, "m": 1.2, "w": 0.8, "s": 0.4, "l": 1.7, "p": 1.3},
    **{"c": 0.6, "e": 4.0, "a": 0.3, "q": 0.9},
}
"""Of each role, to write a form whose functions and complexity are looked at."""
SAMPLE_FACTOR = 0.57  # of its columns


@dataclass(frozen=True, eq=False)
class Described:
    """A fitted form: its tree, its values (N,) at the rows, and its description length in nats (lower is better)."""

    fit: FittedForm
    node: Node
    values: Array
    criterion: float


def one_input_law(problem: SearchProblem, search: Search) -> FittedNetwork | None:
    """The form of one input that describes noisy samples best, including polynomials and quotients of low degree. It is
    sure if it leaves only noise and no other curve is within SURE_MARGIN."""
    if len(problem.x) < FEWEST_ROWS or few_values(problem.x):
        return polynomial_or_quotient(problem, search)
    form, margin = _best_form(problem, search)
    if form is not None and form.error < problem.exact:
        return form
    other = polynomial_or_quotient(problem, search)
    found = [law for law in (form, other) if law is not None and settles(law, problem)]
    if len(found) < 2:
        best = found[0] if found else min(filter(None, (form, other)), key=lambda law: law.held, default=None)
        return best if best is None or best is other else replace(best, sure=margin > SURE_MARGIN)
    criteria = [information_criterion(law, problem.x, problem.y, problem.weights) for law in found]
    if criteria[1] < criteria[0]:
        return found[1]
    return replace(found[0], sure=min(margin, criteria[1] - criteria[0]) > SURE_MARGIN)


def function_times_line(problem: SearchProblem, search: Search) -> FittedNetwork | None:
    """The law as a parabola plus a function times a line, such as x*exp(-x/3) + x**2, if it is exact. Without it, one
    of twenty synthetic laws is lost."""
    x, spread = problem.x[:, 0], problem.spread
    if len(x) < FEWEST_ROWS or few_values(problem.x):
        return None
    for fit in fit_exactly(nested_forms(tuple(search.library)), x, problem.y / spread, problem.exact):
        node = _node(fit, spread)
        if node is None or not outdoes_polynomials(problem.x, problem.y, fit.numbers, fit.error * spread):
            continue
        judged = search.judge(node, problem)
        if settles(judged, problem):
            return judged
    return None


def _best_form(problem: SearchProblem, search: Search) -> tuple[FittedNetwork | None, float]:
    """The form of least description length that leaves only noise, and its margin to the next; or the closest."""
    x = problem.x[:, 0]
    rows = FormRows(x, problem.y, np.ones(len(x)))
    forms = [form for form in library_forms(tuple(search.library)) if rows.can_be(form)]
    described = forms_of(x, problem.y, problem.weights, forms)
    if problem.depth and (x.min() > 0 or x.max() < 0):  # of a combination of inputs, which may be upside down
        described += map(_of_reciprocal, forms_of(1 / x, problem.y, problem.weights, forms))
        described.sort(key=lambda form: form.criterion)
    search.compared += 2 * len(forms)  # with and without a constant beside
    best: FittedNetwork | None = None
    for place, form in enumerate(described[:FORMS_JUDGED]):
        judged = search.judge(form.node, problem, steps=0 if form.fit.error > NOISE else None)
        if settles(judged, problem):
            others = [other for other in described[place + 1 :] if _differ(form, other)]
            margin = min((other.criterion - form.criterion for other in others), default=np.inf)
            return replace(judged, rivals=_rivals(form, described[place + 1 :], problem, search)), margin
        best = judged if best is None or judged.held < best.held else best
    return best, 0.0


def _rivals(form: Described, others: Sequence[Described], problem: SearchProblem, search: Search) -> tuple[Node, ...]:
    """The forms with nearly the same description length, judged too, for comparison on all samples."""
    limits = form.criterion + RIVAL_MARGIN, form.fit.criterion + RIVAL_MARGIN
    near = [other for other in others if other.criterion < limits[0] or other.fit.criterion < limits[1]]
    near = near[:MOST_RIVALS]
    for other in near:
        search.judge(other.node, problem, steps=0)
    return tuple(other.node for other in near)


@dataclass(frozen=True, eq=False)
class Part:
    """A term of a sum: its tree without a constant, its values (N,) at the rows, its criterion, and similar forms."""

    node: Node
    values: Array
    criterion: float
    forms: tuple[Form, ...]


def part_of(x: Array, y: Array, weights: Array | None, forms: Sequence[Form]) -> Part | None:
    """The form or polynomial that, plus a constant, best describes y (N,) at x (N,); None if that is a constant."""
    spread = deviation(y, weights) or 1.0
    found: list[Part] = []
    described = [form for form in forms_of(x, y, weights, forms) if form.fit.constant is not None]
    near = tuple(form.fit.form for form in described[:FORMS_JUDGED])
    for form in described[:1]:
        node = _node(replace(form.fit, constant=None), spread)
        if node is not None:
            values = form.values - spread * (form.fit.constant or 0.0)
            found.append(Part(node, values, form.criterion, near))
    found += _polynomial_part(x, y, weights, near)
    best = min(found, key=lambda part: part.criterion, default=None)
    nothing = 0.5 * float(np.log(len(y))) + BY_SHAPE_COMPLEXITY_PENALTY  # a constant: its error is the spread
    return best if best is not None and best.criterion < nothing else None


def _polynomial_part(x: Array, y: Array, weights: Array | None, near: tuple[Form, ...]) -> list[Part]:
    """The polynomial that, plus a constant, best describes y (N,) at x (N,), in a list; empty if it is constant."""
    polynomial = noisy_polynomial(x[:, None], y, weights)
    terms = [] if polynomial is None else list(zip(polynomial.powers, polynomial.coefficients, strict=True))
    sloped = [(power, coefficient) for (power,), coefficient in terms if power]
    if not sloped:
        return []
    node = compose.total([compose.monomial([0], [float(power)], coefficient) for power, coefficient in sloped])
    size = _complexity(node)
    if size is None:
        return []
    values = np.asarray(sum(coefficient * x**power for power, coefficient in sloped))
    left = y - values
    error = root_mean_square(left - np.average(left, weights=weights), weights) / (deviation(y, weights) or 1.0)
    price = 0.5 * np.log(len(y)) * (len(sloped) + 1) + BY_SHAPE_COMPLEXITY_PENALTY * (size + 2)
    return [Part(node, values, len(y) * float(np.log(max(error, SMALLEST_ERROR))) + price, near)]


def forms_of(x: Array, y: Array, weights: Array | None, forms: Sequence[Form]) -> list[Described]:
    """The forms that fit y (N,) at x (N,) best, as trees, best first."""
    spread = deviation(y, weights) or 1.0
    found = []
    for fit in fit_forms(forms, x, y / spread, weights, price_of):
        node = _node(fit, spread)
        size = None if node is None else _complexity(node)
        if node is not None and size is not None:
            found.append(
                Described(fit, node, spread * fit.values(x), fit.criterion + BY_SHAPE_COMPLEXITY_PENALTY * size)
            )
    return sorted(found, key=lambda described: described.criterion)


@cache
def price_of(form: Form, constant: bool) -> float:
    """The price in nats for the complexity of a form, assuming that none of its numbers is simple."""
    constants = tuple(SAMPLE_CONSTANTS[role] for role in form.roles)
    factors = (SAMPLE_FACTOR,) * len(form(np.array([1.0]), constants))
    node = _node(FittedForm(form, constants, factors, SAMPLE_FACTOR if constant else None, 1.0, 0.0), 1.0)
    size = None if node is None else _complexity(node)
    return np.inf if size is None else BY_SHAPE_COMPLEXITY_PENALTY * size


@cache
def library_forms(library: tuple[str, ...]) -> tuple[Form, ...]:
    """The forms made of functions in the library. Powers are in every library, RARE forms only in the default one."""
    return _of_library(one_input_forms(), library)


@cache
def nested_forms(library: tuple[str, ...]) -> tuple[Form, ...]:
    """The nested functions of the library that exact values are compared with."""
    return _of_library(NESTED.values(), library)


def _of_library(forms: Iterable[Form], library: tuple[str, ...]) -> tuple[Form, ...]:
    known = {*library, *compose.POWERS, *({"sin", "cos"} if "sin" in library else ())}
    known |= RARE if known >= set(LIBRARY) else set()
    return tuple(form for form in forms if functions_of(form) <= known)


@cache
def functions_of(form: Form) -> frozenset[str]:
    """The functions that a form uses, without powers."""
    constants = [SAMPLE_CONSTANTS[role] for role in form.roles]
    names = {
        curve.symbolic.function
        for column in form(Written(0), constants)
        for curve in curves(column.node)
        if curve.symbolic is not None
    }
    return frozenset(name for name in names if exponent_of(name) is None)


def _node(fit: FittedForm, scale: float) -> Node | None:
    """The tree of a fitted form, or None if it overflows. A sine and a cosine of one frequency become one wave."""
    try:
        columns = [column.node for column in fit.form(Written(0), fit.constants)]
    except OverflowError:  # a power of a scale that a double cannot hold
        return None
    terms: list[Node] = []
    factors = [scale * factor for factor in fit.factors]
    n = 0
    while n < len(columns):
        if n + 1 < len(columns) and _has(columns[n], "sin") and _has(columns[n + 1], "cos"):
            phase = float(np.arctan2(factors[n + 1], factors[n]))
            terms.append(compose.scale(_move_phase(columns[n], phase), float(np.hypot(factors[n], factors[n + 1]))))
            n += 2
        else:
            terms.append(compose.scale(columns[n], factors[n]))
            n += 1
    total = compose.total(terms) if len(terms) > 1 else terms[0]
    values = [value for curve in curves(total) if curve.symbolic for value in _numbers(curve)]
    if not np.isfinite(values).all():
        return None
    return Written(total).shift(scale * (fit.constant or 0.0)).node


def _numbers(curve: Curve) -> tuple[float, ...]:
    assert curve.symbolic is not None
    return curve.symbolic.a, curve.symbolic.b, curve.symbolic.c, curve.symbolic.d


def _has(node: Node, function: str) -> bool:
    return any(curve.symbolic is not None and curve.symbolic.function == function for curve in curves(node))


def _move_phase(node: Node, phase: float) -> Node:
    def change(curve: Curve) -> Curve:
        if curve.symbolic is None or curve.symbolic.function != "sin":
            return curve
        return replace(curve, symbolic=replace(curve.symbolic, b=curve.symbolic.b + phase))

    return map_curves(node, change)


def _complexity(node: Node) -> float | None:
    try:
        return complexity(trees(network(node, 1).kan).trees[0])
    except FormulaError:
        return None


def _differ(described: Described, other: Described) -> bool:
    """Whether two fitted forms are visibly different curves, so that the samples have to decide between them."""
    apart = described.values - other.values
    return bool(np.sqrt(np.mean(apart**2)) > SAME_CURVE * described.fit.error * (float(described.values.std()) or 1.0))


def _of_reciprocal(form: Described) -> Described:
    """Rewrite a form of 1/x as one of x, which makes its text longer."""
    node = compose.substitute(rename_inputs(form.node, (1,)), 1, compose.monomial([0], [-1.0]))
    return replace(form, node=node, criterion=form.criterion + BY_SHAPE_COMPLEXITY_PENALTY)
