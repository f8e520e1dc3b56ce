"""Networks of jaxkan (0.3): a KAN of SplineLayers ("spline"), BaseLayers ("base") or RBFLayers ("rbf").

    y_j = Σ_i c_res[j,i]·residual(x_i) + Σ_i c_spl[j,i]·Σ_m c_basis[j,i,m]·B_m,k(x_i; grid) + bias_j

The splines are zero outside the extended grid. An RBFLayer has c_ext in place of c_spl, and the Gaussians
exp(-((x_i - grid[i,m])/std)²/2) in place of the B-splines; they become splines within a tolerance (`rbf_network`).

jaxkan writes no files, and keeps the grid, the residual function and the width of the Gaussians outside its modules'
state. This saves all of it:

    arrays = {".".join(map(str, path)): leaf[...] for path, leaf in nnx.to_flat_state(nnx.state(model, nnx.Param))}
    for l, layer in enumerate(model.layers):
        arrays[f"layers.{l}.grid"] = layer.grid.item
        arrays[f"layers.{l}.residual.{getattr(layer.residual, '__name__', 'zero')}"] = numpy.ones(1)
        if hasattr(layer, "kernel"):  # of radial layers
            arrays[f"layers.{l}.std"] = numpy.array(layer.kernel.get("std", 1.0))
    numpy.savez("model.npz", **arrays)

| array | SplineLayer | BaseLayer | |
|---|---|---|---|
| layers.{l}.c_basis | (O, I, G+k) | (O·I, G+k) | row j·I + i |
| layers.{l}.grid | (I, G+2k+1) | (O·I, G+2k+1) | already extended, not uniform after an update |
| layers.{l}.c_spl | (O, I) | (O, I) | only with external_weights |
| layers.{l}.c_res | (O, I) | (O, I) | only with a residual |
| layers.{l}.bias | (O,) | (O,) | only with add_bias |
| layers.{l}.residual.NAME | anything | anything | the function's name; SiLU if missing |

An RBFLayer has c_basis (O, I, D), grid (I, D), c_ext (O, I), and the other arrays of a SplineLayer; std defaults to 1.
"""

import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import CheckpointError
from kanserve.importers import rbf_network
from kanserve.importers.conversion import Checkpoint, Conversion, Options
from kanserve.importers.rbf_network import Radial, refit_network
from kanserve.importers.state_dict_layers import (
    Array,
    Stored,
    base_of,
    base_parts,
    build_layer,
    check_chain,
    stack,
    variables,
)
from kanserve.network.kan import Kan, Layer

_PARAMETERS = ("c_basis", "c_spl", "c_ext", "c_res", "bias")

# Layers that are not imported, by the names of their arrays, and the reasons by class.
_BY_ARRAY = {
    "c_cos": "FourierLayer",
    "c_sin": "FourierLayer",
    "omega": "SineLayer",
    "phase": "SineLayer",
    "c_ext": "ChebyshevLayer, LegendreLayer or RBFLayer without its grid",
    "Lambda": "ActLayer of an ActNet",
    "g": "DenseLayer",
}
_REASONS = {
    "FourierLayer": "an edge is a Fourier series",
    "SineLayer": "an edge is a sum of sines of trained frequencies",
    "ChebyshevLayer": "an edge is a polynomial of tanh(x)",
    "LegendreLayer": "an edge is a polynomial of tanh(x)",
}

_RESIDUAL = "The residual is not in the file; it is taken as silu, jaxkan's default. Say base= if not."
_WIDTH = (
    "The width of the Gaussians is not in the file; std is taken as 1, jaxkan's default. Say denominator=√2·std if not."
)


def matches(checkpoint: Checkpoint) -> bool:
    """Whether an array has the name of a jaxkan layer's coefficients, importable or not."""
    return any(name.rpartition(".")[2] in ("c_basis", "c_cos", "Lambda") for name in checkpoint.arrays)


def convert(checkpoint: Checkpoint, options: Options) -> Conversion:
    """Convert the checkpoint. Raises CheckpointError for layers that kanserve lacks, and for a state without grids."""
    checkpoint, residuals = _sort(checkpoint)
    _refuse_others(checkpoint)
    layers: list[Layer] = []
    radial: list[Radial] = []
    guessed: set[str] = set()
    before = len(options.inputs) or None
    for stored in stack(checkpoint, "jaxkan", ("c_basis",), (*_PARAMETERS[1:], "grid", "std")):
        activation, unsaid = base_of(stored, checkpoint, options)
        if unsaid and stored.prefix in residuals:
            activation, unsaid = residuals[stored.prefix], False
        if unsaid and "c_res" in stored:
            guessed.add(_RESIDUAL)
        if _is_radial(stored):
            if "std" not in stored and options.denominator is None:
                guessed.add(_WIDTH)
            radial.append(_radial(stored, activation, options))
            layers.append(radial[-1].rest)
        else:
            layers.append(_layer(stored, activation, before))
        before = layers[-1].nodes
    check_chain([(layer.nodes, layer.inputs) for layer in layers])
    notes = sorted(guessed)
    if radial:
        if len(radial) < len(layers):
            raise CheckpointError(f"{checkpoint.name} has layers of splines and of Gaussians; one kind is taken.")
        found = refit_network(radial, options.tolerance)
        layers, notes = list(found.layers), [*rbf_network.notes(radial, found), *notes]
    return Conversion(Kan(tuple(layers), *variables(options)), "jaxkan", tuple(notes), refitted=bool(radial))


