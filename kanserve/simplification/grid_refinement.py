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
from kanserve.train.common.grids import regrid

STEPS = 30
FINE = 1e-4
"""A negligible error, in standard deviations of the outputs."""
EXPLAINED = 1e-2
"""An error that is small enough if it is still falling."""
FALLING = 0.7
"""Ratio of errors: a network of the right shape gets below it when its intervals are halved, often far below."""
STRIKES = 2
"""Grids without improvement before early stopping: one grid may have unfavourable knots."""


@dataclass(frozen=True, eq=False)
class Finer:
    """A network refitted on a finer grid, its training error, and whether that fell."""

    kan: Kan
    error: float
    falling: bool


def refined(kan: Kan, one: Judge, grids: Iterable[int], most: int) -> Iterator[Finer]:
    """The network on each of ever finer grids, as long as that helps and it has at most `most` parameters."""
    error = one.error_of(answers(kan, one.learn.x))
    strikes = 0
    for intervals in grids:
        moved = regrid(kan, one.x, intervals)
        if free_parameters(moved) > most:
            return
        before, kan = error, refit(moved, one, STEPS)
        error = one.error_of(answers(kan, one.learn.x))
        yield Finer(kan, error, error <= FALLING * before)
        strikes += error > FALLING * before
        if strikes == STRIKES or (strikes and error > EXPLAINED):
            return
