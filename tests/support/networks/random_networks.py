"""Random networks that vary everything a network can hold, and rows that try each: `networks`, `rows`.

Unlike the networks of `generated.py`, which hypothesis shrinks and whose formulas are compared, these are as deep and
wide as exporters must bear, and they are the same in every run: kinds that matter come in turn, the rest is drawn.
"""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from kanserve.network.evaluate import evaluate
from kanserve.network.functions import FUNCTIONS
from kanserve.network.kan import Kan, Layer, Variable, make_layer
from kanserve.network.splines import extend_knots, span, uniform_knots
from tests.support.networks.generated_networks import EXTRAPOLATIONS, KINDS, REACHES, named_affine, scaled
from tests.support.networks.kans import ZOO, with_codes

Array = NDArray[np.float64]

# The edges of a network: the first three are what people have, the others what they may have.
PALETTES = (("spline",), ("named",), ("spline", "spline", "named", "none"), KINDS, ("both", "none"))
GRIDS = ("uniform", "uniform", "per input", "uneven", "repeated", "clamped")
SIZES = (1.0, 1.0, 1e-6, 1.0, 1e6)  # of a layer's outputs
PORTIONS: tuple[str | int, ...] = ("zoo", 0, 1, 2, 3)  # see `portion`
EXTENDED = (pytest.mark.extended,)
EXHAUSTIVE = (pytest.mark.extended, pytest.mark.exhaustive)
# The zoo in both precisions, the random networks in one: C takes them as here, NumPy and ONNX in the other one.
CASES = (
    ("zoo", "double"),
    *(pytest.param(*case, marks=EXTENDED) for case in ((0, "float"), (2, "double"))),
    *(pytest.param(*case, marks=EXHAUSTIVE) for case in (("zoo", "float"), (1, "float"), (3, "double"))),
)
OTHER_CASES = (
    ("zoo", "double"),
    (0, "double"),
    *(pytest.param(*case, marks=EXTENDED) for case in (("zoo", "float"), (2, "float"))),
    *(pytest.param(*case, marks=EXHAUSTIVE) for case in ((1, "double"), (3, "float"))),
)
MOST_EDGES = 90  # but for the networks that are wide


def networks(count: int, seed: int = 0) -> Iterator[Kan]:
    """The first `count` networks of a seed."""
    return (network(number, seed) for number in range(count))


def network(number: int, seed: int = 0) -> Kan:
    """One network. Most are finite on a third of their rows or more; one in ten is as it is drawn."""
    draws = (_network(np.random.default_rng([seed, number, draw]), number) for draw in itertools.count())
    return next(kan for kan in draws if number % 10 == 7 or _finite_share(kan) > 0.3)


@cache
def portion(which: str | int) -> dict[str, Kan]:
    """The zoo, or a quarter of 200 networks, by names that are good for files: what one test takes."""
    if which == "zoo":
        return {f"zoo_{name}": make() for name, make in ZOO.items()}
    return {f"n{number}": network(number) for number in range(200) if number % 4 == which}


def _finite_share(kan: Kan) -> float:
    return float(np.isfinite(evaluate(kan, rows(kan))).all(axis=1).mean())


