"""Better numbers for categories and missing values, for a network that is fitted: a line search for each number.

The loss of a category's rows is computed at some numbers over the range that the network was fitted on, with a penalty
for leaving the present number, and a parabola through the best three gives the new one. This needs no derivatives, so
it serves every loss, and goes over valleys.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kanserve.data.dataset import Dataset
from kanserve.network.encoding import encode_columns, is_category, is_encoded
from kanserve.network.kan import Kan, Variable
from kanserve.train.common.constant_guard import errors
from kanserve.train.common.losses import LossFunction
from kanserve.train.common.training_settings import TRAINING

Array = NDArray[np.float64]


def improved(kan: Kan, raw: Dataset, inputs: Sequence[Variable], loss: LossFunction, seed: int) -> tuple[Variable, ...]:
    """The inputs with better numbers for a fitted network, by raw samples; all are searched `encoding_search_passes`
    times."""
    raw = raw.sample(TRAINING.encoding_search_rows, seed)
    found = list(inputs)
    for _ in range(TRAINING.encoding_search_passes):
        numbers = in_numbers(raw, found)
        for i, one in enumerate(found):
            if is_encoded(one):
                found[i] = _improved(kan, raw.x[:, i], numbers, i, one, loss)
                numbers = in_numbers(raw, found)
    return tuple(found)


def in_numbers(raw: Dataset, inputs: Sequence[Variable]) -> Dataset:
    """The samples in the numbers of these inputs."""
    return replace(raw, x=encode_columns(raw.x, inputs, range(len(inputs))), categories={})


def _improved(kan: Kan, raw: Array, numbers: Dataset, i: int, one: Variable, loss: LossFunction) -> Variable:
    count = len(one.categories)
    codes = np.zeros(len(raw), np.intp)
    if count:
        codes[:] = np.where(is_category(one, raw), raw, count)
    rows = np.flatnonzero(np.isnan(raw)) if not count else np.arange(len(raw))
    column = numbers.x[:, i]
    low, high = float(column.min()), float(column.max())
    if not len(rows) or not low < high:
        return one
    group, some = codes[rows], numbers.take(rows)
    weights = len(numbers) * numbers.shares[rows]
    grid = np.linspace(low, high, TRAINING.encoding_search_numbers)
    losses = np.stack([_losses(kan, some, i, number, loss) for number in grid], axis=1)
    sums = [np.bincount(group, weights * each, count + 1) for each in losses.T]
    totals = np.stack(sums, axis=1).astype(np.float64)
    present = np.array([*one.category_values, one.fill_value], np.float64)
    spread = max(float(column.std()), np.finfo(np.float64).tiny)
    prior = TRAINING.encoding_search_prior * float(np.median(losses.min(axis=1)))
    totals = totals + prior * ((grid - present[:, None]) / spread) ** 2
    new = np.array([_lowest(grid, total) for total in totals])
    there = np.bincount(group, minlength=count + 1) > 0
    new = np.where(there, new, present)
    if count and not there[-1]:  # what is unknown is like the categories on average
        new[-1] = np.average(new[:-1], weights=np.bincount(group, weights, count + 1)[:-1])
    return replace(one, fill_value=float(new[-1]), category_values=tuple(new[:-1].tolist()))


def _losses(kan: Kan, rows: Dataset, i: int, number: float, loss: LossFunction) -> Array:
    """The losses (N,) of the rows if input i had this number in all of them."""
    x = rows.x.copy()
    x[:, i] = number
    return errors(kan, replace(rows, x=x), loss)


def _lowest(grid: Array, total: Array) -> float:
    """The vertex of the parabola through the lowest point and its neighbours, or an end of the grid."""
    n = int(np.argmin(total))
    if not 0 < n < len(grid) - 1 or not np.isfinite(total[n - 1 : n + 2]).all():
        return float(grid[n])
    before, here, after = total[n - 1 : n + 2]
    bend = before - 2 * here + after
    shift = 0.5 * (before - after) / bend if bend > 0 else 0.0
    return float(grid[n] + shift * (grid[1] - grid[0]))
