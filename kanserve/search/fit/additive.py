"""A sum of functions of one input each, for samples with noise: an additive model, then a named function for each
spline. A function is chosen by how well it explains the samples less the other splines, by Schwarz's information
criterion. All functions are then fitted together, and each is exchanged for its next best ones while the criterion
falls."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kanserve.data.row_weights import deviation, weight_rows
from kanserve.network.functions import FUNCTIONS
from kanserve.network.kan import Symbolic
from kanserve.network.splines import design, uniform_knots
from kanserve.search.fit.closed_forms import terms_to_trees
from kanserve.search.fit.description_length import BY_SHAPE_COMPLEXITY_PENALTY, most_informative
from kanserve.search.fit.one_input import library_forms, part_of
from kanserve.search.fit.problem import Search, SearchProblem, settles
from kanserve.search.fit.residual_test import adequate
from kanserve.search.fit.training import TRAINING_ROWS_PER_COEFFICIENT, Array, FittedNetwork, SearchSamples
from kanserve.search.regression import budget
from kanserve.search.regression.scaled_terms import to_scaled_sum
from kanserve.search.regression.variable_projection import Constant, Scaled, fit_terms
from kanserve.search.trees import compose
from kanserve.search.trees.nodes import Node, rename_inputs
from kanserve.search.trees.to_network import ORDER
from kanserve.search.trees.written import Written
from kanserve.simplification.edge_candidates import Samples, candidates, within_domain

INTERVALS = (5, 10, 20)  # intervals of the splines of an additive model, until they leave only noise
NAMES = 4  # names that are tried for each input
MARGIN = 12.0  # names whose information criterion is higher than the best by more are not tried

FORM_INPUTS = 3  # inputs up to which forms with several constants are tried for each: they take a second an input
FORM_ROUNDS = 2  # rounds over the inputs: the first has splines for the others

_CENTRED = (*sorted(compose.POWERS - {"x"}), "log", "abs")
"""Functions whose factor only multiplies them or adds to them, tried with a shift of 0 too."""


@dataclass(frozen=True, eq=False)
class _Named:
    """A named function for one input. `price` is its cost in the information criterion: half the logarithm of the row
    count for each constant, plus its complexity's price."""

    term: Scaled
    criterion: float
    price: float


def additive(problem: SearchProblem, search: Search) -> FittedNetwork | None:
    """The best sum of functions of one input each, tried if such a sum of splines leaves only noise. The functions are
    forms with several constants (few inputs only), or named functions."""
    rows = SearchSamples(problem.x, problem.y, problem.x, problem.y, problem.weights, problem.weights)
    budget.count_fit()
    parts = _parts(rows)
    if parts is None:
        return None
    found = [
        _of_forms(problem, search, parts) if problem.inputs <= FORM_INPUTS else None,
        _of_names(problem, search, rows, parts),
    ]
    settled = [law for law in found if law is not None and settles(law, problem)]
    return most_informative(settled, problem, search) or found[1]


def _of_names(problem: SearchProblem, search: Search, rows: SearchSamples, parts: Array) -> FittedNetwork | None:
    """The sum of named functions. Each is chosen to fit what the splines of the other inputs leave."""
    residuals = rows.y - np.average(rows.y, weights=rows.weights) - parts.sum(axis=1)
    offered = [_offer_functions(rows, i, residuals + parts[:, i], search.library) for i in range(problem.inputs)]
    if not all(offered):
        return None
    chosen = [own[0] for own in offered]
    least = _criterion(chosen, rows)
    for i, own in enumerate(offered):
        for name in own[1:]:
            if search.over():
                break
            other = [*chosen[:i], name, *chosen[i + 1 :]]
            criterion = _criterion(other, rows)
            if criterion < least:
                chosen, least = other, criterion
    terms, coefficients, _ = _fit_terms([name.term for name in chosen], rows, rows.y)
    return search.judge(compose.total(terms_to_trees(to_scaled_sum(terms, coefficients, ()))), problem)


def _of_forms(problem: SearchProblem, search: Search, parts: Array) -> FittedNetwork | None:
    """The sum of forms, one per input. Each is chosen to fit what the other parts leave."""
    level = float(np.average(problem.y, weights=problem.weights))
    values = [part - np.average(part, weights=problem.weights) for part in parts.T]
    nodes: list[Node | None] = [None] * problem.inputs
    forms = [library_forms(tuple(search.library))] * problem.inputs
    for _ in range(FORM_ROUNDS):
        for i in range(problem.inputs):
            if search.over():
                return None
            budget.count_fit()
            rest = problem.y - level - sum(own for k, own in enumerate(values) if k != i)
            part = part_of(problem.x[:, i], rest, problem.weights, forms[i])
            forms[i] = forms[i] if part is None else part.forms
            search.compared += 2 * len(forms[i])
            values[i] = np.zeros(len(problem.y)) if part is None else part.values
            nodes[i] = None if part is None else rename_inputs(part.node, (i,))
            level += float(np.average(problem.y - level - sum(values), weights=problem.weights))
    terms = [node for node in nodes if node is not None]
    return search.judge(Written(compose.total(terms)).shift(level).node, problem, steps=0) if terms else None


