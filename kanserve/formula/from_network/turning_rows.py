"""The rows of the training range on which a formula turns or is steepest."""

import numpy as np
from numpy.typing import NDArray

from kanserve.formula.expressions.tree import Tree, references, value_of
from kanserve.formula.formula_limits import LIMITS

Array = NDArray[np.float64]


def turning_rows(tree: Tree, x: Array) -> Array:
    """Rows where the argument of a function or power is about 0, between rows of x where it has other signs.

    There tanh is steepest, abs and exp(-u^2) turn, and 1/u has its pole; random rows are rarely as close.
    """
    below: list[Array] = []
    above: list[Array] = []
    found: list[int] = []
    arguments = _arguments(tree, x)
    for place, values in arguments.items():
        negative, positive = np.flatnonzero(values < 0), np.flatnonzero(values > 0)
        if len(negative) and len(positive) and len(found) < 2 * LIMITS.readable_digits_most_starts:
            found += [place, place]
            below += [x[negative[0]], x[negative[-1]]]
            above += [x[positive[0]], x[positive[-1]]]
    if not found:
        return x[:0]
    low, high = np.array(below), np.array(above)
    for _ in range(LIMITS.readable_digits_bisections):
        middle = (low + high) / 2
        arguments = _arguments(tree, middle)
        left = np.array([arguments[place][row] < 0 for row, place in enumerate(found)])[:, None]
        low, high = np.where(left, middle, low), np.where(left, high, middle)
    return np.concatenate([low, high])


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
