"""Networks of fast-kan, from the state dicts of its `FastKANLayer`s without LayerNorm.

    y_j = Σ_i Σ_g W[j, i·N+g]·exp(-((x_i - grid[g])/denominator)²) + Σ_i V[j,i]·b(x_i) + bias_j

The base part may be missing. Sums of Gaussians become splines, within a tolerance (`radial`). Neither the denominator
nor the activation b is stored: the distance of the centres and silu, unless a live model or the caller says others.

With LayerNorm an edge depends on all inputs at once; such a network is not one of functions of one variable.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import CheckpointError
from kanserve.importers.conversion import Checkpoint, Conversion, Options
from kanserve.importers.radial import ORDER, Refit, refit
from kanserve.importers.stacked import (
    Stored,
    base_of,
    base_parts,
    built,
    check_chain,
    holds,
    live_parts,
    named,
    stacked,
    variables,
)
from kanserve.ir import Kan, Layer

Array = NDArray[np.float64]

LIBRARY = "fast-kan"
_WANTED = ("rbf.grid", "spline_linear.weight")
_OTHERS = ("base_linear.weight", "base_linear.bias", "layernorm.weight", "layernorm.bias")


def matches(checkpoint: Checkpoint) -> bool:
    """Whether the arrays are called as fast-kan calls them."""
    return holds(checkpoint, "rbf.grid", "spline_linear.weight")


def convert(checkpoint: Checkpoint, options: Options) -> Conversion:
    """The same network, within the tolerance of the options."""
    stored = stacked(checkpoint, LIBRARY, _WANTED, _OTHERS)
    for one in stored:
        _check_arrays(one)
    weights = [_weights(one) for one in stored]
    check_chain([each.shape[:2] for each in weights])
    denominators = [_denominator(one, checkpoint, options) for one in stored]
    bases = [base_of(one, checkpoint, options) for one in stored]
    refits = [
        _refit(one, each, denominator, options.tolerance)
        for one, each, (denominator, _) in zip(stored, weights, denominators, strict=True)
    ]
    layers = [_layer(one, splines, base) for one, splines, (base, _) in zip(stored, refits, bases, strict=True)]
    notes = [_refitted(one, splines) for one, splines in zip(stored, refits, strict=True)]
    notes.append(_size(weights, refits))
    if any(guessed for _, guessed in denominators):
        taken = ", ".join(dict.fromkeys(f"{denominator:.6g}" for denominator, _ in denominators))
        notes.append(f"The denominator is not stored: taken to be the distance of the centres, {taken}.")
    if any(guessed and "base_linear.weight" in one for one, (_, guessed) in zip(stored, bases, strict=True)):
        notes.append("The base activation is not stored: taken to be silu.")
    return Conversion(Kan(tuple(layers), *variables(options)), LIBRARY, tuple(notes))


def live(model: Any) -> Checkpoint:
    """A model in memory, which knows its denominators and activations."""
    arrays, layers = live_parts(model, _WANTED + _OTHERS, LIBRARY)
    settings = {
        "denominators": [float(one.rbf.denominator) for one in layers],
        "activations": [named(getattr(one, "base_activation", None)) for one in layers],
    }
    return Checkpoint(arrays, settings, "the model")


def _check_arrays(stored: Stored) -> None:
    if "layernorm.weight" in stored or "layernorm.bias" in stored:
        raise CheckpointError(
            f"{stored.place} begins with a LayerNorm ({stored.prefix}layernorm.*): each edge then depends on all "
            "inputs and has no equal here. Train with FastKANLayer(..., use_layernorm=False)."
        )
    halves = [name for name in ("base_linear.weight", "base_linear.bias") if name in stored]
    if len(halves) == 1:
        raise CheckpointError(f"{stored.place}: base_linear has weight and bias, or is not there; only {halves[0]} is.")


def _weights(stored: Stored) -> Array:
    """W as (O, I, N)."""
    count = len(stored.array("rbf.grid", "centre"))
    flat = stored.array("spline_linear.weight", "node", "input and centre")
    if flat.shape[1] % count:
        raise CheckpointError(
            f"{stored.place}: spline_linear.weight must have a multiple of {count} columns, one for each centre of "
            f"rbf.grid and each input, has {flat.shape[1]}."
        )
    return flat.reshape(len(flat), -1, count)


def _refit(stored: Stored, weights: Array, denominator: float, tolerance: float) -> Refit:
    try:
        return refit(weights, stored.array("rbf.grid", "centre"), denominator, tolerance)
    except CheckpointError as error:
        raise CheckpointError(f"{stored.place}: {error}") from None


def _layer(stored: Stored, splines: Refit, base: str) -> Layer:
    nodes, inputs = splines.coefficients.shape[:2]
    parts: dict[str, Any] = {"base": "zero"}
    if "base_linear.weight" in stored:
        linear = stored.of_shape("base_linear.weight", (nodes, inputs), "node", "input")
        parts = base_parts(base, linear, stored.place)
        parts["subnode_bias"] = stored.of_shape("base_linear.bias", (nodes,), "node")
    return built(stored, splines.coefficients, knots=splines.knots, order=ORDER, extrapolation="zero", **parts)


def _refitted(stored: Stored, splines: Refit) -> str:
    return (
        f"{stored.place}: the Gaussians of each edge became a spline of order {ORDER} on {splines.intervals} intervals,"
        f" nowhere further from them than {splines.error:.2g} of the edge's largest value."
    )


def _size(weights: list[Array], refits: list[Refit]) -> str:
    before, after = sum(one.size for one in weights), sum(one.coefficients.size for one in refits)
    return (
        f"The splines have {after:,} coefficients ({8e-6 * after:.2g} MB), "
        f"{after / before:.3g} times the weights of the Gaussians."
    )


def _denominator(stored: Stored, checkpoint: Checkpoint, options: Options) -> tuple[float, bool]:
    """The denominator, and whether it had to be guessed."""
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
    # Computed by fast-kan from the ends as they were given, not as float32 kept them: -1.1, not -1.10000002.
    low, high = (float(str(end)) for end in rounded[[0, -1]]) if (rounded == centres).all() else centres[[0, -1]]
    return float(high - low) / (len(centres) - 1), True