def _network(rng: np.random.Generator, number: int) -> Kan:
    widths = _widths(rng, number)
    palette = PALETTES[number % len(PALETTES)]
    reach = REACHES[number // 2 % len(REACHES)]
    layers = []
    for n, (inputs, nodes) in enumerate(itertools.pairwise(widths)):
        arity = rng.choice([1, 2, 3], nodes) if rng.random() < 0.3 and nodes <= 20 else np.ones(nodes, int)
        layers.append(_layer(rng, inputs, arity, palette, reach, number + n))
    kan = Kan(tuple(layers))
    if number % 3 == 1:
        kan = scaled(rng, kan.layers, affine=True)
    elif number % 3 == 2:
        kan = _gently_scaled(rng, kan)
    if rng.random() < 0.3:
        kan = _thinned(rng, kan)
    if number % 4 == 1:
        kan = replace(kan, classes=tuple(f"class {q}" for q in range(len(kan.outputs))))
    return kan


def _widths(rng: np.random.Generator, number: int) -> list[int]:
    """The numbers of nodes from the inputs to the outputs: 1 to 5 layers, of 1 to 20 nodes, or one of 60 to 100."""
    if number % 100 == 5:  # of splines alone: source of as many named edges takes a compiler seconds
        return [int(rng.integers(2, 12)), int(rng.integers(60, 101)), int(rng.integers(1, 6))]
    depth = 1 + number % 5
    while True:
        widths = rng.integers(1, 21 if rng.random() < 0.4 else 5, depth + 1)
        if (widths[1:] * widths[:-1]).sum() <= MOST_EDGES:
            return [int(width) for width in widths]


def _layer(
    rng: np.random.Generator, inputs: int, arity: NDArray[np.int64], palette: tuple[str, ...], reach: str, turn: int
) -> Layer:
    shape = int(arity.sum()), inputs
    order = 1 + turn % 5
    intervals = (1, 2, 5, int(rng.integers(3, 20)), int(rng.integers(20, 61)))[int(rng.integers(5))]
    kinds = rng.choice(palette, shape)
    splined, named = np.isin(kinds, ("spline", "both")), np.isin(kinds, ("named", "both"))
    outer = EXTRAPOLATIONS[int(rng.integers(2))]
    size = SIZES[int(rng.integers(len(SIZES)))] if rng.random() < 0.3 else 1.0
    split = size ** rng.random()
    varied = rng.random() < 0.4
    return make_layer(
        rng.normal(0, 0.5, (*shape, intervals + order)) / np.sqrt(inputs) * splined[..., None],
        knots=_knots(rng, inputs, intervals, order, GRIDS[turn % len(GRIDS)], outer),
        order=order,
        base=("silu", "identity", "zero")[int(rng.integers(3))],
        base_weight=rng.normal(0, 0.3, shape) * splined * (rng.random(shape) < 0.8),
        extrapolation=outer,
        functions=np.where(named, rng.choice(list(FUNCTIONS), shape), ""),
        affine=named_affine(rng, shape, reach),
        arity=arity,
        subnode_scale=split * (rng.normal(0, 1, shape[0]) if varied else np.ones(shape[0])),
        subnode_bias=rng.choice([0.0, 1.0, 0.3], shape[0]) if varied else np.zeros(shape[0]),
        node_scale=size / split * (rng.normal(0, 1, len(arity)) if varied else np.ones(len(arity))),
        node_bias=rng.choice([0.0, -1.0, 0.7], len(arity)) if varied else np.zeros(len(arity)),
    )


def _knots(rng: np.random.Generator, inputs: int, intervals: int, order: int, grid: str, outer: str) -> Array:
    if grid == "uniform":
        low = rng.choice([-1.0, -1.2, 0.0, -0.37])
        return np.tile(uniform_knots(low, rng.choice([1.0, 1.2, 2.5]), intervals, order), (inputs, 1))
    if grid == "per input":
        ends = np.stack([rng.uniform(-2, -0.5, inputs), rng.uniform(0.5, 2, inputs)], axis=1)
        return np.stack([uniform_knots(low, high, intervals, order) for low, high in ends])
    knots = np.empty((inputs, intervals + 2 * order + 1))
    for i in range(inputs):
        steps = rng.uniform(0.05, 1.0, intervals)
        knots[i] = extend_knots(np.concatenate([[0.0], np.cumsum(steps)]) / steps.sum() * 2.4 - 1.2, order)
        if grid == "repeated" and order > 1 and intervals > 2:
            knots[i, order + 2] = knots[i, order + 1]
        if grid == "clamped":  # where the spline is zero outside, a knot too many would make it jump
            times = order + 1 if outer == "linear" else order
            knots[i, order + 1 - times : order], knots[i, -order : len(knots[i]) - order - 1 + times] = (
                knots[i, order],
                knots[i, -order - 1],
            )
    return knots


def _gently_scaled(rng: np.random.Generator, kan: Kan) -> Kan:
    """Names, units, some ranges, and scales that leave a float most of its digits."""
    inputs, outputs = len(kan.inputs), len(kan.outputs)
    shift, scale = rng.normal(0, 2, inputs), rng.uniform(0.2, 5, inputs) * rng.choice([-1, 1], inputs)
    ends = np.sort([shift - scale, shift + scale], axis=0).T.tolist()
    known = rng.random(inputs) < 0.6
    return replace(
        kan,
        inputs=tuple(
            Variable(f"feature {i}", ("", "K", "m/s")[i % 3], *(ends[i] if known[i] else ())) for i in range(inputs)
        ),
        outputs=tuple(Variable(f"answer {q}", "J") for q in range(outputs)),
        input_shift=shift,
        input_scale=scale,
        output_shift=rng.normal(0, 1, outputs),
        output_scale=10.0 ** rng.uniform(-6, 6, outputs) if rng.random() < 0.3 else rng.uniform(0.5, 2, outputs),
    )


def _thinned(rng: np.random.Generator, kan: Kan) -> Kan:
    """The network with half of its edges pruned, and all those of an input and of a node."""
    layers = []
    for layer in kan.layers:
        keep = rng.random((layer.subnodes, layer.inputs)) < 0.5
        keep[rng.integers(layer.subnodes)], keep[:, rng.integers(layer.inputs)] = False, layer.inputs < 3
        layers.append(
            replace(
                layer,
                coefficients=layer.coefficients * keep[..., None],
                base_weight=layer.base_weight * keep,
                functions=np.where(keep, layer.functions, ""),
            )
        )
    return replace(kan, layers=tuple(layers))


def rows(kan: Kan, count: int = 80, seed: int = 0) -> Array:
    """Raw feature rows (about `count`, inputs) that try a network; about half are inside its grid.

    The others: at the ends of the grid, at knots and one ulp beside them, outside near and far (1e3, 1e30), with NaN
    or an infinity in one place, with -0.0 and subnormal numbers, in all features or in one.
    """
    rng = np.random.default_rng(seed)
    first = kan.layers[0]
    low, high = np.array([span(first.knots[i], first.order) for i in range(first.inputs)]).T
    size = high - low
    knots = first.knots[:, rng.integers(first.knots.shape[1], size=max(1, count // 16))].T
    far = rng.choice([-1.0, 1.0], (6, first.inputs)) * [[1e3], [1e3], [1e3], [1e30], [1e30], [1e30]]
    tiny = np.array([[0.0], [-0.0], [5e-324], [-1e-310], [1e-40]]) * np.ones(first.inputs)
    near = [low - 1e-9 * size, high + 1e-9 * size, low - 0.1 * size, high + 0.1 * size, low - 2 * size, high + 2 * size]
    odd = np.concatenate([[low, high], knots, np.nextafter(knots, -9), np.nextafter(knots, 9), near, far, tiny])
    broken = np.array([[np.nan], [np.inf], [-np.inf]]) * np.ones(first.inputs)
    inside = rng.uniform(low, high, (max(8, count - len(odd) - len(broken)), first.inputs))
    # Half of the odd rows are odd in one feature only: the others would hide what it does.
    alone = np.arange(first.inputs) == rng.integers(first.inputs, size=(len(odd), 1))
    alone |= (np.arange(len(odd)) % 2 == 0)[:, None]
    odd = np.where(alone, odd, rng.uniform(low, high, odd.shape))
    one = np.arange(first.inputs) == rng.integers(first.inputs, size=(len(broken), 1))
    broken = np.where(one, broken, rng.uniform(low, high, broken.shape))
    values = np.concatenate([inside, odd, broken])
    # A value that has no shift stays the very number it is: -0.0 + 0.0 would be 0.0.
    raw: Array = np.where(kan.input_shift == 0, values * kan.input_scale, values * kan.input_scale + kan.input_shift)
    return with_codes(kan, raw)
