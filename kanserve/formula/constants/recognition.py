"""Recognising the constants of a fitted formula, and simplifying the formula with them.

    exact_form(tree, x, y)                    # y without noise: a constant must fit to the last digits
    noisy_form(tree, x, y)                    # y with noise: a constant must fit the data and be simple enough
    constants_of(tree, x, y)                  # value, standard error and name of each constant
    uncertainty_beside_recognised(tree, x, y)

The two rules share only the list of simple numbers: on noisy data, the rule for exact data would take 1 for
13*log(2)/9.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from numpy.typing import ArrayLike

from kanserve.errors import DataError
from kanserve.formula.algebra.simplify import simplify_tree
from kanserve.formula.constants.exact import recognise_constants
from kanserve.formula.constants.noisy import recognise_noisy_constants
from kanserve.formula.constants.nonlinear_fit import Constants, refit
from kanserve.formula.constants.recognised_numbers import (
    errors_of_recognised,
    find_named_constants,
    uncertainty_beside_recognised,
)
from kanserve.formula.expressions.formula import Constant
from kanserve.formula.expressions.numbers import name_number
from kanserve.formula.expressions.tree import Tree

MOST_ROUNDS = 4  # of recognising and simplifying
DIGITS = 6  # shown of a number without a name

__all__ = [
    "Constant",
    "constants_of",
    "exact_form",
    "find_named_constants",
    "noisy_form",
    "recognise_constants",
    "recognise_noisy_constants",
]


def constants_of(
    tree: Sequence[Sequence[Any]], x: ArrayLike, y: ArrayLike, weights: ArrayLike | None = None
) -> tuple[Constant, ...]:
    """The constants of a closed form fitted to y (N,) at x (N, inputs), in the order of its steps. One that equals a
    simple number up to rounding counts as known, with the standard error of its estimate. The others are estimates,
    with errors that allow for wrongly recognised numbers, infinite if undetermined."""
    constants = Constants(tree)
    values = constants.values.tolist()
    names = [name_number(value) for value in values]
    errors = dict.fromkeys(find_named_constants(constants.tree), 0.0)
    try:
        errors |= errors_of_recognised(constants.tree, x, y, weights)
        found = uncertainty_beside_recognised(constants.tree, x, y, weights)
        errors |= dict(zip(found.places, found.standard_errors.tolist(), strict=True))
    except DataError:
        pass
    return tuple(
        Constant(value, errors.get(place, math.inf), f"{value:.{DIGITS}g}" if name is None else name.text)
        for place, value, name in zip(constants.places, values, names, strict=True)
    )


def exact_form(
    tree: Sequence[Sequence[Any]],
    x: ArrayLike,
    y: ArrayLike,
    over: Callable[[], bool] = lambda: False,
    weights: ArrayLike | None = None,
) -> Tree:
    """The simplest form of a closed form that fits y exactly, with its constants recognised. If `over()` returns True
    before one of up to ten steps, the result so far is returned."""
    return _form(tree, x, y, partial(recognise_constants, weights=weights), over, weights, noisy=False)


def noisy_form(
    tree: Sequence[Sequence[Any]],
    x: ArrayLike,
    y: ArrayLike,
    over: Callable[[], bool] = lambda: False,
    weights: ArrayLike | None = None,
) -> Tree:
    """Simplify a formula fitted to noisy y, replacing constants by recognised ones (pi or 1/2) where the data agree."""
    return _form(tree, x, y, partial(recognise_noisy_constants, weights=weights), over, weights, noisy=True)


def _form(
    tree: Sequence[Sequence[Any]],
    x: ArrayLike,
    y: ArrayLike,
    rule: Callable[[Tree, ArrayLike, ArrayLike], Tree],
    over: Callable[[], bool],
    weights: ArrayLike | None,
    *,
    noisy: bool,
) -> Tree:
    """Recognise constants and simplify in turn: a recognised number enables identities, as sin(u + pi/2) = cos(u)."""
    found = refit(tree, x, y, weights=weights)
    found = found if over() else simplify_tree(found, x)
    for _ in range(MOST_ROUNDS):
        if over():
            break
        fitted = rule(found, x, y)
        if noisy and not _new_numbers(fitted, Constants(found).tree):
            break  # on exact data the last digits of a fit decide what cancels
        before, found = found, simplify_tree(fitted, x)
        if found == before:
            break
    return found


def _new_numbers(fitted: Tree, before: Tree) -> bool:
    """Whether a rule dropped a step or recognised a number, rather than only refitting constants."""
    if len(fitted) != len(before):
        return True
    changed = [(new, old) for new, old in zip(fitted, before, strict=True) if new != old]
    return any(new[0] != "const" or old[0] != "const" or name_number(new[1]) is not None for new, old in changed)
