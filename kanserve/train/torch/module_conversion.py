"""The bridge between networks as data and as torch modules: numbers cross it unchanged in float64."""

from dataclasses import replace

from kanserve.errors import MissingDependencyError
from kanserve.network.kan import Kan
from kanserve.train.torch.modules import KanModule

try:
    import torch
except ImportError:
    raise MissingDependencyError("torch", "train") from None


def to_module(kan: Kan, *, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu") -> KanModule:
    """The network as a module, which takes rows of any leading shape on `device`."""
    return KanModule(kan, dtype, device)


def from_module(module: KanModule) -> Kan:
    """The network with the module's parameters as they are now; equal to the one it came from if none has changed.

    Parameters that training made NaN or infinite raise NetworkError.
    """
    layers = tuple(layer.layer() for layer in module.each())
    return replace(module.structure, layers=layers)
