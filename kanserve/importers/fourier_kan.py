"""FourierKAN: each edge is a Fourier series.

    y_j = bias_j + Σ_i Σ_k (c[0, j, i, k-1]·cos(k·x_i) + c[1, j, i, k-1]·sin(k·x_i)),  k = 1, 2, ...

| array | shape | |
|---|---|---|
| layers.{l}.fouriercoeffs | (2, O, I, frequencies) | of the cosines, then of the sines |
| layers.{l}.bias | (1, O) or (O,) | only with addbias |

A layer becomes two, exactly: a node for each cosine and sine of each input, and their sums.
"""

from typing import Any

import numpy as np

from kanserve.errors import CheckpointError
from kanserve.importers.conversion import Checkpoint, Conversion, Options
from kanserve.importers.function_layers import check_size, each_input, make_weighted_sums
from kanserve.importers.state_dict_layers import Stored, check_chain, holds, live_parts, stack, variables
from kanserve.network.kan import Kan, Layer

LIBRARY = "fourier-kan"
_WANTED, _OTHERS = ("fouriercoeffs",), ("bias",)


def matches(checkpoint: Checkpoint) -> bool:
    """Whether the arrays have FourierKAN's names."""
    return holds(checkpoint, *_WANTED)


def convert(checkpoint: Checkpoint, options: Options) -> Conversion:
    """Convert the checkpoint; the outputs are equal."""
    layers: list[Layer] = []
    shapes = []
    for stored in stack(checkpoint, LIBRARY, _WANTED, _OTHERS):
        own = _layers(stored)
        layers += own
        shapes.append((own[-1].nodes, own[0].inputs))
    check_chain(shapes)
    return Conversion(Kan(tuple(layers), *variables(options)), LIBRARY)


def live(model: Any) -> Checkpoint:
    """A checkpoint of a live model whose layers are all of this kind."""
    arrays, _ = live_parts(model, _WANTED + _OTHERS, LIBRARY)
    return Checkpoint(arrays, name=f"the {type(model).__name__}")


def _layers(stored: Stored) -> list[Layer]:
    series = stored.array("fouriercoeffs", "cosine or sine", "node", "input", "frequency")
    halves, nodes, inputs, count = series.shape
    if halves != 2:
        raise CheckpointError(
            f"{stored.place}: fouriercoeffs must be (2, nodes, inputs, frequencies), has {series.shape}."
        )
    bias = None
    if "bias" in stored:
        shape, axes = ((1, nodes), ("1", "node")) if stored.arrays["bias"].ndim == 2 else ((nodes,), ("node",))
        bias = stored.of_shape("bias", shape, *axes).ravel()
    check_size(stored.place, inputs, 2 * count * inputs * max(inputs, nodes))
    waves = [(name, float(k)) for name in ("cos", "sin") for k in range(1, count + 1)]
    weights = np.moveaxis(series, 0, 2).reshape(nodes, inputs * 2 * count)
    return [each_input(waves, inputs, -np.pi, np.pi), make_weighted_sums(weights, bias)]
