"""The arrays of pykan's layers, with names, shapes and finite values checked."""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanserve.data.near_names import first_names
from kanserve.errors import CheckpointError
from kanserve.importers.conversion import Checkpoint

Array = NDArray[np.float64]

_COEFFICIENTS = re.compile(r"act_fun\.(0|[1-9]\d{0,5})\.coef")


@dataclass(frozen=True, eq=False)
class Part:
    """One layer as pykan stores it, in float64; I inputs, O subnodes, Q nodes."""

    grid: Array  # (I, G+2k+1)
    coef: Array  # (I, O, G+k)
    mask: Array  # (I, O), and so are the scales
    scale_base: Array
    scale_sp: Array
    symbolic_mask: Array  # (O, I)
    affine: Array  # (O, I, 4)
    subnode_scale: Array  # (O,)
    subnode_bias: Array
    node_scale: Array  # (Q,)
    node_bias: Array

    @property
    def inputs(self) -> int:
        return int(self.coef.shape[0])

    @property
    def subnodes(self) -> int:
        return int(self.coef.shape[1])

    @property
    def nodes(self) -> int:
        return len(self.node_bias)

    @property
    def products(self) -> bool:
        return self.nodes != self.subnodes

    @property
    def order(self) -> int:
        return int(self.grid.shape[1] - self.coef.shape[2] - 1)

    @property
    def intervals(self) -> int:
        return int(self.coef.shape[2]) - self.order


def refusal(checkpoint: Checkpoint, reason: str) -> CheckpointError:
    """A CheckpointError that starts with the checkpoint's name."""
    return CheckpointError(f"{checkpoint.name}: {reason}")


def edge_at(number: int, i: int, j: int, *, products: bool) -> str:
    """Describe an edge, counting from 1: "layer 2, edge from input 3 to node 1"; "subnode" in layers with products."""
    return f"layer {number + 1}, edge from input {i + 1} to {'subnode' if products else 'node'} {j + 1}"


def parts(checkpoint: Checkpoint) -> tuple[Part, ...]:
    """The layers in order. Raises CheckpointError for arrays that are missing, misshapen or not finite."""
    numbers = sorted(int(found[1]) for found in map(_COEFFICIENTS.fullmatch, checkpoint.arrays) if found)
    _require_current(checkpoint)
    if numbers != list(range(len(numbers))):
        missing = next(n for n in range(len(numbers)) if n not in numbers)
        raise refusal(checkpoint, f"the array act_fun.{missing}.coef is missing; layers follow one another.")
    result = tuple(_part(checkpoint, number) for number in numbers)
    for number, (before, after) in enumerate(itertools.pairwise(result)):
        if before.nodes != after.inputs:
            raise refusal(
                checkpoint,
                f"layer {number + 1} has {before.nodes} nodes (node_bias_{number}), layer {number + 2} takes "
                f"{after.inputs} inputs (act_fun.{number + 1}.coef).",
            )
    return result


def unread(checkpoint: Checkpoint, count: int) -> list[str]:
    """The names of arrays that do not belong to a pykan network."""
    known = {name for number in range(count) for name in _names(number).values()}
    return sorted(set(checkpoint.arrays) - known)


def _require_current(checkpoint: Checkpoint) -> None:
    """Raise CheckpointError, with the version, for a checkpoint of pykan before 0.2."""
    if "node_bias_0" in checkpoint.arrays or not any(array.startswith("biases.") for array in checkpoint.arrays):
        return
    flat = any(_COEFFICIENTS.fullmatch(name) and array.ndim == 2 for name, array in checkpoint.arrays.items())
    version = "0.0" if flat else "0.1"
    raise refusal(
        checkpoint,
        f"it was written by pykan {version}, which stored networks otherwise; imported is what 0.2 writes. "
        "Train it again with pykan 0.2, from the same data.",
    )


def _names(number: int) -> dict[str, str]:
    """pykan's array name for each field of `Part`, for layer `number` counted from 0."""
    numeric = {name: f"act_fun.{number}.{name}" for name in ("grid", "coef", "mask", "scale_base", "scale_sp")}
    symbolic = {"symbolic_mask": f"symbolic_fun.{number}.mask", "affine": f"symbolic_fun.{number}.affine"}
    nodes = (f"{kind}_{what}" for kind in ("subnode", "node") for what in ("scale", "bias"))
    return {**numeric, **symbolic, **{name: f"{name}_{number}" for name in nodes}}


def _part(checkpoint: Checkpoint, number: int) -> Part:
    names = _names(number)
    missing = [name for name in names.values() if name not in checkpoint.arrays]
    if missing:
        hint = ""
        if all("node_" in name for name in missing):
            hint = " pykan's expand_depth makes layers whose scales it does not save: import the live model."
        raise refusal(checkpoint, f"layer {number + 1} is not whole, without {first_names(missing, 3)}.{hint}")
    given = {field.name: checkpoint.arrays[names[field.name]] for field in fields(Part)}
    _require_shapes(checkpoint, names, given)
    for field, array in given.items():
        _require_finite(checkpoint, names[field], array)
    return Part(**{field: np.asarray(array, np.float64) for field, array in given.items()})


def _require_shapes(checkpoint: Checkpoint, names: dict[str, str], given: dict[str, NDArray[Any]]) -> None:
    coef, grid, ends = given["coef"], given["grid"], given["node_bias"]
    if coef.ndim != 3:
        raise refusal(checkpoint, _misshapen(names["coef"], "(inputs, outputs, G + k)", coef))
    if 0 in coef.shape:
        raise refusal(
            checkpoint,
            f"{names['coef']} of shape {coef.shape}, (inputs, outputs, G + k), is empty: where all nodes were pruned, "
            "nothing is left to import.",
        )
    i, o, count = coef.shape
    if grid.ndim != 2 or grid.shape[0] != i:
        raise refusal(checkpoint, _misshapen(names["grid"], f"({i}, G + 2k + 1)", grid))
    order = grid.shape[1] - count - 1
    if order < 1 or count <= order:
        raise refusal(
            checkpoint,
            f"{grid.shape[1]} knots ({names['grid']}) and {count} coefficients ({names['coef']}) make no spline of "
            f"order 1 or more: G + 2k + 1 and G + k are wanted.",
        )
    if ends.ndim != 1 or not len(ends):
        raise refusal(checkpoint, _misshapen(names["node_bias"], "(nodes,)", ends))
    wanted: dict[str, tuple[int, ...]] = {
        **dict.fromkeys(("mask", "scale_base", "scale_sp"), (i, o)),
        "symbolic_mask": (o, i),
        "affine": (o, i, 4),
        **dict.fromkeys(("subnode_scale", "subnode_bias"), (o,)),
        "node_scale": ends.shape,
    }
    for field, shape in wanted.items():
        if given[field].shape != shape:
            raise refusal(checkpoint, _misshapen(names[field], str(shape), given[field]))


def _misshapen(name: str, wanted: str, got: NDArray[Any]) -> str:
    return f"{name} must have shape {wanted}, got {got.shape}."


def _require_finite(checkpoint: Checkpoint, name: str, array: NDArray[Any]) -> None:
    if array.dtype.kind not in "fiub":
        raise refusal(checkpoint, f"{name} must hold real numbers, got {array.dtype}.")
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        at: Sequence[int] = (bad[0] + 1).tolist()
        raise refusal(
            checkpoint,
            f"{name} holds {array[tuple(bad[0])]} at {tuple(at)}, counted from 1, so that pykan's outputs are NaN too; "
            "take a checkpoint from before that.",
        )
