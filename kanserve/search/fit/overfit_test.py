"""Whether a formula knows an input's few values by heart: a curve with four constants goes through any four points."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanserve.formula.constants.constants import known_constants
from kanserve.formula.constants.nonlinear_fit import Constants
from kanserve.formula.expressions.tree import references

Array = NDArray[np.float64]

FEWEST, FEW = 3, 12
"""Distinct values of an input that may be learned by heart."""


def few_values(x: Array) -> dict[int, int]:
    """The inputs of rows x (N, d) that have few values, with their number; of one or two nothing can be told."""
    counts = {i: len(np.unique(column)) for i, column in enumerate(x.T)}
    return {i: count for i, count in counts.items() if FEWEST <= count <= FEW}


def memorises(tree: Sequence[Sequence[Any]], x: Array) -> bool:
    """Whether what a closed form makes of one input alone has as many estimated constants as that has values, less one.

    Numbers that are known by their names are not estimated; the one that is left is a factor of the whole.
    """
    few = few_values(x)
    if not few:
        return False
    constants = Constants(tree)
    estimated = set(constants.places) - known_constants(constants.tree)
    inputs: list[set[int]] = []
    below: list[set[int]] = []
    for place, step in enumerate(constants.tree):
        before = references(step)
        inputs.append({int(step[1])} if step[0] == "var" else set().union(*(inputs[one] for one in before)))
        below.append({place} & estimated | set().union(*(below[one] for one in before)))
    return any(
        len(own) == 1 and len(numbers) >= few.get(next(iter(own)), FEW + 1) - 1
        for own, numbers in zip(inputs, below, strict=True)
    )
