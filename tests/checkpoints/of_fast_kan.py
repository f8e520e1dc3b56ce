"""fast-kan: recipes, each for one way in which its state_dicts differ.

It is on no package index. Where FAST_KAN names a checkout, its own layers are taken; elsewhere `Layer`, written from
what its arrays mean: y = W·exp(-((x - grid)/denominator)²) + V·silu(x) + b, with W (O, I·N) at i·N + g. Gaussians are
refitted by splines: those in double so closely that the sums agree to 1e-10.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.checkpoints.efficient_kan_models import Layers, fitted, of_state
from tests.checkpoints.recipe import Made, checkout

CHECKOUT = "FAST_KAN"


class Radial(nn.Module):
    """Gaussians on centres that are evenly spaced."""

    def __init__(self, low: float, high: float, count: int) -> None:
        super().__init__()
        self.grid = nn.Parameter(torch.linspace(low, high, count), requires_grad=False)
        self.denominator = (high - low) / (count - 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.exp(-(((x[..., None] - self.grid) / self.denominator) ** 2))


class Layer(nn.Module):
    """One layer, with the names that it has for its arrays."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        grid_min: float = -2.0,
        grid_max: float = 2.0,
        num_grids: int = 8,
        use_base_update: bool = True,
        use_layernorm: bool = True,
        spline_weight_init_scale: float = 0.1,
    ) -> None:
        super().__init__()
        self.layernorm = nn.LayerNorm(inputs) if use_layernorm else None
        self.rbf = Radial(grid_min, grid_max, num_grids)
        self.spline_linear = nn.Linear(inputs * num_grids, outputs, bias=False)
        nn.init.normal_(self.spline_linear.weight, std=spline_weight_init_scale)
        self.base_linear = nn.Linear(inputs, outputs) if use_base_update else None

    def forward(self, x: Tensor) -> Tensor:
        basis = self.rbf(x if self.layernorm is None else self.layernorm(x))
        y: Tensor = self.spline_linear(basis.flatten(-2))
        return y if self.base_linear is None else y + self.base_linear(functional.silu(x))


def network(widths: Sequence[int], use_layernorm: bool = False, **settings: Any) -> Any:
    """A network that nobody trained, without normalisation if not asked for."""
    torch.manual_seed(7)
    library = checkout(CHECKOUT, "fastkan.fastkan")
    layer = Layer if library is None else library.FastKANLayer
    chosen = {"use_layernorm": use_layernorm, "spline_weight_init_scale": 0.4} | settings
    return Layers([layer(inputs, outputs, **chosen) for inputs, outputs in pairwise(widths)])


def made(model: Any, **options: Any) -> Made:
    """Its checkpoint: the state_dict."""
    if torch.get_default_dtype() == torch.float64:
        options["tolerance"] = 1e-11
    centres = model.layers[0].rbf.grid.detach().numpy()
    inputs = model.layers[0].spline_linear.in_features // len(centres)
    return of_state(model, centres[:, None].repeat(inputs, axis=1), 0, **options)


def fresh() -> Made:
    """Nothing is trained."""
    return made(network([2, 3, 1]))


def fresh_double() -> Made:
    """One input and one layer in double."""
    return made(network([1, 2]))


def trained() -> Made:
    """A few steps of Adam."""
    return made(fitted(network([2, 3, 1])))


def trained_double() -> Made:
    """The same in double."""
    return made(fitted(network([2, 1, 1])))


def no_base() -> Made:
    """Gaussians alone: without a base function there is no bias."""
    return made(fitted(network([2, 3, 1], use_base_update=False)))


def other_grid_double() -> Made:
    """One layer with twelve centres on [-1, 3]; saved by safetensors."""
    return made(fitted(network([3, 2], grid_min=-1.0, grid_max=3.0, num_grids=12), 3), safetensors=True)


def denominator() -> Made:
    """Gaussians wider than the file says: the denominator is lost in it."""
    model = network([2, 2, 1])
    for layer in model.layers:
        layer.rbf.denominator = 0.8
    return made(fitted(model), denominator=0.8)


def normalised() -> Made:
    """LayerNorm before the splines; of three inputs, since that of two is a step, where rounding decides."""
    return made(fitted(network([3, 3, 1], use_layernorm=True), 3))


def normalised_double() -> Made:
    """The class FastKAN itself, where there is a checkout, in double."""
    torch.manual_seed(7)
    library = checkout(CHECKOUT, "fastkan.fastkan")
    model = network([3, 4, 2], True) if library is None else library.FastKAN([3, 4, 2], spline_weight_init_scale=0.4)
    return made(fitted(model, 3))


def normalised_without_base() -> Made:
    """LayerNorm, and Gaussians alone."""
    return made(fitted(network([3, 2, 1], use_layernorm=True, use_base_update=False), 3))


RECIPES = (
    fresh,
    fresh_double,
    trained,
    trained_double,
    no_base,
    other_grid_double,
    denominator,
    normalised,
    normalised_double,
    normalised_without_base,
)
