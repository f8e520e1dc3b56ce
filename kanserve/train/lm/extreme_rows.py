"""Rows at which a hidden value is lower or higher than in all rows of the data, in corners of the inputs' ranges.
Splines go on as lines beyond a hidden grid, which may give a rare new row a far larger error than all others."""

import numpy as np
from numpy.typing import NDArray

from kanserve.network.evaluate import activations
from kanserve.network.kan import Kan

Array = NDArray[np.float64]

EXTREME_VALUES = 33  # of each input, among which the one is found that makes a hidden value lowest or highest
EXTREME_PASSES = 2  # over all inputs, to find them
EXTREME_SHARE = 0.1  # of a hidden range, by how much extreme rows may be outside it


def extreme_rows(kan: Kan, x: Array) -> Array:
    """For each hidden node the two rows (2·nodes, inputs) where its value is highest and lowest: starting from the
    extreme row of x (N, inputs), each input in turn is set to its best value in the data, but only as far as the node's
    range allows."""
    x = x[np.isfinite(_evaluate_hidden(kan, x)).all(axis=1)]
    if len(x) == 0:
        return x
    hidden = _evaluate_hidden(kan, x)
    nodes = hidden.shape[1]
    node, sign = np.tile(np.arange(nodes), 2), np.repeat([1.0, -1.0], nodes)

    def heights(rows: Array) -> Array:
        """How high each node's values are at its T rows: (2·nodes, T, inputs) to (2·nodes, T)."""
        values = _evaluate_hidden(kan, rows.reshape(-1, rows.shape[2])).reshape(len(node), -1, nodes)
        own = values[np.arange(len(node)), :, node] * sign[:, None]
        return np.where(np.isfinite(own), own, -np.inf)

    begin = x[np.concatenate([hidden.argmax(axis=0), hidden.argmin(axis=0)])]
    end = begin
    choices = np.quantile(x, np.linspace(0, 1, EXTREME_VALUES), axis=0, method="nearest")
    for _ in range(EXTREME_PASSES):
        for i in range(x.shape[1]):
            tried = np.repeat(end[:, None], len(choices) + 1, axis=1)
            tried[:, 1:, i] = choices[:, i]
            end = tried[np.arange(len(end)), heights(tried).argmax(axis=1)]
    highest = heights(begin[:, None])[:, 0] + EXTREME_SHARE * np.ptp(hidden, axis=0)[node]
    shares = np.linspace(0, 1, EXTREME_VALUES)
    ways = begin[:, None] + shares[:, None] * (end - begin)[:, None]
    last = len(shares) - 1 - (heights(ways) <= highest[:, None])[:, ::-1].argmax(axis=1)
    found: Array = ways[np.arange(len(ways)), last]
    return found


def _evaluate_hidden(kan: Kan, x: Array) -> Array:
    """The values (N, nodes) of all hidden nodes."""
    return np.concatenate(activations(kan, x)[1:-1], axis=1)
