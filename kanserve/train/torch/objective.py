"""The objective of LBFGS and Adam, as a function of the vector of free parameters."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf, isfinite, nan
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import MissingDependencyError
from kanserve.network.kan import Kan
from kanserve.train.lm.parameter_vector import bending, free_parameters
from kanserve.train.losses import LossFunction, LossName
from kanserve.train.torch.batches import Batch, Batches, Places
from kanserve.train.torch.modules import KanModule, to_module
from kanserve.train.torch.optimizers import Function

if TYPE_CHECKING:
    from torch import Tensor


def sizes(edges: "Tensor", weights: "Tensor | None" = None) -> "Tensor":
    """The mean size |φ|₁ (O, I) of each edge, from edge values (O, I, N) and weights (N,) with mean 1."""
    return (edges.abs() if weights is None else weights * edges.abs()).mean(dim=2)


def entropy(size: "Tensor") -> "Tensor":
    """The entropy of edge sizes (O, I) in nats: 0 for a single edge or none, log(O·I) for equal sizes."""
    total = size.sum()
    # An edge of size 0 has p·log p = 0; the smallest normal number keeps the gradient of log finite.
    tiny = size.new_tensor(1e-300 if size.element_size() == 8 else 1e-30)
    share = size / total.maximum(tiny)
    return -(share * share.maximum(tiny).log()).sum()


def penalty(edges: Iterable["Tensor"], l1: float, entropies: float, weights: "Tensor | None" = None) -> "Tensor":
    """The penalty l1·Σ|Φ|₁ + entropies·ΣS(Φ), summed over the layers, from the edge values of each."""
    every = [sizes(edge, weights) for edge in edges]
    terms = [l1 * size.sum() + entropies * entropy(size) for size in every]
    return sum(terms[1:], terms[0])


try:
    import torch
    from torch import Tensor, nn
except ImportError:
    raise MissingDependencyError("torch", "torch") from None

SHRINKING = ("coefficients", "base_weight")


@dataclass(frozen=True)
class Goal:
    """The loss, the strengths of the penalties, and the most rows to compute at once."""

    loss: LossName
    l1: float
    entropy: float
    ridge: float
    smooth: float
    at_once: int
    shape: float = nan
    """Of the loss: `LossFunction.shape`."""


@dataclass(frozen=True, eq=False)
class Model:
    """A module whose trainable parameters are read and written as one vector (P,). `free` is 1 for free and 0 for fixed
    numbers, or None if all are free. `shrinks` is 1 for free coefficients and base weights; weight decay would only
    harm constants."""

    module: KanModule
    parameters: tuple[nn.Parameter, ...]
    flat: Tensor
    """The storage that the parameters are views of: writing to it changes them all without copies."""
    free: Tensor | None
    shrinks: Tensor
    bend: Tensor | None
    """The smoothness penalty of the first layer's splines, (I, G+k, G+k); their coefficients begin the vector. Hidden
    layers are not smoothed, since a network of straight lines is a straight line."""

    def vector(self) -> Tensor:
        return self.flat.clone()

    def write(self, vector: Tensor) -> KanModule:
        """Copy the vector into the module's parameters, and return the module."""
        self.flat.copy_(vector)
        return self.module

    def gradient(self, loss: Tensor) -> Tensor:
        """The gradient by the vector; 0 for parameters that are fixed or that the loss does not depend on."""
        parts = torch.autograd.grad(loss, self.parameters, allow_unused=True, materialize_grads=True)
        gradient = torch.cat([part.flatten() for part in parts])
        return gradient if self.free is None else gradient * self.free


def model(kan: Kan, device: str) -> Model:
    """The network as a trainable module; `parameter_vector.free_parameters` decides what is free."""
    module = to_module(kan, device=device)
    masks: list[NDArray[np.bool_]] = []
    shrinks: list[NDArray[np.bool_]] = []
    parameters: list[nn.Parameter] = []
    bend = None
    for layer, selected, own in zip(kan.layers, free_parameters(kan), module.each(), strict=True):
        for name, places in (
            ("coefficients", tuple(selected.edges.T)),
            ("base_weight", tuple(selected.base.T)),
            ("affine", tuple(selected.affine.T)),
            ("node_bias", (selected.bias,)),
        ):
            if len(places[0]) == 0:
                continue
            mask = np.zeros(getattr(layer, name).shape, bool)
            mask[places] = True
            if name == "coefficients" and layer is kan.layers[0]:
                bend = torch.tensor(np.stack([bending(layer, i) for i in range(layer.inputs)]), device=device)
            masks.append(mask.ravel())
            shrinks.append(mask.ravel() & (name in SHRINKING))
            parameters.append(own.get_parameter(name))
    sizes = [len(mask) for mask in masks]
    flat = (
        torch.cat([parameter.detach().flatten() for parameter in parameters])
        if parameters
        else torch.zeros(0, device=device)
    )
    for parameter, values in zip(parameters, torch.split(flat, sizes), strict=True):
        parameter.data = values.view_as(parameter)
    free = np.concatenate([*masks, np.zeros(0, bool)])
    return Model(
        module,
        tuple(parameters),
        flat,
        None if free.all() else torch.tensor(free, dtype=flat.dtype, device=device),
        torch.tensor(np.concatenate([*shrinks, np.zeros(0, bool)]), dtype=flat.dtype, device=device),
        bend,
    )


