"""The smallest network that explains the data, when nobody says what shape it has."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from kanserve.data.dataset import Dataset, Target, TrainingData, dataset
from kanserve.network.kan import Kan
from kanserve.simplification import architectures
from kanserve.simplification.architectures import Rung, clearly_better
from kanserve.simplification.pruning import prune, pruned
from kanserve.simplification.validation import LAST_STEPS, Judge, SimplifyReport, SimplifyStep, judge, refit
from kanserve.train.common.creation import create
from kanserve.train.common.normalising import normalised
from kanserve.train.fitting import FEWEST_ROWS, fit
from kanserve.train.lm.schedule import no_worse_than_the_mean

SEARCH_ROWS = 1000
MOST_WORK = 1e11
"""Multiplications that the ladder may take: some ten seconds of one core."""
STEPS_FOR_EACH = 200
"""About how many steps of a fit a rung takes."""
PATIENCE = 2
KNOWS_SOMETHING = 0.9
"""An error in standard deviations: above it no rung that is no better ends the climb."""
DEEP_STARTS = 3
AS_GOOD = 4.0
"""Times the loss of the first start: a worse one is not pruned."""


def discover(
    data: TrainingData,
    *,
    target: Target = None,
    tolerance: float | Literal["auto"] = "auto",
    seed: int = 0,
    report: SimplifyReport | None = None,
) -> Kan:
    """The smallest network found that explains the data, of splines; `symbolify` goes on from it.

    Shapes are tried from the smallest on (`ladder.shapes`) with a few starts each, on at most 1000 rows, a fifth of
    them held out. The first whose error is at most `tolerance` (in standard deviations of the answers) ends that; with
    "auto" the first whose error still halves when its grid is made finer, so that only the grid is between it and the
    data. Where there is none, as on noisy data, it is the smallest whose error the held-out rows cannot tell from the
    least. Then `prune` takes out nodes, inputs and edges; of deep networks up to three are pruned and the smallest is
    taken. At last everything is refitted on all rows.

    Classes are taken as the answers 0 and 1 for the shape; a classifier of that shape is then trained, and pruned.

    The climb ends early when two shapes in a row are no better, or when it would take more than ten seconds or so of
    one core (counted in multiplications, so that equal arguments give equal networks, bit for bit, on any machine).

    Parameters
    ----------
    data : Dataset, tuple of array_like or DataFrame
        Samples: a Dataset, (x, y), or a table of pandas or polars with `target`.
    target : str or sequence of str, optional
        Of a DataFrame, the columns to learn.
    tolerance : float or "auto", default="auto"
        What a simpler network may lose, in standard deviations of each output.
    seed : int, default=0
        Equal seeds give equal networks, bit for bit.
    report : callable, optional
        Called with each step that is kept.

    Returns
    -------
    Kan
        The smallest network that was found.

    Raises
    ------
    DataError
        The data are of another shape, or not numbers.

    Examples
    --------
    >>> import kanserve, numpy as np
    >>> x = np.random.default_rng(0).uniform(-1, 1, (100, 2))
    >>> kanserve.discover((x, x[:, 0] ** 2)).shape
    (2, 1)
    """
    rows = dataset(data, target).counted()
    if rows.classes:
        found = discover(replace(rows, classes=()), tolerance=tolerance, seed=seed, report=report)
        return prune(fit(found.shape, rows, seed=seed), rows, tolerance=tolerance, seed=seed, report=report)
    shape = rows.x.shape[1], rows.y.shape[1]
    if len(rows) < FEWEST_ROWS:
        return fit(shape, rows, seed=seed)
    one = judge(normalised(create(shape, grid=architectures.COARSEST), rows), rows, tolerance, seed)
    few = _of_few(one, seed)
    rung = _climbed(rows, few, None if tolerance == "auto" else tolerance, seed, report)
    kan, smoother = _pruned(rung, rows, one, few, tolerance == "auto", seed, report)
    every = replace(smoother, learn=rows, held=rows, goal=rows.y)
    return no_worse_than_the_mean(refit(kan, every, LAST_STEPS), rows)


def _of_few(one: Judge, seed: int) -> Judge:
    """The judge on so many rows as the ladder needs."""
    learn = one.learn.sample(SEARCH_ROWS, seed)
    return replace(one, learn=learn, goal=learn.y, held=(one.held or learn).sample(SEARCH_ROWS, seed))


def _climbed(data: Dataset, one: Judge, enough: float | None, seed: int, report: SimplifyReport | None) -> Rung:
    """The first rung that explains the data, or the smallest that is as good as the best."""
    rungs: list[Rung] = []
    spent, stale = 0.0, 0
    for shape in architectures.shapes(data.x.shape[1], data.y.shape[1]):
        needed = STEPS_FOR_EACH * architectures.work(shape, len(one.learn))
        if rungs and (spent + needed > MOST_WORK or architectures.parameters(shape) > one.goal.size):
            continue
        rung = architectures.trained(shape, data, one, seed)
        spent += needed
        if report is not None:
            report(SimplifyStep(f"tried {list(shape)}", rung.kan.edges, float(rung.losses.mean()), rung.kan))
        if rung.explains if enough is None else rung.error <= enough:
            return rung
        stale = 0 if not rungs or clearly_better(rung, _best(rungs)) else stale + 1
        rungs.append(rung)
        if stale >= PATIENCE and _best(rungs).error < KNOWS_SOMETHING:
            break
    best = _best(rungs)
    return min((rung for rung in rungs if not clearly_better(best, rung)), key=lambda each: each.kan.edges)


def _best(rungs: Sequence[Rung]) -> Rung:
    return min(rungs, key=lambda each: each.error)


def _pruned(
    rung: Rung, data: Dataset, one: Judge, few: Judge, found: bool, seed: int, report: SimplifyReport | None
) -> tuple[Kan, Judge]:
    """The rung pruned; of a deep one further starts too, until one is a tree: nothing in that can be merged."""
    best = pruned(rung.kan, one, found=found, seed=seed, report=report)
    for start in range(1, DEEP_STARTS if len(rung.kan.layers) > 2 else 1):
        if _is_tree(best[0]):
            break
        other = architectures.trained(rung.kan.shape, data, few, seed + start)
        if other.losses.mean() <= AS_GOOD * rung.losses.mean():
            smaller = pruned(other.kan, one, found=found, seed=seed, report=report)
            best = min(best, smaller, key=lambda each: each[0].edges)
    return best


def _is_tree(kan: Kan) -> bool:
    """Whether no input and no hidden node has more than one edge that leaves it."""
    return all((layer.alive.sum(axis=0) <= 1).all() for layer in kan.layers)
