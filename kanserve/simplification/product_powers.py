"""F(f(a)·g(b)): under a curve F, the factors of a product are determined only up to a power, which F can undo. So a
factor may be a root of the sought feature, or its inverse. Then all factors are raised to the power that makes it the
feature, and F undoes that."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from kanserve.network.edge_names import EdgeIndex
from kanserve.network.kan import Kan, Layer
from kanserve.network.splines import fit_coefficients, span, uniform_knots
from kanserve.simplification.edge_candidates import Array, Samples
from kanserve.simplification.gauge_fixing import spline, unscale, without_base

LEAST_POWER = 0.05  # lower bound of |p|: below it, the factor is not a power but some other curve
LARGEST_POWER = 20.0  # upper bound of |p|, for the same reason
GRID_MARGIN = 0.02  # of the grid of a new product, on each side of its range
POINTS_PER_COEFFICIENT = 8  # points per coefficient of a spline that is fitted anew


def may_take_powers(kan: Kan, place: EdgeIndex) -> bool:
    """Whether an edge belongs to a product node in which every factor is a single spline edge, and no edge that leaves
    the node is symbolic."""
    depth, j, _ = place
    layer = kan.layers[depth]
    node, group = next((q, group) for q, group in enumerate(layer.groups) if j in group)
    if len(group) < 2 or depth + 1 == len(kan.layers):
        return False
    rows, after = list(group), kan.layers[depth + 1]
    lone = (layer.alive[rows].sum(axis=1) == 1) & (layer.spline_mask & ~layer.symbolic_mask)[rows].any(axis=1)
    scaled = (layer.subnode_scale[rows] != 0).all()
    return bool(lone.all() and scaled and not after.symbolic_mask[:, node].any())


def as_factor(kan: Kan, place: EdgeIndex, samples: Samples) -> Samples:
    """The samples of the factor that a single edge forms: the edge with the scale and bias of its sum."""
    layer = kan.layers[place[0]]
    scale, bias = layer.subnode_scale[place[1]], layer.subnode_bias[place[1]]
    return replace(samples, values=scale * samples.values + bias, weights=samples.weights / scale**2)


def power_of(samples: Samples) -> tuple[float, float, float] | None:
    """(k, p, weighted error) of the best fit of k·|z - natural|^p to the values, where natural is the z at which
    the raw feature is 0. None if z - natural or the values change sign, p is out of bounds, or the result is not
    finite."""
    t, s = samples.z - samples.natural, samples.values
    if not (samples.low > samples.natural or samples.high < samples.natural) or not (s.min() > 0 or s.max() < 0):
        return None
    with np.errstate(all="ignore"):
        log_t, log_s = np.log(np.abs(t)), np.log(np.abs(s))
        shares = samples.weights * s**2
        shares = shares / shares.sum()
        along = log_t - shares @ log_t
        p = float((shares * along) @ log_s / ((shares * along) @ along))
        k = float(np.sign(s[0]) * np.exp(shares @ (log_s - p * log_t)))
        error = float(np.sqrt(np.mean(samples.weights * (k * np.abs(t) ** p - s) ** 2)))
    return (k, p, error) if LEAST_POWER < abs(p) < LARGEST_POWER and np.isfinite([k, error]).all() else None


def with_power(kan: Kan, place: EdgeIndex, samples: Samples, k: float, p: float, values: Sequence[Array]) -> Kan | None:
    """Replace the factor k·|z - natural|^p at `place` by |z - natural|, where natural is the z at which the raw
    feature is 0, raise the other factors of its product to 1/p, and refit the next layer to undo this. `values` (N,
    I) are the inputs of each layer. None if a power is not finite or the next layer cannot undo it."""
    depth, j, i = place
    layers = list(without_base(kan).layers)
    node, group = next((q, group) for q, group in enumerate(layers[depth].groups) if j in group)
    layer = _neutral(layers[depth], group, node)
    coefficients, functions, affine = np.array(layer.coefficients), np.array(layer.functions), np.array(layer.affine)
    sign = 1.0 if samples.low > samples.natural else -1.0
    product = sign * (values[depth][:, i] - samples.natural)
    with np.errstate(all="ignore"):
        for m in group:
            if m != j:
                other = int(np.flatnonzero(layer.alive[m])[0])
                coefficients[m, other] = _raise_to_spline(layer, m, other, 1 / p)
                product = product * _raise_to(spline(layer, m, other, values[depth][:, other]), 1 / p)
        scale, bias = layers[depth].node_scale[node], layers[depth].node_bias[node]
        after = _following(layers[depth + 1], node, product, lambda u: scale * k * _raise_to(u, p) + bias)
    if after is None or not np.isfinite(coefficients).all():
        return None
    coefficients[j, i], functions[j, i], affine[j, i] = 0.0, "x", (1.0, -samples.natural, sign, 0.0)
    layers[depth] = replace(layer, coefficients=coefficients, functions=functions, affine=affine)
    layers[depth + 1] = after
    return replace(kan, layers=tuple(layers))


def _neutral(layer: Layer, group: range, node: int) -> Layer:
    """Absorb the scales and biases of a product's sums into their splines, and remove them from the product."""
    rows = list(group)
    coefficients = np.array(layer.coefficients)
    # The basis functions add up to 1.
    told = layer.subnode_scale[rows, None, None] * coefficients[rows] + layer.subnode_bias[rows, None, None]
    coefficients[rows] = np.where(layer.alive[rows][:, :, None], told, 0.0)
    return unscale(layer, node, coefficients)


def _following(after: Layer, node: int, product: Array, before: Callable[[Array], Array]) -> Layer | None:
    """Refit the splines that follow a node, so that they take the new `product` (N,) instead of its former value; None
    if it is constant or not finite."""
    low, high = float(product.min()), float(product.max())
    if not np.isfinite([low, high]).all() or low == high:
        return None
    pad = GRID_MARGIN * (high - low)
    knots, coefficients = np.array(after.knots), np.array(after.coefficients)
    knots[node] = uniform_knots(low - pad, high + pad, after.intervals, after.order)
    u = np.linspace(low, high, POINTS_PER_COEFFICIENT * coefficients.shape[2])
    reached = before(u)
    for o in np.flatnonzero(after.spline_mask[:, node]).tolist():
        told = spline(after, o, node, reached)
        if not np.isfinite(told).all():
            return None
        coefficients[o, node] = fit_coefficients(u, told, knots[node], after.order)
    return replace(after, knots=knots, coefficients=coefficients)


def _raise_to_spline(layer: Layer, j: int, i: int, p: float) -> Array:
    """Refit a spline to its p-th power on the same grid. Returns the coefficients, NaN if the power is not finite."""
    points = np.linspace(*span(layer.knots[i], layer.order), POINTS_PER_COEFFICIENT * layer.coefficients.shape[2])
    wanted = _raise_to(spline(layer, j, i, points), p)
    if not np.isfinite(wanted).all():
        return np.full(layer.coefficients.shape[2], np.nan)
    return fit_coefficients(points, wanted, layer.knots[i], layer.order)


def _raise_to(v: Array, p: float) -> Array:
    result: Array = np.sign(v) * np.abs(v) ** p
    return result
