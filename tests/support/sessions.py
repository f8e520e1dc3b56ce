"""A fitted law to edit, and a session replayed from its Python."""

from functools import lru_cache
from typing import Any

import numpy as np

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


def rows_of(kan: Kan, rows: int = 90, noise: float = 0.01) -> Dataset:
    rng = np.random.default_rng(5)
    x = rng.uniform(-1, 1, (rows, len(kan.inputs))) * kan.input_scale + kan.input_shift
    y = evaluate(kan, x)
    return Dataset(
        x, y + noise * y.std(axis=0) * rng.normal(size=y.shape), tuple(variable.name for variable in kan.inputs)
    )
