"""Recognise simple numbers among the constants of a formula that fits data without noise."""

import math
from collections.abc import Sequence
from typing import Any

from numpy.typing import ArrayLike

from kanserve.errors import DataError
from kanserve.formula.constants.nonlinear_fit import Constants, FitData, Fitted, all_fitted, check_data, size
from kanserve.formula.constants.uncertainty import uncertainty_of
from kanserve.formula.expressions.numbers import near
from kanserve.formula.expressions.tree import Tree

EXACT = 1e-8  # relative to the size of y: a larger error is not an exact fit
RISE = 3.0  # times the previous error: the rise that rounding may cause in an exact fit
ROUNDING = 1e-14  # relative to the size of y: an error that is always allowed
MOST_TRIED = 4  # names per constant
RESIDUE = 1e-6  # size of constants that may be 0: where two cancel, as in |x + b|*(x - b), only b² shows


def recognise_constants(
    tree: Sequence[Sequence[Any]],
    x: ArrayLike,
    y: ArrayLike,
    tolerance: float = 1e-7,
    *,
    weights: ArrayLike | None = None,
) -> Tree:
    """Replace constants by simple numbers within this relative distance, for exact y. A replacement is kept if the
    error stays at rounding level after a refit. Constants of which only a combination matters become 0 or ±1 if
    possible. If the formula does not fit y to 1e-8, it is only refitted."""
    data = check_data(x, y, weights)
    state = all_fitted(Constants(tree).tree, data)
    large = size(data.weight_rows(data.y))
    if not state.error <= EXACT * large:
        return state.tree
    limit = max(RISE * state.error, ROUNDING * large)
    together = state.settle(_simplest(state, tolerance), data)
    if together.error <= limit:
        return together.tree
    refused: set[tuple[int, float]] = set()
    while choices := _choices(state, tolerance, data, refused):
        _, place, value = min(choices)
        trial = state.settle({place: value}, data)
        if trial.error <= limit:
            state = trial
        else:
            refused.add((place, value))
    return state.tree


def _simplest(state: Fitted, tolerance: float) -> dict[int, float]:
    """The simplest number near each constant, if there is one."""
    constants = Constants(state.tree)
    return {
        place: numbers[0][0]
        for place, value in zip(constants.places, constants.values.tolist(), strict=True)
        if (numbers := _numbers(value, tolerance, most=1))
    }


def _numbers(value: float, tolerance: float, most: int) -> list[tuple[float, float]]:
    """The simplest numbers near a constant with their bits: 0, if it may be a residue, and at most so many others."""
    residue = [(0.0, -1.0)] if 0 < abs(value) < RESIDUE else []
    return residue + [(simple.value, simple.bits) for simple in near(value, tolerance * abs(value), most)]


def _choices(
    state: Fitted, tolerance: float, data: FitData, refused: set[tuple[int, float]]
) -> list[tuple[float, int, float]]:
    """The next candidates (bits, place, number): for each free constant, the simplest number not yet rejected."""
    constants = Constants(state.tree, state.settled)
    free = _find_undetermined(state, data)
    result: list[tuple[float, int, float]] = []
    for place, value in zip(constants.places, constants.values.tolist(), strict=True):
        if place in free:
            # 0 before ±1: it removes a summand that another constant can absorb, as b in c + b.
            numbers = [(-1.0, place, 0.0), (0.0, place, math.copysign(1.0, value))]
        else:
            numbers = [(bits, place, number) for number, bits in _numbers(value, tolerance, MOST_TRIED)]
        result += [number for number in numbers if (place, number[2]) not in refused][:1]
    return result


def _find_undetermined(state: Fitted, data: FitData) -> set[int]:
    """The places of the constants that the data do not determine individually."""
    try:
        found = uncertainty_of(Constants(state.tree, state.settled), data)
    except DataError:
        return set()
    return {place for place, error in zip(found.places, found.standard_errors, strict=True) if not math.isfinite(error)}