def _fit_terms(terms: Sequence[Scaled], rows: SearchSamples, y: Array) -> tuple[Sequence[Scaled], Array, float]:
    """Fit the terms and a constant to values (N,) at the training rows."""
    return fit_terms(terms, rows.x, y, np.ones((len(rows.x), 1)), rows.weights)


def _parts(rows: SearchSamples) -> Array | None:
    """The additive spline model (N, d) with the fewest intervals whose residuals are only noise, or None."""
    x, centred = rows.x, rows.y - np.average(rows.y, weights=rows.weights)
    for intervals in INTERVALS:
        columns = []
        for values in x.T:
            knots = uniform_knots(float(values.min()), float(values.max()), intervals, ORDER)
            basis = design(values, knots, ORDER, "linear")
            columns.append(basis - np.average(basis, axis=0, weights=rows.weights))
        matrix = np.concatenate(columns, axis=1)
        if matrix.shape[1] * TRAINING_ROWS_PER_COEFFICIENT > len(x):
            return None
        # The basis functions of each input add up to 1, so the solution of least length is taken.
        design_and_y = weight_rows(matrix, rows.weights), weight_rows(centred, rows.weights)
        coefficients = np.linalg.lstsq(*design_and_y, rcond=1e-10)[0]
        if adequate(weight_rows(centred - matrix @ coefficients, rows.weights), x, rows.spread):
            own = coefficients.reshape(x.shape[1], -1)
            return np.stack([basis @ c for basis, c in zip(columns, own, strict=True)], axis=1)
    return None


def _offer_functions(rows: SearchSamples, i: int, values: Array, library: Sequence[str]) -> list[_Named]:
    """The functions that fit one input's part of the samples, best first."""
    x = rows.x
    order = np.argsort(x[:, i], kind="stable")
    z, sorted_values = x[order, i], values[order]
    low, high = float(z[0]), float(z[-1])
    weights = np.ones(len(z)) if rows.weights is None else rows.weights[order] / rows.weights.mean()
    weights = weights / (deviation(values, rows.weights) or 1.0) ** 2
    samples = Samples(z, sorted_values, weights, low, high, 0.0)
    terms = [_term(i, candidate.symbolic) for candidate in candidates(samples, 0.0, library)]
    ends = np.array([low]), np.array([high])
    terms += [
        Scaled(i, name, 1.0) for name in _CENTRED if name in library and within_domain(FUNCTIONS[name].name, *ends)[0]
    ]
    found = []
    for term in terms:
        constants = 2 + len(term.free) + (term.function == "sin")
        price = 0.5 * float(np.log(len(z))) * constants
        price += BY_SHAPE_COMPLEXITY_PENALTY * FUNCTIONS[term.function].complexity
        _, _, error = _fit_terms([term], rows, values)
        if np.isfinite(error):
            found.append(_Named(term, len(z) * _logarithm(error) + price, price))
    found.sort(key=lambda name: name.criterion)
    limit = found[0].criterion + MARGIN if found else 0.0
    return [name for name in found if name.criterion <= limit][:NAMES]


def _term(i: int, symbolic: Symbolic) -> Scaled:
    """A term for a named function; factors and shifts that other coefficients can express are left out."""
    name, a, b = symbolic.function, symbolic.a, symbolic.b
    if name == "x":
        return Scaled(i, name, 1.0)
    if name in _CENTRED:
        return Scaled(i, name, float(np.sign(a)), b / abs(a), free=("shift",))
    free: tuple[Constant, ...] = ("factor",) if name in ("exp", "sin") else ("factor", "shift")
    return Scaled(i, name, a, b if "shift" in free else 0.0, free=free)


def _criterion(names: Sequence[_Named], rows: SearchSamples) -> float:
    """The Bayesian information criterion of the sum, plus the price of complexity."""
    _, _, error = _fit_terms([name.term for name in names], rows, rows.y)
    return len(rows.x) * _logarithm(error) + sum(name.price for name in names)


def _logarithm(error: float) -> float:
    return float(np.log(max(error, 1e-300)))
