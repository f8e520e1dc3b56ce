"""New random weights for a network of the same structure: where a fit starts."""

from dataclasses import replace

import numpy as np

from kanserve.network.kan import Kan, Layer
from kanserve.network.splines import uniform_knots
from kanserve.train.creation import CREATION_SPREAD


def fresh(kan: Kan, intervals: int, seed: tuple[int, ...], hidden: float = 1.0, own_knots: bool = False) -> Kan:
    """The same structure with random splines on grids over [-1, 1]; pruned and named edges stay as they are.

    `hidden` is the half-width of the grids of all layers but the first. With `own_knots` the first has its own.
    """
    generator = np.random.default_rng(seed)
    widths = (1.0, *[hidden] * (len(kan.layers) - 1))
    layers = zip(kan.layers, widths, strict=True)
    found = tuple(_fresh(layer, intervals, width, generator) for layer, width in layers)
    if own_knots:
        found = (replace(found[0], knots=kan.layers[0].knots), *found[1:])
    return replace(kan, layers=found)


def _fresh(layer: Layer, intervals: int, width: float, generator: np.random.Generator) -> Layer:
    spread = CREATION_SPREAD / np.sqrt(layer.inputs)
    edges = layer.base_weight.shape
    coefficients = generator.normal(0, spread, (*edges, intervals + layer.order))
    return replace(
        layer,
        knots=np.tile(uniform_knots(-width, width, intervals, layer.order), (layer.inputs, 1)),
        coefficients=np.where(layer.spline_mask[:, :, None], coefficients, 0.0),
        base_weight=np.where(layer.base_weight != 0, generator.normal(0, spread, edges), 0.0),
    )
