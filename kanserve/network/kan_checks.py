"""Consistency checks of layers and networks. They raise NetworkError."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from kanserve.errors import NetworkError
from kanserve.network.functions import FUNCTIONS, unknown_function
from kanserve.network.splines import Extrapolation

if TYPE_CHECKING:
    from kanserve.network.kan import Kan, Layer, Variable

Base = Literal["silu", "identity", "zero"]

# Hashes of the rows that a network was fitted to: 32 kB of its file. All rows of a table up to this size, and of a
# million rows still 4 of 1000: fewer would let more calibration rows of large tables pass as new ones.
MOST_BINS = 10  # of the training rows of an input: as many as the usual tables of the index use
MOST_FITTED_ROWS = 2**12
MOST_CATEGORIES = 2**16  # of an input: codes that every type of number holds exactly, but for half precision


def check_layer(layer: "Layer") -> None:
    """Raise NetworkError unless the arrays of a layer are consistent."""
    if layer.coefficients.ndim != 3 or 0 in layer.coefficients.shape:
        raise NetworkError(f"coefficients must have shape (O, I, G+k), got {layer.coefficients.shape}.")
    o, i, count = layer.coefficients.shape
    if layer.order < 1:
        raise NetworkError(f"The order of a spline must be 1 or more, got {layer.order}.")
    if count <= layer.order:
        raise NetworkError(f"A spline of order {layer.order} needs more than {layer.order} coefficients, got {count}.")
    if layer.base not in get_args(Base) or layer.extrapolation not in get_args(Extrapolation):
        raise NetworkError(f"base is one of {get_args(Base)}, extrapolation of {get_args(Extrapolation)}.")
    wanted: dict[str, tuple[int, ...]] = {
        "coefficients": (o, i, count),
        "knots": (i, count + layer.order + 1),
        "base_weight": (o, i),
        "functions": (o, i),
        "affine": (o, i, 4),
        "subnode_scale": (o,),
        "subnode_bias": (o,),
        "node_scale": (len(np.atleast_1d(layer.arity)),),
        "node_bias": (len(np.atleast_1d(layer.arity)),),
    }
    for name, shape in wanted.items():
        if getattr(layer, name).shape != shape:
            raise NetworkError(f"{name} must have shape {shape}, got {getattr(layer, name).shape}.")
        if name != "functions" and not np.isfinite(getattr(layer, name)).all():
            raise NetworkError(f"{name} must be finite; it holds NaN or infinity.")
    # Each is bounded before they are added, since a sum of huge ones would overflow.
    if layer.arity.ndim != 1 or (layer.arity < 1).any() or (layer.arity > o).any() or layer.arity.sum() != o:
        raise NetworkError(f"arity must be positive and add up to the {o} subnodes, got {layer.arity.tolist()}.")
    _check_functions(layer)
    _check_knots(layer)


def _check_functions(layer: "Layer") -> None:
    unknown = sorted(name for name in set(layer.functions.ravel().tolist()) - {""} if name not in FUNCTIONS)
    if unknown:
        raise NetworkError(unknown_function(unknown[0]))


def _check_knots(layer: "Layer") -> None:
    k = layer.order
    knots = layer.knots
    if (np.diff(knots, axis=1) < 0).any():
        raise NetworkError("Knots must not decrease.")
    if (knots[:, k] >= knots[:, -k - 1]).any():
        raise NetworkError("The range of a spline, its first to its last interior knot, must have a width.")
    # A knot of multiplicity k + 1 makes a jump, where a point would have two values. At the ends of the range repeated
    # knots are usual ("clamped"), and harmless with linear extrapolation.
    inner = knots if layer.extrapolation == "zero" else np.delete(knots, np.r_[: k + 1, -k - 1 : 0], axis=1)
    if inner.shape[1] > k and (inner[:, k:] == inner[:, : inner.shape[1] - k]).any():
        raise NetworkError(f"A knot may occur at most {k} times in a spline of order {k}, so that it is continuous.")


def check_kan(kan: "Kan") -> None:
    """Raise NetworkError unless the layers, variables and classes of a network are consistent."""
    for before, after in zip(kan.layers, kan.layers[1:], strict=False):
        if before.nodes != after.inputs:
            raise NetworkError(f"A layer of {before.nodes} nodes is followed by one of {after.inputs} inputs.")
    _check_variables("input", kan.inputs, kan.layers[0].inputs)
    _check_variables("output", kan.outputs, kan.layers[-1].nodes)
    for name, size in (("input", kan.layers[0].inputs), ("output", kan.layers[-1].nodes)):
        shift, scale = getattr(kan, f"{name}_shift"), getattr(kan, f"{name}_scale")
        if shift.shape != (size,) or scale.shape != (size,):
            raise NetworkError(f"{name}_shift and {name}_scale must have shape ({size},).")
        if not (np.isfinite(shift).all() and np.isfinite(scale).all()):
            raise NetworkError(f"{name}_shift and {name}_scale must be finite.")
    if (kan.input_scale == 0).any():
        raise NetworkError("input_scale must not be 0: inputs are divided by it.")
    if kan.classes and len(kan.classes) != kan.layers[-1].nodes:
        raise NetworkError(f"{len(kan.classes)} classes need as many outputs, got {kan.layers[-1].nodes}.")
    if len(set(kan.classes)) != len(kan.classes):
        raise NetworkError("The names of the classes must differ.")
    hashes = kan.fitted_rows
    if hashes.ndim != 1 or len(hashes) > MOST_FITTED_ROWS or (hashes[1:] <= hashes[:-1]).any():
        raise NetworkError(f"fitted_rows must be at most {MOST_FITTED_ROWS} different hashes in ascending order.")


def _check_variables(kind: str, variables: "Iterable[Variable]", count: int) -> None:
    names = [variable.name for variable in variables]
    if len(names) != count:
        raise NetworkError(f"{count} {kind}s need as many names, got {len(names)}.")
    if len(set(names)) != len(names) or not all(names):
        raise NetworkError(f"The names of the {kind}s must differ and not be empty, got {names}.")
    for variable in variables:
        if np.isnan(variable.low) or np.isnan(variable.high) or variable.low > variable.high:
            raise NetworkError(
                f"The range of {variable.name!r} must have low ≤ high, got {variable.low} and {variable.high}."
            )
        _check_encoding(kind, variable)
        _check_bins(kind, variable)


def _check_encoding(kind: str, variable: "Variable") -> None:
    """Raise NetworkError unless the fill value and the categories are consistent."""
    fills = () if variable.fill_value is None else (variable.fill_value,)
    numbers = (*variable.category_values, *fills)
    if not (numbers or variable.categories):
        return
    name = f"The {kind} {variable.name!r:.80}"
    if kind != "input":
        raise NetworkError(f"{name} has a fill value or categories, which only inputs can have.")
    count = len(variable.categories)
    if count != len(variable.category_values):
        raise NetworkError(
            f"{name} needs as many numbers as categories, got {len(variable.category_values)} and {count}."
        )
    if count > MOST_CATEGORIES or len(set(variable.categories)) != count:
        raise NetworkError(f"{name} may have at most {MOST_CATEGORIES} categories, whose names must differ.")
    if not all(isinstance(category, str) for category in variable.categories):
        raise NetworkError(f"The categories of {variable.name!r:.80} must be text.")
    if not all(type(number) in (int, float) and np.isfinite(number) for number in numbers):
        raise NetworkError(f"{name} needs finite numbers as its fill value and for its categories.")
    if count and (variable.low, variable.high) != (0, count - 1):
        raise NetworkError(
            f"{name} has {count} categories, so its range is 0 to {count - 1}, the range of their codes; got "
            f"{variable.low} to {variable.high}."
        )


def _check_bins(kind: str, variable: "Variable") -> None:
    """NetworkError unless the bins of the training rows fit together."""
    edges, counts = variable.bin_edges, variable.bin_counts
    if not (edges or counts):
        return
    name = f"The {kind} {variable.name!r:.80}"
    if kind != "input":
        raise NetworkError(f"{name} has bins of training rows, which only inputs can have.")
    if len(edges) >= MOST_BINS or not np.isfinite(edges).all() or (np.diff(edges) <= 0).any():
        raise NetworkError(f"{name} may have at most {MOST_BINS - 1} bin_edges, finite and ascending.")
    if len(counts) != len(edges) + 2 or min(counts) < 0:
        raise NetworkError(
            f"{name} needs bin_counts of {len(edges) + 1} bins and of missing values, none negative, got {len(counts)}."
        )
