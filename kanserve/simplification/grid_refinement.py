"""A network on finer and finer grids: whether its grid or its shape limits its error.

The error of a network of the right shape keeps falling, since only the grid limits it. That of a network that is too
small does not, nor that of any network on noisy data. This distinguishes them without knowing how small an error can
be.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kanserve.network.kan import Kan
from kanserve.simplification.activations import answers
from kanserve.simplification.simplification_settings import SIMPLIFICATION
from kanserve.simplification.validation import Judge, free_parameters, refit
from kanserve.train.common.grids import regrid


@dataclass(frozen=True, eq=False)
class Finer:
    """A network refitted on a finer grid, its training error, and whether that fell."""

    kan: Kan
    error: float
    falling: bool


def refined(kan: Kan, one: Judge, grids: Iterable[int], most: int) -> Iterator[Finer]:
    """The network on each of ever finer grids, as long as that helps and it has at most `most` parameters."""
    settings = SIMPLIFICATION.get()
    error = one.error_of(answers(kan, one.learn.x))
    strikes = 0
    for intervals in grids:
        moved = regrid(kan, one.x, intervals)
        if free_parameters(moved) > most:
            return
        before, kan = error, refit(moved, one, settings.grid_refinement_refit_steps)
        error = one.error_of(answers(kan, one.learn.x))
        yield Finer(kan, error, error <= settings.grid_refinement_falling_ratio * before)
        strikes += error > settings.grid_refinement_falling_ratio * before
        if strikes == settings.grid_refinement_patience or (
            strikes and error > settings.grid_refinement_explained_error
        ):
            return
