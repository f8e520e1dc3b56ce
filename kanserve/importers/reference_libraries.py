"""Run the original libraries on a checkpoint that was already read; they never open the user's file."""

import contextlib
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import CheckpointError, InputError, MissingDependencyError
from kanserve.importers.arrays import clip_key
from kanserve.importers.checkpoint_files import CACHE, SETTINGS, STATE
from kanserve.importers.conversion import Checkpoint, Conversion, Options
from kanserve.importers.pykan_yaml import Opaque

Array = NDArray[np.float64]
Arrays = Mapping[str, NDArray[Any]]
Runner = Callable[[Array], Array]

# The package to import and its distribution. Libraries that are on no index have none: someone else's package could
# have that name there.
_PACKAGES = {
    "pykan": ("kan", "pykan"),
    "efficient-kan": ("efficient_kan", ""),
    "fast-kan": ("fastkan", ""),
    "inkan": ("inkan", "inkan"),
    "jaxkan": ("jaxkan", "jaxkan"),
}
_ACTIVATIONS = {name.lower(): name for name in ("SiLU", "Identity", "ReLU", "Tanh", "Sigmoid")}  # classes of torch.nn


def runner(checkpoint: Checkpoint, conversion: Conversion, options: Options) -> tuple[Runner, str]:
    """A function that evaluates the library's own model on rows (N, inputs), and the library's version."""
    library, single = conversion.library, checkpoint.single
    package = import_library(library)
    match library:
        case "pykan":
            run = _torch_runner(_pykan(package, checkpoint, conversion, single), single)
        case "efficient-kan":
            run = _torch_runner(_sequence(_efficient_kan(package, checkpoint, options), single), single)
        case "fast-kan":
            run = _torch_runner(_sequence(_fast_kan(package, checkpoint, options), single), single)
        case "inkan":
            run = _torch_runner(_sequence(_inkan(package, checkpoint, conversion, options), single), single)
        case _:
            run = _jax_runner(checkpoint, options, single)
    return run, version(library)


def import_library(library: str) -> Any:
    """Import the library. Raises MissingDependencyError without it, InputError if no usable version is published."""
    if library not in _PACKAGES:
        raise InputError(
            f"{library} is a kind of layer, of no package: there is nothing to verify with. Compare the network with"
            " your model's outputs, as in kanserve.from_checkpoint(path).kan(rows)."
        )
    package, distribution = _PACKAGES[library]
    try:
        return import_module(package)
    except ImportError:  # of the library, or of an undeclared dependency
        if not distribution:
            raise InputError(
                f"{library} is on no package index: to run it, put the folder of its module {package} on PYTHONPATH."
            ) from None
        raise MissingDependencyError(distribution) from None


def version(library: str) -> str:
    try:
        return metadata.version(_PACKAGES[library][1])
    except (metadata.PackageNotFoundError, ValueError):
        return "(a checkout)"


def _torch_runner(model: Any, single: bool) -> Runner:
    import torch

    def run(rows: Array) -> Array:
        with torch.no_grad():
            answer = model(torch.tensor(rows, dtype=torch.float32 if single else torch.float64))
        result: Array = answer.numpy().astype(np.float64)
        return result

    return run


