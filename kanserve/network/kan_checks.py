"""Consistency checks of layers and networks; they raise NetworkError."""

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
MOST_FITTED_ROWS = 2**12
MOST_CATEGORIES = 2**16  # of an input: codes that every type of number holds exactly, but for half precision


def check_layer(one: "Layer") -> None:
    """NetworkError unless the arrays of a layer fit together."""
    if one.coefficients.ndim != 3 or 0 in one.coefficients.shape:
        raise NetworkError(f"coefficients must have shape (O, I, G+k), got {one.coefficients.shape}.")
    o, i, count = one.coefficients.shape
    if one.order < 1:
        raise NetworkError(f"The order of a spline must be 1 or more, got {one.order}.")
    if count <= one.order:
        raise NetworkError(f"A spline of order {one.order} needs more than {one.order} coefficients, got {count}.")
    if one.base not in get_args(Base) or one.extrapolation not in get_args(Extrapolation):
        raise NetworkError(f"base is one of {get_args(Base)}, extrapolation of {get_args(Extrapolation)}.")
    wanted: dict[str, tuple[int, ...]] = {
        "coefficients": (o, i, count),
        "knots": (i, count + one.order + 1),
        "base_weight": (o, i),
        "functions": (o, i),
        "affine": (o, i, 4),
        "subnode_scale": (o,),
        "subnode_bias": (o,),
        "node_scale": (len(np.atleast_1d(one.arity)),),
        "node_bias": (len(np.atleast_1d(one.arity)),),
    }
    for name, shape in wanted.items():
        if getattr(one, name).shape != shape:
            raise NetworkError(f"{name} must have shape {shape}, got {getattr(one, name).shape}.")
        if name != "functions" and not np.isfinite(getattr(one, name)).all():
            raise NetworkError(f"{name} must be finite; it holds NaN or infinity.")
    # Each is bounded before they are added, since a sum of huge ones would overflow.
    if one.arity.ndim != 1 or (one.arity < 1).any() or (one.arity > o).any() or one.arity.sum() != o:
        raise NetworkError(f"arity must be positive and add up to the {o} subnodes, got {one.arity.tolist()}.")
    _check_functions(one)
    _check_knots(one)


def _check_functions(one: "Layer") -> None:
    unknown = sorted(name for name in set(one.functions.ravel().tolist()) - {""} if name not in FUNCTIONS)
    if unknown:
        raise NetworkError(unknown_function(unknown[0]))


def _check_knots(one: "Layer") -> None:
    k = one.order
    knots = one.knots
    if (np.diff(knots, axis=1) < 0).any():
        raise NetworkError("Knots must not decrease.")
    if (knots[:, k] >= knots[:, -k - 1]).any():
        raise NetworkError("The range of a spline, its first to its last interior knot, must have a width.")
    # A knot of multiplicity k + 1 makes a jump, where a point would have two values. At the ends of the range repeated
    # knots are usual ("clamped"), and harmless with linear extrapolation.
    inner = knots if one.extrapolation == "zero" else np.delete(knots, np.r_[: k + 1, -k - 1 : 0], axis=1)
    if inner.shape[1] > k and (inner[:, k:] == inner[:, : inner.shape[1] - k]).any():
        raise NetworkError(f"A knot may occur at most {k} times in a spline of order {k}, so that it is continuous.")


def check_kan(kan: "Kan") -> None:
    """NetworkError unless the layers, variables and classes of a network fit together."""
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


def _check_encoding(kind: str, one: "Variable") -> None:
    """NetworkError unless a fill value and categories fit together."""
    fills = () if one.fill_value is None else (one.fill_value,)
    numbers = (*one.category_values, *fills)
    if not (numbers or one.categories):
        return
    name = f"The {kind} {one.name!r:.80}"
    if kind != "input":
        raise NetworkError(f"{name} has a fill value or categories, which only inputs can have.")
    if len(one.categories) != len(one.category_values):
        raise NetworkError(
            f"{name} needs as many numbers as categories, got {len(one.category_values)} and {len(one.categories)}."
        )
    if len(one.categories) > MOST_CATEGORIES or len(set(one.categories)) != len(one.categories):
        raise NetworkError(f"{name} may have at most {MOST_CATEGORIES} categories, whose names must differ.")
    if not all(isinstance(category, str) for category in one.categories):
        raise NetworkError(f"The categories of {one.name!r:.80} must be text.")
    if not all(type(number) in (int, float) and np.isfinite(number) for number in numbers):
        raise NetworkError(f"{name} needs finite numbers as its fill value and for its categories.")
    if one.categories and (one.low, one.high) != (0, len(one.categories) - 1):
        raise NetworkError(
            f"{name} has {len(one.categories)} categories, so its range is 0 to {len(one.categories) - 1}, the range "
            f"of their codes; got {one.low} to {one.high}."
        )
