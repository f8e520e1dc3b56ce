"""Architecture search: find the smallest network that explains the data when no shape is given."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from kanserve.data.dataset import Dataset, Target, TrainingData, dataset
from kanserve.network.fitted_rows import hash_rows, record_rows
from kanserve.network.kan import Kan
from kanserve.network.parameter_names import names_parameters
from kanserve.simplification import architectures
from kanserve.simplification.architectures import ARCHITECTURES_COARSEST_GRID, Rung, clearly_better
from kanserve.simplification.pruning import prune, prune_by
from kanserve.simplification.validation import (
    VALIDATION_LAST_STEPS,
    Judge,
    SimplifyReport,
    SimplifyStep,
    judge_of,
    refit,
)
from kanserve.train.constant_guard import no_worse_than_the_mean
from kanserve.train.creation import create
from kanserve.train.fit_arguments import FITTING_FEWEST_ROWS
from kanserve.train.fit_progress import reporting
from kanserve.train.fitting import fit
from kanserve.train.normalising import normalise

ROWS = 1000  # training rows, and likewise held-out rows, that the search uses, at most
MOST_WORK = 1e11  # multiplications that the search may take: about ten seconds of one core
# Fitting steps that one architecture takes, roughly, by which its multiplications are estimated.
STEPS_PER_ARCHITECTURE = 200
PATIENCE = 2  # architectures in a row without improvement before early stopping


@names_parameters()
def discover(
    data: TrainingData,
    *,
    target: Target = None,
    tolerance: float | Literal["auto"] = "auto",
    seed: int = 0,
    progress: bool | SimplifyReport = False,
) -> Kan:
    """The smallest network of splines found that explains the data; `symbolify` can continue from it.

    Shapes are tried from the smallest (`architectures.shapes`), with a few random starts each, on at most 1000 rows, a
    fifth of them held out. The first shape whose error is at most `tolerance` (in standard deviations of the outputs)
    is taken; with "auto", the first whose error still falls clearly when its grid is refined, so that only the grid
    limits it. Without such a shape, as on noisy data, the smallest is taken whose held-out error cannot be
    distinguished from the least. Then `prune` removes nodes, inputs and edges. Finally, everything is refitted on all
    rows.

    For a classifier, the shape is searched with the classes as outputs 0 and 1; then a classifier of that shape is
    trained and pruned.

    The search stops early if two shapes in a row do not improve, or if it would take more than about ten seconds of one
    core (counted in multiplications, so that equal arguments give the same choice on any machine).

    Parameters
    ----------
    data : Dataset, tuple of array_like or DataFrame
        Samples: a Dataset, (x, y), or a pandas or polars table with `target`.
    target : str or sequence of str, optional
        The columns of a DataFrame to learn.
    tolerance : float or "auto", default="auto"
        The error that a simpler network may have or add, in standard deviations of each output.
    seed : int, default=0
        Equal seeds give equal networks.
    progress : bool or callable, default=False
        True shows the progress: in a notebook as a picture, elsewhere as lines on the standard error. A callable is
        called with each step that is kept, a `SimplifyStep`.

    Returns
    -------
    Kan
        The smallest network found.

    Raises
    ------
    DataError
        The data have the wrong shape, or are not numbers.

    Examples
    --------
    >>> import kanserve, numpy as np
    >>> x = np.random.default_rng(0).uniform(-1, 1, (100, 2))
    >>> kanserve.discover((x, x[:, 0] ** 2)).shape
    (2, 1)
    """
    rows = dataset(data, target).counted()
    with reporting(progress) as report:
        return _discover(rows, tolerance, seed, report)


def _discover(rows: Dataset, tolerance: float | Literal["auto"], seed: int, report: SimplifyReport | None) -> Kan:
    if rows.classes:
        found = _discover(replace(rows, classes=()), tolerance, seed, report)
        return prune(fit(found.shape, rows, seed=seed), rows, tolerance=tolerance, seed=seed, progress=report or False)
    shape = rows.x.shape[1], rows.y.shape[1]
    if len(rows) < FITTING_FEWEST_ROWS:
        return fit(shape, rows, seed=seed)
    judge = judge_of(normalise(create(shape, grid=ARCHITECTURES_COARSEST_GRID), rows), rows, tolerance, seed)
    few = _of_few(judge, seed)
    rung = _climb(rows, few, None if tolerance == "auto" else tolerance, seed, report)
    kan, smoother = prune_by(rung.kan, judge, found=tolerance == "auto", seed=seed, report=report)
    every = replace(smoother, learn=rows, held=rows, goal=rows.y)
    found = no_worse_than_the_mean(refit(kan, every, VALIDATION_LAST_STEPS), rows)
    return record_rows(found, hash_rows(rows))


def _of_few(judge: Judge, seed: int) -> Judge:
    """The judge on a sample of at most ROWS rows, which is enough for the search."""
    learn = judge.learn.sample(ROWS, seed)
    return replace(judge, learn=learn, goal=learn.y, held=(judge.held or learn).sample(ROWS, seed))


def _climb(data: Dataset, judge: Judge, enough: float | None, seed: int, report: SimplifyReport | None) -> Rung:
    """Try architectures from small to large. Returns the first that explains the data, or the smallest of the best."""
    rungs: list[Rung] = []
    spent, stale = 0.0, 0
    for shape in architectures.shapes(data.x.shape[1], data.y.shape[1]):
        needed = STEPS_PER_ARCHITECTURE * architectures.work(shape, len(judge.learn))
        if rungs and (spent + needed > MOST_WORK or architectures.parameters(shape) > judge.goal.size):
            continue
        rung = architectures.train(shape, data, judge, seed)
        spent += needed
        if report is not None:
            report(SimplifyStep(f"tried {list(shape)}", float(rung.losses.mean()), rung.kan.edges, rung.kan))
        if rung.explains if enough is None else rung.error <= enough:
            return rung
        stale = 0 if not rungs or clearly_better(rung, _best(rungs)) else stale + 1
        rungs.append(rung)
        if stale >= PATIENCE:
            break
    best = _best(rungs)
    return min((rung for rung in rungs if not clearly_better(best, rung)), key=lambda rung: rung.kan.edges)


def _best(rungs: Sequence[Rung]) -> Rung:
    return min(rungs, key=lambda rung: rung.error)
