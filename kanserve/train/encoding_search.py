"""Better numbers for categories and missing values of a fitted network: a line search for each number. The loss of a
category's rows is computed at some numbers over the fitted range, with a penalty for leaving the present number, and a
parabola through the best three gives the new one. This needs no derivatives, so it serves every loss."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kanserve.data.dataset import Dataset
from kanserve.network.encoding import encode_columns, is_category, is_encoded
from kanserve.network.evaluate import edges, nodes, subnodes
from kanserve.network.kan import Kan, Variable
from kanserve.train.constant_guard import errors_of_outputs
from kanserve.train.losses import LossFunction

Array = NDArray[np.float64]

ROWS = 5000  # at most
NUMBERS = 21  # at which the loss is computed, over the range
PRIOR = 10.0  # rows, of the median loss, that a number of one standard deviation away costs

OF_EDGES = ("coefficients", "base_weight", "functions", "affine")  # arrays (O, I, ..) of a layer


def improve(kan: Kan, raw: Dataset, inputs: Sequence[Variable], loss: LossFunction, seed: int) -> tuple[Variable, ...]:
    """Improve the numbers that stand for categories and missing values in a fitted network, using raw samples."""
    raw = raw.sample(ROWS, seed)
    found = list(inputs)
    numbers = in_numbers(raw, found)
    edited_inputs = EditedInputs(kan, numbers, loss)
    for i, variable in enumerate(found):
        if is_encoded(variable):
            found[i] = _improve(edited_inputs, raw.x[:, i], numbers.x[:, i], i, variable)
            numbers.x[:, i] = encode_columns(raw.x[:, i : i + 1], found[i : i + 1], [0])[:, 0]
            edited_inputs.set_input(i, numbers.x[:, i])
    return tuple(found)


class EditedInputs:
    """The losses of a network on samples whose inputs change one at a time. The first layer's sums are kept, so that a
    change only costs that input's edges and the later layers."""

    def __init__(self, kan: Kan, numbers: Dataset, loss: LossFunction) -> None:
        self._kan, self._data, self._loss = kan, numbers, loss
        self.weights = len(numbers) * numbers.shares
        columns = [self._edges(i, numbers.x[:, i]) for i in range(numbers.x.shape[1])]
        self._columns = columns  # (N, O) of each input
        self._sums: Array = np.sum(columns, axis=0)

    def set_input(self, i: int, numbers: Array) -> None:
        """Replace the values (N,) of input i."""
        new = self._edges(i, numbers)
        self._sums += new - self._columns[i]
        self._columns[i] = new

    def losses(self, rows: NDArray[np.intp], i: int, number: float) -> Array:
        """The losses of these rows if input i had this value in all of them."""
        kan, first = self._kan, self._kan.layers[0]
        with np.errstate(all="ignore"):
            sums = self._sums[rows] - self._columns[i][rows] + self._edges(i, np.array([number]))
            v = nodes(first, subnodes(first, sums[:, :, None]))
            for layer in kan.layers[1:]:
                v = nodes(layer, subnodes(layer, edges(layer, v)))
            outputs = kan.output_scale * v + kan.output_shift
        return errors_of_outputs(kan, outputs, self._data.take(rows), self._loss)

    def _edges(self, i: int, numbers: Array) -> Array:
        """The values (N, O) of the edges of input i."""
        kan, first = self._kan, self._kan.layers[0]
        own = replace(
            first,
            **{name: getattr(first, name)[:, i : i + 1] for name in OF_EDGES},
            knots=first.knots[i : i + 1],
        )
        v = (numbers - kan.input_shift[i]) / kan.input_scale[i]
        result: Array = edges(own, v[:, None])[:, :, 0]
        return result


def in_numbers(raw: Dataset, inputs: Sequence[Variable]) -> Dataset:
    """Encode the samples with the numbers that these inputs define."""
    return replace(raw, x=encode_columns(raw.x, inputs, range(len(inputs))), categories={})


def _improve(edited_inputs: EditedInputs, raw: Array, column: Array, i: int, variable: Variable) -> Variable:
    count = len(variable.categories)
    codes = np.zeros(len(raw), np.intp)
    if count:
        codes[:] = np.where(is_category(variable, raw), raw, count)
    rows = np.flatnonzero(np.isnan(raw)) if not count else np.arange(len(raw))
    low, high = float(column.min()), float(column.max())
    if not len(rows) or not low < high:
        return variable
    group, weights = codes[rows], edited_inputs.weights[rows]
    grid = np.linspace(low, high, NUMBERS)
    losses = np.stack([edited_inputs.losses(rows, i, number) for number in grid], axis=1)
    sums = [np.bincount(group, weights * each, count + 1) for each in losses.T]
    totals = np.stack(sums, axis=1).astype(np.float64)
    present = np.array([*variable.category_values, variable.fill_value], np.float64)
    spread = max(float(column.std()), np.finfo(np.float64).tiny)
    prior = PRIOR * float(np.median(losses.min(axis=1)))
    totals = totals + prior * ((grid - present[:, None]) / spread) ** 2
    new = np.array([_lowest(grid, total) for total in totals])
    there = np.bincount(group, minlength=count + 1) > 0
    new = np.where(there, new, present)
    if count and not there[-1]:  # what is unknown is like the categories on average
        new[-1] = np.average(new[:-1], weights=np.bincount(group, weights, count + 1)[:-1])
    return replace(variable, fill_value=float(new[-1]), category_values=tuple(new[:-1].tolist()))


def _lowest(grid: Array, total: Array) -> float:
    """The minimum of the parabola through the lowest point and its neighbours, or an end of the grid."""
    n = int(np.argmin(total))
    if not 0 < n < len(grid) - 1 or not np.isfinite(total[n - 1 : n + 2]).all():
        return float(grid[n])
    before, here, after = total[n - 1 : n + 2]
    bend = before - 2 * here + after
    shift = 0.5 * (before - after) / bend if bend > 0 else 0.0
    return float(grid[n] + shift * (grid[1] - grid[0]))