def _pykan(kan: Any, checkpoint: Checkpoint, conversion: Conversion, single: bool) -> Any:
    """The model that pykan loads from files written here: plain settings, plain arrays, no cache."""
    import torch
    import yaml

    settings = dict(checkpoint.settings)
    if not settings:
        raise CheckpointError(f"pykan loads no state without its settings; {checkpoint.name} has none.")
    if isinstance(settings.get("base_fun_name"), Opaque):  # as prune_input leaves it; pykan's own loader refuses that
        settings["base_fun_name"] = conversion.kan.layers[0].base
    if strange := [name for name, value in settings.items() if _opaque(value)]:
        raise CheckpointError(
            f"{checkpoint.name}{SETTINGS} holds Python objects ({clip_key(strange[0])}): pykan's own loader refuses it,"
            " and there is nothing to verify with."
        )
    # Import uses every symbolic mask that is not 0, whatever the settings say; so must pykan.
    symbolic = any(re.fullmatch(r"symbolic_fun\.\d+\.mask", key) and a.any() for key, a in checkpoint.arrays.items())
    with tempfile.TemporaryDirectory() as folder, _precision(single):
        path = Path(folder, "model")
        plain = {"auto_save": False, "ckpt_path": str(path), "device": "cpu", "state_id": 0, "round": 0}
        settings |= {**plain, **({"symbolic_enabled": True} if symbolic else {})}
        Path(f"{path}{SETTINGS}").write_text(yaml.safe_dump(settings))
        torch.save({key: torch.tensor(array) for key, array in checkpoint.arrays.items()}, f"{path}{STATE}")
        torch.save(None, f"{path}{CACHE}")
        model = kan.KAN.loadckpt(str(path))
        model.save_act = False
        return model.eval()


def _opaque(value: Any) -> bool:
    if isinstance(value, Mapping):
        value = list(value.values())
    return isinstance(value, Opaque) or (isinstance(value, list) and any(map(_opaque, value)))


@contextlib.contextmanager
def _precision(single: bool) -> Iterator[None]:
    """Set torch's default dtype, in which pykan and others compute."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32 if single else torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _efficient_kan(package: Any, checkpoint: Checkpoint, options: Options) -> Iterator[tuple[Any, Arrays]]:
    for number, state in enumerate(group(checkpoint.arrays, "spline_weight")):
        outputs, inputs, count = state["spline_weight"].shape
        order = state["grid"].shape[1] - 1 - count
        yield (
            package.KANLinear(
                inputs,
                outputs,
                grid_size=count - order,
                spline_order=order,
                enable_standalone_scale_spline="spline_scaler" in state,
                base_activation=_activation(checkpoint, options, number),
            ),
            state,
        )


def _fast_kan(package: Any, checkpoint: Checkpoint, options: Options) -> Iterator[tuple[Any, Arrays]]:
    known = checkpoint.settings.get("denominators", ())
    for number, state in enumerate(group(checkpoint.arrays, "rbf.grid")):
        grid = state["rbf.grid"]
        outputs, width = state["spline_linear.weight"].shape
        fast_kanlayer = package.FastKANLayer(
            width // len(grid),
            outputs,
            grid_min=_end(grid[0]),
            grid_max=_end(grid[-1]),
            num_grids=len(grid),
            use_base_update="base_linear.weight" in state,
            use_layernorm="layernorm.weight" in state,
            base_activation=_activation(checkpoint, options, number)(),
        )
        own = known[number] if number < len(known) else fast_kanlayer.rbf.denominator
        fast_kanlayer.rbf.denominator = options.denominator or own
        yield fast_kanlayer, state


def _inkan(
    package: Any, checkpoint: Checkpoint, conversion: Conversion, options: Options
) -> Iterator[tuple[Any, Arrays]]:
    groups = group(checkpoint.arrays, "grid_starts")
    for number, (state, layer) in enumerate(zip(groups, conversion.kan.layers, strict=True)):
        kanlayer = package.KANLayer(
            layer.inputs,
            layer.nodes,
            grid_size=layer.intervals,
            base_activation=_activation(checkpoint, options, number),
            compile_basis=False,
        )
        # The file does not store 1/h: it is taken from the network.
        kanlayer.inv_h = float(1 / (layer.knots[0, 1] - layer.knots[0, 0]))
        yield kanlayer, state


def _activation(checkpoint: Checkpoint, options: Options, number: int) -> Any:
    """The class of a layer's base activation."""
    import torch

    name = options.base or _activation_of(checkpoint, number) or "silu"
    if name.lower() not in _ACTIVATIONS:
        raise CheckpointError(f"No activation is known to verify {name!r} with.")
    return getattr(torch.nn, _ACTIVATIONS[name.lower()])


def _activation_of(checkpoint: Checkpoint, number: int) -> str:
    """A layer's activation, which only live models know; "" for files."""
    known = checkpoint.settings.get("activations", ())
    return str(known[number] or "") if number < len(known) else ""


