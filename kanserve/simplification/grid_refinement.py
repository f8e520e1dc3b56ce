"""A network on finer and finer grids: whether its grid or its shape limits its error.

The error of a network of the right shape keeps falling, since only the grid limits it. That of a network that is too
small does not, nor that of any network on noisy data. This distinguishes them without knowing how small an error can
be.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kanserve.network.kan import Kan
from kanserve.simplification.activations import answers
from kanserve.simplification.validation import Judge, free_parameters, refit
from kanserve.train.grids import regrid

REFIT_STEPS = 30  # steps of the refit on each finer grid
# Error that is small enough if it is still falling, in standard deviations of the outputs.
GRID_REFINEMENT_EXPLAINED_ERROR = 1e-2
# An error falls if it is at most this times that on the grid before; the right shape often gets far below.
FALLING_RATIO = 0.7


@dataclass(frozen=True, eq=False)
class Finer:
    """A network refitted on a finer grid, its training error, and whether that fell."""

    kan: Kan
    error: float
    falling: bool


def refined(kan: Kan, judge: Judge, grids: Iterable[int], most: int) -> Iterator[Finer]:
    """The network on each of ever finer grids, while the error falls and it has at most `most` parameters."""
    error = judge.error_of(answers(kan, judge.learn.x))
    for intervals in grids:
        moved = regrid(kan, judge.x, intervals)
        if free_parameters(moved) > most:
            return
        before, kan = error, refit(moved, judge, REFIT_STEPS)
        error = judge.error_of(answers(kan, judge.learn.x))
        falling = error <= FALLING_RATIO * before
        yield Finer(kan, error, falling)
        if not falling:
            return
