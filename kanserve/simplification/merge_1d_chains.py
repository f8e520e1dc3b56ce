"""Merge chains: a spline of a spline of one variable is one function, so the second spline can become a line. A fit
divides the function between the two arbitrarily, and neither then matches a named function."""

from dataclasses import replace

import numpy as np

from kanserve.network.edge_names import EdgeIndex
from kanserve.network.kan import Kan, Layer, Symbolic
from kanserve.network.splines import fit_coefficients, span
from kanserve.simplification.activations import values
from kanserve.simplification.gauge_fixing import spline, unscale, without_base
from kanserve.simplification.product_powers import POINTS_PER_COEFFICIENT
from kanserve.simplification.symbolic_edges import name_edges
from kanserve.simplification.validation import Judge, refit

REFIT_STEPS = 20  # steps of the refit after all chains are merged


def without_chains(kan: Kan, judge: Judge) -> Kan:
    """Merge each pair of splines in a chain: the second becomes a line. Unchanged if `judge` does not accept that."""
    pairs = _pairs(kan)
    if not pairs:
        return kan
    changed = without_base(kan)
    for first, second in pairs:
        joined = _join(changed, first, second)
        changed = changed if joined is None else joined
    changed = refit(changed, judge, REFIT_STEPS)
    sound = np.isfinite(values(changed, judge.x)[-1]).all()
    return changed if sound and judge.accepts(judge.losses(changed), judge.losses(kan)) else kan


def _pairs(kan: Kan) -> list[tuple[EdgeIndex, EdgeIndex]]:
    """Disjoint pairs of a spline that is the only input of a sum node, and the spline that is its only output."""
    found: list[tuple[EdgeIndex, EdgeIndex]] = []
    taken: set[EdgeIndex] = set()
    for depth, (layer, after) in enumerate(zip(kan.layers, kan.layers[1:], strict=False)):
        for q, group in enumerate(layer.groups):
            own, on = np.flatnonzero(layer.alive[group.start]), np.flatnonzero(after.alive[:, q])
            if len(group) > 1 or len(own) != 1 or len(on) != 1:
                continue
            first, second = (depth, group.start, int(own[0])), (depth + 1, int(on[0]), q)
            if _is_spline(layer, first) and _is_spline(after, second) and first not in taken:
                found.append((first, second))
                taken.add(second)
    return found


def _is_spline(layer: Layer, place: EdgeIndex) -> bool:
    _, j, i = place
    return bool(layer.spline_mask[j, i] and not layer.symbolic_mask[j, i])


def _join(kan: Kan, first: EdgeIndex, second: EdgeIndex) -> Kan | None:
    """Compose both splines in the first, and make the second the identity x; None if the result is not finite."""
    (depth, j, i), (_, o, q) = first, second
    layer, after = kan.layers[depth], kan.layers[depth + 1]
    u = np.linspace(
        *span(layer.knots[i], layer.order),
        POINTS_PER_COEFFICIENT * layer.coefficients.shape[2],
    )
    given = layer.subnode_scale[j] * spline(layer, j, i, u) + layer.subnode_bias[j]
    wanted = spline(after, o, q, layer.node_scale[q] * given + layer.node_bias[q])
    if not np.isfinite(wanted).all():
        return None
    coefficients = np.array(layer.coefficients)
    coefficients[j, i] = fit_coefficients(u, wanted, layer.knots[i], layer.order)
    layers = (*kan.layers[:depth], unscale(layer, q, coefficients), *kan.layers[depth + 1 :])
    return name_edges(replace(kan, layers=layers), {second: Symbolic("x", 1.0, 0.0, 1.0, 0.0)})
