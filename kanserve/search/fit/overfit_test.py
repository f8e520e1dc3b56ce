"""Overfitting test: whether a formula memorises the few values of an input, as four constants fit any four points."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanserve.formula.constants.nonlinear_fit import Constants
from kanserve.formula.constants.recognition import find_named_constants
from kanserve.formula.expressions.tree import references

Array = NDArray[np.float64]

# Fewest distinct values of an input that a formula could memorise; with one or two, nothing can be tested.
FEWEST_VALUES = 3
MOST_VALUES = 12  # most distinct values of an input that a formula could memorise


def few_values(x: Array) -> dict[int, int]:
    """Inputs of x (N, d) with few distinct values, with their number. Fewer than FEWEST_VALUES cannot be tested."""
    counts = {i: len(np.unique(column)) for i, column in enumerate(x.T)}
    return {i: count for i, count in counts.items() if FEWEST_VALUES <= count <= MOST_VALUES}


def memorises(tree: Sequence[Sequence[Any]], x: Array) -> bool:
    """Whether a formula memorises an input that has only a few distinct values: either it contains sign() of
    something with that input, or a part that depends on that input only has at least n - 1 estimated constants for
    its n values (one is allowed for the part's factor). Recognised constants do not count."""
    few = few_values(x)
    if not few:
        return False
    constants = Constants(tree)
    estimated = set(constants.places) - find_named_constants(constants.tree)
    inputs: list[set[int]] = []
    below: list[set[int]] = []
    for place, step in enumerate(constants.tree):
        before = references(step)
        inputs.append({int(step[1])} if step[0] == "var" else set().union(*(inputs[reference] for reference in before)))
        below.append({place} & estimated | set().union(*(below[reference] for reference in before)))
        if step[:2] == ("call", "sign") and inputs[place] & few.keys():
            return True
    return any(
        len(own) == 1 and len(numbers) >= few.get(next(iter(own)), MOST_VALUES + 1) - 1
        for own, numbers in zip(inputs, below, strict=True)
    )