def _end(value: np.floating[Any]) -> float:
    """An end of a grid as the decimal that was intended: float32's -1.1 differs from -1.1 in double."""
    return float(str(np.float32(value))) if np.float32(value) == value else float(value)


def _sequence(layers: Iterator[tuple[Any, Arrays]], single: bool) -> Any:
    """A torch Sequential of the layers with their states loaded, in float32 or float64."""
    import torch

    with _precision(single):
        made = []
        for layer, state in layers:
            layer.load_state_dict({key: torch.tensor(array) for key, array in state.items()})
            made.append(layer)
        return torch.nn.Sequential(*made).eval()


def group(arrays: Arrays, marker: str) -> list[dict[str, NDArray[Any]]]:
    """The arrays of each layer, in order, without the layer's prefix. Each array named `marker` marks a layer."""
    prefixes = [key.removesuffix(marker) for key in arrays if key == marker or key.endswith(f".{marker}")]
    prefixes.sort(key=lambda prefix: [int(number) for number in re.findall(r"\d+", prefix)])
    return [
        {key.removeprefix(prefix): array for key, array in arrays.items() if key.startswith(prefix)}
        for prefix in prefixes
    ]


def _jax_runner(checkpoint: Checkpoint, options: Options, single: bool) -> Runner:
    jax = import_module("jax")  # untyped in part

    def run(rows: Array) -> Array:
        before = bool(jax.config.jax_enable_x64)
        jax.config.update("jax_enable_x64", not single)
        try:
            values = jax.numpy.asarray(rows, np.float32 if single else np.float64)
            for layer in _jaxkan(checkpoint, options):
                values = layer(values)
        finally:
            jax.config.update("jax_enable_x64", before)
        return np.asarray(values, np.float64)

    return run


def _jaxkan(checkpoint: Checkpoint, options: Options) -> Iterator[Any]:
    from flax import nnx
    from jax import numpy as jnp
    from jaxkan.layers import get_layer

    inputs = len(options.inputs)
    for number, state in enumerate(group(checkpoint.arrays, "c_basis")):
        basis, grid = state["c_basis"], state["grid"]
        inputs, outputs = _jaxkan_size(state, inputs)
        order = grid.shape[1] - basis.shape[-1] - 1
        stored = next((key.partition(".")[2] for key in state if key.startswith("residual.")), "")
        name = options.base or stored or _activation_of(checkpoint, number) or "silu"
        kind = "base" if basis.ndim == 2 else "spline"
        own: dict[str, Any] = {"k": order, "G": basis.shape[-1] - order, "external_weights": "c_spl" in state}
        if basis.ndim == 3 and basis.shape[1:] == grid.shape:
            std = options.denominator / 2**0.5 if options.denominator else float(state.get("std", 1.0))
            kind, kernel = "rbf", {"type": "gaussian", "std": std}
            own = {"D": basis.shape[-1], "kernel": kernel, "external_weights": "c_ext" in state}
        layer = get_layer(kind)(
            n_in=inputs,
            n_out=outputs,
            residual=(getattr(nnx, name, None) or getattr(jnp, name)) if "c_res" in state else None,
            add_bias="bias" in state,
            **own,
        )
        for key in ("c_basis", "c_spl", "c_ext", "c_res", "bias"):
            if key in state:
                setattr(layer, key, nnx.Param(jnp.asarray(state[key])))
        layer.grid.item = jnp.asarray(grid)
        yield layer
        inputs = outputs


def _jaxkan_size(state: Mapping[str, Any], before: int) -> tuple[int, int]:
    """The inputs and outputs of a layer. `before` is the number of inputs if its arrays do not tell."""
    basis = state["c_basis"]
    if basis.ndim == 3:
        return basis.shape[1], basis.shape[0]
    if "c_res" in state:
        return state["c_res"].shape[1], state["c_res"].shape[0]
    outputs = len(state["bias"]) if "bias" in state else len(basis) // before
    return len(basis) // outputs, outputs
