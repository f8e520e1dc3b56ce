"""Separable laws: link(y) = F(some inputs) + G(the others), or link(y) = F · G with any signs. Candidates come from
four-point differences of the surrogate, which vanish where two inputs are in different parts. A candidate is fitted,
and kept if that is as good as the full surrogate and lacks no cross terms."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kanserve.search.regression.interactions import Parts, partitions
from kanserve.search.regression.least_squares import ROUNDING
from kanserve.search.regression.link_functions import IDENTITY, Link
from kanserve.search.regression.surrogates import Surrogate, answer_units, is_exact, is_gain, most_terms
from kanserve.search.structure.form_test import Block, Hypothesis, across, budgets, fit_blocks, holds, of_size

Array = NDArray[np.float64]

MOST_LINKS = 3  # links to try, at most, besides the identity
LINK_ERROR_RATIO = 3.0  # links whose surrogate's error reaches this times the least are not tried
SUM_ERROR_RATIO = 10.0  # largest error of a sum, relative to the error of the best link's surrogate
SWEEPS = 3  # sweeps of alternating least squares for each number of terms
GAUSS_NEWTON_STEPS = 2  # Gauss-Newton steps after these sweeps
LEAST_TERMS = 4  # fewest terms per factor
LEAST_VARIATION = 1e-4  # least variation of a part: in a sum relative to y, in a product to the part's mean size

_KEEP_PRODUCTS = ("square", "sqrt", "reciprocal", "reciprocal square")  # links whose product is also a product in y


@dataclass(frozen=True, eq=False)
class Separation:
    """link(y) as the sum, or product, of two or more columns of `values` (N, parts); column k depends only on parts[k],
    up to a constant (sum) or scale (product). `error`: leave-one-out, in y, relative to y's root mean square."""

    link: Link
    kind: Literal["sum", "product"]
    parts: Parts
    values: Array
    error: float


def separations(x: Array, y: Array, ranked: Sequence[Surrogate]) -> tuple[Separation, ...]:
    """The separations that rows x (N, d), y (N,) do not refute, best first; `ranked` are their surrogates."""
    found: list[Separation | None] = []
    for full in candidates(ranked):
        if full.link.name == "log":
            found.append(_product_by_logarithms(x, y, full, partitions(x, full, False)))
        else:
            found.append(_sum(x, y, full, ranked[0].error, partitions(x, full, False)))
    for full in candidates(ranked):
        if full.link.name not in _KEEP_PRODUCTS and not any(
            separation is not None and separation.kind == "product" for separation in found
        ):
            found.append(_product(x, y, full, partitions(x, full, True)))
    return tuple(
        sorted((separation for separation in found if separation is not None), key=lambda separation: separation.error)
    )


def candidates(ranked: Sequence[Surrogate]) -> list[Surrogate]:
    """The surrogates to test: the best few, and always that of y itself."""
    least = max(ranked[0].error, ROUNDING)
    kept = [surrogate for surrogate in ranked if surrogate.error < LINK_ERROR_RATIO * least][:MOST_LINKS]
    return kept + [surrogate for surrogate in ranked if surrogate.link.name == "identity" and surrogate not in kept]


def _sum(x: Array, y: Array, full: Surrogate, least: float, claimed: Sequence[Parts]) -> Separation | None:
    for parts in claimed:
        form, values = _fit_sum(x, y, full, parts)
        moved = (values - values.mean(axis=0)) * answer_units(full.link, y)[:, None]
        alive = bool(np.all(np.sqrt(np.mean(moved**2, axis=0)) > LEAST_VARIATION))
        near = form.error < SUM_ERROR_RATIO * max(least, ROUNDING)
        if alive and near and holds(form, full.error, across(x, full.coordinates, parts)):
            return Separation(full.link, "sum", parts, values, form.error)
    return None


def _fit_sum(x: Array, y: Array, full: Surrogate, parts: Parts) -> tuple[Hypothesis, Array]:
    blocks = [Block(part, tuple(full.coordinates[i] for i in part)) for part in parts]
    form = fit_blocks(x, full.link.forward(y), blocks, answer_units(full.link, y))
    return form, np.stack([form.values(k) for k in range(len(parts))], axis=1)


