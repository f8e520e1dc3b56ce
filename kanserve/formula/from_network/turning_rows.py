"""The rows of the training range on which a formula turns or is steepest, and the ways there."""

import numpy as np
from numpy.typing import NDArray

from kanserve.formula.expressions.tree import Tree, references, value_of
from kanserve.formula.from_network.constant_sensitivity import READABLE_DIGITS_MOST_STARTS

Array = NDArray[np.float64]

READABLE_DIGITS_TURNING_PAIRS = 16  # of rows where such an argument has other signs: between each, a zero is searched
READABLE_DIGITS_BISECTIONS = 25  # to a row where the argument of a function is 0


def turning_rows(tree: Tree, x: Array) -> tuple[Array, Array]:
    """Rows where the argument of a function or power is about 0, between rows of x where it has other signs.

    There tanh is steepest, abs and exp(-u^2) turn, and 1/u has its pole; random rows are rarely as close. The first
    array has two places of each argument. The second has further places, and the rows on the way to all of them, each
    half as far away as the one before: exp(1/u) is finite and large only on some of these.
    """
    pairs, inputs = READABLE_DIGITS_TURNING_PAIRS, x.shape[1]
    below: list[Array] = []
    above: list[Array] = []
    found: list[int] = []
    for place, values in _arguments(tree, x).items():
        negative, positive = np.flatnonzero(values < 0), np.flatnonzero(values > 0)
        if len(negative) and len(positive) and len(found) < READABLE_DIGITS_MOST_STARTS:
            found.append(place)
            below.append(x[negative[np.linspace(0, len(negative) - 1, pairs).astype(np.int64)]])
            above.append(x[positive[np.linspace(0, len(positive) - 1, pairs).astype(np.int64)]])
    if not found:
        return x[:0], x[:0]
    low, high = np.array(below), np.array(above)  # (arguments, pairs, inputs)
    way: list[Array] = []
    for _ in range(READABLE_DIGITS_BISECTIONS):
        middle = (low + high) / 2
        arguments = _arguments(tree, middle.reshape(-1, inputs))
        own = [arguments[place].reshape(len(found), pairs)[n] for n, place in enumerate(found)]
        left = np.array(own)[:, :, None] < 0
        low, high = np.where(left, middle, low), np.where(left, high, middle)
        way.append(middle)
    outermost = np.concatenate([low[:, [0, -1]], high[:, [0, -1]]])
    return outermost.reshape(-1, inputs), np.concatenate([*way, low, high]).reshape(-1, inputs)


def _arguments(tree: Tree, x: Array) -> dict[int, Array]:
    """What the functions and powers of a tree are of, by step; of tan the cosine, which is 0 at its poles."""
    values: list[Array] = []
    with np.errstate(all="ignore"):
        for step in tree:
            values.append(value_of(step, [values[n] for n in references(step)], {}, x))
        return {
            place: np.cos(values[references(step)[0]]) if step[1] == "tan" else values[references(step)[0]]
            for place, step in enumerate(tree)
            if step[0] in ("call", "pow")
        }
