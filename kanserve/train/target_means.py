"""The first numbers for categories and missing values, from the means of the targets. A category's number is, up to a
factor, the mean target of its rows, shrunk towards the overall mean by m/(n + m) for n rows, where m is the variance
within categories divided by that between them (empirical Bayes, as scikit-learn's TargetEncoder). With several targets
or classes, the first principal component is used. A missing categorical value is one more category. A missing number
gets the input value at which the mean target is most like that of the rows with missing values, or a value outside the
range if there is none."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kanserve.data.dataset import Dataset
from kanserve.data.number_texts import number_texts
from kanserve.errors import DataError
from kanserve.network.kan import Variable

Array = NDArray[np.float64]

# Rows of the overall mean that a category's mean counts at least, and at most: an input whose categories have equal
# means may still matter beside others.
LEAST_PRIOR = 1.0
MOST_PRIOR = 50.0
BINS = 16  # in which the mean answer is compared with that of the rows where the input is missing
ROWS_OF_A_BIN = 10  # at least
CERTAIN = 3.0  # standard errors by which no bin has such an answer: the fill value then lies beyond the range
BEYOND = 0.2  # of the range, by how much
NAMES = 0.5  # share of the rows: with more categories an input is a name, which says nothing about other rows
FEWEST_NAMES = 20  # categories that are no names, however few rows there are


def check_inputs(data: Dataset) -> None:
    """Raise DataError if an input is missing in all rows, or has nearly as many categories as rows."""
    for i, name in enumerate(data.inputs):
        there = data.x[~np.isnan(data.x[:, i]), i]
        if not len(there):
            raise DataError(f"Input {name!r} is missing in all {len(data)} rows. Leave it out.")
        found = len(np.unique(there)) if name in data.categories else 0
        if found > max(FEWEST_NAMES, NAMES * len(data)):
            said = _number_among(data.categories[name])
            raise DataError(
                f"Input {name!r} has {found} categories in {len(data)} rows, like a name. Leave it out{said}."
            )


def _number_among(categories: Sequence[str]) -> str:
    """What to do where most categories are numbers; "" otherwise."""
    numeric = [text for text in categories if number_texts([text]) is not None]
    others = [text for text in categories if text not in numeric]
    if len(numeric) <= len(categories) / 2:
        return ""
    beside = f" {others[0]!r} is none" if others else " not all have one unit"
    return f", or make it numbers: most are, as {numeric[0]!r}, but{beside}"


def first_encoding(data: Dataset, filled: NDArray[np.bool_], ranks: bool) -> tuple[Variable, ...]:
    """The inputs with initial numbers: a fill value for those `filled` (I,) and for categorical ones. With `ranks`,
    targets count by their ranks, so that outliers do not matter."""
    t, weights = _component(data, ranks), len(data) * data.shares
    return tuple(_first(data, i, name, bool(filled[i]), t, weights) for i, name in enumerate(data.inputs))


def _component(data: Dataset, ranks: bool) -> Array:
    """The first principal component (N,) of the targets, standardised."""
    y = data.y
    if ranks:
        y = np.argsort(np.argsort(y, axis=0, kind="stable"), axis=0, kind="stable").astype(np.float64)
    largest = np.maximum(np.abs(y).max(axis=0), np.finfo(np.float64).tiny)  # whose squares do not overflow
    y = y / largest
    y = y - data.mean(y)
    if y.shape[1] > 1:
        if not data.classes:
            spread = np.sqrt(data.mean(y**2))
            y = y / np.where(spread > 0, spread, 1.0)
        direction = np.linalg.eigh(y.T @ (y * data.shares[:, None]))[1][:, -1]
        y = (y @ direction * np.sign(direction[np.abs(direction).argmax()]))[:, None]
    size = float(np.sqrt(data.mean(y**2))[0])
    result: Array = y[:, 0] / size if size > 0 else y[:, 0]
    return result


def _first(data: Dataset, i: int, name: str, filled: bool, t: Array, weights: Array) -> Variable:
    x, known = data.x[:, i], data.categories.get(name, ())
    missing = np.isnan(x)
    if not known:
        there = x[~missing] if not missing.all() else np.zeros(1)  # of the rows that are not held out
        low, high = float(there.min()), float(there.max())
        fill = _fill_value(x, missing, t, weights) if filled else None
        return Variable(name, "", low, high, fill)
    group = np.where(missing | (x >= len(known)), len(known), x).astype(np.intp)
    numbers = _shrunk(group, len(known) + 1, t, weights)
    size = np.sqrt(np.average(numbers[group] ** 2, weights=weights))
    numbers = numbers / size if size > 0 else numbers
    return Variable(name, "", 0.0, len(known) - 1.0, float(numbers[-1]), known, tuple(numbers[:-1].tolist()))


def _shrunk(group: NDArray[np.intp], count: int, t: Array, weights: Array) -> Array:
    """The mean of t in each group (count,), shrunk towards the overall mean, 0."""
    rows = np.bincount(group, weights, count)
    means = np.bincount(group, weights * t, count) / np.where(rows > 0, rows, 1.0)
    groups, total = int((rows > 0).sum()), float(rows.sum())
    within = float(weights @ (t - means[group]) ** 2) / max(total - groups, 1.0)
    room = max(total - float((rows**2).sum() / total), np.finfo(np.float64).tiny)
    between = max(float(rows @ means**2 - (groups - 1) * within) / room, np.finfo(np.float64).tiny)
    rows_of_prior = np.clip(within / between, LEAST_PRIOR, MOST_PRIOR)
    result: Array = means * rows / (rows + rows_of_prior)
    return result


def _fill_value(x: Array, missing: NDArray[np.bool_], t: Array, weights: Array) -> float:
    """The first guess of the number that stands for a missing value."""
    known, own = x[~missing], t[~missing]
    if not len(known) or not missing.any():
        return float(np.median(known)) if len(known) else 0.0
    shares = weights[~missing]
    bins = max(1, min(BINS, len(known) // ROWS_OF_A_BIN))
    edges = np.unique(np.quantile(known, np.arange(1, bins) / bins))
    place = np.searchsorted(edges, known, side="right")
    rows = np.bincount(place, shares, len(edges) + 1)
    filled = np.flatnonzero(rows > 0)
    means = (np.bincount(place, shares * own, len(edges) + 1)[filled]) / rows[filled]
    middles = np.array([np.median(known[place == n]) for n in filled])
    wanted = float(np.average(t[missing], weights=weights[missing])) if weights[missing].any() else 0.0
    error = CERTAIN / np.sqrt(missing.sum())
    if means.min() - error <= wanted <= means.max() + error:
        return float(middles[np.abs(means - wanted).argmin()])
    low, high = known.min(), known.max()
    beyond = BEYOND * (high - low)
    return float(high + beyond if abs(means[-1] - wanted) <= abs(means[0] - wanted) else low - beyond)
