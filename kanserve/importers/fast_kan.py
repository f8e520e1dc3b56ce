"""Networks of fast-kan, from the state_dict of its `FastKANLayer`s, with or without LayerNorm.

    y_j = Σ_i Σ_g W[j, i·N+g]·exp(-((s_i - grid[g])/denominator)²) + Σ_i V[j,i]·b(x_i) + bias_j

where s is LayerNorm(x), or x. The base part may be missing. Sums of Gaussians become splines, within a tolerance
(`rbf_network`). Neither the denominator nor the activation b is stored: they default to the distance of the centres
and silu unless a live model or the caller says otherwise.

A LayerNorm is not a function of one variable. It becomes layers of sums and products before the splines (`layer_norm`),
up to a number of inputs.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import CheckpointError
from kanserve.importers import layer_norm, rbf_network
from kanserve.importers.conversion import Checkpoint, Conversion, Options
from kanserve.importers.rbf_network import Radial, refit_network
from kanserve.importers.state_dict_layers import (
    Stored,
    activation_name,
    base_of,
    base_parts,
    build_layer,
    check_chain,
    holds,
    live_parts,
    stack,
    variables,
)
from kanserve.network.kan import Kan

Array = NDArray[np.float64]

LIBRARY = "fast-kan"
_WANTED = ("rbf.grid", "spline_linear.weight")
_OTHERS = ("base_linear.weight", "base_linear.bias", "layernorm.weight", "layernorm.bias")


def matches(checkpoint: Checkpoint) -> bool:
    """Whether the arrays have fast-kan's names."""
    return holds(checkpoint, "rbf.grid", "spline_linear.weight")


def convert(checkpoint: Checkpoint, options: Options) -> Conversion:
    """Convert the checkpoint; the outputs are equal within the tolerance of the options."""
    stored = stack(checkpoint, LIBRARY, _WANTED, _OTHERS)
    for layer in stored:
        _check_arrays(layer)
    weights = [_weights(layer) for layer in stored]
    check_chain([weight.shape[:2] for weight in weights])
    denominators = [_denominator(layer, checkpoint, options) for layer in stored]
    bases = [base_of(layer, checkpoint, options) for layer in stored]
    epsilons = checkpoint.settings.get("epsilons") or [layer_norm.EPSILON] * len(stored)
    network = [
        _radial(layer, weight, denominator, base, epsilon)
        for layer, weight, (denominator, _), (base, _), epsilon in zip(
            stored, weights, denominators, bases, epsilons, strict=True
        )
    ]
    found = refit_network(network, options.tolerance)
    notes = [*rbf_network.notes(network, found)]
    if normalised := ", ".join(layer.place for layer in network if layer.before):
        notes.append(
            f"{normalised}: each LayerNorm became four layers of sums, squares and products, exactly (epsilon"
            f" {max(epsilons):.3g}{'' if checkpoint.settings.get('epsilons') else ', which is not stored'})."
        )
    notes += _guesses(stored, denominators, bases)
    return Conversion(Kan(found.layers, *variables(options)), LIBRARY, tuple(notes), refitted=True)


def _guesses(
    stored: Sequence[Stored], denominators: Sequence[tuple[float, bool]], bases: Sequence[tuple[str, bool]]
) -> Iterator[str]:
    """Notes about values that are not stored and were assumed to be the library's defaults."""
    if any(guessed for _, guessed in denominators):
        taken = ", ".join(dict.fromkeys(f"{denominator:.6g}" for denominator, _ in denominators))
        yield f"The denominator is not stored: taken to be the distance of the centres, {taken}."
    if any(guessed and "base_linear.weight" in layer for layer, (_, guessed) in zip(stored, bases, strict=True)):
        yield "The base activation is not stored: taken to be silu."


def live(model: Any) -> Checkpoint:
    """A checkpoint of a live model, including its denominators and activations."""
    arrays, layers = live_parts(model, _WANTED + _OTHERS, LIBRARY)
    settings = {
        "denominators": [float(layer.rbf.denominator) for layer in layers],
        "epsilons": [float(getattr(getattr(layer, "layernorm", None), "eps", layer_norm.EPSILON)) for layer in layers],
        "activations": [activation_name(getattr(layer, "base_activation", None)) for layer in layers],
    }
    return Checkpoint(arrays, settings, "the model")


