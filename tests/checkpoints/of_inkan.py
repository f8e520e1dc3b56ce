"""inkan 0.5.2: recipes, each for one way in which its state_dicts differ."""

import importlib
from typing import Any

import numpy as np

from tests.checkpoints.efficient_kan_models import fitted, of_state
from tests.checkpoints.recipe import Made


def network(widths: list[int], **settings: Any) -> Any:
    """A network that nobody trained, evaluated without its compiler."""
    library: Any = importlib.import_module("inkan")
    importlib.import_module("torch").manual_seed(11)
    return library.KANNetwork(widths, **{"compile_basis": False} | settings)


def made(model: Any, **options: Any) -> Made:
    """Its checkpoint: the state_dict."""
    first = model.layers[0]
    starts = first.grid_starts.numpy()
    step = starts[1] - starts[0]
    knots = np.concatenate([starts, starts[-1] + step * np.arange(1, 5, dtype=starts.dtype)])
    return of_state(model, knots[:, None].repeat(first.in_features, axis=1), 3, **options)


def fresh() -> Made:
    """Nothing is trained."""
    return made(network([2, 3, 1]))


def trained() -> Made:
    """A few steps of Adam."""
    return made(fitted(network([2, 3, 1])))


def trained_double() -> Made:
    """The same in double, of three layers; saved by safetensors."""
    return made(fitted(network([2, 3, 2, 1])), safetensors=True)


def wide_grid_double() -> Made:
    """Twelve intervals on [-2, 3]."""
    return made(fitted(network([3, 2, 2], grid_size=12, grid_range=(-2.0, 3.0)), 3))


def contracted_directly() -> Made:
    """A fine grid, on which it takes another way to the same sum."""
    return made(fitted(network([2, 2, 1], grid_size=30)))


def surface() -> Made:
    """A spline of two variables, which is no edge: nobody can import it."""
    return made(network([2, 3, 1], dim=2), refused="two")


RECIPES = (
    fresh,
    trained,
    trained_double,
    wide_grid_double,
    contracted_directly,
    surface,
)
