"""Gauge fixing: among networks that compute the same function, take the one whose splines bend least. What one layer
bends, the next can bend back: x·y may become sines of arcsines as well as squares. Such edges match no named function,
so they are straightened as far as the data allow."""

from dataclasses import replace

import numpy as np

from kanserve.network.evaluate import base
from kanserve.network.kan import Kan, Layer
from kanserve.network.splines import design, fit_coefficients, span
from kanserve.simplification.validation import Array, Judge, refit, too_large

REFIT_STEPS = 30  # steps of the refit at each strength of smoothing, and of the last refit without the added smoothing

STRENGTHS = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)


def straighten(kan: Kan, judge: Judge) -> Kan:
    """Straighten the splines; unchanged if `judge` does not accept the loss."""
    if kan.symbolic or too_large(kan):
        return kan
    best = judge.losses(kan)
    straight = without_base(kan)
    for strength in STRENGTHS:
        if strength <= judge.smooth:
            continue
        straighter = refit(straight, replace(judge, smooth=strength), REFIT_STEPS)
        if not judge.accepts(judge.losses(straighter), best):
            break
        straight = straighter
    straight = refit(straight, judge, REFIT_STEPS)
    return straight if judge.accepts(judge.losses(straight), best) else kan


def without_base(kan: Kan) -> Kan:
    """Absorb the base functions into the splines, so that bending is measured for whole edges."""
    return replace(kan, layers=tuple(_without_base(layer) for layer in kan.layers))


def spline(layer: Layer, j: int, i: int, u: Array) -> Array:
    """The spline of edge (j, i) at u (N,), without the base function."""
    result: Array = design(u, layer.knots[i], layer.order, layer.extrapolation) @ layer.coefficients[j, i]
    return result


def unscale(layer: Layer, node: int, coefficients: Array) -> Layer:
    """The layer with new spline coefficients, and with neutral scale and bias for a node and its sums."""
    this = np.arange(layer.nodes) == node
    own = np.repeat(this, layer.arity)
    return replace(
        layer,
        coefficients=coefficients,
        subnode_scale=np.where(own, 1.0, layer.subnode_scale),
        subnode_bias=np.where(own, 0.0, layer.subnode_bias),
        node_scale=np.where(this, 1.0, layer.node_scale),
        node_bias=np.where(this, 0.0, layer.node_bias),
    )


def _without_base(layer: Layer) -> Layer:
    coefficients = np.array(layer.coefficients)
    for i in range(layer.inputs):
        low, high = span(layer.knots[i], layer.order)
        points = np.linspace(low, high, 4 * (layer.intervals + layer.order))
        told = design(points, layer.knots[i], layer.order, layer.extrapolation) @ layer.coefficients[:, i].T
        wanted = told + base(layer, points)[:, None] * layer.base_weight[:, i]
        coefficients[:, i] = fit_coefficients(points, wanted, layer.knots[i], layer.order).T
    coefficients = np.where(layer.spline_mask[:, :, None], coefficients, 0.0)
    return replace(layer, coefficients=coefficients, base_weight=np.zeros_like(layer.base_weight))