def _refuse_others(checkpoint: Checkpoint) -> None:
    """Raise CheckpointError for an array of a layer type that is not supported."""
    for key in checkpoint.arrays:
        prefix, _, name = key.rpartition(".")
        kind = _BY_ARRAY.get(name)
        if kind is not None and (name != "c_ext" or f"{prefix}.grid".lstrip(".") not in checkpoint.arrays):
            raise _other_layer(f"{checkpoint.name}: {key!r} is an array of a {kind}", kind)


def _sort(checkpoint: Checkpoint) -> tuple[Checkpoint, dict[str, str]]:
    """The arrays without the random states of training, and the names of the residual functions by prefix."""
    arrays, residuals = {}, {}
    for key, array in checkpoint.arrays.items():
        residual = re.fullmatch(r"((?:.*\.)?)residual\.(.+)", key)
        if residual:
            residuals[residual[1]] = residual[2]
        elif not re.search(r"(^|\.)rngs\.", key):
            arrays[re.sub(r"(?<=grid)\.item$", "", key)] = array
    return Checkpoint(arrays, checkpoint.settings, checkpoint.name), residuals


def live(model: Any) -> Checkpoint:
    """A checkpoint of a KAN or one of its layers, including grids, residual functions and widths of Gaussians."""
    arrays: dict[str, NDArray[Any]] = {}
    activations = []
    for prefix, layer in _live_layers(model):
        for name in _PARAMETERS:
            if getattr(layer, name, None) is not None:
                arrays[prefix + name] = np.asarray(getattr(layer, name)[...])
        arrays[f"{prefix}grid"] = np.asarray(layer.grid.item)
        if hasattr(layer, "kernel"):
            arrays[f"{prefix}std"] = np.array(layer.kernel.get("std", 1.0), np.float64)
        activations.append(_name(layer.residual))
    return Checkpoint(arrays, {"activations": activations}, f"the {type(model).__name__}")


def _live_layers(model: Any) -> Iterator[tuple[str, Any]]:
    kind = type(model)
    if kind.__module__.startswith("jaxkan.layers."):
        layers = {"": model}
    elif kind.__module__.startswith("jaxkan.models.") and kind.__name__ == "KAN":
        layers = {f"layers.{number}.": layer for number, layer in enumerate(model.layers)}
    else:
        raise CheckpointError(
            f"A {kind.__name__} is not a KAN of jaxkan, nor one of its layers; import the part of it that is."
        )
    for number, (prefix, layer) in enumerate(layers.items()):
        name = type(layer).__name__
        if name not in ("SplineLayer", "BaseLayer", "RBFLayer"):
            raise _other_layer(f"Layer {number + 1} of the {kind.__name__} is a {name}", name)
        yield prefix, layer


def _other_layer(subject: str, kind: str) -> CheckpointError:
    reason = _REASONS.get(kind, "an edge is a sum of other functions than splines")
    return CheckpointError(
        f"{subject}: {reason}, which has no equal here. Train with layer_type 'spline', 'base' or 'rbf', or train a"
        " network here on what this one predicts."
    )


def _name(function: Any) -> str:
    """The residual's name if it is a function of jax or flax. Others are prefixed with their module: a user's silu may
    be a different function."""
    if function is None:
        return "zero"
    module, name = getattr(function, "__module__", "") or "", getattr(function, "__name__", "") or "unknown"
    return name if module.partition(".")[0] in ("jax", "flax") else f"{module}.{name}"


