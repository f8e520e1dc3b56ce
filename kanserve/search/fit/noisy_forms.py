"""Closed forms for noisy outputs: polynomials, and quotients of low-degree ones under a link function."""

from dataclasses import replace
from functools import partial

from kanserve.network.kan import Symbolic
from kanserve.search.fit.by_shape import INVERSES, apply_inverse_link
from kanserve.search.fit.description_length import all_recognised, most_informative
from kanserve.search.fit.problem import Search, SearchProblem, settles
from kanserve.search.fit.training import FittedNetwork
from kanserve.search.regression import budget
from kanserve.search.regression.link_functions import IDENTITY
from kanserve.search.regression.noisy_polynomial import noisy_polynomial
from kanserve.search.regression.noisy_quotients import LinkedQuotient, best_first, noisy_quotient, possible_links
from kanserve.search.regression.sparse_polynomial import Polynomial
from kanserve.search.trees import compose
from kanserve.search.trees.nodes import Curve, Node, Sum

NOISY_JUDGED = 3  # links whose quotients are fitted as networks, at most
NOISY_MARGIN = 12.0  # quotients whose information criterion is higher than the best by more are not
# Largest relative standard error of the numbers of a quotient, relative to the error of the outputs, up to which it
# is sure if they are also simple: of 1000 samples, laws have up to 0.25, approximations mostly 1 and more.
NOISY_SURE = 0.3
# Error of the outputs, relative to their spread, up to which this holds; with more, the numbers must be as exact as
# with this.
NOISY_SURE_ERROR = 0.1


def polynomial_or_quotient(problem: SearchProblem, search: Search) -> FittedNetwork | None:
    """A sparse polynomial or a quotient of low-degree ones that leaves only noise, whichever is more informative."""
    found = [
        law for law in (sparse_polynomial_law(problem, search), fit_linked_quotient(problem, search)) if law is not None
    ]
    settled = [law for law in found if settles(law, problem)]
    return most_informative(settled, problem, search) or min(found, key=lambda law: law.held, default=None)


def sparse_polynomial_law(problem: SearchProblem, search: Search) -> FittedNetwork | None:
    """The sparse polynomial that describes noisy samples best. It is `sure` if its coefficients are simple numbers."""
    if not problem.noisy:
        return None
    budget.count_fit()
    found = noisy_polynomial(problem.x, problem.y, problem.weights)
    tree = None if found is None else _of_polynomial(found)
    if tree is None:
        return None
    judged = search.judge(tree, problem, steps=0)
    return replace(judged, sure=all_recognised(judged, problem.x, problem.y, problem.weights))


def fit_linked_quotient(problem: SearchProblem, search: Search) -> FittedNetwork | None:
    """A quotient of low-degree polynomials under a link function that leaves only noise, else the best of these.
    Nothing is tried if a polynomial shows that the outputs have no noise."""
    if not problem.noisy:
        return None
    (smooth,) = (known.value(problem.x) for known in problem.surrogates if known.link.name == IDENTITY.name)
    best: FittedNetwork | None = None
    settled: FittedNetwork | None = None
    allowed = {*search.library, *compose.POWERS}
    steps = [
        partial(noisy_quotient, problem.x, problem.y, link, near, problem.weights)
        for link, near in possible_links(smooth)
        if link is IDENTITY or INVERSES[link.name] in allowed
    ]
    found = best_first(taken() for taken in search.ahead(steps))
    for simpler in found[0].simpler if found else ():
        search.judge(_of_law(simpler), problem, steps=0)  # for the list of formulas
    for law in found[:NOISY_JUDGED]:
        if search.over() or law.criterion > found[0].criterion + NOISY_MARGIN:
            break
        judged = search.judge(_of_law(law), problem, steps=0)  # a fit of the network would give each curve a shift
        if settled is None and settles(judged, problem):
            limit = NOISY_SURE * min(judged.error, NOISY_SURE_ERROR)
            sure = law.doubt < limit and all_recognised(judged, problem.x, problem.y, problem.weights)
            settled = replace(judged, sure=sure)
            continue
        best = judged if best is None or judged.held < best.held else best
    return settled or best


def _of_law(law: LinkedQuotient) -> Node:
    inputs = range(len(law.exponents))
    quotient = _divide(law.quotient.numerator, law.quotient.denominator)
    if not any(law.exponents):
        return apply_inverse_link(quotient, law.link)
    exponential = Sum((Curve(quotient, Symbolic("exp", 1.0, 0.0, 1.0, 0.0), without_constant=True),))
    return compose.product([compose.monomial(inputs, law.exponents, float(law.link.sign)), exponential])


def _divide(numerator: Polynomial, denominator: Polynomial) -> Node:
    divisor = _of_polynomial(denominator)
    if divisor is None:
        (value,) = denominator.coefficients
        found = _of_polynomial(Polynomial(numerator.powers, tuple(c / value for c in numerator.coefficients)))
        return compose.constant(sum(numerator.coefficients) / value, 0) if found is None else found
    inverse = Sum((Curve(divisor, Symbolic("1/x", 1.0, 0.0, 1.0, 0.0), without_constant=True),))
    dividend = _of_polynomial(numerator)
    if dividend is None:
        return compose.scale(inverse, sum(numerator.coefficients))
    return compose.product([dividend, inverse])


def _of_polynomial(polynomial: Polynomial) -> Node | None:
    """The sum of the terms, the constant in a term where the fit can adjust it; None if there is only a constant."""
    terms = list(zip(polynomial.powers, polynomial.coefficients, strict=True))
    constant = sum(coefficient for powers, coefficient in terms if not any(powers))
    nodes = [
        compose.monomial(range(len(powers)), [float(power) for power in powers], coefficient)
        for powers, coefficient in terms
        if any(powers)
    ]
    if not nodes:
        return None
    total = compose.total(nodes)
    if not constant or not isinstance(total, Sum):
        return total
    first, *others = total.parts
    assert first.symbolic is not None
    moved = replace(first, symbolic=replace(first.symbolic, d=first.symbolic.d + constant), without_constant=False)
    return Sum((moved, *others))
