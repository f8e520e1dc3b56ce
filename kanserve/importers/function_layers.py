"""Layers with named functions only, for what a spline layer cannot represent in imported networks."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import CheckpointError
from kanserve.network.kan import Layer, make_layer
from kanserve.network.splines import uniform_knots

Array = NDArray[np.float64]

_NAMES = "<U8"  # wide enough for the functions that importers name
LARGEST = 1_050_000  # edges of a layer: 1,024 inputs, one function for each; absent edges take up memory too


def weigh(weights: Array) -> dict[str, Any]:
    """Weights (O, I) as the functions and affine constants of a layer; a weight of 0 means no edge."""
    affine = np.tile([1.0, 0.0, 1.0, 0.0], (*weights.shape, 1))
    affine[:, :, 2] = np.where(weights != 0, weights, 1.0)
    return {"functions": np.where(weights != 0, "x", "").astype(_NAMES), "affine": affine}


def make_weighted_sums(weights: Array, bias: Array | None = None) -> Layer:
    """A layer that computes weights (O, I) · x + bias."""
    return make_layer(**weigh(weights), subnode_bias=bias, order=1, base="zero")


def each_input(functions: list[tuple[str, float]], inputs: int, low: float, high: float) -> Layer:
    """A layer with a node for each function f(factor·x) of each input, inputs first: node i·F + n is the n-th of input
    i. `low` and `high` are the usual input range, used only for pictures and tests."""
    count = len(functions)
    names = np.full((inputs, count, inputs), "", _NAMES)
    affine = np.tile([1.0, 0.0, 1.0, 0.0], (inputs, count, inputs, 1))
    own = np.arange(inputs)
    for n, (name, factor) in enumerate(functions):
        names[own, n, own] = name
        affine[own, n, own, 0] = factor
    return make_layer(
        functions=names.reshape(-1, inputs),
        affine=affine.reshape(-1, inputs, 4),
        knots=uniform_knots(low, high, 1, 1),
        order=1,
        base="zero",
    )


def check_size(place: str, inputs: int, edges: int) -> None:
    """Raise CheckpointError if the largest layer that this one is converted to would have too many edges."""
    if edges > LARGEST:
        raise CheckpointError(
            f"{place} has {inputs} inputs and needs a layer with places for {edges:,} edges here, of which {LARGEST:,}"
            " are the most."
        )
