"""Networks that hypothesis makes up: any shape, any function, inside and outside its domain."""

from typing import get_args

import numpy as np
from hypothesis import strategies as st

from kanserve.network.functions import FUNCTIONS
from kanserve.network.kan import Kan, Layer, Variable, make_layer
from kanserve.network.kan_checks import Base
from kanserve.network.splines import Extrapolation, extend_knots, uniform_knots

SPECIAL = (0.0, 1.0, -1.0, 0.5, -2.0, np.pi, np.pi / 2, -np.pi / 2)  # where identities apply
REACHES = ("inside", "across", "anywhere")
BASES: tuple[Base, ...] = get_args(Base)
EXTRAPOLATIONS: tuple[Extrapolation, ...] = get_args(Extrapolation)
KINDS = ("none", "spline", "named", "both")


@st.composite
def networks(draw: st.DrawFn) -> Kan:
    """1 to 4 inputs, 1 to 3 layers, 1 to 3 outputs; hypothesis chooses the shape, a random generator the numbers.

    Edges are splines of an order and an extrapolation for each layer, named functions, both or nothing (so that nodes
    lead nowhere or come from nothing); nodes multiply 1 to 4 sums; inputs and outputs are shifted and scaled by up to
    1e6. Functions leave their domains in some networks and not in others.
    """
    widths = [draw(st.integers(1, 4)), *(draw(st.integers(1, 3)) for _ in range(draw(st.integers(1, 3))))]
    sums = st.sampled_from([1, 1, 1, 2, 3, 4])
    arities = [draw(st.lists(sums, min_size=nodes, max_size=nodes)) for nodes in widths[1:]]
    reach = draw(st.sampled_from(REACHES))
    palette = draw(st.sampled_from([("named",), ("spline",), KINDS, ("none", "named"), ("named", "named", "both")]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    layers = tuple(_layer(rng, inputs, arity, palette, reach) for inputs, arity in zip(widths, arities, strict=False))
    return scaled(rng, layers, affine=draw(st.booleans()))


def _layer(rng: np.random.Generator, inputs: int, arity: list[int], palette: tuple[str, ...], reach: str) -> Layer:
    shape = sum(arity), inputs
    order, intervals = int(rng.integers(1, 6)), int(rng.integers(1, 6))
    knots = np.stack([_knots(rng, intervals, order) for _ in range(inputs)])
    kinds = rng.choice(palette, shape)
    splined, named = np.isin(kinds, ("spline", "both")), np.isin(kinds, ("named", "both"))
    coefficients = rng.normal(0, 0.5, (*shape, intervals + order)) * splined[..., None]
    return make_layer(
        coefficients,
        knots=knots,
        order=order,
        base=BASES[int(rng.integers(3))],
        base_weight=rng.normal(0, 0.5, shape) * splined * (rng.random(shape) < 0.7),
        extrapolation=EXTRAPOLATIONS[int(rng.integers(2))],
        functions=np.where(named, rng.choice(list(FUNCTIONS), shape), ""),
        affine=named_affine(rng, shape, reach),
        arity=arity,
        subnode_scale=_numbers(rng, shape[0]),
        subnode_bias=rng.choice([0.0, 1.0, 0.3], shape[0]),
        node_scale=_numbers(rng, len(arity)),
        node_bias=rng.choice([0.0, -1.0, 0.7], len(arity)),
    )


def _knots(rng: np.random.Generator, intervals: int, order: int) -> np.ndarray:
    if rng.random() < 0.5:
        return uniform_knots(-1.2, 1.2, intervals, order)
    steps = rng.uniform(0.1, 1.0, intervals)
    return extend_knots(np.concatenate([[0.0], np.cumsum(steps)]) / steps.sum() * 2.4 - 1.2, order)


def named_affine(rng: np.random.Generator, shape: tuple[int, int], reach: str) -> np.ndarray:
    """Arguments about 0.2 to 0.8, such that cross an end of a domain or a pole now and then, or anything."""
    if reach == "inside":
        inner = rng.uniform(-0.3, 0.3, shape), rng.uniform(0.4, 0.6, shape)
        return np.stack([*inner, rng.normal(0, 0.5, shape), rng.normal(0, 0.5, shape)], axis=-1)
    if reach == "across":
        inner = rng.uniform(-0.6, 0.6, shape), rng.uniform(0.3, 0.6, shape)
        return np.stack([*inner, rng.normal(0, 0.5, shape), rng.normal(0, 0.2, shape)], axis=-1)
    numbers = rng.normal(0, 1.5, (*shape, 4))
    return np.where(rng.random(numbers.shape) < 0.4, rng.choice(SPECIAL, numbers.shape), numbers)


def _numbers(rng: np.random.Generator, count: int) -> np.ndarray:
    return np.where(rng.random(count) < 0.5, 1.0, rng.normal(0, 1, count))


def scaled(rng: np.random.Generator, layers: tuple[Layer, ...], *, affine: bool) -> Kan:
    inputs, outputs = layers[0].inputs, layers[-1].nodes
    if not affine:
        names = tuple(Variable(f"x{i + 1}", low=-1.0, high=1.0) for i in range(inputs))
        return Kan(layers, inputs=names)
    shift = rng.choice([-1, 1], inputs) * 10.0 ** rng.uniform(-2, 6, inputs)
    scale = rng.choice([-1, 1], inputs) * 10.0 ** rng.uniform(-3, 6, inputs)
    spans = np.sort([shift - scale, shift + scale], axis=0).T.tolist()
    return Kan(
        layers,
        inputs=tuple(Variable(f"x{i + 1}", low=low, high=high) for i, (low, high) in enumerate(spans)),
        input_shift=shift,
        input_scale=scale,
        output_shift=10.0 ** rng.uniform(-2, 6, outputs),
        output_scale=rng.choice([-1, 1], outputs) * 10.0 ** rng.uniform(-3, 6, outputs),
    )
