"""A fitted law to edit, and a session replayed from its Python."""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanserve.data.dataset import Dataset
from kanserve.editing import Session
from kanserve.network.evaluate import evaluate
from kanserve.network.kan import Kan
from kanserve.train import fit


@lru_cache
def law() -> tuple[Kan, Dataset]:
    """exp(sin πx + y²) in a fitted network."""
    x = np.random.default_rng(1).uniform(-1, 1, (150, 2))
    data = Dataset(x, np.exp(np.sin(np.pi * x[:, 0]) + x[:, 1] ** 2), ("x", "L/D"), ("z",))
    return fit([2, 1, 1], data, grid=(5,), starts=2), data


def replayed(session: Session, kan: Kan, data: Dataset) -> Kan:
    names: dict[str, Any] = {}
    exec(session.as_python(), names)
    network = names["replay"](kan, data)
    assert isinstance(network, Kan)
    return network


def assert_same_structure(got: Kan, wanted: Kan, x: NDArray[np.float64]) -> None:
    """Fail unless two networks have the same edges and functions and, at rows x, outputs within 1e-6 of their spread.

    For a network that another process made: its linear algebra may have another number of threads and so round
    otherwise. A fit ends in a valley so flat that a change of the loss in its last digits, some 1e-16 of it, moves
    constants by some 1e-8, the root of that; a few refits add to it. Many steps of LBFGS would add far more.
    """
    for one, other in zip(got.layers, wanted.layers, strict=True):
        np.testing.assert_array_equal(one.alive, other.alive)
        np.testing.assert_array_equal(one.functions, other.functions)
    y = evaluate(wanted, x)
    np.testing.assert_allclose(evaluate(got, x), y, rtol=0, atol=1e-6 * float(y.std()))


def rows_of(kan: Kan, rows: int = 90, noise: float = 0.01) -> Dataset:
    rng = np.random.default_rng(5)
    x = rng.uniform(-1, 1, (rows, len(kan.inputs))) * kan.input_scale + kan.input_shift
    y = evaluate(kan, x)
    return Dataset(
        x, y + noise * y.std(axis=0) * rng.normal(size=y.shape), tuple(variable.name for variable in kan.inputs)
    )
