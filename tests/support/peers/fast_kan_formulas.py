"""fast-kan by its own formulas: a state_dict, what it computes, and the network it becomes."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from kanserve.importers import fast_kan
from kanserve.importers.conversion import Checkpoint, Conversion, Options

Array = NDArray[np.float64]
State = dict[str, NDArray[np.floating]]


def silu(x: Array) -> Array:
    result: Array = x / (1 + np.exp(-x))
    return result


def forward(state: State, x: Array, denominators: list[float], activation=silu) -> Array:
    """The network's outputs by the library's formula, in double."""
    for number, denominator in enumerate(denominators):
        own: dict[str, Array] = {
            name.removeprefix(f"layers.{number}."): np.asarray(array, np.float64) for name, array in state.items()
        }
        gaussians = np.exp(-(((x[:, :, None] - own["rbf.grid"]) / denominator) ** 2))
        y = gaussians.reshape(len(x), -1) @ own["spline_linear.weight"].T
        if "base_linear.weight" in own:
            y = y + activation(x) @ own["base_linear.weight"].T + own["base_linear.bias"]
        x = y
    return x


def state_of(
    widths: list[int], count: int = 8, low: float = -2, high: float = 2, base: bool = True, kind: type = np.float64
) -> State:
    rng, state = np.random.default_rng(3), State()
    for number, (inputs, nodes) in enumerate(pairwise(widths)):
        own = {
            "rbf.grid": np.linspace(low, high, count),
            "spline_linear.weight": rng.normal(0, 0.3, (nodes, inputs * count)),
        }
        if base:
            own["base_linear.weight"] = rng.normal(0, 0.3, (nodes, inputs))
            own["base_linear.bias"] = rng.normal(0, 0.3, nodes)
        state |= {f"layers.{number}.{name}": array.astype(kind) for name, array in own.items()}
    return state


def converted(state: State, **options) -> Conversion:
    return fast_kan.convert(Checkpoint(state), Options(**options))
