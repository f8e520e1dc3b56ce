"""A sum of functions of one input each, for samples with noise: an additive model, then a name for each of its splines.

Least squares gives each spline its own part of the law. A name is chosen by how well it explains what the other splines
leave of the samples, not the spline, by Schwarz's information criterion. The names of all inputs are then fitted
together, and each is tried against its next best ones for as long as the criterion falls.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kanserve.network.evaluate import edges
from kanserve.network.functions import FUNCTIONS
from kanserve.network.kan import Symbolic
from kanserve.search.fit.closed_forms import scaled_terms
from kanserve.search.fit.problem import Search, SearchProblem, noise_alone
from kanserve.search.fit.training import Array, FittedNetwork, SearchSamples, trained
from kanserve.search.regression.scaled_terms import scaled_sum_of
from kanserve.search.regression.variable_projection import Constant, Scaled, projected
from kanserve.search.search_settings import SEARCH
from kanserve.search.trees import compose
from kanserve.search.trees.trees import Curve, Sum
from kanserve.simplification.edge_candidates import Samples, candidates, within_domain

_CENTRED = (*sorted(compose.POWERS - {"x"}), "log", "abs")
"""Functions whose factor only multiplies them or adds to them, tried with a shift of 0 too."""


@dataclass(frozen=True, eq=False)
class _Named:
    """A function for one input, and its price: half the logarithm of the samples per constant, and its complexity."""

    term: Scaled
    criterion: float
    price: float


def additive(one: SearchProblem, search: Search) -> FittedNetwork | None:
    """The best sum of named functions of one input each, if one spline of each input leaves only noise."""
    rows = search.rows(one)
    splines = _splines(one, rows, search)
    if splines is None:
        return None
    parts = edges(splines.net.kan.layers[0], rows.x)[:, 0] * splines.net.kan.output_scale[0]
    parts -= parts.mean(axis=0)
    residuals = rows.y - rows.y.mean() - parts.sum(axis=1)
    offered = [_offered(rows.x, i, residuals + parts[:, i], search.library) for i in range(one.inputs)]
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
    terms, coefficients, _ = projected([name.term for name in chosen], rows.x, rows.y, np.ones((len(rows.x), 1)))
    return search.judge(compose.total(scaled_terms(scaled_sum_of(terms, coefficients, ()))), one)


def _splines(one: SearchProblem, rows: SearchSamples, search: Search) -> FittedNetwork | None:
    """The additive splines with the fewest intervals that leave only noise."""
    tree = Sum(tuple(Curve(i) for i in range(one.inputs)))
    for intervals in SEARCH.get().evidence.additive_intervals:
        if search.over() or one.inputs * intervals * SEARCH.get().training_rows_per_coefficient > len(rows.x):
            return None
        fitted = trained(tree, rows, intervals, 1, np.inf, search.generator)
        if noise_alone(fitted, rows.x, rows.y):
            return fitted
    return None


def _offered(x: Array, i: int, values: Array, library: Sequence[str]) -> list[_Named]:
    """The functions for a part by its samples (N,), best first."""
    settings = SEARCH.get()
    order = np.argsort(x[:, i], kind="stable")
    z, sorted_values = x[order, i], values[order]
    low, high = float(z[0]), float(z[-1])
    samples = Samples(z, sorted_values, np.full(len(z), 1 / (float(values.std()) or 1.0) ** 2), low, high, 0.0)
    terms = [_term(i, candidate.symbolic) for candidate in candidates(samples, 0.0, library)]
    ends = np.array([low]), np.array([high])
    terms += [
        Scaled(i, name, 1.0) for name in _CENTRED if name in library and within_domain(FUNCTIONS[name].name, *ends)[0]
    ]
    found = []
    for term in terms:
        constants = 2 + len(term.free) + (term.function == "sin")
        price = 0.5 * float(np.log(len(z))) * constants
        price += settings.by_shape_complexity_penalty * FUNCTIONS[term.function].complexity
        _, _, error = projected([term], x, values, np.ones((len(x), 1)))
        if np.isfinite(error):
            found.append(_Named(term, len(z) * _logarithm(error) + price, price))
    found.sort(key=lambda name: name.criterion)
    limit = found[0].criterion + settings.evidence.additive_margin if found else 0.0
    return [name for name in found if name.criterion <= limit][: settings.evidence.additive_names]


def _term(i: int, symbolic: Symbolic) -> Scaled:
    """The term of a named function, without what its coefficient or the constant of the sum can do as well."""
    name, a, b = symbolic.function, symbolic.a, symbolic.b
    if name == "x":
        return Scaled(i, name, 1.0)
    if name in _CENTRED:
        return Scaled(i, name, float(np.sign(a)), b / abs(a), free=("shift",))
    free: tuple[Constant, ...] = ("factor",) if name in ("exp", "sin") else ("factor", "shift")
    return Scaled(i, name, a, b if "shift" in free else 0.0, free=free)


def _criterion(names: Sequence[_Named], rows: SearchSamples) -> float:
    """Schwarz's information criterion of the sum, with the price of complexity."""
    _, _, error = projected([name.term for name in names], rows.x, rows.y, np.ones((len(rows.x), 1)))
    return len(rows.x) * _logarithm(error) + sum(name.price for name in names)


def _logarithm(error: float) -> float:
    return float(np.log(max(error, 1e-300)))
