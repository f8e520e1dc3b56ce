"""pykan's formulas written out, edge by edge, and checkpoints of random numbers to try them on."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanserve.importers.conversion import Checkpoint

Array = NDArray[Any]
Groups = Sequence[Sequence[int]]

BASES: dict[str, Callable[[Array], Array]] = {
    "silu": lambda x: x / (1 + np.exp(-x)),
    "identity": lambda x: x,
    "zero": lambda x: 0 * x,
}
# pykan's library, as its own lambdas have it.
LIBRARY: dict[str, Callable[[Array], Array]] = {
    "x^2": lambda x: x**2,
    "x^3": lambda x: x**3,
    "x^4": lambda x: x**4,
    "x^5": lambda x: x**5,
    "1/x^2": lambda x: 1 / x**2,
    "1/x^3": lambda x: 1 / x**3,
    "1/x^4": lambda x: 1 / x**4,
    "1/x^5": lambda x: 1 / x**5,
    **{name: getattr(np, name) for name in ("sqrt", "exp", "log", "abs", "sin", "cos", "tan", "tanh")},
    **{name: getattr(np, name) for name in ("arcsin", "arccos", "arctan", "arctanh")},
    "x": lambda x: x,
    "1/x": lambda x: 1 / x,
    "x^0.5": np.sqrt,
    "x^1.5": lambda x: np.sqrt(x) ** 3,
    "1/sqrt(x)": lambda x: 1 / np.sqrt(x),
    "1/x^0.5": lambda x: 1 / np.sqrt(x),
    "sgn": np.sign,
    "gaussian": lambda x: np.exp(-(x**2)),
    "0": lambda x: x * 0,
}


def b_splines(x: Array, grid: Array, k: int) -> Array:
    """The recursion as pykan writes it, (N, G+k): what is no number counts as 0 at every level."""
    if k == 0:
        return ((x[:, None] >= grid[:-1]) & (x[:, None] < grid[1:])).astype(float)
    lower = b_splines(x, grid, k - 1)
    rising = (x[:, None] - grid[: -k - 1]) / (grid[k:-1] - grid[: -k - 1]) * lower[:, :-1]
    falling = (grid[k + 1 :] - x[:, None]) / (grid[k + 1 :] - grid[1:-k]) * lower[:, 1:]
    result: Array = np.nan_to_num(rising + falling)
    return result


def forward(stored: Checkpoint, x: Array, groups: Sequence[Groups] = (), base: str = "silu") -> Array:
    """pykan's output, edge by edge; `groups` are the subnodes of each node of each layer, else one each."""
    array = stored.arrays
    for n in range(sum(name.endswith(".coef") for name in array)):
        coef, grid = array[f"act_fun.{n}.coef"].astype(float), array[f"act_fun.{n}.grid"].astype(float)
        inputs, outputs, count = coef.shape
        names = stored.settings.get(f"symbolic.funs_name.{n}", [["0"] * inputs] * outputs)
        z = np.zeros((len(x), outputs))
        for i in range(inputs):
            basis = b_splines(x[:, i], grid[i], grid.shape[1] - count - 1)
            for j in range(outputs):
                scale_base, scale_sp = (array[f"act_fun.{n}.scale_{scale}"][i, j] for scale in ("base", "sp"))
                numeric = scale_base * BASES[base](x[:, i]) + scale_sp * (basis @ coef[i, j])
                a, b, c, d = array[f"symbolic_fun.{n}.affine"][j, i]
                symbolic = c * LIBRARY[names[j][i]](a * x[:, i] + b) + d
                share = array[f"symbolic_fun.{n}.mask"][j, i]
                z[:, j] += array[f"act_fun.{n}.mask"][i, j] * numeric + (share * symbolic if share else 0)
        z = array[f"subnode_scale_{n}"] * z + array[f"subnode_bias_{n}"]
        own = groups[n] if groups else [[j] for j in range(outputs)]
        nodes = np.stack([np.prod(z[:, list(group)], axis=1) for group in own], axis=1)
        x = array[f"node_scale_{n}"] * nodes + array[f"node_bias_{n}"]
    return x


def stored(
    *shapes: tuple[int, ...], orders: Sequence[int] = (), seed: int = 0, affine: bool = False, **said: Any
) -> Checkpoint:
    """A checkpoint of random numbers on uneven grids: for each layer its inputs and subnodes, and nodes if others."""
    rng = np.random.default_rng(seed)
    arrays: dict[str, Array] = {}
    settings: dict[str, Any] = {"base_fun_name": "silu", "mult_arity": 2, "symbolic_enabled": True}
    for n, (inputs, subnodes, *other) in enumerate(shapes):
        order, intervals, nodes = (orders[n] if orders else 3), 3 + n, (other[0] if other else subnodes)
        steps = rng.uniform(0.2, 1.0, (inputs, intervals + 2 * order))
        arrays |= {
            f"act_fun.{n}.grid": -2.2 + np.cumsum(np.insert(steps, 0, 0.0, axis=1), axis=1),
            f"act_fun.{n}.coef": rng.normal(0, 1, (inputs, subnodes, intervals + order)),
            f"act_fun.{n}.mask": np.ones((inputs, subnodes)),
            f"act_fun.{n}.scale_base": rng.normal(0, 1, (inputs, subnodes)),
            f"act_fun.{n}.scale_sp": rng.uniform(0.5, 1, (inputs, subnodes)),
            f"symbolic_fun.{n}.mask": np.zeros((subnodes, inputs)),
            f"symbolic_fun.{n}.affine": np.zeros((subnodes, inputs, 4)),
        }
        for kind, size in (("subnode", subnodes), ("node", nodes)):
            arrays[f"{kind}_scale_{n}"] = rng.normal(1, 0.4, size) if affine else np.ones(size)
            arrays[f"{kind}_bias_{n}"] = rng.normal(0, 0.4, size) if affine else np.zeros(size)
        settings[f"symbolic.funs_name.{n}"] = [["0"] * inputs for _ in range(subnodes)]
    return Checkpoint(arrays, settings | said, "m")


def fixed(one: Checkpoint, n: int, i: int, j: int, name: str, share: float = 1.0, numeric: float = 0.0) -> Checkpoint:
    """The checkpoint with the edge set to 0.7·f(0.3·x + 0.6) - 0.2, as fix_symbolic does."""
    one.settings[f"symbolic.funs_name.{n}"][j][i] = name
    one.arrays[f"act_fun.{n}.mask"][i, j] = numeric
    one.arrays[f"symbolic_fun.{n}.mask"][j, i] = share
    one.arrays[f"symbolic_fun.{n}.affine"][j, i] = 0.3, 0.6, 0.7, -0.2
    return one


def rows(one: Checkpoint) -> Array:
    """1000 rows inside the first grid, on its knots, and outside of it on both sides."""
    rng, grid = np.random.default_rng(1), one.arrays["act_fun.0.grid"].astype(float)
    low, high = grid.min() - 2, grid.max() + 2
    knots = np.stack([rng.choice(own, 300) for own in grid], axis=1)
    return np.concatenate([rng.uniform(low, high, (700, len(grid))), knots])
