"""Laws that linear algebra finds directly, as trees: polynomials, rational functions, sums of known terms."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from kanserve.network.kan import Symbolic
from kanserve.network.powers import power_name
from kanserve.search.fit.by_shape import INVERSES, apply_inverse_link
from kanserve.search.fit.overfit_test import few_values
from kanserve.search.fit.problem import ProblemAttempt, Search, SearchProblem, settles
from kanserve.search.fit.training import FittedNetwork
from kanserve.search.regression import budget
from kanserve.search.regression.least_squares import root_mean_square
from kanserve.search.regression.link_functions import RECIPROCAL, Link, applicable
from kanserve.search.regression.piecewise import piecewise_polynomial
from kanserve.search.regression.scaled_terms import ScaledSum, fit_scaled_sum
from kanserve.search.regression.sparse_polynomial import (
    Polynomial,
    Rational,
    near_polynomial,
    rational_function,
    sparse_polynomial,
)
from kanserve.search.regression.surrogates import answer_units
from kanserve.search.regression.term_sums import Factor, TermSum, term_sums
from kanserve.search.regression.variable_projection import Scaled
from kanserve.search.structure import power_laws
from kanserve.search.structure.power_laws import monomial
from kanserve.search.structure.quadratic_roots import quadratic_root
from kanserve.search.structure.shifted_power import power_of_a_sum
from kanserve.search.trees import compose
from kanserve.search.trees.nodes import Curve, Node, Sum, curves

Array = NDArray[np.float64]

NEAR_DEGREES = (3, 2)  # degree of the polynomials that a function of an inexact part may have, in one input and in more
LINKED_DEGREE = 4  # highest total degree under a function: a high one, of few rows, comes close to any smooth law
LINKED_QUOTIENTS = ("square", "log")  # links under which quotients are tried: of roots and of exponentials
LINKED_QUOTIENT_DEGREES = 4  # largest sum of the degrees of such a quotient
# Highest total degree of the inputs and their logarithms in an exponent, by the number of inputs.
EXPONENT_DEGREES = MappingProxyType({2: 4, 3: 2, 4: 2})
SCALED_DEGREES = (0, 1, 3)  # degrees of the polynomial beside the terms

_OUTER = {"exp(-x)": ("exp", -1.0, 0.0), "log(1+x)": ("log", 1.0, 1.0)}
"""Function, a and b of f(a·u + b)."""


def polynomial(problem: SearchProblem, search: Search) -> FittedNetwork | None:
    """The law as a sparse polynomial, or None."""
    budget.count_fit()
    found = sparse_polynomial(problem.x, problem.y)
    return None if found is None else search.judge(_of_polynomial(found), problem)


def powers_times_exponential(problem: SearchProblem, search: Search) -> FittedNetwork | None:
    """The law as a product of powers and an exponential of a linear form, if it is exact, else None."""
    budget.count_fit()
    found = power_laws.times_exponential(problem.x, problem.y) if "exp" in search.library else None
    if found is None:
        return None
    inputs = range(problem.inputs)
    exponent = compose.linear([i for i in inputs if found.rates[i]], [rate for rate in found.rates if rate])
    exponential = _apply_function(exponent, "exp")
    factors = [exponential] if not any(found.powers) else [compose.monomial(inputs, found.powers), exponential]
    return search.judge(compose.scale(compose.product(factors), found.scale), problem)


def fit_shifted_power(problem: SearchProblem, search: Search) -> FittedNetwork | None:
    """The law as c·(a·x + b)^p + d, if it is exact, else None."""
    budget.count_fit()
    node = _of_shifted_power(problem.x, problem.y)
    return None if node is None else search.judge(node, problem)


def _of_powers(x: Array, y: Array) -> Iterator[Node]:
    """Candidate trees: a power law, and with one input a power of a·x + b."""
    found = monomial(x, y)
    if found is not None:
        yield compose.monomial(range(x.shape[1]), found[1], found[0])
    shifted = _of_shifted_power(x, y) if x.shape[1] == 1 and not few_values(x) else None
    if shifted is not None:
        yield shifted


def _of_shifted_power(x: Array, y: Array) -> Node | None:
    found = power_of_a_sum(x[:, 0], y)
    name = None if found is None else power_name(found.exponent)
    if found is None or name is None:
        return None
    return Sum((Curve(0, Symbolic(name, found.sign, found.shift, found.factor, found.constant)),))


def rational(problem: SearchProblem, search: Search) -> FittedNetwork | None:
    """The law as a quotient of polynomials, or None."""
    budget.count_fit()
    found = rational_function(problem.x, problem.y)
    return None if found is None else search.judge(_of_quotient(found), problem)


def root_of_quadratic(problem: SearchProblem, search: Search) -> FittedNetwork | None:
    """The law as a root of a quadratic equation whose coefficients are low-degree polynomials, or None."""
    budget.count_fit()
    found = quadratic_root(problem.x, problem.y)
    if found is None:
        return None
    under = _of_polynomial(found.discriminant)
    terms: list[Node] = [Sum((Curve(under, Symbolic("sqrt", 1.0, 0.0, found.sign, 0.0), without_constant=True),))]
    if any(found.level.coefficients):
        terms.append(_of_polynomial(found.level))
    node: Node = compose.total(terms)
    if any(map(any, found.divisor.powers)):
        node = compose.product([node, _apply_function(_of_polynomial(found.divisor), "1/x")])
    for i, name in enumerate(found.functions):
        if name != "identity":
            node = compose.substitute(node, i, compose.inner(i, name))
    return search.judge(node, problem) if _allows_terms([node], search) else None


def _of_quotient(found: Rational) -> Node:
    return compose.product([_of_polynomial(found.numerator), _apply_function(_of_polynomial(found.denominator), "1/x")])


def sum_of_terms(problem: SearchProblem, search: Search) -> FittedNetwork | None:
    """The law as a sum of two terms without inner constants and a low-degree polynomial, or None."""
    budget.count_fit()
    for found in term_sums(problem.x, problem.y):
        if not _allows_terms(_terms(found), search):
            continue
        judged = search.judge(compose.total(list(_terms(found))), problem)
        if settles(judged, problem):
            return judged
    return None


def sums_of_scaled_terms() -> dict[str, ProblemAttempt]:
    """Attempts, by name, to fit one or two functions f(a·x + b) and a low-degree polynomial."""
    return {
        f"sum of {count} scaled terms and degree {degree}": partial(_sum_of_scaled_terms, count=count, degree=degree)
        for count, degree in product((1, 2), SCALED_DEGREES)
    }


def _sum_of_scaled_terms(problem: SearchProblem, search: Search, *, count: int, degree: int) -> FittedNetwork | None:
    """The law as a sum of `count` functions f(a·x + b) and a polynomial, if it is exact, else None."""
    found = fit_scaled_sum(problem.x, problem.y, count, degree)
    if found is None or not _allows_terms(terms_to_trees(found), search):
        return None
    judged = search.judge(compose.total(terms_to_trees(found)), problem)
    return _fewer_terms(terms_to_trees(found), judged, problem, search) if judged.error < problem.exact else None


def piecewise(problem: SearchProblem, search: Search) -> FittedNetwork | None:
    """The law of one input as a piecewise polynomial with kinks |x - b| and steps sign(x - b), or None."""
    budget.count_fit()
    if "abs" not in search.library:
        return None
    found = piecewise_polynomial(problem.x[:, 0], problem.y)
    if found is None:
        return None
    terms = [_powers(found.polynomial)]
    for one_break in found.breaks:
        jump = _apply_function(0, one_break.function, b=-one_break.at)
        if len(one_break.factor) == 1:
            terms.append(compose.scale(jump, one_break.factor[0]))
        else:
            terms.append(compose.product([_powers(one_break.factor), jump]))
    return search.judge(compose.total(terms), problem)


def power_of_size(problem: SearchProblem, search: Search) -> FittedNetwork | None:
    """The law of one input as c·|x|^p or c·sign(x)·|x|^p, or None."""
    if "abs" not in search.library:
        return None
    x = problem.x[:, 0]
    if not x.min() < 0 < x.max():
        return None
    found = monomial(np.abs(problem.x), np.abs(problem.y))
    if found is None:
        return None
    scale, (exponent,) = found
    size = _apply_function(0, "abs")
    factors: list[Node] = [*compose.power(size, exponent)]
    signs = (np.sign(problem.y) * np.sign(x))[x != 0]
    odd = bool((signs == signs[0]).all())
    if odd:
        factors.append(_apply_function(0, "sign"))
    if not factors:
        return None
    turned = scale * float(signs[0] if odd else np.sign(problem.y.sum()))
    return search.judge(compose.scale(compose.product(factors), turned), problem)


def inputs_as_exponents(problem: SearchProblem, search: Search) -> FittedNetwork | None:
    """The law as exp(P) or exp(±exp(P)), with a polynomial P of the inputs and their logarithms: x^y, exp(-(t/l)^k)."""
    if not ((problem.x > 0).all() and {"exp", "log"} <= {*search.library}) or (problem.y == 0).any():
        return None
    budget.count_fit()
    columns = np.column_stack([problem.x, np.log(problem.x)])
    first = np.log(np.abs(problem.y))
    sign = float(np.sign(problem.y[0]))
    if (np.sign(problem.y) != sign).any():
        return None
    targets = [(first, False)] + ([(np.log(np.abs(first)), True)] if (first > 0).all() or (first < 0).all() else [])
    for values, twice in targets:
        found = sparse_polynomial(columns, values, EXPONENT_DEGREES[problem.inputs])
        if found is None:
            continue
        node = _exponential(found, float(np.sign(first[0])) if twice else sign)
        if twice:
            node = Sum((Curve(node, Symbolic("exp", 1.0, 0.0, sign, 0.0)),))
        judged = search.judge(node, problem)
        if judged.error < problem.exact:
            return judged
    return None


def _exponential(found: Polynomial, sign: float) -> Node:
    """Build ±exp(P). P is a polynomial whose variables are the inputs, followed by their logarithms. Constant terms
    and terms c·log(x) of P become factors: exp(constant) and x^c."""
    inputs = len(found.powers[0]) // 2
    scale, exponents, rest = sign, [0.0] * inputs, []
    for powers, coefficient in zip(found.powers, found.coefficients, strict=True):
        if not any(powers):
            scale *= float(np.exp(coefficient))
        elif sum(powers) == 1 and any(powers[inputs:]):
            exponents[powers.index(1) - inputs] += coefficient
        else:
            rest.append(_of_logarithms(powers, coefficient))
    factor = compose.monomial(range(inputs), exponents, scale)
    if not rest:
        return factor
    exponential = _apply_function(compose.total(rest), "exp")
    return compose.product([factor, exponential]) if any(exponents) else compose.scale(exponential, scale)


def _of_logarithms(powers: Sequence[int], coefficient: float) -> Node:
    """Build a product of powers of the inputs and then of their logarithms."""
    inputs = len(powers) // 2
    logarithms = [_apply_function(i, "log") for i in range(inputs) for _ in range(powers[inputs + i])]
    rest = compose.monomial(range(inputs), [float(power) for power in powers[:inputs]], coefficient)
    if not logarithms:
        return rest
    if not any(powers[:inputs]):
        return compose.scale(compose.product(logarithms), coefficient)
    return compose.product([rest, *logarithms])


def find_linked(problem: SearchProblem, search: Search) -> FittedNetwork | None:
    """The first exact law that is a function of a closed form, from `functions_of_a_closed_form`, or None."""
    attempts = functions_of_a_closed_form(problem, search).values()
    found = (attempt() for attempt in search.attempts_ahead(list(attempts), problem) if not search.over())
    return next((law for law in found if law is not None), None)


def functions_of_a_closed_form(problem: SearchProblem, search: Search) -> dict[str, ProblemAttempt]:
    """Attempts, one per link and by name, at a law that is a function of a closed form: of a polynomial, a power
    law, a quotient of low-degree polynomials, with one input a sum of terms; also 1/(exp(a·x) - 1), 1/cosh(a·x) and
    similar."""
    links = {link.name: link for link in applicable(problem.y)[1:]}
    if (problem.y != 0).all():  # exact values lose nothing near 0, unlike those with noise
        links["reciprocal"] = RECIPROCAL
    known = {*search.library, *compose.POWERS}
    return {
        f"{name} of the output is a closed form": partial(_try_link, link=link)
        for name, link in links.items()
        if INVERSES[name] in known
    }


def _try_link(problem: SearchProblem, search: Search, *, link: Link) -> FittedNetwork | None:
    budget.count_fit()
    for node in _find_closed_form(problem, search, link):
        judged = search.judge(apply_inverse_link(node, link), problem)
        if judged.error < problem.exact:
            return judged
    return None


def _find_closed_form(problem: SearchProblem, search: Search, link: Link) -> Iterator[Node]:
    values = link.forward(problem.y)
    found = sparse_polynomial(problem.x, values, LINKED_DEGREE)
    if found is not None:
        yield _of_polynomial(found)
        return
    power_law = next(iter(_of_powers(problem.x, values)), None)
    if power_law is not None:
        yield power_law
        return
    if problem.inputs == 1 and not few_values(problem.x):
        sums = [[*_terms(found)] for found in term_sums(problem.x, values, pairs=False)]
        if link is RECIPROCAL:
            scaled = (fit_scaled_sum(problem.x, values, count, 0) for count in (1, 2))
            sums += [terms_to_trees(found) for found in scaled if found is not None]
        for terms in sums:
            if _allows_terms(terms, search):
                yield compose.total(terms)
                return
    if link.name in LINKED_QUOTIENTS:
        quotient = rational_function(problem.x, values, LINKED_QUOTIENT_DEGREES)
        if quotient is not None:
            yield _of_quotient(quotient)


def near_low_polynomial(problem: SearchProblem, search: Search) -> FittedNetwork | None:
    """The law as a function of a low-degree polynomial, or None. The error may be up to `problem.exact`, so that
    imprecise values of a part of a law suffice."""
    known = {*search.library, *compose.POWERS}
    degree = NEAR_DEGREES[min(problem.inputs, 2) - 1]
    for link in applicable(problem.y):
        if link.name in INVERSES and INVERSES[link.name] not in known:
            continue
        budget.count_fit()
        units = answer_units(link, problem.y) * root_mean_square(problem.y) / problem.spread
        found = near_polynomial(problem.x, link.forward(problem.y), units, degree, problem.exact)
        judged = None if found is None else search.judge(apply_inverse_link(_of_polynomial(found), link), problem)
        if settles(judged, problem):
            return judged
    return None


def _fewer_terms(terms: list[Node], judged: FittedNetwork, problem: SearchProblem, search: Search) -> FittedNetwork:
    """Drop the terms that an exact sum does not need."""
    for term in reversed(list(terms)):  # the constant first
        rest = [other for other in terms if other is not term]
        found = search.judge(compose.total(rest), problem)
        if found.error < problem.exact:
            terms, judged = rest, found
    return judged


def _powers(coefficients: Sequence[float]) -> Node:
    """A polynomial in the first input; the coefficients start with the constant."""
    terms = [compose.monomial([0], [float(power)], value) for power, value in enumerate(coefficients) if value]
    return compose.total(terms or [compose.constant(0.0, 0)])


def terms_to_trees(found: ScaledSum) -> list[Node]:
    """The terms of a sum as trees, the constant last."""
    return [
        *(_term_to_tree(coefficient, term) for coefficient, term in found.terms),
        *(compose.monomial([i], [float(power)], coefficient) for coefficient, i, power in found.powers),
        compose.constant(found.constant, 0),
    ]


def _term_to_tree(coefficient: float, term: Scaled) -> Node:
    curve = Curve(term.i, Symbolic(term.function, term.factor, term.shift, coefficient, 0.0))
    if not term.rate:
        return Sum((curve,))
    return compose.product([Sum((replace(curve, without_constant=True),)), _apply_function(term.i, "exp", term.rate)])


def _allows_terms(terms: Iterable[Node], search: Search) -> bool:
    """Whether the library has all functions of the terms; powers are always allowed."""
    named = {curve.symbolic.function for term in terms for curve in curves(term) if curve.symbolic is not None}
    waves = {"sin", "cos"} if "sin" in search.library else set()  # a cosine is a sine of another phase
    return named <= {*search.library, *compose.POWERS, *waves}


def _of_polynomial(found: Polynomial) -> Node:
    inputs = range(len(found.powers[0]))
    return compose.total(
        [
            compose.monomial(inputs, [float(power) for power in powers], coefficient)
            for powers, coefficient in zip(found.powers, found.coefficients, strict=True)
        ]
    )


def _terms(found: TermSum) -> Iterator[Node]:
    for coefficient, term in found.terms:
        factors = [_of_factor(factor) for factor in term.factors]
        yield compose.scale(compose.product(factors), coefficient)
    for coefficient, i, power in found.powers:
        yield compose.monomial([i], [float(power)], coefficient)
    if found.constant:
        yield compose.constant(found.constant, 0)


def _of_factor(factor: Factor) -> Node:
    """Build outer(inner(x_i))."""
    inside: int | Node = factor.i if factor.i < 2 else compose.linear((0, 1), (1.0, -1.0 if factor.i == 2 else 1.0))
    if factor.inner == "x + x^2":
        inside = compose.total([compose.monomial([factor.i], [power]) for power in (1.0, 2.0)])
    elif factor.inner != "x":
        inside = _apply_function(factor.i, factor.inner)
    if factor.outer == "x":
        return inside if not isinstance(inside, int) else _apply_function(inside, "x")
    return _apply_function(inside, *_OUTER.get(factor.outer, (factor.outer,)))


def _apply_function(of: "int | Node", function: str, a: float = 1.0, b: float = 0.0) -> Sum:
    return Sum((Curve(of, Symbolic(function, a, b, 1.0, 0.0), without_constant=True),))
