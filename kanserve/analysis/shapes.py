"""What each input does to the outputs on average over rows, and what two do together: the panels of a report. The
effect of an input's value is the mean prediction with that value in all background rows, minus their mean prediction
(partial dependence: Friedman, Annals of Statistics 29, 2001). The targets are shown beside it as the effect plus the
mean residual of the rows near a value: a gap shows what the network has missed. For a mean of networks the effects of
its members are shown too; their spread comes from random starts and held-out rows, not from sampling another table."""

from collections.abc import Iterator
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from kanserve.analysis.contributions import format_value
from kanserve.data.dataset import Dataset
from kanserve.network.evaluate import evaluate, softmax
from kanserve.network.kan import Kan
from kanserve.network.shapley_values import Players, background_rows, meeting_inputs
from kanserve.network.training_range import ranges
from kanserve.plot.shape_pictures import Pair, Shape
from kanserve.train.averaging import members_of_mean

Array = NDArray[np.float64]

POINTS = 61  # of a curve
INSIDE = (0.01, 0.99)  # quantiles between which an input is shown: a few far values would leave the rest no room
CATEGORIES = 12  # shown of an input, the most frequent
BINS = 24  # of a density
PLACES = 8  # of an input at which answers are compared with the curve
FEWEST = 10  # rows of such a place
PAIRED = 6  # inputs of which pairs are looked at, the most important
CELLS = 20  # along each side of a map
TENTHS = (0.1, 0.9)


class Moved:
    """The predictions of a network for background rows (B, I) after changing some of their inputs."""

    def __init__(self, kan: Kan, rows: Array) -> None:
        self.behind, self.rows = Players(kan), rows
        self.start = self.behind.edges(rows)
        self.total = self.start.sum(axis=1)
        predictions = self.behind.outputs(self.total)
        self.base, self.variance = predictions.mean(axis=0), predictions.var(axis=0)

    def to(self, values: dict[int, Array]) -> Array:
        """The explained quantities (B, P, Q) of the rows with these values (P,) of some inputs."""
        inputs = list(values)
        probes = np.repeat(self.rows[:1], len(values[inputs[0]]), axis=0)
        probes[:, inputs] = np.column_stack([values[i] for i in inputs])
        change = self.behind.edges(probes)[:, inputs].sum(axis=1) - self.start[:, None, inputs].sum(axis=2)
        return self.behind.outputs(self.total[:, None] + change)