def _layer(stored: Stored, activation: str, before: int | None) -> Layer:
    """Convert a layer; `before` is its number of inputs, if known from the previous layer or the options."""
    if "grid" not in stored:
        raise CheckpointError(
            f"{stored.place}: it has no grid, which jaxkan keeps outside its state (and polynomial layers do not have);"
            f" save layer.grid.item beside it, as '{stored.prefix}grid'."
        )
    knots = stored.array("grid", "row", "knot")
    rows = stored.arrays["c_basis"].ndim == 2
    coefficients = stored.array("c_basis", *(("row",) if rows else ("node", "input")), "coefficient")
    count = coefficients.shape[-1]
    order = knots.shape[1] - count - 1
    if not 1 <= order < count:
        raise CheckpointError(
            f"{stored.place}: {knots.shape[1]} knots do not go with {count} coefficients: a spline of order k has k + 1"
            f" knots more, k at least 1 and less than {count}."
        )
    if rows:
        outputs, inputs = _size(stored, len(coefficients), before)
        coefficients = coefficients.reshape(outputs, inputs, count)
        knots = _share(stored, stored.of_shape("grid", (outputs * inputs, knots.shape[1]), "row", "knot"), outputs)
    outputs, inputs, _ = coefficients.shape
    knots = knots if rows else stored.of_shape("grid", (inputs, knots.shape[1]), "input", "knot")
    _check_knots(stored, knots)
    if "c_spl" in stored:
        with np.errstate(over="ignore"):
            coefficients = coefficients * stored.of_shape("c_spl", (outputs, inputs), "node", "input")[:, :, None]
    beside: dict[str, Any] = {"base": "zero"}
    if "c_res" in stored:
        weight = stored.of_shape("c_res", (outputs, inputs), "node", "input")
        beside = base_parts(activation, weight, stored.place)
    return build_layer(
        stored,
        coefficients,
        knots=knots,
        order=order,
        extrapolation="zero",
        subnode_bias=stored.of_shape("bias", (outputs,), "node") if "bias" in stored else None,
        **beside,
    )


def _is_radial(stored: Stored) -> bool:
    """Whether the layer is an RBFLayer: it has as many grid points as coefficients."""
    shapes = [stored.arrays[name].shape for name in ("c_basis", "grid") if name in stored]
    return len(shapes) == 2 and len(shapes[0]) == 3 and shapes[0][1:] == shapes[1]


def _radial(stored: Stored, activation: str, options: Options) -> Radial:
    weights = stored.array("c_basis", "node", "input", "Gaussian")
    centres = stored.array("grid", "input", "Gaussian")
    nodes, inputs = weights.shape[:2]
    if "c_ext" in stored:
        with np.errstate(over="ignore"):
            weights = weights * stored.of_shape("c_ext", (nodes, inputs), "node", "input")[:, :, None]
    denominator = options.denominator
    if denominator is None:
        denominator = math.sqrt(2) * abs(float(stored.array("std"))) if "std" in stored else math.sqrt(2)
    if not 0 < denominator < math.inf:
        raise CheckpointError(f"{stored.place}: std must be a number other than 0, got {stored.arrays['std']}.")
    parts: dict[str, Any] = {"base": "zero"}
    if "c_res" in stored:
        parts = base_parts(activation, stored.of_shape("c_res", (nodes, inputs), "node", "input"), stored.place)
    bias = stored.of_shape("bias", (nodes,), "node") if "bias" in stored else None
    rest = build_layer(stored, None, shape=(nodes, inputs), subnode_bias=bias, **parts)
    return Radial(stored.place, weights, centres, denominator, rest)


def _size(stored: Stored, rows: int, before: int | None) -> tuple[int, int]:
    """The outputs and inputs of a BaseLayer, whose coefficients have a row for each pair."""
    for name in ("c_res", "c_spl"):
        if name in stored:
            outputs, inputs = stored.array(name, "node", "input").shape
            break
    else:
        if "bias" in stored:
            outputs = len(stored.array("bias", "node"))
        elif before is not None:
            outputs = max(rows // before, 1)
        else:
            raise CheckpointError(
                f"{stored.place}: without c_res, c_spl and bias its number of inputs is not known; give the names of"
                " the inputs."
            )
        inputs = rows // outputs
    if outputs * inputs != rows:
        raise CheckpointError(f"{stored.place}: c_basis must have a row for each edge, has {rows} for {outputs} nodes.")
    return outputs, inputs


def _share(stored: Stored, knots: Array, outputs: int) -> Array:
    """The grids (I, T) of a BaseLayer. It stores one per edge (O·I, T), equal for all edges of an input."""
    each = knots.reshape(outputs, -1, knots.shape[1])
    differs = np.argwhere((each != each[0]).any(axis=2))
    if len(differs):
        j, i = differs[0]
        raise CheckpointError(
            f"{stored.place}, edge from input {i + 1} to node {j + 1}: its knots differ from those of the edge to node"
            " 1, and edges of one input share theirs here; a grid update of jaxkan's makes them equal."
        )
    shared: Array = each[0]
    return shared


def _check_knots(stored: Stored, knots: Array) -> None:
    still = np.argwhere(knots[:, 1:] <= knots[:, :-1])
    if len(still):
        i, m = still[0]
        raise CheckpointError(
            f"{stored.place}, input {i + 1}: its knot {m + 2} is not above the one before, where jaxkan divides by zero"
            " and gives NaN; update the grid with a larger grid_e."
        )
