"""What training by gradients minimises, as a function of the vector of free parameters."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf, isfinite
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import MissingDependencyError
from kanserve.ir import Kan
from kanserve.train.convert import to_torch
from kanserve.train.modules import KanModule
from kanserve.train.optimizers import Function
from kanserve.train.parameters import free_parameters
from kanserve.train.penalties import penalty

try:
    import torch
    from torch import Tensor, nn
except ImportError:
    raise MissingDependencyError("torch", "train") from None

Loss = Literal["squared", "cross_entropy"]

FREE = ("coefficients", "base_weight", "affine", "node_bias")
SHRINKING = ("coefficients", "base_weight")


@dataclass(frozen=True)
class Goal:
    """The loss, the strengths of the penalties and of the ridge, and how many rows may be computed at once."""

    loss: Loss
    l1: float
    entropy: float
    ridge: float
    at_once: int


@dataclass(frozen=True, eq=False)
class Rows:
    """Raw features x (N, inputs) and answers y (N, outputs) on the device."""

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.x)

    def take(self, places: Tensor | slice) -> "Rows":
        return Rows(self.x[places], self.y[places])

    def parts(self, size: int) -> Iterator["Rows"]:
        """All rows in their order, at most `size` at a time."""
        return (self.take(slice(start, start + size)) for start in range(0, len(self), size))


@dataclass(frozen=True, eq=False)
class Model:
    """A network's module, whose free parameters are read and written as one vector (P,).

    `places` says where each stands among all parameters of a free kind, laid end to end; `shrinks` is 1 for
    coefficients and base weights, 0 for constants that a decay would do no good.
    """

    module: KanModule
    parameters: tuple[nn.Parameter, ...]
    places: Tensor
    shrinks: Tensor

    def vector(self) -> Tensor:
        return torch.cat([one.detach().flatten() for one in self.parameters])[self.places]

    def write(self, vector: Tensor) -> KanModule:
        """The module with these values of its free parameters."""
        flat = torch.cat([one.detach().flatten() for one in self.parameters])
        flat[self.places] = vector
        with torch.no_grad():
            for one in self.parameters:
                one.copy_(flat[: one.numel()].view_as(one))
                flat = flat[one.numel() :]
        return self.module

    def gradient(self, loss: Tensor) -> Tensor:
        """Of a loss, with respect to the vector; 0 for what the loss does not depend on."""
        parts = torch.autograd.grad(loss, self.parameters, allow_unused=True, materialize_grads=True)
        return torch.cat([one.flatten() for one in parts])[self.places]


def model(kan: Kan, device: str) -> Model:
    """The network as a module, free where `parameters.free_parameters` says so."""
    module = to_torch(kan, device=device)
    free: list[NDArray[np.bool_]] = []
    parameters = []
    kinds: list[NDArray[np.bool_]] = []
    for layer, one, own in zip(kan.layers, free_parameters(kan), module.each(), strict=True):
        masks = {name: np.zeros(getattr(layer, name).shape, bool) for name in FREE}
        masks["coefficients"][tuple(one.edges.T)] = True
        masks["base_weight"][tuple(one.base.T)] = True
        masks["affine"][tuple(one.affine.T)] = True
        masks["node_bias"][one.bias] = True
        free += [masks[name].ravel() for name in FREE]
        kinds += [np.full(masks[name].size, name in SHRINKING) for name in FREE]
        parameters += [own.get_parameter(name) for name in FREE]
    places = np.flatnonzero(np.concatenate(free))
    shrinks = np.concatenate(kinds)[places].astype(np.float64)
    return Model(module, tuple(parameters), torch.tensor(places, device=device), torch.tensor(shrinks, device=device))


def value(goal: Goal, one: Model, vector: Tensor, rows: Rows) -> float:
    """The loss and the penalties on these rows without the ridge, infinite where the network is not finite."""
    module = one.write(vector)
    with torch.no_grad():
        total = sum(_mean(goal, module, part).item() * len(part) for part in rows.parts(goal.at_once))
    return total / len(rows) if isfinite(total) else inf


def ridge(goal: Goal, one: Model, vector: Tensor) -> float:
    """½·ridge·‖coefficients and base weights‖²."""
    return 0.5 * goal.ridge * float((one.shrinks * vector) @ vector)


def function(goal: Goal, one: Model, rows: Callable[[], Rows]) -> Function:
    """Loss, penalties and ridge, and their gradient, as a function of the vector, on the rows that each call gets."""

    def loss_and_gradient(vector: Tensor) -> tuple[float, Tensor]:
        module, now = one.write(vector), rows()
        total, gradient = 0.0, torch.zeros_like(vector)
        for part in now.parts(goal.at_once):
            loss = _mean(goal, module, part) * (len(part) / len(now))
            total += loss.item()
            gradient = gradient + one.gradient(loss)
        return total + ridge(goal, one, vector), gradient + goal.ridge * one.shrinks * vector

    return loss_and_gradient


def _mean(goal: Goal, module: KanModule, rows: Rows) -> Tensor:
    """The mean loss of these rows plus the penalties on them."""
    if goal.l1 > 0 or goal.entropy > 0:
        outputs, edges = module.with_edges(rows.x)
        return _loss(goal.loss, module, outputs, rows.y) + penalty(edges, goal.l1, goal.entropy)
    return _loss(goal.loss, module, module(rows.x), rows.y)


def _loss(loss: Loss, module: KanModule, outputs: Tensor, y: Tensor) -> Tensor:
    if loss == "cross_entropy":
        return -(y * torch.log_softmax(outputs, dim=1)).sum(dim=1).mean()
    scale = module.output_scale.T
    residuals = (outputs - y) / torch.where(scale == 0, 1.0, scale)
    return 0.5 * (residuals * residuals).sum(dim=1).mean()