def value(goal: Goal, trained: Model, vector: Tensor, rows: Batches) -> float:
    """The loss with l1 and entropy penalties on these rows, not the shrinkage; infinite if the network is."""
    module = trained.write(vector)
    with torch.no_grad():
        total = sum(_mean(goal, module, part).item() * len(part) for part in rows.parts(goal.at_once))
    return total / len(rows) if isfinite(total) else inf


def by_row(goal: Goal, trained: Model, vector: Tensor, rows: Batches) -> Tensor:
    """The weighted loss of each row (N,), without penalties."""
    module = trained.write(vector)
    with torch.no_grad():
        parts = [(_losses(goal, module, module(part.x), part.y), part) for part in rows.parts(goal.at_once)]
    return torch.cat([losses if part.weights is None else part.weights * losses for losses, part in parts])


def shrinkage(goal: Goal, trained: Model, vector: Tensor) -> tuple[float, Tensor]:
    """The penalty ½·ridge·‖coefficients and base weights‖² + ½·smooth·‖second differences of the first layer's
    coefficients‖², and its gradient."""
    gradient = goal.ridge * trained.shrinks * vector
    if goal.smooth > 0 and trained.bend is not None:
        count = trained.parameters[0].numel()
        edges = vector[:count].view(-1, *trained.bend.shape[:2])
        gradient[:count] += goal.smooth * torch.einsum("oic,icd->oid", edges, trained.bend).flatten()
    return 0.5 * float(gradient @ vector), gradient


def function(goal: Goal, trained: Model, rows: Batches, positions: Places | None = None) -> Function:
    """A function of the vector that returns loss, penalties and the gradient; on all rows, or `positions`."""
    count = len(rows) if positions is None else len(positions)

    def loss_and_gradient(vector: Tensor) -> tuple[float, Tensor]:
        module = trained.write(vector)
        total, gradient = shrinkage(goal, trained, vector)
        # The caller may have turned gradients off, and so may a Ctrl-C that ended an earlier fit within no_grad().
        with torch.enable_grad():
            for part in rows.parts(goal.at_once, positions):
                loss = _mean(goal, module, part) * (len(part) / count)
                total += loss.item()
                gradient += trained.gradient(loss)
        return total, gradient

    return loss_and_gradient


def _mean(goal: Goal, module: KanModule, rows: Batch) -> Tensor:
    """The mean loss of these rows, plus their l1 and entropy penalties."""
    if goal.l1 == goal.entropy == 0:
        return _weigh(_losses(goal, module, module(rows.x), rows.y), rows.weights)
    outputs, edges = module.with_edges(rows.x)
    loss = _weigh(_losses(goal, module, outputs, rows.y), rows.weights)
    return loss + penalty(edges, goal.l1, goal.entropy, rows.weights)


def _weigh(losses: Tensor, weights: Tensor | None) -> Tensor:
    return (losses if weights is None else weights * losses).mean()


def _losses(goal: Goal, module: KanModule, outputs: Tensor, y: Tensor) -> Tensor:
    """The loss of each row (N,), like `LossFunction.values`."""
    loss = LossFunction(goal.loss, goal.shape)
    if loss.name == "cross_entropy":
        return -(y * torch.log_softmax(outputs, dim=1)).sum(dim=1)
    if loss.log_link:
        shift = module.output_shift.T
        found: Tensor = loss.deviances(outputs - shift, y / torch.exp(shift), torch).sum(dim=1)
        return found
    scale = module.output_scale.T
    found = loss.of_residuals((outputs - y) / torch.where(scale == 0, 1.0, scale), torch).sum(dim=1)
    return found
