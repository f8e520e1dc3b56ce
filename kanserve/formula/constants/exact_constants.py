"""Which simple numbers the constants of a formula are that fits data without noise."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kanserve.errors import DataError
from kanserve.formula.constants.nonlinear_fit import Constants, Fitted, all_fitted, checked_data
from kanserve.formula.constants.uncertainty import uncertainty
from kanserve.formula.expressions.numbers import near
from kanserve.formula.expressions.tree import Tree

Array = NDArray[np.float64]

_EXACT = 1e-8  # of the size of y: a larger error is no exact fit
_RISE = 3.0  # times the error that there was: what rounding may do to an exact fit
_ROUNDING = 1e-14  # of the size of y, always allowed
_MOST_TRIED = 4  # names for one constant


def recognise_constants(tree: Sequence[Sequence[Any]], x: ArrayLike, y: ArrayLike, tolerance: float = 1e-7) -> Tree:
    """The tree with its constants replaced by simple numbers within this relative distance, where y is exact.

    A replacement is kept when the error stays at rounding with the other constants fitted again. Constants of which
    only a combination matters become 0 or ±1 as far as that can be. Where the formula does not fit y to 1e-8 of its
    size, it comes back with its constants fitted and nothing replaced.
    """
    rows, wanted = checked_data(x, y)
    state = all_fitted(Constants(tree).tree, rows, wanted)
    size = math.sqrt(float(wanted @ wanted) / len(wanted))
    if not state.error <= _EXACT * size:
        return state.tree
    limit = max(_RISE * state.error, _ROUNDING * size)
    together = state.settle(_simplest(state, tolerance), rows, wanted)
    if together.error <= limit:
        return together.tree
    refused: set[tuple[int, float]] = set()
    while choices := _choices(state, tolerance, rows, wanted, refused):
        _, place, value = min(choices)
        trial = state.settle({place: value}, rows, wanted)
        if trial.error <= limit:
            state = trial
        else:
            refused.add((place, value))
    return state.tree


def _simplest(state: Fitted, tolerance: float) -> dict[int, float]:
    """For each constant the simplest number near it, where there is one."""
    constants = Constants(state.tree)
    return {
        place: found[0].value
        for place, value in zip(constants.places, constants.values.tolist(), strict=True)
        if (found := near(value, tolerance * abs(value), most=1))
    }


def _choices(
    state: Fitted, tolerance: float, x: Array, y: Array, refused: set[tuple[int, float]]
) -> list[tuple[float, int, float]]:
    """Bits, place and number of what could be tried next: for each constant that is free, its simplest."""
    constants = Constants(state.tree, state.settled)
    free = _undetermined(state, x, y)
    result: list[tuple[float, int, float]] = []
    for place, value in zip(constants.places, constants.values.tolist(), strict=True):
        if place in free:
            # 0 rather than 1: where c is the same on all rows, c + b is c.
            numbers = [(-1.0, place, 0.0), (0.0, place, math.copysign(1.0, value))]
        else:
            numbers = [(one.bits, place, one.value) for one in near(value, tolerance * abs(value), _MOST_TRIED)]
        result += [number for number in numbers if (place, number[2]) not in refused][:1]
    return result


def _undetermined(state: Fitted, x: Array, y: Array) -> set[int]:
    """The places of constants of which the data say nothing by themselves."""
    try:
        found = uncertainty(state.tree, x, y, state.settled)
    except DataError:
        return set()
    return {place for place, error in zip(found.places, found.standard_errors, strict=True) if not math.isfinite(error)}