class Shapes:
    """The effects of a network's inputs on samples, for each explained quantity (`Contributions.outputs`)."""

    def __init__(self, kan: Kan, data: Dataset) -> None:
        self.kan, self.data = kan, data
        rows = background_rows(kan, data, 2**PAIRED)
        self.moved = Moved(kan, rows)
        self.members = [Moved(member, rows) for member in members_of_mean(kan, rows)]
        self.residuals, self.precisions = _residuals(kan, data)

    def of(self, i: int, output: int, share: float) -> Shape:
        """The effect of one input on one output."""
        variable, column = self.kan.inputs[i], self.data.x[:, i]
        values = self._values(i, POINTS)
        every = self.moved.to({i: values})[..., output]
        effect = every.mean(axis=0) - self.moved.base[output]
        each = [member.to({i: values})[..., output].mean(axis=0) - member.base[output] for member in self.members]
        spread = np.quantile(every - every.mean(axis=1, keepdims=True), TENTHS, axis=0) + effect.mean()
        if variable.categories:
            counts = np.array([(column == value).sum() for value in values], np.float64)
            parts = [(float(n), column == value) for n, value in enumerate(values)]
        else:
            counts = np.histogram(column[np.isfinite(column)], BINS, (values[0], values[-1]))[0].astype(np.float64)
            parts = list(_parts(column, values[0], values[-1]))
        seen = [
            self._effect_at(place, rows, i, values, effect, output) for place, rows in parts if rows.sum() >= FEWEST
        ]
        return Shape(
            variable.name + (f" ({variable.unit})" if variable.unit else ""),
            share,
            values,
            effect,
            spread,
            np.array(seen).reshape(-1, 3).T,
            counts / max(counts.max(), 1),
            tuple(format_value(variable, value) for value in values) if variable.categories else (),
            np.array([np.min(each, axis=0), np.max(each, axis=0)]) if each else None,
        )

    def pairs(self, importances: Array, output: int, most: int, least: float) -> list[Pair]:
        """The joint effects of pairs among the most important inputs, those with the largest shares of the variance."""
        chosen = [int(i) for i in np.argsort(-importances, kind="stable")[:PAIRED] if importances[i] > 0]
        groups = meeting_inputs(self.kan)
        found = []
        for i, j in combinations(chosen, 2):
            if any(i in group and j in group for group in groups):
                joint = self._joint(i, j, self._quantiles(i), self._quantiles(j), output)
                found.append((float((joint**2).mean() / (self.moved.variance[output] or 1.0)), i, j))
        kept = sorted((pair for pair in found if pair[0] >= least), reverse=True)[:most]
        return [self._pair(share, i, j, output) for share, i, j in kept]

    def _pair(self, share: float, i: int, j: int, output: int) -> Pair:
        sides, ends = [], []
        for k in (i, j):
            variable = self.kan.inputs[k]
            ticks = self._values(k, CELLS)
            sides.append(ticks)
            ends.append((format_value(variable, float(ticks[0])), format_value(variable, float(ticks[-1]))))
        effects = self._joint(i, j, sides[0], sides[1], output).T
        return Pair((self.kan.inputs[i].name, self.kan.inputs[j].name), share, effects, (ends[0], ends[1]))

    def _joint(self, i: int, j: int, first: Array, second: Array, output: int) -> Array:
        """The joint effect (H, W) of two inputs, minus their separate effects."""
        side, other = (part.ravel() for part in np.meshgrid(first, second, indexing="ij"))
        both = self.moved.to({i: side, j: other})[..., output].mean(axis=0).reshape(len(first), len(second))
        return np.asarray(both - both.mean(axis=1, keepdims=True) - both.mean(axis=0) + both.mean())

    def _values(self, i: int, count: int) -> Array:
        """The most frequent categories of an input, in the order of their codes, or `count` values of a number."""
        values = self._finite(i)
        if self.kan.inputs[i].categories:
            codes, counts = np.unique(values, return_counts=True)
            return np.sort(codes[np.argsort(-counts, kind="stable")[:CATEGORIES]])
        low, high = np.quantile(values, INSIDE).tolist()
        if high == low:
            low, high = float(values.min()), float(values.max())
        return np.linspace(low, high, count)

    def _quantiles(self, i: int) -> Array:
        """Values of an input that represent the rows: quantiles, or codes of categories."""
        if self.kan.inputs[i].categories:
            return self._values(i, CATEGORIES)
        return np.asarray(np.quantile(self._finite(i), (np.arange(PLACES) + 0.5) / PLACES))

    def _finite(self, i: int) -> Array:
        """The finite values of an input, or the ends of its training range if all are missing."""
        column = self.data.x[:, i]
        values = column[np.isfinite(column)]
        return values if len(values) else ranges(self.kan)[i]

    def _effect_at(
        self, place: float, rows: NDArray[np.bool_], i: int, values: Array, effect: Array, output: int
    ) -> tuple[float, float, float]:
        """A place on an input's axis, the average effect there by the targets of the rows, and its standard error."""
        curve = effect[int(place)] if self.kan.inputs[i].categories else np.interp(self.data.x[rows, i], values, effect)
        weights = self.precisions[rows, output]
        left = self.residuals[rows, output]
        total = float(weights.sum())
        if self.kan.classes:
            return place, float(np.mean(curve)) + float(left.sum()) / max(total, 1e-9), 1 / np.sqrt(max(total, 1e-9))
        return place, float(np.mean(curve + left)), float(left.std() / np.sqrt(len(left)))


def _residuals(kan: Kan, data: Dataset) -> tuple[Array, Array]:
    """The residuals (N, Q) of the explained quantities; for classes those of the probabilities, and their variances."""
    outputs = evaluate(kan, data.x)
    if not kan.classes:
        left = data.y - outputs
        return np.nan_to_num(left), np.ones_like(left)
    chances = np.nan_to_num(softmax(outputs))
    columns = slice(1, None) if len(kan.classes) == 2 else slice(None)
    return (data.y - chances)[:, columns], (chances * (1 - chances))[:, columns]


def _parts(column: Array, low: float, high: float) -> Iterator[tuple[float, NDArray[np.bool_]]]:
    """Split the rows into parts of about equal size; yields the mean of the input in each, and the mask of its rows."""
    inside = (column >= low) & (column <= high)
    if not inside.any():
        return
    values, places = np.unique(column[inside]), int(np.clip(inside.sum() // FEWEST - 1, 1, PLACES))
    if len(values) > places:
        values = np.unique(np.quantile(column[inside], np.arange(places) / places))
    part = np.searchsorted(values, column, "right") - 1
    for number in range(len(values)):
        rows = inside & (part == number)
        if rows.any():
            yield float(column[rows].mean()), rows
