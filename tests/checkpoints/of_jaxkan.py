"""jaxkan 0.3.7: recipes, each for one way in which its networks differ.

It writes no files of its own, and its state has no grids: a file is what the importer's documentation says to save.
"""

import contextlib
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.checkpoints.recipe import Made


@contextlib.contextmanager
def _precision(dtype: str) -> Iterator[Any]:
    """jax in this precision."""
    jax: Any = importlib.import_module("jax")
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", dtype == "float64")
    try:
        yield jax
    finally:
        jax.config.update("jax_enable_x64", before)


def _rows(inputs: int, dtype: str, count: int = 64) -> NDArray[Any]:
    drawn = np.random.default_rng(0).uniform(0, 1, (count, inputs))
    return (2 * np.sqrt(drawn) - 1).astype(dtype)


def made(
    widths: list[int],
    kind: str = "spline",
    intervals: int | None = None,
    dtype: str = "float32",
    residual: str | None = "silu",
    **settings: Any,
) -> Made:
    """A network of its layers of this kind whose numbers are drawn, with grids updated to so many intervals."""
    nnx: Any = importlib.import_module("flax.nnx")
    beside = None if residual is None else getattr(nnx, residual)
    grid = {"D": 6} if kind == "rbf" else {"k": 3, "G": 5}
    chosen: dict[str, Any] = {**grid, "residual": beside} | settings
    with _precision(dtype) as jax:
        model = importlib.import_module("jaxkan.models.KAN").KAN(widths, kind, chosen, seed=13)
        rng = np.random.default_rng(17)
        for layer in model.layers:
            layer.grid.item = jax.numpy.asarray(layer.grid.item, dtype)
            for name in ("c_basis", "c_spl", "c_ext", "c_res", "bias"):
                one = getattr(layer, name, None)
                if one is not None:
                    setattr(layer, name, nnx.Param(jax.numpy.asarray(rng.normal(0, 0.5, one[...].shape), dtype)))
        if intervals is not None:
            model.update_grids(jax.numpy.asarray(_rows(widths[0], dtype)), intervals)

    def write(path: Path) -> Path:
        flat = nnx.to_flat_state(nnx.state(model, nnx.Param))
        arrays = {".".join(map(str, place)): np.asarray(leaf[...]) for place, leaf in flat}
        for number, layer in enumerate(model.layers):
            arrays[f"layers.{number}.grid"] = np.asarray(layer.grid.item)
            arrays[f"layers.{number}.residual.{getattr(layer.residual, '__name__', 'zero')}"] = np.ones(1)
            if hasattr(layer, "kernel"):
                arrays[f"layers.{number}.std"] = np.array(layer.kernel.get("std", 1.0))
        np.savez(path.with_suffix(".npz"), **arrays)  # type: ignore[arg-type]  # arrays by name are what it takes
        return path.with_suffix(".npz")

    def answer(x: NDArray[Any]) -> NDArray[Any]:
        with _precision(dtype) as jax:
            return np.asarray(model(jax.numpy.asarray(x)))

    knots = np.asarray(model.layers[0].grid.item)[: widths[0]].T.copy()
    options = {"tolerance": 1e-11} if kind == "rbf" and dtype == "float64" else {}
    return Made(model, write, answer, knots, chosen.get("k", 0), options)


def splines() -> Made:
    """Its efficient layers, with factors, residual and bias."""
    return made([2, 3, 1])


def splines_double() -> Made:
    """The same in double, of three layers."""
    return made([2, 3, 2, 1], dtype="float64")


def splines_updated() -> Made:
    """A grid that follows rows and has more intervals than at first."""
    return made([2, 3, 1], intervals=8)


def splines_updated_double() -> Made:
    """The same in double and quadratic."""
    return made([2, 2, 1], intervals=7, k=2, dtype="float64")


def bases() -> Made:
    """Its original layers, which store the edges in one row and a grid for each."""
    return made([2, 3, 1], "base")


def bases_updated_double() -> Made:
    """The same in double, with an updated grid."""
    return made([3, 2, 2], "base", intervals=6, dtype="float64")


def splines_alone() -> Made:
    """No factors, no residual, no bias; piecewise linear."""
    return made([2, 2, 1], residual=None, external_weights=False, add_bias=False, k=1, G=7)


def bases_beside_tanh_double() -> Made:
    """tanh as residual: a function by name beside each spline."""
    return made([2, 2, 1], "base", residual="tanh", dtype="float64")


def splines_beside_relu() -> Made:
    """relu as residual."""
    return made([2, 3, 1], residual="relu")


def radial() -> Made:
    """Gaussians with factors, residual and bias, of the width that they have if nobody says another."""
    return made([2, 3, 1], "rbf", external_weights=True)


def radial_updated() -> Made:
    """Gaussians of another width, whose centres differ by input after an update; neither factors nor residual."""
    kernel = {"type": "gaussian", "std": 0.15}
    return made([2, 2, 1], "rbf", intervals=7, residual=None, kernel=kernel, grid_e=0.8)


RECIPES = (
    splines,
    splines_double,
    splines_updated,
    splines_updated_double,
    bases,
    bases_updated_double,
    splines_alone,
    bases_beside_tanh_double,
    splines_beside_relu,
    radial,
    radial_updated,
)
