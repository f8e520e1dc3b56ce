"""The ladder of shapes, smallest first, and how far a network of one of them can go on rows that it has not seen.

Which shape is right its errors on finer and finer grids tell (`refining`), without knowing how small one can be.
"""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from kanserve.data.dataset import Dataset
from kanserve.network.kan import Kan
from kanserve.simplification.grid_refinement import EXPLAINED, FINE, refined
from kanserve.simplification.validation import MOST_PARAMETERS, Array, Judge, no_worse, refit, smoothed
from kanserve.train.common.creation import create
from kanserve.train.common.normalising import normalised
from kanserve.train.lm.levenberg_marquardt import refine
from kanserve.train.lm.schedule import fresh

COARSEST, GRIDS = 3, (5, 10, 20, 40)
WIDTHS = (1, 2, 3, 5)
DEEP = (3, 5)
"""The first hidden layer of the deep networks has as many nodes as there are inputs, but so many at least, at most."""
STARTS, FEWEST_STARTS = 6, 2
START_STEPS, STEPS = 20, 30
START_WORK = 4e9
"""Multiplications that the starts of one rung may take: large networks get fewer starts."""
ROWS_FOR_EACH = 2
"""Rows that a coefficient of a fine grid needs."""


@dataclass(frozen=True, eq=False)
class Rung:
    """A trained network and its losses on the held-out rows.

    `falling` says whether its error on the rows that it learned from still fell on the finest grid that was tried: a
    network with fewer parameters than half the rows cannot do that by learning noise by heart, and on few held-out
    rows the error may hang on one or two in a corner.
    """

    kan: Kan
    losses: Array
    falling: bool = False

    @property
    def error(self) -> float:
        """On the held-out rows, in standard deviations of the answers."""
        return float(np.sqrt(self.losses.mean()))

    @property
    def explains(self) -> bool:
        """Whether nothing but the grid is between this network and the data: its error is small and still falling."""
        return self.error <= FINE or (self.error <= EXPLAINED and self.falling)


def shapes(inputs: int, outputs: int) -> tuple[tuple[int, ...], ...]:
    """What is tried, in order: no hidden layer, one of 1, 2, 3 and 5 nodes for each output, then two of them."""
    shallow = [(inputs, width * outputs, outputs) for width in WIDTHS]
    first = int(np.clip(inputs, *DEEP)) * outputs
    return ((inputs, outputs), *shallow, (inputs, first, 2 * outputs, outputs))


def work(shape: tuple[int, ...], rows: int) -> float:
    """Multiplications that one step of a fit of this shape takes, on the coarsest grid."""
    size = parameters(shape)
    return float(rows * shape[-1] * size**2 + size**3 / 3)


def parameters(shape: tuple[int, ...]) -> int:
    """Of a network on the coarsest grid."""
    return (COARSEST + 4) * sum(a * b for a, b in pairwise(shape))


def trained(shape: tuple[int, ...], data: Dataset, one: Judge, seed: int) -> Rung:
    """The best of a few starts of a shape on the rows of `one`, on grids as fine as the held-out rows want them."""
    begin = normalised(create(shape, grid=COARSEST), data)
    starts = int(np.clip(START_WORK / (START_STEPS * work(shape, len(one.learn))), FEWEST_STARTS, STARTS))
    runs = [_started(begin, one, (seed, start)) for start in range(starts if len(shape) > 2 else 1)]
    best = min(runs, key=lambda each: float(one.losses(each).mean()))
    kan, smoother = smoothed(refit(best, one, STEPS), one)
    return _grown(Rung(kan, smoother.losses(kan)), smoother)


def _started(begin: Kan, one: Judge, seed: tuple[int, ...]) -> Kan:
    kan = fresh(begin, COARSEST, seed)
    return refine(kan, one.learn.x, one.goal, steps=START_STEPS, weights=one.learn.weights)


def _grown(rung: Rung, one: Judge) -> Rung:
    """The rung on the best of the finer grids."""
    most = int(min(one.goal.size / ROWS_FOR_EACH, MOST_PARAMETERS))
    falling = False
    for finer in refined(rung.kan, one, GRIDS, most):
        falling = finer.falling
        losses = one.losses(finer.kan)
        if losses.mean() < rung.losses.mean():
            rung = replace(rung, kan=finer.kan, losses=losses)
        if rung.error <= FINE:
            break
    return replace(rung, falling=falling)


def clearly_better(rung: Rung, than: Rung) -> bool:
    """Whether the held-out rows can tell that a rung is better than another one."""
    return not no_worse(than.losses, rung.losses)
