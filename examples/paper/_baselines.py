"""The perceptrons (MLPs) that the studies compare with, trained in the same run on the same rows.

By LBFGS as in the paper, or by our own Levenberg-Marquardt (LM), which is much harder to beat. Several perceptrons
share the CPU seconds of our network; the best on held-out rows then goes on for all of these seconds again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks._perceptron import trained
from benchmarks.against_mlp import candidates
from examples._mlp import Mlp, Squares, by_lbfgs, regression
from kanserve import Dataset

Array = NDArray[np.float64]

WIDTHS = (5, 32, 100)
LEAST_SECONDS = 0.3


@dataclass(frozen=True)
class Baseline:
    """The error on test rows, the parameters, and a name."""

    error: float
    parameters: int
    name: str

    def __str__(self) -> str:
        return f"{self.error:.1e}, {self.parameters} parameters"


def perceptrons(inputs: int, most: int, widths: Sequence[int] = WIDTHS) -> list[Mlp]:
    """Perceptrons with one or two hidden layers and up to `most` parameters."""
    shapes = [(inputs, *(width,) * depth, 1) for width in widths for depth in (1, 2)]
    every = [Mlp(shape, activation) for shape in shapes for activation in ("tanh", "silu")]
    return [mlp for mlp in every if mlp.size <= most]


def by_gradient(mlps: Sequence[Mlp], data: Dataset, test: Dataset, seconds: float, seed: int = 0) -> Baseline:
    """The best of these by torch's LBFGS: root mean squared error on `test`, in the answers' units."""
    seconds = max(seconds, LEAST_SECONDS)
    rest, held = data.split(0.2, seed)
    tried = []
    for mlp in mlps:
        vector, _ = by_lbfgs(mlp.start(seed), _problem(mlp, rest, data), seconds / len(mlps))
        tried.append((_error(mlp, vector, held, data), mlp, vector))
    _, mlp, vector = min(tried, key=lambda one: one[0])
    vector, _ = by_lbfgs(vector, _problem(mlp, data, data), seconds)
    return Baseline(_error(mlp, vector, test, data), mlp.size, str(mlp))


def by_levenberg(size: int, data: Dataset, test: Dataset, seconds: float, seed: int = 0) -> Baseline:
    """The best of four with about `size` parameters, by Levenberg-Marquardt."""
    rest, held = data.split(0.2, seed)
    found = trained(candidates(size, data.x.shape[1]), rest, held, data, max(seconds, LEAST_SECONDS), seed)
    error = float(np.sqrt(np.mean((found.run(test.x) - test.y[:, 0]) ** 2)))
    return Baseline(error, found.net.size, str(found.net.widths))


def _problem(mlp: Mlp, rows: Dataset, of: Dataset) -> Squares:
    return regression(mlp, _scaled(rows.x, of), (rows.y - of.y.mean()) / of.y.std())


def _scaled(x: Array, of: Dataset) -> Array:
    low, high = of.x.min(axis=0), of.x.max(axis=0)
    return np.asarray(2 * (x - low) / (high - low) - 1)


def _error(mlp: Mlp, vector: torch.Tensor, rows: Dataset, of: Dataset) -> float:
    found = mlp.jet(vector, torch.from_numpy(_scaled(rows.x, of)), 0)[0].numpy() * of.y.std() + of.y.mean()
    return float(np.sqrt(np.mean((found - rows.y) ** 2)))
