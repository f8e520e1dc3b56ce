"""Candidate architectures, smallest first, and their errors on held-out rows and on ever finer grids (`refine_grids`),
which show whether a shape is right without knowing how small an error can be."""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from kanserve.data.dataset import Dataset
from kanserve.network.kan import Kan
from kanserve.simplification.validation import (
    GRID_REFINEMENT_EXPLAINED_ERROR,
    VALIDATION_MOST_PARAMETERS,
    Array,
    Judge,
    no_worse,
    refine_grids,
    refit,
    smooth,
)
from kanserve.train.creation import create, random_init
from kanserve.train.lm.levenberg_marquardt import refine
from kanserve.train.normalising import normalise

ARCHITECTURES_COARSEST_GRID = 3  # intervals of the coarsest grid
FINER_GRIDS = (5, 10, 20, 40)  # intervals of the finer grids, tried in this order
# Random starts of an architecture, at most. The prototype had 4 to 8.
MOST_STARTS = 6
FEWEST_STARTS = 2  # random starts of an architecture with hidden layers, at least, however large it is
# Steps of a random start. The prototype had 20 to 25.
START_STEPS = 20
REFIT_STEPS = 30  # steps of the refit of the best start
START_WORK = 4e9  # multiplications for the starts of one architecture: large networks get fewer starts
# Rows, counted once per output, per parameter of a finer grid: with fewer, the network may memorise noise.
ROWS_PER_PARAMETER = 2
GRID_REFINEMENT_NEGLIGIBLE_ERROR = 1e-4  # error that is negligible, in standard deviations of the outputs

WIDTHS = (1, 2, 3, 5)
DEEP = (3, 5)
"""Bounds of the first hidden layer of deep networks, which otherwise has as many nodes as there are inputs."""


@dataclass(frozen=True, eq=False)
class Rung:
    """A trained network of one architecture, and its held-out losses. `falling`: its training error still fell on the
    finest grid. (A network with fewer parameters than half the rows cannot memorise noise, while a few held-out rows
    may depend on outliers.)"""

    kan: Kan
    losses: Array
    falling: bool = False

    @property
    def error(self) -> float:
        """The error on the held-out rows, in standard deviations of the outputs."""
        return float(np.sqrt(self.losses.mean()))

    @property
    def negligible(self) -> bool:
        return self.error <= GRID_REFINEMENT_NEGLIGIBLE_ERROR

    @property
    def explains(self) -> bool:
        """Whether only the grid limits this network: its error is negligible, or small and falling with finer grids."""
        return self.negligible or (self.error <= GRID_REFINEMENT_EXPLAINED_ERROR and self.falling)


def shapes(inputs: int, outputs: int) -> tuple[tuple[int, ...], ...]:
    """The shapes to try, in order: no hidden layer; one with 1, 2, 3 and 5 nodes per output; then two hidden layers."""
    shallow = [(inputs, width * outputs, outputs) for width in WIDTHS]
    first = int(np.clip(inputs, *DEEP)) * outputs
    return ((inputs, outputs), *shallow, (inputs, first, 2 * outputs, outputs))


def work(shape: tuple[int, ...], rows: int) -> float:
    """Multiplications of one fitting step for this shape, on the coarsest grid."""
    size = parameters(shape)
    return float(rows * shape[-1] * size**2 + size**3 / 3)


def parameters(shape: tuple[int, ...]) -> int:
    return (ARCHITECTURES_COARSEST_GRID + 4) * sum(a * b for a, b in pairwise(shape))


def train(shape: tuple[int, ...], data: Dataset, judge: Judge, seed: int) -> Rung:
    """Train a shape from a few starts on the rows of `judge`, choosing the grid by held-out rows. Returns the best."""
    begin = normalise(create(shape, grid=ARCHITECTURES_COARSEST_GRID), data)
    starts = int(np.clip(START_WORK / (START_STEPS * work(shape, len(judge.learn))), FEWEST_STARTS, MOST_STARTS))
    runs = [_start(begin, judge, (seed, start)) for start in range(starts if len(shape) > 2 else 1)]
    best = min(runs, key=lambda run: float(judge.losses(run).mean()))
    kan, smoother = smooth(refit(best, judge, REFIT_STEPS), judge)
    return _grow(Rung(kan, smoother.losses(kan)), smoother)


def _start(begin: Kan, judge: Judge, seed: tuple[int, ...]) -> Kan:
    kan = random_init(begin, ARCHITECTURES_COARSEST_GRID, seed)
    return refine(kan, judge.learn.x, judge.goal, steps=START_STEPS, weights=judge.learn.weights)


def _grow(rung: Rung, judge: Judge) -> Rung:
    """Refit the network on finer grids, and return the best."""
    most = int(min(judge.goal.size / ROWS_PER_PARAMETER, VALIDATION_MOST_PARAMETERS))
    falling = False
    for finer in refine_grids(rung.kan, judge, FINER_GRIDS, most):
        falling = finer.falling
        losses = judge.losses(finer.kan)
        if losses.mean() < rung.losses.mean():
            rung = replace(rung, kan=finer.kan, losses=losses)
        if rung.negligible:
            break
    return replace(rung, falling=falling)


def clearly_better(rung: Rung, than: Rung) -> bool:
    """Whether `rung` is significantly better than `than` on the held-out rows."""
    return not no_worse(than.losses, rung.losses)
