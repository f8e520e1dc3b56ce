"""Remove rounding noise from the constants of a fitted network: negligible terms such as 1e-17, and 0.9999999999999 for
1. A fit stops within rounding of its optimum, and folding constants adds more. The size of such terms is measured on
rows."""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from kanserve.formula.algebra.polynomials import ALGEBRA_VANISHES
from kanserve.formula.expressions.linear_forms import Form, Steps
from kanserve.formula.expressions.tree import Table, references, value_of
from kanserve.network.kan import Kan

Array = NDArray[np.float64]

TOLD = 12  # digits: a number with no more was set by a person; a fit gives 16 or 17
SHORT = 6  # digits of a decimal to round to, as many as are shown: a value within 1e-11 of one does not come by chance


def has_fitted_grids(kan: Kan) -> bool:
    """Whether splines were fitted on the network's grids. A network made from a formula has only placeholders, and all
    its constants count: 6.6e-34 is Planck's."""
    return any(layer.intervals > 1 or layer.extrapolation == "zero" for layer in kan.layers)


class RoundingNoise:
    """Removes rounding noise from linear forms, judging by the values of a network's steps on rows x (N, inputs).
    `tables` may grow later."""

    def __init__(self, steps: Steps, tables: Mapping[str, Table], x: Array) -> None:
        self._steps = steps
        self._tables = tables
        self._x = x
        self._values: list[Array] = []

    def drop_noise(self, form: Form) -> Form:
        """Drop terms below 1e-11 of the form's size, and round numbers to 6 digits if that changes them by less than
        1e-11. Terms that are not always defined, and numbers of up to 12 digits, which a person has set, stay."""
        whole = np.full(len(self._x), form.constant)
        sizes: list[float] = []
        with np.errstate(all="ignore"):
            for atom, coefficient in form.terms:
                values = coefficient * self._value(atom)
                sizes.append(float(np.abs(values[np.isfinite(values)]).max(initial=0.0)))
                whole = whole + values
        finite = np.abs(whole[np.isfinite(whole)])
        least = ALGEBRA_VANISHES * float(np.median(finite)) if len(finite) else 0.0
        terms = [
            (atom, _simple(coefficient))
            for (atom, coefficient), size in zip(form.terms, sizes, strict=True)
            if size >= least or _is_short_decimal(coefficient) or not self._steps.total[atom]
        ]
        constant = form.constant if abs(form.constant) >= least or _is_short_decimal(form.constant) else 0.0
        return _alike(Form(_simple(constant), tuple(terms)))

    def _value(self, step: int) -> Array:
        with np.errstate(all="ignore"):
            for new_step in self._steps.steps[len(self._values) : step + 1]:
                arguments = [self._values[n] for n in references(new_step)]
                self._values.append(value_of(new_step, arguments, self._tables, self._x))
        return self._values[step]


def _is_short_decimal(number: float) -> bool:
    return float(f"{number:.{TOLD - 1}e}") == number


def _simple(number: float) -> float:
    """The nearest short decimal if it is within 1e-11 (relative), else the number."""
    short = float(f"{number:.{SHORT - 1}e}")
    return short if abs(short - number) <= ALGEBRA_VANISHES * abs(number) else number


def _alike(form: Form) -> Form:
    """Make numbers of a form equal in size that differ by up to 1e-11, so that they factor out."""
    if not form.terms:
        return form
    size = abs(form.terms[0][1])

    def alike(number: float) -> float:
        return math.copysign(size, number) if abs(abs(number) - size) <= ALGEBRA_VANISHES * size else number

    return Form(alike(form.constant), tuple((atom, alike(coefficient)) for atom, coefficient in form.terms))
