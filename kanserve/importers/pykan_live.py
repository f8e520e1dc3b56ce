"""A live pykan model as a checkpoint: what its `forward` reads, from any device and in its precision. This may differ
from what pykan would save: functions are identified by their values, since pykan's `swap` moves names without
functions; scales of layers made by `expand_depth` are in lists only; `input_id` says which inputs are left."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import CheckpointError, MissingDependencyError
from kanserve.importers.conversion import Checkpoint
from kanserve.importers.pykan_arrays import edge_at
from kanserve.importers.pykan_settings import NO_FUNCTION, ours
from kanserve.network.functions import FUNCTIONS

NAME = "the model"
_NUMERIC = ("grid", "coef", "mask", "scale_base", "scale_sp")
_SETTINGS = (
    *("width", "mult_arity", "input_id", "grid_eps", "grid_range"),
    *("affine_trainable", "sp_trainable", "sb_trainable"),
)
_NODES = ("node_bias", "node_scale", "subnode_bias", "subnode_scale")
_TRIED = np.concatenate([np.linspace(-0.97, -0.03, 13), np.linspace(0.04, 0.96, 12), [-7.5, 6.25]])
_EQUAL = 1e-12


def live(model: Any) -> Checkpoint:
    """A checkpoint of a live MultKAN. Raises CheckpointError for another object, and for functions that do not compute
    what their name says."""
    try:
        import torch
    except ImportError:
        raise MissingDependencyError("torch", "import") from None
    if not all(hasattr(model, name) for name in ("act_fun", "symbolic_fun", "state_dict")):
        raise CheckpointError(f"A model of pykan has act_fun and symbolic_fun; {type(model).__name__:.60} has not.")
    if not all(hasattr(model, name) for name in (*_NODES, "depth", "mult_arity")):  # of 0.1 or older
        state = {str(name): numbers(tensor) for name, tensor in model.state_dict().items()}
        return Checkpoint(state, {}, NAME)
    bases = [_base(layer.base_fun, torch) for layer in model.act_fun]
    settings: dict[str, Any] = {
        **{name: _plain(getattr(model, name)) for name in _SETTINGS if hasattr(model, name)},
        "symbolic_enabled": bool(model.symbolic_enabled),
        "base_fun_name": bases[0] if len(set(bases)) == 1 else bases,
        "k": [],
        "grid": [],
    }
    arrays: dict[str, NDArray[Any]] = {}
    for number in range(int(model.depth)):
        numeric, symbolic = model.act_fun[number], model.symbolic_fun[number]
        arrays |= _arrays(model, number)
        knots, (_, _, count) = numeric.grid.shape[1], numeric.coef.shape
        settings["k"].append(int(knots - count - 1))
        settings["grid"].append(int(2 * count - knots + 1))
        products = len(model.node_bias[number]) != len(numeric.coef[0])
        settings[f"symbolic.funs_name.{number}"] = [[str(name) for name in row] for row in symbolic.funs_name]
        for j, i in np.argwhere(arrays[f"symbolic_fun.{number}.mask"] != 0):
            place = edge_at(number, i, j, products=products)
            _require_named(symbolic.funs[j][i], str(symbolic.funs_name[j][i]), place, torch)
    return Checkpoint(arrays, settings, NAME)


def _arrays(model: Any, number: int) -> dict[str, NDArray[Any]]:
    """The arrays of a layer, named as in its file."""
    parts = {"act_fun": _NUMERIC, "symbolic_fun": ("mask", "affine")}
    arrays = {
        f"{part}.{number}.{name}": numbers(getattr(getattr(model, part)[number], name))
        for part, names in parts.items()
        for name in names
    }
    return arrays | {f"{name}_{number}": numbers(getattr(model, name)[number]) for name in _NODES}


def numbers(tensor: Any) -> NDArray[Any]:
    """Convert a tensor on any device to an array of its precision; half precision becomes float32, exactly."""
    found = tensor.detach().cpu()
    if found.is_floating_point() and found.element_size() < 4:
        found = found.float()
    result: NDArray[Any] = found.numpy().copy()
    return result


def _base(function: Any, torch: Any) -> str:
    """ "silu", "identity" or "zero" if the function computes that, else its name."""
    for name, row in (("silu", "silu"), ("identity", "x"), ("zero", NO_FUNCTION)):
        if callable(function) and _computes(function, row, torch):
            return name
    return function if isinstance(function, str) else type(function).__name__


def _require_named(function: Any, name: str, place: str, torch: Any) -> None:
    found = ours(name)
    if found is None or _computes(function, found, torch):
        return  # unknown names are refused later
    raise CheckpointError(
        f"{NAME}: {place}: its function is called {name!r} and computes something else (pykan's swap and "
        "unfix_symbolic change names alone). Save the model with saveckpt, load it, and see whether it is still what "
        "you want."
    )


def _computes(function: Callable[[Any], Any], name: str, torch: Any) -> bool:
    """Whether the function agrees with kanserve's function of this name, including where it is undefined."""
    with torch.no_grad(), np.errstate(all="ignore"):
        try:
            got = numbers(function(torch.tensor(_TRIED)))
        except Exception as error:  # a user's function may raise anything
            raise CheckpointError(f"{NAME}: a function of it fails: {' '.join(str(error).split()):.100}.") from error
        wanted = np.zeros_like(_TRIED) if name == NO_FUNCTION else FUNCTIONS[name].numpy(_TRIED)
    if got.shape != wanted.shape:
        return False
    return bool(np.allclose(got, wanted, rtol=_EQUAL, atol=_EQUAL, equal_nan=True))


def _plain(value: Any) -> Any:
    """Convert tensors, arrays and tuples to lists of numbers."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
