"""Recognising simple numbers among the constants of a formula that fits data without noise."""

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
from kanserve.formula.formula_limits import LIMITS

Array = NDArray[np.float64]


def recognise_constants(tree: Sequence[Sequence[Any]], x: ArrayLike, y: ArrayLike, tolerance: float = 1e-7) -> Tree:
    """The tree with its constants replaced by simple numbers within this relative distance, where y is exact.

    A replacement is kept if the error stays at rounding level after the other constants are refitted. Constants of
    which only a combination matters become 0 or ±1 where possible. A formula that does not fit y to 1e-8 of its size
    is returned with its constants fitted and nothing replaced.
    """
    rows, wanted = checked_data(x, y)
    state = all_fitted(Constants(tree).tree, rows, wanted)
    size = math.sqrt(float(wanted @ wanted) / len(wanted))
    if not state.error <= LIMITS.exact_constants_exact * size:
        return state.tree
    limit = max(LIMITS.exact_constants_rise * state.error, LIMITS.exact_constants_rounding * size)
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
    """The simplest number near each constant, where there is one."""
    constants = Constants(state.tree)
    return {
        place: found[0].value
        for place, value in zip(constants.places, constants.values.tolist(), strict=True)
        if (found := near(value, tolerance * abs(value), most=1))
    }


def _choices(
    state: Fitted, tolerance: float, x: Array, y: Array, refused: set[tuple[int, float]]
) -> list[tuple[float, int, float]]:
    """(bits, place, number) of the next candidates: for each free constant, the simplest number not yet refused."""
    constants = Constants(state.tree, state.settled)
    free = _undetermined(state, x, y)
    result: list[tuple[float, int, float]] = []
    for place, value in zip(constants.places, constants.values.tolist(), strict=True):
        if place in free:
            # 0 before ±1: it removes a summand that another constant can absorb, as b in c + b.
            numbers = [(-1.0, place, 0.0), (0.0, place, math.copysign(1.0, value))]
        else:
            numbers = [
                (simple.bits, place, simple.value)
                for simple in near(value, tolerance * abs(value), LIMITS.exact_constants_most_tried)
            ]
        result += [number for number in numbers if (place, number[2]) not in refused][:1]
    return result


def _undetermined(state: Fitted, x: Array, y: Array) -> set[int]:
    """The places of the constants that the data do not determine on their own."""
    try:
        found = uncertainty(state.tree, x, y, state.settled)
    except DataError:
        return set()
    return {place for place, error in zip(found.places, found.standard_errors, strict=True) if not math.isfinite(error)}
