"""Checkpoints of most libraries: a state_dict of consecutive layers and nothing else."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import CheckpointError, NetworkError
from kanserve.importers.conversion import Checkpoint, Options
from kanserve.network.kan import Layer, Variable, make_layer

Array = NDArray[np.float64]

# By an activation's name in lower case: the base function of our layer and its share of the base weight, and the named
# function beside it and its share. relu(x) = (x + |x|)/2.
_ACTIVATIONS: dict[str, tuple[str, float, str, float]] = {
    "silu": ("silu", 1.0, "", 0.0),
    "identity": ("identity", 1.0, "", 0.0),
    "zero": ("zero", 0.0, "", 0.0),
    "tanh": ("zero", 0.0, "tanh", 1.0),
    "sigmoid": ("zero", 0.0, "sigmoid", 1.0),
    "sin": ("zero", 0.0, "sin", 1.0),
    "cos": ("zero", 0.0, "cos", 1.0),
    "relu": ("identity", 0.5, "abs", 0.5),
}
_NUMBERED = re.compile(r"(.*?)([0-9]{1,9})\.")
_WITHOUT_EFFECT = ("Dropout", "Identity", "Flatten")  # in evaluation mode


@dataclass(frozen=True, eq=False)
class Stored:
    """One layer of the file: its number from 1, its prefix, and its arrays by name without the prefix."""

    number: int
    prefix: str
    arrays: Mapping[str, NDArray[Any]]

    @property
    def place(self) -> str:
        return f"layer {self.number}"

    def __contains__(self, name: str) -> bool:
        return name in self.arrays

    def array(self, name: str, *axes: str) -> Array:
        """The array in float64. It must be finite, with one dimension for each of the axes ("input", "node", ...)."""
        given = self.arrays[name]
        if given.dtype.kind != "f" or given.ndim != len(axes) or given.size == 0:
            wanted = f"floats ({', '.join(axes)})"
            raise CheckpointError(f"{self.place}: {name} must be {wanted}, has {given.dtype} {given.shape}.")
        array: Array = given.astype(np.float64)
        if not np.isfinite(array).all():
            position = np.argwhere(~np.isfinite(array))[0]
            where = ", ".join(f"{axis} {at + 1}" for axis, at in zip(axes, position, strict=True))
            raise CheckpointError(f"{self.place}: {name} is {array[tuple(position)]} at {where}; it must be finite.")
        return array

    def of_shape(self, name: str, shape: tuple[int, ...], *axes: str) -> Array:
        """Like `array`, for an array whose shape follows from the layer's other arrays; -1 means any size."""
        array = self.array(name, *axes)
        if any(wanted not in (-1, size) for wanted, size in zip(shape, array.shape, strict=True)):
            wanted_shape = ", ".join("any" if size == -1 else str(size) for size in shape)
            raise CheckpointError(
                f"{self.place}: {name} must have shape ({wanted_shape}), as the layer's others say, has {array.shape}."
            )
        return array


def holds(checkpoint: Checkpoint, *names: str) -> bool:
    """Whether some layer has an array of each of these names."""
    found = [{_prefix(key, (name,)) for key in checkpoint.arrays} - {None} for name in names]
    return bool(set.intersection(*found))


def stack(checkpoint: Checkpoint, library: str, wanted: tuple[str, ...], others: tuple[str, ...]) -> list[Stored]:
    """The layers in order. Raises CheckpointError if arrays are missing or unknown, or the order is unclear."""
    layers: dict[str, dict[str, NDArray[Any]]] = {}
    for key, array in checkpoint.arrays.items():
        prefix = _prefix(key, wanted + others)
        if prefix is None:
            raise CheckpointError(
                f"{checkpoint.name}: {key!r} is not an array of a layer of {library}, and what it does is not in the "
                "file. Import the layers alone, if nothing else stands between them."
            )
        layers.setdefault(prefix, {})[key[len(prefix) :]] = array
    found = [Stored(n + 1, prefix, layers[prefix]) for n, prefix in enumerate(_order(list(layers), library))]
    for layer in found:
        missing = [name for name in wanted if name not in layer]
        if missing:
            raise CheckpointError(f"{layer.place}: {layer.prefix + missing[0]!r} is missing from {checkpoint.name}.")
    return found


def _prefix(key: str, names: tuple[str, ...]) -> str | None:
    """The key without the longest of the names that it ends with: "layers.0." for "layers.0.grid"."""
    for name in sorted(names, key=len, reverse=True):
        if key == name or key.endswith("." + name):
            return key[: len(key) - len(name)]
    return None


