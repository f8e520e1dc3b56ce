"""Networks of efficient-kan, from the state_dict of its `KAN`.

    y_j = Σ_i base_weight[j,i]·b(x_i) + Σ_i Σ_m spline_weight[j,i,m]·spline_scaler[j,i]·B_m,k(x_i; grid[i])

This is a layer of kanserve with extrapolation "zero", so the import is exact. The order k is not stored but follows
from the shapes. The activation b is not stored either: it is silu unless a live model or the caller says otherwise.
"""

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
    live_parts,
    stack,
    variables,
)
from kanserve.network.kan import Kan, Layer

Array = NDArray[np.float64]

LIBRARY = "efficient-kan"
_WANTED = ("base_weight", "spline_weight", "grid")
_OTHERS = ("spline_scaler",)


def matches(checkpoint: Checkpoint) -> bool:
    """Whether the arrays have efficient-kan's names."""
    return holds(checkpoint, "base_weight", "spline_weight")


def convert(checkpoint: Checkpoint, options: Options) -> Conversion:
    """Convert an efficient-kan checkpoint. The conversion is exact: no refit, the same outputs."""
    stored = stack(checkpoint, LIBRARY, _WANTED, _OTHERS)
    _check_scalers(stored)
    bases = [base_of(layer, checkpoint, options) for layer in stored]
    layers = [_layer(layer, base) for layer, (base, _) in zip(stored, bases, strict=True)]
    check_chain([(layer.subnodes, layer.inputs) for layer in layers])
    notes = ("The base activation is not stored: taken to be silu.",) if any(guessed for _, guessed in bases) else ()
    return Conversion(Kan(tuple(layers), *variables(options)), LIBRARY, notes)


def live(model: Any) -> Checkpoint:
    """A checkpoint of a live model, including its activations."""
    arrays, layers = live_parts(model, _WANTED + _OTHERS, LIBRARY)
    activations = [
        activation_name(getattr(layer, "base_activation", None)) for layer in layers
    ]  # a copy may have renamed it
    return Checkpoint(arrays, {"activations": activations}, "the model")


def _check_scalers(stored: list[Stored]) -> None:
    """Raise CheckpointError if only some layers have a scaler: a lost one must not go unnoticed."""
    having = [layer.number for layer in stored if "spline_scaler" in layer]
    if having and len(having) < len(stored):
        without = next(layer for layer in stored if "spline_scaler" not in layer)
        raise CheckpointError(
            f"{without.place} has no spline_scaler, but layer {having[0]} has; if that is meant, give it one of ones."
        )


def _layer(stored: Stored, base: str) -> Layer:
    weight = stored.array("base_weight", "node", "input")
    nodes, inputs = weight.shape
    spline = stored.of_shape("spline_weight", (nodes, inputs, -1), "node", "input", "basis function")
    count = spline.shape[2]
    if "spline_scaler" in stored:
        with np.errstate(over="ignore"):
            spline = spline * stored.of_shape("spline_scaler", (nodes, inputs), "node", "input")[:, :, None]
    grid = stored.array("grid", "input", "knot")
    order = grid.shape[1] - 1 - count
    if grid.shape[0] != inputs or not 0 <= order < count:
        raise CheckpointError(
            f"{stored.place}: grid must have shape ({inputs}, G + 2k + 1) where spline_weight has G + k = {count} "
            f"basis functions, has {grid.shape}."
        )
    if order == 0:
        raise CheckpointError(
            f"{stored.place} has splines of order 0, steps, which have no equal here: 1 and more have."
        )
    _check_knots(grid, stored.place)
    return build_layer(
        stored, spline, knots=grid, order=order, extrapolation="zero", **base_parts(base, weight, stored.place)
    )


def _check_knots(grid: Array, place: str) -> None:
    with np.errstate(over="ignore"):
        steps = np.diff(grid, axis=1)
    if (steps <= 0).any():
        i, at = np.argwhere(steps <= 0)[0]
        what = "come twice, where efficient-kan divides by 0" if steps[i, at] == 0 else "decrease"
        raise CheckpointError(
            f"{place}, input {i + 1}: knots {what} ({grid[i, at]:.6g} is followed by {grid[i, at + 1]:.6g}). Update "
            "the grid with other rows, or a larger grid_eps."
        )
