"""efficient-kan's layers for the recipes.

It is on no package index. Where EFFICIENT_KAN names a checkout's folder `src`, its own layers are taken; elsewhere
`Linear`, written from what its arrays mean: y = Σ base_weight·b(x) + Σ spline_weight·spline_scaler·B_m(x), with knots
(I, G+2k+1) already extended, half-open intervals, and nothing outside them.
"""

import importlib
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tests.checkpoints.recipe import Made, checkout

CHECKOUT = "EFFICIENT_KAN"


class Linear(nn.Module):
    """One layer, with the names that it has for its arrays."""

    grid: Tensor

    def __init__(
        self,
        inputs: int,
        outputs: int,
        grid_size: int = 5,
        spline_order: int = 3,
        enable_standalone_scale_spline: bool = True,
        base_activation: Callable[[], nn.Module] = nn.SiLU,
        grid_range: Sequence[float] = (-1, 1),
    ) -> None:
        super().__init__()
        self.order, self.base = spline_order, base_activation()
        step = (grid_range[1] - grid_range[0]) / grid_size
        knots = torch.arange(-spline_order, grid_size + spline_order + 1) * step + grid_range[0]
        self.register_buffer("grid", knots.to(torch.get_default_dtype()).expand(inputs, -1).clone())
        self.base_weight = nn.Parameter(torch.randn(outputs, inputs) / inputs)
        self.spline_weight = nn.Parameter(0.3 * torch.randn(outputs, inputs, grid_size + spline_order))
        if enable_standalone_scale_spline:
            self.spline_scaler = nn.Parameter(torch.rand(outputs, inputs) + 0.5)

    def basis(self, x: Tensor) -> Tensor:
        """(N, I, G+k), by the recursion of Cox and de Boor."""
        x, knots = x[..., None], self.grid
        values = ((knots[:, :-1] <= x) & (x < knots[:, 1:])).to(x.dtype)
        for k in range(1, self.order + 1):
            low, high = knots[:, : -k - 1], knots[:, k + 1 :]
            rising = (x - low) / (knots[:, k:-1] - low)
            falling = (high - x) / (high - knots[:, 1:-k])
            values = rising * values[..., :-1] + falling * values[..., 1:]
        return values

    def weights(self) -> Tensor:
        """(O, I, G+k), the scaler in them."""
        scaler = getattr(self, "spline_scaler", None)
        return self.spline_weight if scaler is None else self.spline_weight * scaler[..., None]

    def forward(self, x: Tensor) -> Tensor:
        splines = torch.einsum("nim,oim->no", self.basis(x), self.weights())
        base: Tensor = self.base(x)
        return base @ self.base_weight.T + splines

    @torch.no_grad()
    def update_grid(self, x: Tensor) -> None:
        """Knots that follow the rows x (N, I), and coefficients fitted on them, as if there were no scaler."""
        before = torch.einsum("nim,oim->ino", self.basis(x), self.weights())
        k, intervals = self.order, self.spline_weight.shape[2] - self.order
        inner = torch.quantile(x, torch.linspace(0, 1, intervals + 1, dtype=x.dtype), dim=0).T
        even = inner[:, :1] + torch.linspace(0, 1, intervals + 1) * (inner[:, -1:] - inner[:, :1] + 0.02) - 0.01
        inner = 0.98 * inner + 0.02 * even
        more = (inner[:, -1:] - inner[:, :1]) / intervals * torch.arange(1, k + 1)
        self.grid.copy_(torch.cat([inner[:, :1] - more.flip(1), inner, inner[:, -1:] + more], dim=1))
        self.spline_weight.copy_(torch.linalg.lstsq(self.basis(x).transpose(0, 1), before).solution.permute(2, 0, 1))


class Layers(nn.Module):
    """Layers one after the other, under the name that its network gives them."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


def network(widths: Sequence[int], **settings: Any) -> nn.Module:
    """A network that nobody trained."""
    torch.manual_seed(5)
    library = checkout(CHECKOUT, "efficient_kan.kan")
    linear = Linear if library is None else library.KANLinear
    return Layers([linear(inputs, outputs, **settings) for inputs, outputs in pairwise(widths)])


def rows(inputs: int, count: int = 64) -> Tensor:
    """Rows (N, inputs) of [-1, 1], more of them near 1."""
    drawn = np.random.default_rng(0).uniform(0, 1, (count, inputs))
    return torch.tensor(2 * np.sqrt(drawn) - 1, dtype=torch.get_default_dtype())


def fitted(model: nn.Module, inputs: int = 2, steps: int = 5) -> nn.Module:
    """The network after a few steps of Adam on a law."""
    x = rows(inputs)
    y = torch.sin(3 * x[:, :1]) + x[:, -1:] ** 2
    optimizer = torch.optim.Adam([parameter for parameter in model.parameters() if parameter.requires_grad], lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        torch.mean((model(x) - y) ** 2).backward()
        optimizer.step()
    return model


def updated(model: Any, inputs: int = 2) -> Any:
    """The network with grids that follow rows, layer by layer."""
    x = rows(inputs)
    for layer in model.layers:
        layer.update_grid(x)
        x = layer(x).detach()
    return model


def made(model: Any, order: int = 3, **options: Any) -> Made:
    """Its checkpoint: the state_dict."""
    knots = model.layers[0].grid.detach().numpy().T.copy()
    return of_state(model, knots, order, **options)


def of_state(
    model: nn.Module,
    knots: NDArray[Any],
    margin: int,
    safetensors: bool = False,
    refused: str = "",
    **options: Any,
) -> Made:
    """A torch module whose state_dict is the checkpoint."""

    def write(path: Path) -> Path:
        state = model.state_dict()
        if safetensors:
            path = path.with_suffix(".safetensors")
            importlib.import_module("safetensors.torch").save_file(state, path)
        else:
            path = path.with_suffix(".pt")
            torch.save(state, path)
        return path

    def answer(x: NDArray[Any]) -> NDArray[Any]:
        with torch.no_grad():
            result: NDArray[Any] = model(torch.from_numpy(x)).numpy()
        return result

    return Made(model, write, answer, knots, margin, options, refused)
