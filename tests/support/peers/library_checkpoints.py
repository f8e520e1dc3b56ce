"""Small checkpoints of other libraries, written from what their formats say and without the libraries."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kanserve.network.splines import uniform_knots

Arrays = dict[str, Any]  # NumPy's, which `numpy.savez` takes by name beside options of its own


def law(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the network of `pykan` computes, of two inputs."""
    result: NDArray[np.float64] = 2 * np.sin(3 * x[:, 0] + 0.5) + 1.5 * x[:, 1] ** 2 - 0.25
    return result


def pykan(splines: bool = False) -> Arrays:
    """Two inputs, one node; sin and x² on the edges, and splines beside them if wanted."""
    rng = np.random.default_rng(0)
    grid = np.tile(uniform_knots(-1, 1, 3, 3), (2, 1))
    one = {
        "act_fun.0.grid": grid,
        "act_fun.0.coef": rng.normal(0, 0.3, (2, 1, 6)),
        "act_fun.0.mask": np.full((2, 1), float(splines)),
        "act_fun.0.scale_base": rng.normal(0, 0.3, (2, 1)),
        "act_fun.0.scale_sp": np.ones((2, 1)),
        "symbolic_fun.0.mask": np.ones((1, 2)),
        "symbolic_fun.0.affine": np.array([[[3, 0.5, 2, 0], [1, 0, 1.5, -0.25]]]),
        "node_bias_0": np.zeros(1),
        "node_scale_0": np.ones(1),
        "subnode_bias_0": np.zeros(1),
        "subnode_scale_0": np.ones(1),
    }
    return {name: array.astype(np.float32) for name, array in one.items()}


def settings(base: str = "silu", functions: tuple[str, str] = ("sin", "x^2")) -> str:
    """What pykan writes beside that."""
    return "\n".join(
        [
            "affine_trainable: false",
            "auto_save: true",
            f"base_fun_name: {base}",
            "ckpt_path: ./model",
            "device: cpu",
            "grid: 3",
            "grid_eps: 0.02",
            "grid_range: !!python/tuple",
            "- -1",
            "- 1",
            "k: 3",
            "mult_arity: 2",
            "round: 0",
            "sb_trainable: true",
            "sp_trainable: true",
            "state_id: 0",
            "symbolic.funs_name.0:",
            f"- - {functions[0]}",
            f"  - {functions[1]}",
            "symbolic_enabled: true",
            "width:",
            "- - 2",
            "  - 0",
            "- - 1",
            "  - 0",
            "",
        ]
    )


def save_pykan(
    prefix: Path, base: str = "silu", splines: bool = False, functions: tuple[str, str] = ("sin", "x^2")
) -> None:
    """The three files that pykan's `saveckpt` writes for a name."""
    prefix.parent.mkdir(parents=True, exist_ok=True)
    Path(f"{prefix}_config.yml").write_text(settings(base, functions))
    torch.save({name: torch.tensor(array) for name, array in pykan(splines).items()}, f"{prefix}_state")
    torch.save(None, f"{prefix}_cache_data")


def efficient_kan() -> Arrays:
    rng = np.random.default_rng(1)
    one = {
        "layers.0.base_weight": rng.normal(0, 1, (1, 2)),
        "layers.0.spline_weight": rng.normal(0, 1, (1, 2, 6)),
        "layers.0.spline_scaler": rng.normal(0, 1, (1, 2)),
        "layers.0.grid": np.tile(uniform_knots(-1, 1, 3, 3), (2, 1)),
    }
    return {name: array.astype(np.float32) for name, array in one.items()}


def fast_kan() -> Arrays:
    rng = np.random.default_rng(2)
    one = {
        "layers.0.rbf.grid": np.linspace(-2, 2, 5),
        "layers.0.spline_linear.weight": rng.normal(0, 1, (1, 10)),
        "layers.0.base_linear.weight": rng.normal(0, 1, (1, 2)),
        "layers.0.base_linear.bias": rng.normal(0, 1, 1),
    }
    return {name: array.astype(np.float32) for name, array in one.items()}


def inkan(kind: type = np.float32) -> Arrays:
    rng = np.random.default_rng(3)
    starts = -1 + (np.arange(8) - 3) * 0.4
    return {"layers.0.weight": rng.normal(0, 1, (1, 18)).astype(kind), "layers.0.grid_starts": starts.astype(kind)}


def jaxkan() -> Arrays:
    rng = np.random.default_rng(4)
    one = {
        "layers.0.c_basis": rng.normal(0, 1, (1, 2, 6)),
        "layers.0.c_spl": rng.normal(0, 1, (1, 2)),
        "layers.0.c_res": rng.normal(0, 1, (1, 2)),
        "layers.0.bias": rng.normal(0, 1, 1),
        "layers.0.grid": np.tile(uniform_knots(-1, 1, 3, 3), (2, 1)),
    }
    return {name: array.astype(np.float32) for name, array in one.items()}


def polynomial_kan() -> Arrays:
    rng = np.random.default_rng(5)
    return {"layers.0.cheby_coeffs": rng.normal(0, 1, (2, 1, 5)).astype(np.float32)}


def fourier_kan() -> Arrays:
    rng = np.random.default_rng(6)
    one = {"layers.0.fouriercoeffs": rng.normal(0, 1, (2, 1, 2, 3)), "layers.0.bias": rng.normal(0, 1, (1, 1))}
    return {name: array.astype(np.float32) for name, array in one.items()}


def rational_kan() -> Arrays:
    rng = np.random.default_rng(7)
    one = {
        "act1.weight_numerator": rng.normal(0, 1, (1, 6)),
        "act1.weight_denominator": rng.normal(0, 1, (2, 4)),
        "fc1.weight": rng.normal(0, 1, (1, 2)),
        "fc1.bias": rng.normal(0, 1, 1),
    }
    return {name: array.astype(np.float32) for name, array in one.items()}


ARRAYS: Mapping[str, Callable[..., Arrays]] = {
    "pykan": lambda: {**pykan(splines=True), "symbolic_fun.0.mask": np.zeros((1, 2), np.float32)},
    "efficient-kan": efficient_kan,
    "fast-kan": fast_kan,
    "inkan": inkan,
    "jaxkan": jaxkan,
    "polynomial-kan": polynomial_kan,
    "fourier-kan": fourier_kan,
    "rational-kan": rational_kan,
}


class KANLayer(torch.nn.Module):
    """inkan's layer of one variable an edge: cubic splines by truncated powers, and an activation beside them."""

    scale = 1.0

    def __init__(
        self, inputs: int, outputs: int, grid_size: int, base_activation: type[torch.nn.Module], compile_basis: bool
    ) -> None:
        super().__init__()
        count = grid_size + 3
        self.weight = torch.nn.Parameter(torch.zeros(outputs, inputs * count + inputs))
        self.register_buffer("grid_starts", torch.zeros(count))
        self.inv_h = 1.0
        self.base_activation = base_activation()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        u = ((x[..., None] - self.get_buffer("grid_starts")) * self.inv_h).clamp(0, 4)
        u = torch.minimum(u, 4 - u)  # the spline is even about 2
        basis = (u**3 - 4 * (u - 1).clamp(min=0) ** 3) / 6
        features = torch.cat([basis.flatten(1), self.base_activation(x)], dim=1)
        return self.scale * features @ self.weight.T
