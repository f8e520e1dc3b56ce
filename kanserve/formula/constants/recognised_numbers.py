"""Standard errors beside recognised numbers, which may be wrong.

A constant that was recognised in noisy data is right with some probability only: 0.3989 ± 0.004 may be 0.4 or
1/sqrt(2*pi), or neither. If it is off, the fit has moved the others to make up for it. So their covariance gets that of
these moves, times the probability that the number is wrong:

    covariance + Σ p·(e² + d²)·m·mᵀ

with d the distance of the number from its own estimate, e the standard error of this, and m the moves of the others for
each unit by which it is off.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kanserve.formula.constants.noisy import NOISY_CONSTANTS_BELIEVED, probabilities
from kanserve.formula.constants.nonlinear_fit import Constants, FitData, check_data
from kanserve.formula.constants.uncertainty import UNCERTAINTY_UNDETERMINED, Uncertainty, uncertainty
from kanserve.formula.expressions.numbers import name_number

Array = NDArray[np.float64]


def find_named_constants(tree: Sequence[Sequence[Any]]) -> frozenset[int]:
    """The positions of the numbers in a tree that have a name and need not be estimated."""
    return frozenset(n for n, step in enumerate(tree) if step[0] == "const" and name_number(step[1]) is not None)


def uncertainty_beside_recognised(
    tree: Sequence[Sequence[Any]],
    x: ArrayLike,
    y: ArrayLike,
    weights: ArrayLike | None = None,
    errors: Array | None = None,
) -> Uncertainty:
    """The uncertainty of the unnamed constants, allowing for the possibility that named ones are wrong."""
    found = uncertainty(tree, x, y, find_named_constants(tree), weights, errors)
    if not found.places or found.sigma == 0:
        return found
    covariance = found.covariance.copy()
    for number in _recognise(found, check_data(x, y, weights)):
        variance = number.doubt * (number.error**2 + number.distance**2)
        covariance += variance * np.outer(number.moves, number.moves)
    finite = np.isfinite(found.standard_errors)
    standard_errors = np.where(finite, np.sqrt(np.diag(covariance)), np.inf)
    return replace(found, covariance=covariance, standard_errors=standard_errors)


def errors_of_recognised(
    tree: Sequence[Sequence[Any]], x: ArrayLike, y: ArrayLike, weights: ArrayLike | None = None
) -> dict[int, float]:
    """The standard errors that named numbers had as estimates, by position: 0 if exact samples determine them, or if
    the other constants can compensate for them."""
    known = find_named_constants(tree)
    errors = dict.fromkeys(known, 0.0)
    found = uncertainty(tree, x, y, known, weights)
    if found.sigma > 0:
        values = {place: float(tree[place][1]) for place in known}
        for number in _recognise(found, check_data(x, y, weights)):
            exact = math.isclose(values[number.place], values[number.place] + number.error)
            errors[number.place] = 0.0 if exact else number.error
    return errors


def believable_constants(
    tree: Sequence[Sequence[Any]], x: ArrayLike, y: ArrayLike, weights: ArrayLike | None = None
) -> frozenset[int]:
    """The named constants, except those that are as clearly wrong on these samples as others are right."""
    constants, known = Constants(tree), find_named_constants(tree)
    data = check_data(x, y, weights)
    found = uncertainty(tree, x, y, known, weights)
    doubted = {
        constants.sources[number.place]
        for number in (_recognise(found, data) if found.sigma > 0 else ())
        if number.doubt > NOISY_CONSTANTS_BELIEVED
    }
    return known - doubted


@dataclass(frozen=True, eq=False)
class _Recognised:
    """A recognised number: its place, the probability `doubt` that it is wrong, its `distance` from its own estimate,
    the standard error of that, and how the other constants shift (P,) per unit by which it is off."""

    place: int
    doubt: float
    distance: float
    error: float
    moves: Array


def _recognise(found: Uncertainty, data: FitData) -> Iterator[_Recognised]:
    """The recognised numbers that the data determine together with the estimated constants."""
    every = Constants(found.tree)
    got, jacobian = every.derivatives(every.values, data.x)
    if not np.isfinite(jacobian).all():
        return
    slopes, residuals = data.weight_rows(jacobian), data.weight_rows(data.y - got)
    free = [n for n, place in enumerate(every.places) if place in found.places]
    own = slopes[:, free]
    sizes = np.sqrt(np.sum(own**2, axis=0))
    sizes = np.where(sizes > 0, sizes, 1.0)
    for n, (place, value) in enumerate(zip(every.places, every.values.tolist(), strict=True)):
        if n in free:
            continue
        column = slopes[:, n]
        moves = np.linalg.lstsq(own / sizes, -column, rcond=UNCERTAINTY_UNDETERMINED)[0] / sizes
        rest = column + own @ moves  # what the others cannot make up for
        information = float(rest @ rest)
        if information <= UNCERTAINTY_UNDETERMINED * float(column @ column):
            continue
        distance, error = float(rest @ residuals) / information, found.sigma / math.sqrt(information)
        if value + distance != 0:
            likely = sum(
                share
                for number, share in probabilities(value + distance, error)
                if math.isclose(number.value, value)  # but for rounding
            )
            yield _Recognised(place, 1 - likely, distance, error, moves)
