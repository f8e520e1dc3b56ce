"""How the training rows are spread over each input: up to ten bins with about equally many rows, in `Variable`.

A server counts the rows that it answers in the same bins (`kanserve.network.stability_index`). Edges lie halfway
between neighbouring values of the training rows, so a value that is rounded to another float stays in its bin.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kanserve.network.evaluate import evaluate
from kanserve.network.kan import Kan, Variable
from kanserve.network.kan_checks import MOST_BINS
from kanserve.network.training_range import ranges, sample

Array = NDArray[np.float64]

# The shares of ten bins of 10,000 rows have a relative standard error of 3 %, and sorting 1,000 inputs takes half a
# second. More rows would lower the smallest drift that a server can tell from chance.
MOST_BINNED_ROWS = 10_000


def with_training_bins(kan: Kan, x: Array) -> Kan:
    """The network whose inputs have the bins of these raw rows (N, inputs)."""
    rows = x[:: -(-len(x) // MOST_BINNED_ROWS) or 1]
    return replace(kan, inputs=tuple(_with_bins(variable, rows[:, i]) for i, variable in enumerate(kan.inputs)))


def with_missing_bins(kan: Kan, x: Array) -> Kan:
    """The network whose inputs without bins have those of these raw rows (N, inputs)."""
    if all(variable.bin_counts for variable in kan.inputs):
        return kan
    pairs = zip(kan.inputs, with_training_bins(kan, x).inputs, strict=True)
    return replace(kan, inputs=tuple(given if given.bin_counts else binned for given, binned in pairs))


def _with_bins(variable: Variable, values: Array) -> Variable:
    """The input with the bins of these raw values (N,); NaN is counted as missing."""
    known = np.sort(values[np.isfinite(values)])
    edges = bin_edges(known)
    return replace(variable, bin_edges=edges, bin_counts=tuple(count_in_bins(edges, values).tolist()))


def bin_edges(ordered: Array) -> tuple[float, ...]:
    """The edges between bins with about equally many of these sorted values; fewer where many values are equal."""
    edges = set()
    for k in range(1, MOST_BINS):
        at = k * len(ordered) // MOST_BINS
        if at == 0:
            continue
        # Equal values stay together: the edge is below the value at this place, or above it if it is the smallest.
        at = int(np.searchsorted(ordered, ordered[at], "left")) or int(np.searchsorted(ordered, ordered[0], "right"))
        if at < len(ordered):
            low, high = float(ordered[at - 1]), float(ordered[at])
            middle = low / 2 + high / 2
            edges.add(middle if middle > low else high)
    return tuple(sorted(edges))


def count_in_bins(edges: Sequence[float], values: Array) -> NDArray[np.intp]:
    """How many values are in each bin, then how many are missing."""
    bins = np.searchsorted(np.asarray(edges, np.float64), values, "right")
    return np.bincount(np.where(np.isnan(values), len(edges) + 1, bins), minlength=len(edges) + 2)


def draw_typical_rows(kan: Kan, count: int, seed: int = 0) -> Array:
    """Up to `count` random raw rows on which the network is finite. Each input is spread as in its bins, or evenly over
    its range if it has none; inputs are independent."""
    rows = sample(kan, 4 * count, seed)
    random = np.random.default_rng(seed)
    for i, (variable, (low, high)) in enumerate(zip(kan.inputs, ranges(kan).tolist(), strict=True)):
        if variable.bin_counts:
            rows[:, i] = _draw_from_bins(variable, low, high, random, len(rows))
    return rows[np.isfinite(evaluate(kan, rows)).all(axis=1)][:count]


def _draw_from_bins(variable: Variable, low: float, high: float, random: np.random.Generator, count: int) -> Array:
    """Raw values (count,) from the bins of an input, NaN for missing: evenly spread within a bin, or its only value."""
    counts = np.array(variable.bin_counts, np.float64)
    if not counts.sum():
        return np.full(count, low)
    edges = np.array(variable.bin_edges)
    ends = np.concatenate([[low], edges, [max(high, edges.max(initial=high))]])
    bins = random.choice(len(counts), count, p=counts / counts.sum())
    values = [low]
    for edge in edges.tolist():  # which is halfway between neighbouring values
        values.append(2 * edge - values[-1])
    one_each = (count_in_bins(variable.bin_edges, np.array(values))[:-1] == 1).all()
    if one_each and np.isclose(values[-1], high):
        return np.array([*values, np.nan])[bins]
    places = np.minimum(bins, len(edges))
    drawn = random.uniform(np.minimum(ends[places], ends[places + 1]), ends[places + 1])
    drawn = np.rint(drawn) if variable.categories else drawn
    return np.where(bins > len(edges), np.nan, drawn)
