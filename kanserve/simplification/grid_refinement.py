"""The same network on finer and finer grids: whether its splines or its shape are what it errs by.

A network of the right shape errs less and less, since the grid is all that it lacks; a network that is too small
stays where it is, and so does every network on noisy data. That tells them apart without knowing how small an error
can be.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kanserve.network.kan import Kan
from kanserve.simplification.activations import answers
from kanserve.simplification.validation import Judge, free_parameters, refit
from kanserve.train.common.grids import regrid

STEPS = 30
FINE = 1e-4
"""An error, in standard deviations of the answers, that is as good as none."""
EXPLAINED = 1e-2
"""An error that is small enough where it is still falling."""
FALLING = 0.7
"""Of the error: by so much a network of the right shape gains when its intervals are halved, often by far more."""
STRIKES = 2
"""One grid may be no better than the one before, where its knots happen to lie badly."""


@dataclass(frozen=True, eq=False)
class Finer:
    """A network refitted on finer grids, its error on the rows that it learns from, and whether that fell."""

    kan: Kan
    error: float
    falling: bool


def refined(kan: Kan, one: Judge, grids: Iterable[int], most: int) -> Iterator[Finer]:
    """The network on each of the grids, which get finer, as long as that helps and it has `most` parameters at most."""
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
