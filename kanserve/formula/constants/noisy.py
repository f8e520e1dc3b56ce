"""Recognise simple numbers among the constants of a formula that fits noisy data. A simple number near an estimated
constant is accepted if it takes fewer bits than the data provide, and if chi-squared rises by less than the saved bits
are worth (minimum description length)."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import ArrayLike

from kanserve.errors import DataError
from kanserve.formula.constants.nonlinear_fit import Constants, FitData, Fitted, all_fitted, check_data
from kanserve.formula.constants.uncertainty import Uncertainty, uncertainty_of
from kanserve.formula.expressions.numbers import Named, near
from kanserve.formula.expressions.tree import Tree

DEVIATIONS = 3.5  # standard errors within which simple numbers are considered
MOST_COMPARED = 12  # names per constant
# Bits added to a number without a name: negative, since there are more names than their bits say. With it, a name is
# given to 1 to 5 in 100 numbers drawn at random, for standard errors of 3% to 0.001%; with -1 it was 4 to 17.
PRIOR = -3.0
NOISY_CONSTANTS_BELIEVED = 0.6  # of the probability
RARE = 3.0  # extra bits of numbers that are rare in laws; 1/log(10) is not, being in decimal logarithms
# Rows for which the limits of chi-squared are meant; fewer allow less, in proportion to their logarithm.
FULL_ROWS = 1000
FIRST = -3000.0  # ranks of what is tried before everything else
SECOND = -1000.0  # rank of what is tried next

_RISE_OF_ONE = (6.0, 12.0)  # bounds of the rise of chi-squared that the saved bits of one number allow
_RISE_OF_ALL = (8.0, 3.0)  # the rise for k numbers together: the first plus k times the second
_BIT = 2 * math.log(2)  # the chi-squared that a bit is worth
_UNUSUAL = re.compile(r"(?<!/)log|sqrt\((?:[2-9]|pi)\)|^sqrt\(2\*pi\)$|pi\^|\be\b")


@dataclass(frozen=True, order=True)
class _Choice:
    """A number to try at a place, smallest rank first. `limit` is the allowed increase of chi-squared."""

    rank: float
    place: int
    number: float
    limit: float


def recognise_noisy_constants(
    tree: Sequence[Sequence[Any]], x: ArrayLike, y: ArrayLike, *, names: bool = True, weights: ArrayLike | None = None
) -> Tree:
    """Replace constants by simple numbers where noisy data support it, and refit the others. Terms compatible with 0
    come first, then factors compatible with ±1, then the constant whose most probable number within 3.5 standard errors
    saves most bits. A replacement is kept if chi-squared rises by less than its saved bits are worth (6 to 12), and by
    less than 8 + 3·k for all k (less with fewer than 1000 rows). A constant stays if another number, or none, is about
    as probable. Without `names`, only terms compatible with 0 are dropped, and undetermined constants become ±1."""
    data = check_data(x, y, weights)
    state = all_fitted(Constants(tree).tree, data)
    found = _find(state, data)
    if found is None or found.sigma <= 0:
        return state.tree
    first, scale, replaced = state.error, len(data.y) / found.sigma**2, 0
    # A constant costs half the logarithm of the rows.
    scale /= min(1.0, math.log(len(data.y)) / math.log(FULL_ROWS))
    refused: set[tuple[int, float]] = set()
    while found is not None:
        choices = [choice for choice in _choices(found, names) if (choice.place, choice.number) not in refused]
        if not choices:
            break
        choice = min(choices)
        trial = state.settle({choice.place: choice.number}, data)
        rise, total = (scale * (trial.error**2 - before**2) for before in (state.error, first))
        if rise < choice.limit and total < _RISE_OF_ALL[0] + _RISE_OF_ALL[1] * (replaced + 1):
            state, replaced = trial, replaced + 1
            found = _find(state, data)
        else:
            refused.add((choice.place, choice.number))
    return state.tree


def _choices(found: Uncertainty, names: bool) -> Iterator[_Choice]:
    for place, value, error in zip(found.places, found.values.tolist(), found.standard_errors.tolist(), strict=True):
        if not math.isfinite(error):  # undetermined by the data: take the simplest
            yield _Choice(0.0, place, math.copysign(1.0, value), _RISE_OF_ONE[0])
            continue
        if abs(value) <= DEVIATIONS * error:
            yield _Choice(FIRST, place, 0.0, _RISE_OF_ONE[1])
        if not names or value == 0 or error == 0:
            continue
        yield from _propose_named(place, value, error)


def _propose_named(place: int, value: float, error: float) -> Iterator[_Choice]:
    """The most probable simple number for an estimate, if its probability is above NOISY_CONSTANTS_BELIEVED."""
    given = math.log2(abs(value) / error)
    for number, weight, share in _weigh(value, error):
        if share > NOISY_CONSTANTS_BELIEVED:
            limit = min(max(_BIT * (given - number.bits), _RISE_OF_ONE[0]), _RISE_OF_ONE[1])
            yield _Choice(-math.log2(weight) - given + SECOND * (number.bits == 0), place, number.value, limit)


def probabilities(value: float, error: float) -> Iterator[tuple[Named, float]]:
    """The simple numbers near an estimate with this standard error, each with its probability of being true."""
    for number, _, share in _weigh(value, error):
        yield number, share


def _weigh(value: float, error: float) -> list[tuple[Named, float, float]]:
    """The simple numbers near an estimate, their weights, and these normalised beside that of "no simple number"."""
    given = math.log2(abs(value) / error)
    numbers = [_add_rarity(simple) for simple in near(value, DEVIATIONS * error, MOST_COMPARED)]
    misfits = [((number.value - value) / error) ** 2 for number in numbers]
    weights = [2.0 ** -(number.bits + misfit / _BIT) for number, misfit in zip(numbers, misfits, strict=True)]
    total = sum(weights) + 2.0 ** -(given + PRIOR)
    return [(number, weight, weight / total) for number, weight in zip(numbers, weights, strict=True)]


def _add_rarity(number: Named) -> Named:
    """Add bits to numbers that are rare in laws: in noisy data a value may be near log(10) by chance."""
    return replace(number, bits=number.bits + RARE * bool(_UNUSUAL.search(number.text)))


def _find(state: Fitted, data: FitData) -> Uncertainty | None:
    """The uncertainty of the free constants; None if there are none, or if the data do not allow an estimate."""
    try:
        found = uncertainty_of(Constants(state.tree, state.settled), data)
    except DataError:
        return None
    return found if found.places else None
