"""A LayerNorm as layers of kanserve, exactly: sums, squares, one root and products.

    x                  ->  x, m = Σ x_i/n
    x, m               ->  d_i = x_i - m, and the base part of the layer, r_j = Σ_i V[j,i]·b(x_i)
    d, r               ->  d, v = Σ d_i²/n + epsilon, r
    d, v, r            ->  s_i = (scale_i·d_i)·(1/√v) + shift_i, r

The next layer applies its splines to s and adds r.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanserve.importers.function_layers import weigh
from kanserve.network.kan import Layer, make_layer
from kanserve.network.splines import uniform_knots

Array = NDArray[np.float64]

EPSILON = 1e-5  # torch's default, which FastKAN uses
LARGEST = 400_000  # edges of a layer; absent ones take up memory too


def size(inputs: int, beside: int) -> int:
    """The number of edges, absent ones included, of the largest layer needed."""
    return (2 * inputs + beside) * (inputs + 1 + beside)


def normalising(
    scale: Array, shift: Array, epsilon: float, beside: Mapping[str, Any] | None, low: float, high: float
) -> tuple[Layer, ...]:
    """The layers from x (n) to s and r. `beside` is r as arguments of a layer; `low` and `high` are the range of x."""
    n = len(scale)
    others = 0 if beside is None else len(beside["base_weight"])
    i, r = np.arange(n), np.arange(others)

    mean = np.concatenate([np.eye(n), np.full((1, n), 1 / n)])
    first = make_layer(**weigh(mean), knots=uniform_knots(low, high, 1, 1), order=1, base="zero")

    centred = np.zeros((n + others, n + 1))
    centred[i, i], centred[i, n] = 1.0, -1.0
    parts: dict[str, Any] = {"base": "zero", **weigh(centred)}
    if beside is not None:
        parts["base"] = beside["base"]
        parts["base_weight"] = np.pad(beside["base_weight"], ((n, 0), (0, 1)))
        parts["subnode_bias"] = np.pad(beside["subnode_bias"], (n, 0))
        if "functions" in beside:
            parts["functions"][n:, :n], parts["affine"][n:, :n] = beside["functions"], beside["affine"]
    second = make_layer(**parts, order=1)

    passed = np.zeros((n + 1 + others, n + others))
    passed[i, i] = passed[n + 1 + r, n + r] = 1.0
    parts = weigh(passed)
    parts["functions"][n, :n], parts["affine"][n, :n, 2] = "x^2", 1 / n
    third = make_layer(**parts, subnode_bias=np.where(np.arange(len(passed)) == n, epsilon, 0.0), order=1, base="zero")

    scaled = np.zeros((2 * n + others, n + 1 + others))
    scaled[2 * i, i] = scale
    scaled[2 * n + r, n + 1 + r] = 1.0
    parts = weigh(scaled)
    parts["functions"][2 * i + 1, n] = "1/sqrt"
    fourth = make_layer(
        **parts, arity=[2] * n + [1] * others, node_bias=np.pad(shift, (0, others)), order=1, base="zero"
    )
    return first, second, third, fourth


def add(nodes: int, inputs: int, others: int) -> Layer:
    """A layer that passes r on from (s, r), to which splines can be added."""
    return make_layer(**weigh(np.eye(nodes, inputs + others, inputs)), base="zero")
