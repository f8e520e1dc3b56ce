"""Convert networks to torch modules and back; numbers stay unchanged in float64."""

from dataclasses import replace

from kanserve.errors import MissingDependencyError
from kanserve.network.kan import Kan
from kanserve.train.torch.modules import KanModule

try:
    import torch
except ImportError:
    raise MissingDependencyError("torch", "train") from None


def to_module(kan: Kan, *, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu") -> KanModule:
    """The network as a module on `device`; it takes rows with any leading shape."""
    return KanModule(kan, dtype, device)


def from_module(module: KanModule) -> Kan:
    """The network with the module's present parameters; equal to the original if none has changed.

    NaN or infinite parameters raise NetworkError.
    """
    layers = tuple(layer.layer() for layer in module.each())
    return replace(module.structure, layers=layers)
