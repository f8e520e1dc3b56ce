"""Which simple numbers the constants of a formula are that fits noisy data: those that the data do not speak against.

A constant is an estimate with a standard error. A simple number near it is believed when it takes fewer bits than the
data give, and when chi-squared does not rise by more than that is worth.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kanserve.errors import DataError
from kanserve.formula.constants.nonlinear_fit import Constants, Fitted, all_fitted, checked_data
from kanserve.formula.constants.uncertainty import Uncertainty, uncertainty
from kanserve.formula.expressions.numbers import Named, near
from kanserve.formula.expressions.tree import Tree

Array = NDArray[np.float64]

_DEVIATIONS = 3.5  # standard errors within which a simple number is looked for
_MOST_COMPARED = 12  # names for one constant
_PRIOR = -1.0  # bits by which a number without a name is more expected than one with
_BELIEVED = 0.6  # of the probability
_RISE_OF_ONE = (6.0, 12.0)  # of chi-squared, for one number: what its bits are worth, but between these
_RISE_OF_ALL = (8.0, 3.0)  # and for all numbers together: this, and this for each
_BIT = 2 * math.log(2)  # of chi-squared
_RARE = 3.0  # bits more for numbers that laws seldom have; over log(10) is what a decimal logarithm is
_UNUSUAL = re.compile(r"(?<!/)log|sqrt\((?:[3-9]|pi)\)|pi\^|\be\b")
_FIRST, _SECOND = -3000.0, -1000.0  # ranks of what is tried before all else


@dataclass(frozen=True, order=True)
class _Choice:
    """A number to try in a place: the smaller the rank, the sooner. `limit` is by how much chi-squared may rise."""

    rank: float
    place: int
    number: float
    limit: float


def recognise_noisy_constants(tree: Sequence[Sequence[Any]], x: ArrayLike, y: ArrayLike) -> Tree:
    """The tree with those constants replaced by simple numbers that the data support, the others fitted.

    Terms that are compatible with 0 go first, then factors compatible with ±1; then, again and again, the constant
    whose most probable number within 3.5 standard errors takes the fewest bits less those that the data give. Each is
    kept while chi-squared rises by less than the bits it saves are worth (6 to 12), and by less than 8 + 3·k over all
    k. A constant that could as well be another simple number, or none, stays what it is.
    """
    rows, wanted = checked_data(x, y)
    state = all_fitted(Constants(tree).tree, rows, wanted)
    found = _found(state, rows, wanted)
    if found is None or found.sigma <= 0:
        return state.tree
    first, scale, replaced = state.error, len(rows) / found.sigma**2, 0
    refused: set[tuple[int, float]] = set()
    while found is not None:
        choices = [one for one in _choices(found) if (one.place, one.number) not in refused]
        if not choices:
            break
        choice = min(choices)
        trial = state.settle({choice.place: choice.number}, rows, wanted)
        rise, total = (scale * (trial.error**2 - before**2) for before in (state.error, first))
        if rise < choice.limit and total < _RISE_OF_ALL[0] + _RISE_OF_ALL[1] * (replaced + 1):
            state, replaced = trial, replaced + 1
            found = _found(state, rows, wanted)
        else:
            refused.add((choice.place, choice.number))
    return state.tree


def _choices(found: Uncertainty) -> Iterator[_Choice]:
    for place, value, error in zip(found.places, found.values.tolist(), found.standard_errors.tolist(), strict=True):
        if not math.isfinite(error):  # the data say nothing: it is what is simplest
            yield _Choice(0.0, place, math.copysign(1.0, value), _RISE_OF_ONE[0])
            continue
        if abs(value) <= _DEVIATIONS * error:
            yield _Choice(_FIRST, place, 0.0, _RISE_OF_ONE[1])
        if value == 0 or error == 0:
            continue
        yield from _named_choices(place, value, error)


def _named_choices(place: int, value: float, error: float) -> Iterator[_Choice]:
    """The number that an estimate most probably is, when it is more probable than not that it is a simple one."""
    given = math.log2(abs(value) / error)
    numbers = [_as_expected(one) for one in near(value, _DEVIATIONS * error, _MOST_COMPARED)]
    misfits = [((number.value - value) / error) ** 2 for number in numbers]
    weights = [2.0 ** -(number.bits + misfit / _BIT) for number, misfit in zip(numbers, misfits, strict=True)]
    total = sum(weights) + 2.0 ** -(given + _PRIOR)
    for number, weight in zip(numbers, weights, strict=True):
        if weight > _BELIEVED * total:
            limit = min(max(_BIT * (given - number.bits), _RISE_OF_ONE[0]), _RISE_OF_ONE[1])
            yield _Choice(-math.log2(weight) - given + _SECOND * (number.bits == 0), place, number.value, limit)


def _as_expected(number: Named) -> Named:
    """With more bits where it is not of the kind that laws have: on noisy data a chance neighbour of log(10) is one."""
    return replace(number, bits=number.bits + _RARE * bool(_UNUSUAL.search(number.text)))


def _found(state: Fitted, x: Array, y: Array) -> Uncertainty | None:
    """What the data say about the constants that are free; None when there is none, or they say nothing."""
    try:
        found = uncertainty(state.tree, x, y, state.settled)
    except DataError:
        return None
    return found if found.places else None
