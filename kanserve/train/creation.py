"""Create untrained networks: a shape and random weights."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from kanserve.errors import NetworkError
from kanserve.network.kan import Base, Kan, Layer, make_layer
from kanserve.network.splines import uniform_knots
from kanserve.train.argument_checks import whole

# Standard deviation of random weights, times the root of a layer's inputs.
CREATION_SPREAD = 0.1


def create(
    shape: Sequence[int | tuple[int, int]],
    *,
    grid: int = 3,
    order: int = 3,
    base: Base = "silu",
    seed: int = 0,
    arity: int = 2,
) -> Kan:
    """A random network, the same for the same seed; its splines lie on [-1, 1].

    `shape` begins with the number of inputs and has the nodes of each layer after it: [2, 5, 1]. A pair makes
    multiplication nodes: in [2, (1, 3), 1] the hidden layer has one sum node and three nodes that multiply `arity`
    subnodes each (KAN 2.0, arXiv:2408.10205).

    Parameters
    ----------
    shape : sequence of int or (int, int)
        Inputs, then the nodes of each layer; a pair is sums and products.
    grid : int, default=3
        Intervals of each spline.
    order : int, default=3
        Order of the splines; 3 is cubic.
    base : {"silu", "identity", "zero"}
        What is added to each spline.
    seed : int, default=0
        Equal seeds give equal networks.
    arity : int, default=2
        How many sums a product multiplies.

    Returns
    -------
    Kan
        A random network.

    Raises
    ------
    NetworkError
        No network has that shape, or an option is out of range.

    Examples
    --------
    >>> import kanserve
    >>> kanserve.create([2, 5, 1], grid=5).shape
    (2, 5, 1)
    """
    sums, products = _nodes(shape)
    if not (whole(grid, 1) and whole(order, 1) and whole(arity, 2)):
        raise NetworkError(f"A network needs grid ≥ 1, order ≥ 1 and arity ≥ 2, got {grid!r}, {order!r} and {arity!r}.")
    if not whole(seed, 0):
        raise NetworkError(f"A seed is a whole number from 0 on, got {seed!r}.")
    generator = np.random.default_rng(seed)
    layers = []
    inputs = sums[0]
    for plain, multiplied in zip(sums[1:], products[1:], strict=True):
        arities = [1] * plain + [arity] * multiplied
        layers.append(_random(generator, sum(arities), inputs, grid, order, base, arities))
        inputs = len(arities)
    return Kan(tuple(layers))


def _random(
    generator: np.random.Generator, o: int, i: int, grid: int, order: int, base: Base, arities: list[int]
) -> Layer:
    spread = CREATION_SPREAD / np.sqrt(i)
    return make_layer(
        generator.normal(0, spread, (o, i, grid + order)),
        knots=uniform_knots(-1, 1, grid, order),
        order=order,
        base=base,
        base_weight=generator.normal(0, spread, (o, i)),
        arity=arities,
    )


def _nodes(shape: Any) -> tuple[list[int], list[int]]:
    """The numbers of sum and of multiplication nodes in each layer, inputs first, from a user's `shape`."""
    if not isinstance(shape, Iterable) or isinstance(shape, str):
        raise NetworkError(f"A shape is [inputs, nodes, .., outputs], at least two numbers; got {shape!r}.")
    sums, products = [], []
    for entry in shape:
        plain, multiplied = _pair(entry)
        if plain < 0 or multiplied < 0 or plain + multiplied < 1:
            raise NetworkError(f"A layer is a number of nodes or a pair (sums, products), at least 1; got {entry!r}.")
        sums.append(plain)
        products.append(multiplied)
    if len(sums) < 2 or products[0]:
        raise NetworkError(f"A shape is [inputs, nodes, .., outputs], at least two numbers; got {list(shape)!r}.")
    return sums, products


def _pair(entry: object) -> tuple[int, int]:
    """(sums, products) for one entry of a shape, or (0, 0) if the entry is not valid."""
    match entry:
        case int() | np.integer():
            return int(entry), 0
        case [int() | np.integer() as plain, int() | np.integer() as multiplied]:
            return int(plain), int(multiplied)
        case _:
            return 0, 0


def random_init(kan: Kan, intervals: int, seed: tuple[int, ...], hidden: float = 1.0, own_knots: bool = False) -> Kan:
    """The same structure with random splines on grids over [-1, 1]; pruned and named edges stay. `hidden` is the
    half-width of all grids but the first layer's, which keeps its own with `own_knots`."""
    generator = np.random.default_rng(seed)
    widths = (1.0, *[hidden] * (len(kan.layers) - 1))
    layers = zip(kan.layers, widths, strict=True)
    found = tuple(_random_layer(layer, intervals, width, generator) for layer, width in layers)
    if own_knots:
        found = (replace(found[0], knots=kan.layers[0].knots), *found[1:])
    return replace(kan, layers=found)


def _random_layer(layer: Layer, intervals: int, width: float, generator: np.random.Generator) -> Layer:
    spread = CREATION_SPREAD / np.sqrt(layer.inputs)
    edges = layer.base_weight.shape
    coefficients = generator.normal(0, spread, (*edges, intervals + layer.order))
    return replace(
        layer,
        knots=np.tile(uniform_knots(-width, width, intervals, layer.order), (layer.inputs, 1)),
        coefficients=np.where(layer.spline_mask[:, :, None], coefficients, 0.0),
        base_weight=np.where(layer.base_weight != 0, generator.normal(0, spread, edges), 0.0),
    )
