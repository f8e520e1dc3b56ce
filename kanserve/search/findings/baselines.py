"""Baseline formulas: the mean; sums of the terms that explain most; linear, bilinear, quadratic and cubic models; sums
of piecewise linear functions; functions of one input; a power law."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from kanserve.data.row_weights import weight_rows
from kanserve.network.kan import Symbolic
from kanserve.search.findings.preprocess import Prepared
from kanserve.search.fit.training import FittedNetwork, SearchSamples, judge, refine_network, split
from kanserve.search.regression.noisy_quotients import GROWING_SIZES
from kanserve.search.regression.sparse_polynomial import has_enough_rows, monomials, powers_of
from kanserve.search.structure.factors import raise_to
from kanserve.search.trees import compose
from kanserve.search.trees.nodes import Curve, Node, Sum
from kanserve.search.trees.to_network import network
from kanserve.simplification.edge_candidates import Samples, candidates

Array = NDArray[np.float64]

MOST_INPUTS = 3  # number of one-input formulas among the baselines: of the inputs that explain most on their own
ROWS = 160  # training rows, at most, on which the functions of one input are compared
REFIT_STEPS = 20  # Levenberg-Marquardt steps of the refit of a function of one input or of a power law
ERROR_FLOOR = 1e-9  # error, relative to the outputs' spread, below which functions of one input count as equally good
BASELINE_STANDARD_ERRORS = 3.0  # least size of a term of a polynomial that is listed, in its standard errors
# Quantiles of the values of an input at which a piecewise linear function of it may bend.
GROWING_KNOTS = (0.2, 0.4, 0.6, 0.8)
GROWING_TERMS = 600  # terms that are tried, at most
GROWING_ROWS = 3  # rows for each term of a sum, at least
GROWING_ROUNDING = 1e-10  # relative: less of a term beside the others is rounding


def baselines(ready: Prepared, seed: int, library: Sequence[str]) -> list[FittedNetwork]:
    """Baseline formulas over all columns of the prepared rows, fitted to the training rows; the mean comes first."""
    rows = split(ready.x, ready.y, seed, ready.weights)
    plain = (
        *_linear(rows, ready.columns),
        *_growing_products(rows, ready.columns),
        *_growing_splines(rows, ready.columns),
        *_polynomials(rows, ready.columns),
    )
    found = [judge(network(node, ready.x.shape[1]), rows) for node in plain]
    for node in (*_of_one_input(rows, ready.columns, library), *_powers(rows, ready.columns)):
        found.append(judge(refine_network(network(node, ready.x.shape[1]), rows, REFIT_STEPS), rows))
    return found


def _linear(rows: SearchSamples, columns: Sequence[int]) -> Iterator[Node]:
    """The mean and the linear model."""
    yield compose.constant(float(np.average(rows.y, weights=rows.weights)), 0)
    if columns:
        design = np.column_stack([np.ones(len(rows.x)), rows.x[:, columns]])
        level, *slopes = _least_squares(design, rows).tolist()
        yield compose.total([compose.linear(columns, slopes), compose.constant(level, columns[0])])


def _least_squares(design: Array, rows: SearchSamples) -> Array:
    """The least-squares coefficients of the columns (N, k)."""
    found = np.linalg.lstsq(weight_rows(design, rows.weights), weight_rows(rows.y, rows.weights), rcond=1e-12)[0]
    return np.asarray(found, np.float64)


def _growing_products(rows: SearchSamples, columns: Sequence[int]) -> Iterator[Node]:
    """Greedy forward selection among products of up to two inputs: sums with a constant and 1, 2, ... terms."""
    x, powers = rows.x[:, columns], powers_of(len(columns), 2)
    if not columns or len(powers) > GROWING_TERMS:
        return
    terms = [partial(compose.monomial, columns, [float(power) for power in own]) for own in powers]
    yield from _growing(rows, monomials(x, powers), terms)


def _growing_splines(rows: SearchSamples, columns: Sequence[int]) -> Iterator[Node]:
    """Greedy forward selection among lines and kinks |x_i - k|; their sum is an additive model of linear splines."""
    design, terms = [np.ones(len(rows.x))], [partial(compose.monomial, columns, [0.0] * len(columns))]
    for i in columns:
        z = rows.x[:, i]
        design.append(z)
        terms.append(partial(compose.monomial, [i], [1.0]))
        for knot in np.unique(np.quantile(np.unique(z), GROWING_KNOTS)):
            if z.min() < knot < z.max():
                design.append(np.abs(z - knot))
                terms.append(partial(_bend, i, float(knot)))
    if columns and len(terms) <= GROWING_TERMS:
        yield from _growing(rows, np.stack(design, axis=1), terms)


def _bend(i: int, knot: float, scale: float) -> Node:
    return Sum((Curve(i, Symbolic("abs", 1.0, -knot, scale, 0.0), without_constant=True),))


def _growing(rows: SearchSamples, design: Array, terms: Sequence[Callable[[float], Node]]) -> Iterator[Node]:
    """Greedy selection: sums of a constant, the first term, and the terms that explain most, one after the other.
    `design` (N, terms) has the terms' values; each term is built from its coefficient."""
    centred: Array = weight_rows(design - np.average(design, axis=0, weights=rows.weights), rows.weights)
    sizes = np.sqrt(np.sum(centred**2, axis=0))
    usable = sizes > GROWING_ROUNDING * np.sqrt(np.sum(weight_rows(design, rows.weights) ** 2, axis=0))
    centred[:, ~usable] = 0.0
    rest, kept = weight_rows(rows.y - np.average(rows.y, weights=rows.weights), rows.weights), [0]
    for count in range(1, min(GROWING_SIZES[-1], len(rows.y) // GROWING_ROWS) + 1):
        left = np.sum(centred**2, axis=0)
        gains = np.where(left > GROWING_ROUNDING * sizes**2, (centred.T @ rest) ** 2 / np.maximum(left, 1e-300), 0)
        best = int(np.argmax(gains))
        if not gains[best] > 0:
            return
        unit = centred[:, best] / np.sqrt(left[best])
        rest = rest - unit * (unit @ rest)
        centred = centred - np.outer(unit, unit @ centred)
        kept.append(best)
        if count in GROWING_SIZES:
            coefficients = _least_squares(design[:, kept], rows)
            yield compose.total([terms[k](float(value)) for k, value in zip(kept, coefficients, strict=True)])


def _polynomials(rows: SearchSamples, columns: Sequence[int]) -> Iterator[Node]:
    """The bilinear, quadratic and cubic models, each with its significant terms only."""
    x = rows.x[:, columns]
    for degree, highest in ((2, 1), (2, 2), (3, 3)):
        powers = tuple(own for own in powers_of(len(columns), degree) if max(own, default=0) <= highest)
        if not columns or not has_enough_rows(len(powers), len(x)):
            return
        design = monomials(x, powers)
        sizes = np.sqrt(np.mean(design**2, axis=0))
        design, kept = design / np.where(sizes > 0, sizes, 1), list(range(len(powers)))
        while True:
            triangle = np.linalg.qr(weight_rows(design[:, kept], rows.weights), mode="r")
            coefficients = _least_squares(design[:, kept], rows)
            residuals = weight_rows(rows.y - design[:, kept] @ coefficients, rows.weights)
            variance = float(residuals @ residuals) / max(1, len(x) - len(kept))
            errors = np.sqrt(variance * np.sum(np.linalg.pinv(triangle) ** 2, axis=1))
            weak = np.abs(coefficients) < BASELINE_STANDARD_ERRORS * errors
            if not weak.any() or len(kept) == 1:
                break
            order = np.argsort(np.abs(coefficients) / np.maximum(errors, 1e-300))
            dropped = {int(k) for k in order[: max(1, int(weak.sum()) // 2)]}
            kept = [k for n, k in enumerate(kept) if n not in dropped]
        yield compose.total(
            [
                compose.monomial(columns, [float(power) for power in powers[k]], float(value / sizes[k]))
                for k, value in zip(kept, coefficients, strict=True)
            ]
        )


def _of_one_input(rows: SearchSamples, columns: Sequence[int], library: Sequence[str]) -> list[Node]:
    chosen = np.linspace(0, len(rows.y) - 1, min(len(rows.y), ROWS)).astype(int)
    y = rows.y[chosen]
    found = []
    for i in columns:
        order = np.argsort(rows.x[chosen, i], kind="stable")
        z = rows.x[chosen, i][order]
        weights = np.ones(len(rows.y)) if rows.weights is None else rows.weights / rows.weights.mean()
        weights = weights[chosen][order] / rows.spread**2
        low, high = float(rows.x[:, i].min()), float(rows.x[:, i].max())
        for candidate in candidates(Samples(z, y[order], weights, low, high, 0.0), ERROR_FLOOR, tuple(library))[:1]:
            found.append((candidate.error, i, candidate.symbolic))
    best = sorted(found, key=lambda entry: entry[:2])[:MOST_INPUTS]
    return [Sum((Curve(i, symbolic),)) for _, i, symbolic in best]


def _powers(rows: SearchSamples, columns: Sequence[int]) -> list[Node]:
    """Power laws c·Π x_i^p_i with integer and half-integer exponents, for positive inputs and outputs of one sign."""
    x = rows.x[:, columns]
    y = np.sign(rows.y[0]) * rows.y
    if not columns or not (x > 0).all() or not (y > 0).all():
        return []
    design = np.column_stack([np.ones(len(x)), np.log(x)])
    powers = np.round(2 * np.linalg.lstsq(design, np.log(y), rcond=1e-12)[0][1:]) / 2
    with np.errstate(all="ignore"):
        product = np.prod([raise_to(x[:, k], p) for k, p in enumerate(powers.tolist())], axis=0)
        product, y = weight_rows(product, rows.weights), weight_rows(rows.y, rows.weights)
        scale = float(product @ y / (product @ product))
    return [compose.monomial(columns, powers.tolist(), scale)] if powers.any() and np.isfinite(scale) else []
