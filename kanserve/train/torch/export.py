"""Export a network as a torch module in one file that needs only torch; and import it again."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import CheckpointError, ExportError, MissingDependencyError, NetworkError
from kanserve.network.encoding import is_encoded
from kanserve.network.kan import Kan, Layer, Variable
from kanserve.network.own_functions import own_functions
from kanserve.network.powers import NAMES
from kanserve.network.splines import basis

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from kanserve.train.torch.network import KanNetwork

Array = NDArray[np.float64]

ENDS = ("input_shift", "input_scale", "output_shift", "output_scale")
# Of a layer. Masks keep pruned edges pruned, and a base weight of 0 at 0.
ARRAYS = ("knots", "coefficients", "base_weight", "affine", "subnode_scale", "subnode_bias", "node_scale", "node_bias")


def to_torch(kan: Kan, *, dtype: "torch.dtype | None" = None, device: "torch.device | str" = "cpu") -> "KanNetwork":
    """The network as a plain torch module: to train in your own loop, or to use elsewhere.

    Its class is in kanserve/train/torch/network.py, which imports nothing of kanserve: another program needs only
    a copy of that file and the module's state_dict. Coefficients, base weights, affine constants and biases are
    parameters; grids, masks and scales are buffers. Pruned edges stay pruned.

    Parameters
    ----------
    kan : Kan
        The network.
    dtype : torch.dtype, optional
        The type of its numbers; by default double.
    device : torch.device or str, default="cpu"
        Where the module is.

    Returns
    -------
    KanNetwork
        A torch.nn.Module from samples of shape (n_samples, n_inputs) to outputs of shape (n_samples, n_outputs), both
        in raw units.

    Raises
    ------
    MissingDependencyError
        torch is not installed.
    ExportError
        The network has a function that `kanserve.register_function` added.

    Examples
    --------
    >>> import kanserve, torch
    >>> network = kanserve.to_torch(kanserve.from_formula("2*x + 1"))
    >>> network(torch.tensor([[0.5]], dtype=torch.float64)).tolist()
    [[2.0]]
    """
    try:
        import torch

        from kanserve.train.torch.network import KanNetwork
    except ImportError:
        raise MissingDependencyError("torch", "torch") from None
    if own := own_functions(kan):
        raise ExportError(
            f"The network has the function {own[0]!r}, which was added by register_function: torch_network.py, which "
            "runs without kanserve, does not have it. Export it as C, ONNX or NumPy."
        )
    arrays: dict[str, NDArray[Any]] = {name: getattr(kan, name) for name in ENDS}
    for n, layer in enumerate(kan.layers):
        arrays |= {f"layers.{n}.{name}": getattr(layer, name) for name in ARRAYS}
        arrays |= {f"layers.{n}.spline_mask": layer.spline_mask, f"layers.{n}.base_mask": layer.base_weight != 0}
        if layer.extrapolation == "linear":
            arrays[f"layers.{n}.ends"] = _slopes(layer)
    numbers = torch.float64 if dtype is None else dtype
    state = {
        name: torch.tensor(array, dtype=torch.bool if array.dtype == np.bool_ else numbers, device=device)
        for name, array in arrays.items()
    }
    state["structure"] = torch.tensor(list(json.dumps(_structure(kan)).encode()), dtype=torch.uint8, device=device)
    return KanNetwork(state)


def from_torch(network: "KanNetwork | Mapping[str, Tensor]") -> Kan:
    """The network of a module of `to_torch`, or of its state_dict; equal to the original if nothing was trained.

    Parameters
    ----------
    network : KanNetwork or mapping of str to Tensor
        The module, on any device, or its state_dict.

    Returns
    -------
    Kan
        The network.

    Raises
    ------
    NetworkError
        It is another module's state, or a parameter is NaN or infinite.
    CheckpointError
        A tensor has complex numbers.

    Examples
    --------
    >>> import kanserve
    >>> kan = kanserve.from_formula("2*x + 1")
    >>> kanserve.equal(kanserve.from_torch(kanserve.to_torch(kan)), kan)
    True
    """
    tensors = network if isinstance(network, Mapping) else network.state_dict()
    state = {name: np.asarray(tensor.detach().cpu().numpy()) for name, tensor in tensors.items()}
    for name, array in state.items():
        if array.dtype.kind not in "fiub":
            raise CheckpointError(f"The tensor {name[:60]!r} has the type {array.dtype.name}; wanted real numbers.")
    try:
        said = json.loads(state["structure"].tobytes())
        ends: dict[str, Any] = {name: state[name].astype(np.float64) for name in ENDS}
        return Kan(
            tuple(
                _layer(layer, {name: state[f"layers.{n}.{name}"] for name in (*ARRAYS, "spline_mask", "base_mask")})
                for n, layer in enumerate(said["layers"])
            ),
            inputs=tuple(Variable(*variable) for variable in said["inputs"]),
            outputs=tuple(Variable(*variable) for variable in said["outputs"]),
            classes=tuple(said["classes"]),
            **ends,
        )
    except KeyError as missing:
        raise NetworkError(f"The state_dict of a module of to_torch has {missing}; this one has not.") from None


def _slopes(layer: Layer) -> Array:
    """The derivatives of all basis functions at both ends of each input's range: (I, 2, G+k)."""
    k = layer.order
    return np.stack([basis(knots[[k, -k - 1]], knots, k, derivative=1) for knots in layer.knots])


def _structure(kan: Kan) -> dict[str, object]:
    """The network without its arrays, for JSON."""
    return {
        "inputs": [_describe_variable(variable) for variable in kan.inputs],
        "outputs": [_describe_variable(output) for output in kan.outputs],
        "classes": kan.classes,
        "layers": [
            {
                "order": layer.order,
                "base": layer.base,
                "extrapolation": layer.extrapolation,
                "splines": bool(layer.spline_mask.any()),
                "arity": layer.arity.tolist(),
                "functions": [[str(layer.functions[j, i]), j, i] for j, i in np.argwhere(layer.symbolic_mask).tolist()],
            }
            for layer in kan.layers
        ],
    }


def _describe_variable(variable: Variable) -> list[object]:
    encoding = [variable.fill_value, variable.categories, variable.category_values] if is_encoded(variable) else []
    return [variable.name, variable.unit, variable.low, variable.high, *encoding]


def _layer(said: Mapping[str, Any], state: Mapping[str, NDArray[Any]]) -> Layer:
    arrays: dict[str, Array] = {name: state[name].astype(np.float64) for name in ARRAYS}
    functions = np.full(state["base_mask"].shape, "", NAMES)
    for name, j, i in said["functions"]:
        functions[j, i] = name
    arrays["coefficients"] = arrays["coefficients"] * state["spline_mask"][:, :, None]
    arrays["base_weight"] = arrays["base_weight"] * state["base_mask"]
    return Layer(
        **arrays,
        functions=functions,
        arity=np.array(said["arity"]),
        order=said["order"],
        base=said["base"],
        extrapolation=said["extrapolation"],
    )
