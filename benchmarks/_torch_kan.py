"""Peers in plain torch: a KAN of splines by the Cox-de Boor recursion, and one of Chebyshev polynomials.

The first has efficient-kan's form: the flattened basis of a layer's inputs times one matrix, plus the base function
times another. Splines fall to zero on the extended knots (extrapolation "zero"). The second has the usual form of
Chebyshev KANs: tanh, all polynomials by their recurrence, and one sum of products with the weights.
"""

from dataclasses import replace

import numpy as np
import torch

from kanserve.network.kan import Kan, Layer, make_layer
from kanserve.network.splines import design, fit_coefficients, span, uniform_knots


class TorchLayer(torch.nn.Module):
    """One layer of sum nodes; a knot may not be repeated."""

    knots: torch.Tensor

    def __init__(self, one: Layer, dtype: torch.dtype) -> None:
        super().__init__()
        self.order = one.order
        self.register_buffer("knots", torch.tensor(one.knots, dtype=dtype))
        self.coefficients = torch.nn.Parameter(torch.tensor(one.coefficients, dtype=dtype))
        self.base_weight = torch.nn.Parameter(torch.tensor(one.base_weight, dtype=dtype))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        base = torch.nn.functional.linear(torch.nn.functional.silu(x), self.base_weight)
        return base + torch.nn.functional.linear(self.basis(x).flatten(1), self.coefficients.flatten(1))

    def basis(self, x: torch.Tensor) -> torch.Tensor:
        """All basis functions (N, I, G+k) at x (N, I)."""
        x, t = x[:, :, None], self.knots
        values = ((x >= t[:, :-1]) & (x < t[:, 1:])).to(x.dtype)
        for k in range(1, self.order + 1):
            rising = (x - t[:, : -k - 1]) / (t[:, k:-1] - t[:, : -k - 1])
            falling = (t[:, k + 1 :] - x) / (t[:, k + 1 :] - t[:, 1:-k])
            values = rising * values[:, :, :-1] + falling * values[:, :, 1:]
        return values


class ChebyshevLayer(torch.nn.Module):
    """y_o = Σ_i Σ_d weights[i, o, d]·T_d(tanh(x_i)), for d from 0 to the degree."""

    def __init__(self, inputs: int, outputs: int, degree: int) -> None:
        super().__init__()
        self.degree = degree
        self.weights = torch.nn.Parameter(torch.randn(inputs, outputs, degree + 1) / (inputs * (degree + 1)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        t = torch.tanh(x)
        polynomials = [torch.ones_like(t), t]
        while len(polynomials) <= self.degree:
            polynomials.append(2 * t * polynomials[-1] - polynomials[-2])
        return torch.einsum("nid,iod->no", torch.stack(polynomials[: self.degree + 1], dim=-1), self.weights)


def to_torch(kan: Kan, dtype: torch.dtype) -> torch.nn.Sequential:
    """The same network of spline edges and sum nodes, without scaling of inputs and outputs."""
    return torch.nn.Sequential(*(TorchLayer(layer, dtype) for layer in kan.layers))


def from_torch(module: torch.nn.Sequential) -> Kan:
    """The network of the module's present parameters."""
    return Kan(tuple(_layer(layer) for layer in module if isinstance(layer, TorchLayer)))


def _layer(one: TorchLayer) -> Layer:
    coefficients, knots, weights = (
        array.detach().numpy().astype(np.float64) for array in (one.coefficients, one.knots, one.base_weight)
    )
    return make_layer(coefficients, knots=knots, base_weight=weights, order=one.order, extrapolation="zero")


def finer(kan: Kan, intervals: int) -> Kan:
    """Nearly the same functions on uniform grids with more intervals over the same ranges."""
    return Kan(tuple(_finer(layer, intervals) for layer in kan.layers))


def _finer(one: Layer, intervals: int) -> Layer:
    knots = np.stack([uniform_knots(*span(own, one.order), intervals, one.order) for own in one.knots])
    coefficients = np.empty((one.subnodes, one.inputs, intervals + one.order))
    for i, (old, new) in enumerate(zip(one.knots, knots, strict=True)):
        x = np.linspace(*span(old, one.order), 8 * intervals)
        values = design(x, old, one.order, one.extrapolation) @ one.coefficients[:, i].T
        coefficients[:, i] = fit_coefficients(x, values, new, one.order).T
    return replace(one, knots=knots, coefficients=coefficients)
