"""Interactions between inputs of a surrogate, measured by exchanging coordinates between rows."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from kanserve.search.regression.least_squares import ROUNDING, root_mean_square
from kanserve.search.regression.surrogates import Surrogate, answer_units

Array = NDArray[np.float64]
Parts = tuple[tuple[int, ...], ...]

ROW_PAIRS = 120  # pairs of rows, at most, whose coordinates are exchanged
WEAK_RATIO = 30.0  # difference, relative to the surrogate's error, up to which that error may be its cause
INTERIOR_SHARE = 0.9  # share of each input's range, around its middle, where gradients are used
LINE_POINTS = 12  # values of one input along a line, at Chebyshev nodes
LINES = 50  # rows, at most, through which lines are taken


def partitions(x: Array, full: Surrogate, multiplicative: bool) -> list[Parts]:
    """Partitions of the inputs into non-interacting parts, by four-point differences, from the finest to two parts."""
    strengths = four_point(x, full, multiplicative)
    bonds = _strongest_tree(strengths)
    limit = weak(full)
    cut = [bond for bond in bonds if bond[0] < limit]
    kept = [bond for bond in bonds if bond[0] >= limit]
    found = []
    while cut:
        found.append(_components(x.shape[1], [pair for _, pair in kept]))
        kept.append(cut.pop(0))  # the strongest of the weak
    return found


def four_point(x: Array, full: Surrogate, multiplicative: bool) -> Array:
    """Four-point differences v(both) + v(none) - v(i) - v(j) after exchanging i, j between rows: (d, d), relative to y.
    Multiplicative: v(both)·v(none) - v(i)·v(j), relative to the mean square."""
    inputs = x.shape[1]
    rows = np.linspace(0, len(x) - 1, min(ROW_PAIRS, len(x))).astype(int)
    base, other = x[rows], x[np.roll(rows, len(rows) // 2 + 1)]
    changes = [(), *((i,) for i in range(inputs)), *combinations(range(inputs), 2)]
    exchanged = np.repeat(base[None], len(changes), axis=0)
    for k, change in enumerate(changes):
        exchanged[k][:, list(change)] = other[:, list(change)]
    flat = full.link_values(exchanged.reshape(-1, inputs)).reshape(len(changes), -1)
    at = dict(zip(changes, flat, strict=True))
    units = np.median(answer_units(full.link, full.value(x)))
    strengths = np.zeros((inputs, inputs))
    for i, j in combinations(range(inputs), 2):
        if multiplicative:
            difference = (at[()] * at[i, j] - at[(i,)] * at[(j,)]) / np.mean(at[()] ** 2)
        else:
            difference = (at[()] + at[i, j] - at[(i,)] - at[(j,)]) * units
        strengths[i, j] = strengths[j, i] = root_mean_square(difference)
    return strengths


def _strongest_tree(strengths: Array) -> list[tuple[float, tuple[int, int]]]:
    """The maximum spanning tree of the interactions, strongest edge first."""
    inputs = len(strengths)
    group = list(range(inputs))
    tree = []
    pairs = sorted(combinations(range(inputs), 2), key=lambda pair: -strengths[pair])
    for i, j in pairs:
        if group[i] != group[j]:
            tree.append((float(strengths[i, j]), (i, j)))
            old, new = group[j], group[i]
            group = [new if name == old else name for name in group]
    return tree


def _components(inputs: int, bonds: Sequence[tuple[int, int]]) -> Parts:
    group = list(range(inputs))
    for i, j in bonds:
        old, new = group[j], group[i]
        group = [new if label == old else label for label in group]
    return tuple(tuple(i for i in range(inputs) if group[i] == name) for name in dict.fromkeys(group))


def weak(full: Surrogate) -> float:
    """The threshold below which a difference may be only the surrogate's error."""
    return WEAK_RATIO * max(full.error, ROUNDING)


def along(x: Array, full: Surrogate, i: int) -> tuple[Array, Array, float]:
    """How link(y) depends on input i: nodes, the main shape g at the nodes, and the size of the remainder relative to
    y. From a singular value decomposition of changes along x_i: if g is the only shape, link(y) = P + g(x_i)·Q, and the
    remainder is about the surrogate's error."""
    low, high = float(x[:, i].min()), float(x[:, i].max())
    nodes = (low + high) / 2 + (high - low) / 2 * np.cos(np.pi * (np.arange(LINE_POINTS) + 0.5) / LINE_POINTS)
    rows = x[np.linspace(0, len(x) - 1, min(LINES, len(x))).astype(int)]
    lines = np.repeat(rows[:, None], LINE_POINTS, axis=1)
    lines[:, :, i] = nodes
    values = full.link_values(lines.reshape(-1, x.shape[1])).reshape(len(rows), LINE_POINTS)
    moves = values - values.mean(axis=1, keepdims=True)
    _, sizes, shapes = np.linalg.svd(moves, full_matrices=False)
    beyond = float(np.sqrt(np.sum(sizes[1:] ** 2) / moves.size) * np.median(answer_units(full.link, full.value(rows))))
    return nodes, shapes[0], beyond


def interior(x: Array, full: Surrogate) -> NDArray[np.bool_]:
    """Mask of the rows away from the ends of every input's range, where a polynomial's gradient is inaccurate."""
    scaled = np.stack([coordinate.of(x[:, i]) for i, coordinate in enumerate(full.coordinates)], axis=1)
    inner = np.all(np.abs(scaled) < INTERIOR_SHARE, axis=1)
    return inner if inner.mean() > 0.2 else np.ones(len(x), np.bool_)