def _product_by_logarithms(x: Array, y: Array, full: Surrogate, claimed: Sequence[Parts]) -> Separation | None:
    """y as a product, from the surrogate of log(y): the exponential of its sum gives the factors, or a start."""
    for parts in claimed:
        form, logarithms = _fit_sum(x, y, full, parts)
        values = np.exp(np.clip(logarithms, -300, 300))
        values[:, 0] *= full.link.sign
        if _all_vary(values) and holds(form, full.error, across(x, full.coordinates, parts)):
            return Separation(IDENTITY, "product", parts, values, form.error)
        plain = replace(full, link=IDENTITY)
        separation = _product_from(x, y, plain, parts, values)
        if separation is not None:
            return separation
    return None


def _product(x: Array, y: Array, full: Surrogate, claimed: Sequence[Parts]) -> Separation | None:
    """link(y) as a product of functions of the parts, started from slices of its surrogate."""
    for parts in claimed:
        separation = _product_from(x, y, full, parts, _slices(x, y, full, parts))
        if separation is not None:
            return separation
    return None


def _product_from(x: Array, y: Array, full: Surrogate, parts: Parts, values: Array) -> Separation | None:
    form, values = _rank_one(x, y, full, parts, values)
    crossed = across(x, full.coordinates, parts)
    missing = np.concatenate([crossed, crossed * np.prod(values, axis=1)[:, None]], axis=1)
    if _all_vary(values) and holds(form, full.error, missing):
        return Separation(full.link, "product", parts, values, form.error)
    return None


def _all_vary(values: Array) -> bool:
    return bool(np.all(values.std(axis=0) > LEAST_VARIATION * np.abs(values).mean(axis=0)))


def _rank_one(x: Array, y: Array, full: Surrogate, parts: Parts, values: Array) -> tuple[Hypothesis, Array]:
    """Fit link(y) as a product of functions of the parts, from initial values (N, parts)."""
    best: tuple[Hypothesis, Array] | None = None
    idle = 0
    for budget in budgets(len(x)):
        if budget < LEAST_TERMS * len(parts) and budget < most_terms(len(x)):
            continue
        form, refined = _alternate(x, y, full, parts, values, budget)
        better = best is None or is_gain(form.error, best[0].error)
        idle = 0 if better else idle + 1
        if better:
            best, values = (form, refined), refined
        if is_exact(form.error) or idle > 1:
            break
    assert best is not None
    return best


def _alternate(
    x: Array, y: Array, full: Surrogate, parts: Parts, values: Array, budget: int
) -> tuple[Hypothesis, Array]:
    """Fit each factor by least squares while the others are fixed, in turn; then all together by Gauss-Newton."""
    targets, units = full.link.forward(y), answer_units(full.link, y)
    coordinates = [tuple(full.coordinates[i] for i in part) for part in parts]
    for _ in range(SWEEPS):
        for k, part in enumerate(parts):
            weight = np.prod(np.delete(values, k, axis=1), axis=1)
            factor = of_size(x, targets, [Block(part, coordinates[k], weight)], units, budget // len(parts))
            values = np.concatenate([values[:, :k], factor.values(0)[:, None], values[:, k + 1 :]], axis=1)
        sizes = np.maximum(np.sqrt(np.mean(values**2, axis=0)), 1e-300)
        values = values / sizes * np.exp(np.mean(np.log(sizes)))  # equal scales, or they would diverge
    for _ in range(GAUSS_NEWTON_STEPS):
        blocks = [
            Block(part, coordinates[k], np.prod(np.delete(values, k, axis=1), axis=1)) for k, part in enumerate(parts)
        ]
        form = of_size(x, targets - np.prod(values, axis=1), blocks, units, budget)
        values = values + np.stack([form.values(k) for k in range(len(parts))], axis=1)
    return form, values


def _slices(x: Array, y: Array, full: Surrogate, parts: Parts) -> Array:
    """The surrogate along each part (N, parts), with the others fixed at a row where it is large. If it is separable,
    it is proportional to the product of these."""
    row = int(np.argsort(np.abs(full.link.forward(y)))[int(0.8 * len(y))])
    columns = []
    for part in parts:
        held = np.repeat(x[row : row + 1], len(x), axis=0)
        held[:, part] = x[:, part]
        columns.append(full.link_values(held))
    values = np.stack(columns, axis=1)
    values[:, 1:] /= full.link_values(x[row : row + 1])[0]
    return values