def _order(prefixes: list[str], library: str) -> list[str]:
    """Sort by number. Gaps are refused: a skipped number may be an activation, which has no arrays."""
    if len(prefixes) == 1:
        return prefixes
    parts = [_NUMBERED.fullmatch(prefix) for prefix in prefixes]
    numbered = {(part[1], int(part[2])): part[0] for part in parts if part}
    stem, first = min(numbered, default=("", 0))
    starts = (0,) if stem == "" or stem.endswith(".") else (0, 1)  # people name layers "kan1", "kan2"
    expected = [(stem, first + n) for n in range(len(prefixes))]
    if sorted(numbered) != expected or first not in starts:
        names = ", ".join(prefix.rstrip(".") for prefix in sorted(prefixes)[:4])
        raise CheckpointError(
            f"The layers of {library} are called {names}, and what stands between them is not in the file. "
            "If nothing does, number them: layers.0, layers.1 and so on."
        )
    return [numbered[key] for key in expected]


def check_chain(shapes: list[tuple[int, int]]) -> None:
    """Raise CheckpointError unless each layer (nodes, inputs) has as many inputs as the previous one has nodes."""
    for number, (before, after) in enumerate(pairwise(shapes), start=2):
        if before[0] != after[1]:
            raise CheckpointError(
                f"layer {number} has {after[1]} inputs, but layer {number - 1} gives {before[0]} nodes."
            )


def base_of(stored: Stored, checkpoint: Checkpoint, options: Options) -> tuple[str, bool]:
    """The layer's base activation, and whether it was assumed."""
    if options.base is not None:
        return options.base, False
    known = checkpoint.settings.get("activations", ())
    name = known[stored.number - 1] if known else ""
    return (str(name), False) if name else ("silu", True)


def base_parts(activation: str, weight: Array, place: str) -> dict[str, Any]:
    """weight (O, I) · activation(x) as arguments of `make_layer`: a base function, named functions, or both."""
    try:
        base, share, function, own = _ACTIVATIONS[activation.lower()]
    except KeyError:
        raise CheckpointError(
            f"{place}: the base activation {activation} has no equal here; there are silu, identity, relu, tanh, "
            "sigmoid, sin and cos. Say base= if it is silu or identity by another name."
        ) from None
    parts: dict[str, Any] = {"base": base, "base_weight": share * weight}
    if function:
        parts["functions"] = np.where(weight != 0, function, "")
        parts["affine"] = np.stack(np.broadcast_arrays(1.0, 0.0, own * weight, 0.0), axis=-1)
    return parts


def build_layer(stored: Stored, coefficients: Array | None, **parts: Any) -> Layer:
    """Make a layer of kanserve. Raises CheckpointError, with the place, if the arrays are not valid."""
    try:
        return make_layer(coefficients, **parts)
    except NetworkError as error:
        raise CheckpointError(f"{stored.place}: {error}") from None


def live_parts(model: Any, names: tuple[str, ...], library: str) -> tuple[dict[str, NDArray[Any]], list[Any]]:
    """The arrays of a live torch module, named layers.0, layers.1 and so on, and the modules of these layers. Other
    modules must have no effect."""
    state = {key: (_prefix(key, names), tensor) for key, tensor in model.state_dict().items()}
    found = {prefix for prefix, _ in state.values() if prefix is not None}
    for name, module in model.named_modules():
        inside = any(f"{name}.".startswith(prefix) for prefix in found)
        if not inside:
            check_idle(name, module)
    order = _number(list(found)) or _order(list(found), library)
    arrays = {}
    for key, (prefix, tensor) in state.items():
        own = key if prefix is None else f"layers.{order.index(prefix)}.{key[len(prefix) :]}"
        arrays[own] = _numbers(tensor)
    return arrays, [model.get_submodule(prefix.rstrip(".")) for prefix in order]


def check_idle(name: str, module: Any) -> None:
    """Raise CheckpointError for a module that is not a layer, unless it contains others or has no effect."""
    kind = type(module).__name__
    if next(module.children(), None) is None and not kind.startswith(_WITHOUT_EFFECT):
        raise CheckpointError(
            f"The model has a module {name!r} of type {kind} beside its layers, which has no equal here. Import "
            "the layers alone, if they do without it."
        )


def _number(prefixes: list[str]) -> list[str]:
    """Sort by number, allowing gaps; empty if the prefixes differ in more than the number."""
    parts = [_NUMBERED.fullmatch(prefix) for prefix in prefixes]
    stems = {part and part[1] for part in parts}
    if len(stems) > 1 or None in stems:
        return []
    return [part[0] for part in sorted(filter(None, parts), key=lambda part: int(part[2]))]


def _numbers(tensor: Any) -> NDArray[Any]:
    detached = tensor.detach().cpu()
    result: NDArray[Any] = (detached.float() if str(detached.dtype) == "torch.bfloat16" else detached).numpy().copy()
    return result


def activation_name(activation: Any) -> str:
    """The name of an activation function, or of a module's class; "" for None."""
    return "" if activation is None else str(getattr(activation, "__name__", type(activation).__name__))


def variables(options: Options) -> tuple[tuple[Variable, ...], tuple[Variable, ...]]:
    """Inputs and outputs named as in the options; empty for default names."""
    return tuple(map(Variable, options.inputs)), tuple(map(Variable, options.outputs))
