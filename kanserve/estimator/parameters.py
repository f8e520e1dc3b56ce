"""Convert the estimators' parameters to arguments of `kanserve.fit`. Invalid ones raise ValueError."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
from sklearn.utils import check_random_state

from kanserve.errors import InputError
from kanserve.network.kan import Kan
from kanserve.train.argument_checks import grid_sequence, whole

Hidden = int | Sequence[int | tuple[int, int]] | Literal["auto", "fewest"]


def seed_of(random_state: Any) -> int:
    """The seed: an integer is used directly, as in `kanserve.fit`; from anything else a seed is drawn."""
    generator = check_random_state(random_state)
    return int(random_state) if isinstance(random_state, int | np.integer) else int(generator.randint(2**31 - 1))


def layers_of(hidden: Any) -> list[Any]:
    """The hidden layers of a shape; `create` validates them."""
    if isinstance(hidden, int | np.integer):
        return [int(hidden)]
    if isinstance(hidden, str) or not isinstance(hidden, Iterable):
        raise InputError(f"hidden is the nodes of each hidden layer, like (5,), or 'auto' or 'fewest'; got {hidden!r}.")
    return list(hidden)


def grids_of(grid: Any) -> tuple[int, ...]:
    """The sequence of grids up to the finest one; a sequence is returned unchanged."""
    grid = grid_sequence(grid)
    grids = tuple(grid) if isinstance(grid, Iterable) else ()
    if not grids or not all(isinstance(grid, int | np.integer) for grid in grids):
        raise InputError(f"grid is a number of intervals, or several like (3, 5); got {grid!r}.")
    return grids


def networks_of(given: Any, automatic: int) -> int:
    """The number of networks to average."""
    if isinstance(given, str) and given == "auto":
        return automatic
    if not whole(given, 1):
        raise InputError(f"n_networks is a number of networks, from 1 on, or 'auto'; got {given!r}.")
    return int(given)


def read_hidden(kan: Kan) -> tuple[int | tuple[int, int], ...]:
    """The network's hidden nodes as the parameter `hidden`; product nodes come last and have two factors each."""
    products = [int((layer.arity > 1).sum()) for layer in kan.layers[:-1]]
    return tuple(
        (layer.nodes - many, many) if many else layer.nodes for layer, many in zip(kan.layers, products, strict=False)
    )
