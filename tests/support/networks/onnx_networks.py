"""Networks for the ONNX exporter: the zoo, and those which reach what the zoo does not."""

from collections.abc import Callable
from functools import cache

import numpy as np

from kanserve.network.export_options import ExportOptions, Precision
from kanserve.network.kan import Kan, make_layer
from kanserve.network.splines import extend_knots, uniform_knots
from kanserve_exporters.onnx_graph import export
from tests.support.networks.kans import ZOO


def _wide(intervals: int, order: int, o: int, i: int, *, even: bool, zero: bool = False, affine: bool = True) -> Kan:
    """One layer of random splines."""
    rng = np.random.default_rng(intervals + order + o)
    steps = np.ones((i, intervals)) if even else rng.uniform(0.3, 1.0, (i, intervals))
    ends = np.concatenate([np.zeros((i, 1)), np.cumsum(steps, axis=1)], axis=1) / steps.sum(axis=1, keepdims=True)
    knots = np.stack([extend_knots(2 * end - 1, order) for end in ends])
    first = make_layer(
        rng.normal(0, 0.3, (o, i, intervals + order)),
        knots=uniform_knots(-1, 1, intervals, order) if even else knots,
        order=order,
        base_weight=rng.normal(0, 0.3, (o, i)) if affine else None,
        extrapolation="zero" if zero else "linear",
    )
    return Kan((first,))


def many_named_edges() -> Kan:
    """More named edges than a matrix is good for, groups of different sizes, edges left out, one exponential."""
    rng = np.random.default_rng(7)
    names = rng.choice(["sin", "tanh", "x^2", ""], (60, 30))
    names[3], names[4, 0] = "", "exp"
    affine = rng.normal(0, 0.3, (60, 30, 4))
    return Kan(
        (make_layer(functions=names, affine=affine, arity=[3, 1, 2] * 10, subnode_scale=rng.uniform(0.5, 1.5, 60)),)
    )


def partly_splines() -> Kan:
    """Splines of two of three inputs, scales of 0, products of products."""
    rng = np.random.default_rng(8)
    coefficients = rng.normal(0, 0.5, (4, 3, 7))
    coefficients[:, 1] = 0
    first = make_layer(
        coefficients, knots=uniform_knots(-1, 1, 4, 3), arity=[2, 2], node_scale=[0.0, 2.0], node_bias=[1, 2]
    )
    return Kan((first, make_layer(functions=[["x", "silu"]], affine=[[[1.0, -3.0, 2.0, 1.0], [-1.0, 0.0, 1.0, 0.0]]])))


OTHERS: dict[str, Callable[[], Kan]] = {
    "LocalBasis": lambda: _wide(5, 3, 40, 3, even=False),
    "LocalBasis, zero": lambda: _wide(4, 2, 40, 2, even=False, zero=True, affine=False),
    "LocalPolynomials, divided": lambda: _wide(200, 2, 2, 30, even=True),
    "LocalPolynomials, divided, zero": lambda: _wide(200, 3, 2, 30, even=True, zero=True, affine=False),
    "CardinalCubic, many intervals": lambda: _wide(22, 3, 300, 2, even=True),
    "CardinalCubic, zero, no base": lambda: _wide(6, 3, 3, 2, even=True, zero=True, affine=False),
    "Symbolic": many_named_edges,
    "CardinalCubic, Symbolic": partly_splines,
}


ALL = ZOO | OTHERS


@cache
def model_bytes(name: str, precision: Precision) -> bytes:
    return export(ALL[name](), ExportOptions(precision=precision))["model.onnx"]
