"""What rounding left in the constants of a network that was fitted: terms that add nothing, and 0.9999999999999 for 1.

A fit stops within rounding of its best, and where a network has 0 or 1 there, it has 1e-17 or 1 - 1e-12. Folding
makes more of it: of a shift by the mean and an offset that undoes it, 3e-17 is left. All of that is measured on rows.
"""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from kanserve.formula.algebra.algebra import VANISHES
from kanserve.formula.expressions.linear_forms import Form, Steps
from kanserve.formula.expressions.tree import Table, references, value_of
from kanserve.network.kan import Kan

Array = NDArray[np.float64]

_TOLD = 12  # digits: a number that needs no more was told by somebody, a fit leaves 16 or 17
_SHORT = 6  # digits of a decimal that is so near only because it is meant: as many as are shown


def fitted(kan: Kan) -> bool:
    """Whether a network has grids that splines were fitted on, and not the place for one that every layer has.

    One that a formula was made into has none, and none of its constants is of no account: 6.6e-34 is Planck's.
    """
    return any(layer.intervals > 1 or layer.extrapolation == "zero" for layer in kan.layers)


class RoundingNoise:
    """The values of a network's steps on rows x (N, inputs), and what of its linear forms is left there.

    `tables` may grow after it was given.
    """

    def __init__(self, steps: Steps, tables: Mapping[str, Table], x: Array) -> None:
        self._steps = steps
        self._tables = tables
        self._x = x
        self._values: list[Array] = []

    def settled(self, form: Form) -> Form:
        """The form without terms below 1e-11 of it, its numbers the decimals of 6 digits that they are to 1e-11.

        What is not always defined stays, and so does a number of up to 12 digits: it was told.
        """
        whole = np.full(len(self._x), form.constant)
        sizes: list[float] = []
        with np.errstate(all="ignore"):
            for atom, coefficient in form.terms:
                values = coefficient * self._value(atom)
                sizes.append(float(np.abs(values[np.isfinite(values)]).max(initial=0.0)))
                whole = whole + values
        finite = np.abs(whole[np.isfinite(whole)])
        least = VANISHES * float(np.median(finite)) if len(finite) else 0.0
        terms = [
            (atom, _simple(coefficient))
            for (atom, coefficient), size in zip(form.terms, sizes, strict=True)
            if size >= least or _is_short_decimal(coefficient) or not self._steps.total[atom]
        ]
        constant = form.constant if abs(form.constant) >= least or _is_short_decimal(form.constant) else 0.0
        return _alike(Form(_simple(constant), tuple(terms)))

    def _value(self, step: int) -> Array:
        with np.errstate(all="ignore"):
            for one in self._steps.steps[len(self._values) : step + 1]:
                arguments = [self._values[n] for n in references(one)]
                self._values.append(value_of(one, arguments, self._tables, self._x))
        return self._values[step]


def _is_short_decimal(number: float) -> bool:
    return float(f"{number:.{_TOLD - 1}e}") == number


def _simple(number: float) -> float:
    """The short decimal next to a number, where it is that near; else the number."""
    short = float(f"{number:.{_SHORT - 1}e}")
    return short if abs(short - number) <= VANISHES * abs(number) else number


def _alike(form: Form) -> Form:
    """The form with numbers that differ by no more in size than that made equal, so that they can be taken out."""
    if not form.terms:
        return form
    size = abs(form.terms[0][1])

    def alike(number: float) -> float:
        return math.copysign(size, number) if abs(abs(number) - size) <= VANISHES * size else number

    return Form(alike(form.constant), tuple((atom, alike(coefficient)) for atom, coefficient in form.terms))
