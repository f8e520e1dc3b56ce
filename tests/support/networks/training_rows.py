"""Rows to learn from."""

import numpy as np
from numpy.typing import NDArray


def hello(count: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """exp(sin πx + y²), the first example of the papers."""
    x = np.random.default_rng(seed).uniform(-1, 1, (count, 2))
    return x, np.exp(np.sin(np.pi * x[:, 0]) + x[:, 1] ** 2)