def _check_arrays(stored: Stored) -> None:
    for part in ("base_linear", "layernorm"):
        halves = [name for name in (f"{part}.weight", f"{part}.bias") if name in stored]
        if len(halves) == 1:
            raise CheckpointError(f"{stored.place}: {part} has weight and bias, or is not there; only {halves[0]} is.")


def _weights(stored: Stored) -> Array:
    """The spline weights W (O, I, N) of a fast-kan layer: outputs, inputs, centres of the Gaussians. Raises
    CheckpointError if the shape does not fit."""
    count = len(stored.array("rbf.grid", "centre"))
    flat = stored.array("spline_linear.weight", "node", "input and centre")
    if flat.shape[1] % count:
        raise CheckpointError(
            f"{stored.place}: spline_linear.weight must have a multiple of {count} columns, one for each centre of "
            f"rbf.grid and each input, has {flat.shape[1]}."
        )
    return flat.reshape(len(flat), -1, count)


def _radial(stored: Stored, weights: Array, denominator: float, base: str, epsilon: float) -> Radial:
    nodes, inputs = weights.shape[:2]
    parts: dict[str, Any] | None = None
    if "base_linear.weight" in stored:
        linear = stored.of_shape("base_linear.weight", (nodes, inputs), "node", "input")
        parts = base_parts(base, linear, stored.place)
        parts["subnode_bias"] = stored.of_shape("base_linear.bias", (nodes,), "node")
    grid = stored.array("rbf.grid", "centre")
    centres = np.tile(grid, (inputs, 1))
    if "layernorm.weight" not in stored:
        rest = build_layer(stored, None, shape=(nodes, inputs), **(parts or {"base": "zero"}))
        return Radial(stored.place, weights, centres, denominator, rest)
    others = nodes if parts else 0
    _check_size(stored, layer_norm.size(inputs, others), inputs)
    scale, shift = (stored.of_shape(f"layernorm.{name}", (inputs,), "input") for name in ("weight", "bias"))
    low = float(grid.min())
    before = layer_norm.normalising(scale, shift, epsilon, parts, low, max(float(grid.max()), low + denominator))
    rest = layer_norm.add(nodes, inputs, others)
    return Radial(stored.place, weights, centres, denominator, rest, before)


def _check_size(stored: Stored, places: int, inputs: int) -> None:
    if places > layer_norm.LARGEST:
        raise CheckpointError(
            f"{stored.place} begins with a LayerNorm of {inputs} inputs, for which a layer here needs places for"
            f" {places:,} edges, of which {layer_norm.LARGEST:,} are the most."
            " Train with FastKANLayer(..., use_layernorm=False)."
        )


def _denominator(stored: Stored, checkpoint: Checkpoint, options: Options) -> tuple[float, bool]:
    """The denominator, and whether it was assumed."""
    known = checkpoint.settings.get("denominators", ())
    given = options.denominator if options.denominator is not None else known[stored.number - 1] if known else None
    if given is not None:
        if not 0 < abs(given) < np.inf:
            raise CheckpointError(f"{stored.place}: the denominator must be a number other than 0, got {given}.")
        return abs(float(given)), False
    centres = stored.array("rbf.grid", "centre")
    with np.errstate(over="ignore"):
        steps = np.diff(centres)
        rounded = centres.astype(np.float32)
    if not len(steps) or steps.min() <= 0 or np.ptp(steps) > 1e-5 * np.abs(centres).max():
        raise CheckpointError(
            f"{stored.place}: the centres in rbf.grid are not evenly spaced, as they are before training, so that the "
            "denominator, which is not stored, cannot be told from them. Give it: denominator=..."
        )
    # fast-kan computes it from the ends as given, not as rounded to float32: -1.1, not -1.10000002.
    low, high = (float(str(end)) for end in rounded[[0, -1]]) if (rounded == centres).all() else centres[[0, -1]]
    return float(high - low) / (len(centres) - 1), True
