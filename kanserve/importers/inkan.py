"""Networks of inkan (0.5): KANLayer and KANNetwork, uniform cubic splines beside an activation.

    y_j = Σ_i base_weight[j,i]·b(x_i) + Σ_i Σ_m spline[j,i,m]·N((x_i - grid_starts[0])/h - m)

N is the cubic B-spline on 0..4, so the basis falls to zero over the three extended knots on either side. The library's
dense, local and direct paths compute the same.

| array | shape | |
|---|---|---|
| layers.{l}.weight | (O, I·K + I) | the coefficients (O, I, K), then the base weights (O, I) |
| layers.{l}.grid_starts | (K,) | where the support of each basis function starts |

The file stores neither b (SiLU in a KANNetwork) nor the step h; the library keeps 1/h in double precision, and the
starts are rounded.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import CheckpointError
from kanserve.importers.conversion import Checkpoint, Conversion, Options
from kanserve.importers.state_dict_layers import (
    Stored,
    activation_name,
    base_of,
    base_parts,
    build_layer,
    check_chain,
    holds,
    stack,
    variables,
)
from kanserve.network.kan import Kan, Layer

_ORDER = 3
_LARGEST = 1e30  # of a start; larger ones are refused
_PRECISIONS = tuple(float(np.finfo(kind).eps) for kind in (np.float64, np.float32, np.float16))
_NAMES = ("weight", "grid_starts")


def matches(checkpoint: Checkpoint) -> bool:
    """Whether a layer has `grid_starts` and the packed `weight`."""
    return holds(checkpoint, *_NAMES)


def convert(checkpoint: Checkpoint, options: Options) -> Conversion:
    """Convert the checkpoint. Raises CheckpointError for layers that kanserve lacks, such as tensor products."""
    layers: list[Layer] = []
    notes = []
    guessed, steps = False, checkpoint.settings.get("steps", ())
    for stored in stack(checkpoint, "inkan", _NAMES, ()):
        activation, unsaid = base_of(stored, checkpoint, options)
        guessed |= unsaid
        step, precision = (steps[stored.number - 1], 0.0) if steps else _step(stored)
        layers.append(_layer(stored, activation, step))
        if precision > np.finfo(stored.arrays["weight"].dtype).eps:
            notes.append(
                f"Layer {stored.number}: the step of its grid is known to {precision:.0e}, for its starts are stored"
                " less precisely than its weights. The live model has it exactly."
            )
    if guessed:
        notes.append("The base activation is not in the file; it is taken as silu, inkan's default. Say base= if not.")
    check_chain([(layer.nodes, layer.inputs) for layer in layers])
    return Conversion(Kan(tuple(layers), *variables(options)), "inkan", tuple(notes))


def live(model: Any) -> Checkpoint:
    """A checkpoint of a KANNetwork, a KANLayer or a torch Sequential of KANLayers, including step and activation."""
    model = getattr(model, "_orig_mod", model)  # of torch.compile
    arrays: dict[str, NDArray[Any]] = {}
    steps, activations = [], []
    for prefix, layer in _live_layers(model):
        arrays[f"{prefix}weight"] = _array(layer.weight)
        arrays[f"{prefix}grid_starts"] = _array(layer.grid_starts)
        steps.append(1 / float(layer.inv_h))
        activations.append(activation_name(layer.base_activation))
    return Checkpoint(arrays, {"steps": steps, "activations": activations}, f"the {type(model).__name__}")


def _live_layers(model: Any) -> Iterator[tuple[str, Any]]:
    kind = type(model)
    if kind.__module__.startswith("inkan.") and kind.__name__ == "KANLayer":
        yield "", model
        return
    own = kind.__module__.startswith("inkan.") and kind.__name__ == "KANNetwork"
    if not own and kind.__name__ != "Sequential":
        raise CheckpointError(
            f"A {kind.__name__} is not a KANNetwork, KANLayer or Sequential of KANLayers of inkan; import the part"
            " that is, or its state_dict() if its layers follow one another directly."
        )
    for number, layer in enumerate(model.layers if own else model):
        if not type(layer).__module__.startswith("inkan.") or type(layer).__name__ != "KANLayer":
            raise CheckpointError(
                f"Layer {number + 1} of the {kind.__name__} is a {type(layer).__name__}, no KANLayer of inkan."
            )
        yield f"layers.{number}." if own else f"{number}.", layer


def _array(tensor: Any) -> NDArray[Any]:
    given = tensor.detach().cpu()
    array: NDArray[Any] = (given.float() if given.element_size() < 4 else given).numpy().copy()  # NumPy has no bfloat16
    return array


def _layer(stored: Stored, activation: str, step: float) -> Layer:
    starts = stored.array("grid_starts", "basis function")
    weight = stored.array("weight", "node", "feature")
    count = len(starts)
    outputs, width = weight.shape
    if width == count**2 + 2:
        raise CheckpointError(
            f"{stored.place}: it is a tensor-product surface of two inputs (dim=2), not a sum of functions of one input"
            " each; only layers with dim=1 can be imported."
        )
    if width % (count + 1):
        raise CheckpointError(
            f"{stored.place}: a weight of {width} columns does not go with {count} basis functions, where I inputs have"
            f" I·{count + 1}."
        )
    inputs = width // (count + 1)
    return build_layer(
        stored,
        weight[:, : inputs * count].reshape(outputs, inputs, count),
        knots=starts[0] + step * np.arange(count + _ORDER + 1),
        order=_ORDER,
        extrapolation="zero",
        **base_parts(activation, weight[:, inputs * count :], stored.place),
    )


def _step(stored: Stored) -> tuple[float, float]:
    """The step h, and its precision (0 if exact). The starts are a + (m - 3)·h with h = (b - a)/G, rounded; if a range
    (a, b) with at most four decimals reproduces them, h is exact, else it is their slope."""
    starts = stored.array("grid_starts", "basis function")
    count = len(starts)
    if count <= _ORDER:
        raise CheckpointError(f"{stored.place}: a cubic spline needs more than {_ORDER} grid_starts, got {count}.")
    m = np.arange(count)
    largest = float(np.abs(starts).max())
    slope = float((m - m.mean()) @ (starts / (largest or 1)) / ((m - m.mean()) @ m)) * largest
    uneven = float(np.abs(np.diff(starts) - slope).max()) if largest < _LARGEST else np.inf
    # Each start has the rounding errors of a multiplication and two additions, relative to the largest term.
    rooms = {precision: 4 * precision * largest for precision in _PRECISIONS}
    fitting = [precision for precision in _PRECISIONS if uneven <= 2 * rooms[precision]]
    if not slope > 0 or not fitting:
        raise CheckpointError(
            f"{stored.place}: grid_starts must increase and be equally spaced; inkan has no other grids."
        )
    room = rooms[fitting[0]]
    for decimals in range(5):
        if 10.0**-decimals < 50 * room:  # with so many decimals some number always fits
            break
        low, high = round(float(starts[_ORDER]), decimals), round(float(starts[0]) + slope * count, decimals)
        step = (high - low) / (count - _ORDER)
        if step > 0 and np.abs(low + (m - _ORDER) * step - starts).max() <= room:
            return step, 0.0
    return slope, fitting[0]
