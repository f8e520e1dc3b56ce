"""How much a formula's value changes when its constants are rounded, by its derivatives."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kanserve.formula.constants.nonlinear_fit import Constants
from kanserve.formula.expressions.tree import Tree

Array = NDArray[np.float64]

# Of those on which a constant matters most, and arguments of functions whose zeros are searched.
READABLE_DIGITS_MOST_STARTS = 24

MOST_DIGITS = 17  # with these, each decimal reads back as the same double


def to_digits(value: float, digits: int) -> float:
    """The number rounded to this many significant digits."""
    return float(f"{value:.{digits - 1}e}")


class Sensitivity:
    """The first-order change of y when constants are rounded; `slopes` (N, P) are derivatives of y, in units that may
    differ between rows."""

    def __init__(self, values: list[float], slopes: Array, fewest: int) -> None:
        self._slopes = np.where(np.isfinite(slopes), slopes, 0.0)  # others are left to the evaluation
        self._steepest = np.abs(self._slopes).max(axis=0, initial=0.0)
        self._fewest = fewest
        # (P, 18): the change of each constant that is rounded to that many digits
        self._changes = np.array(
            [[0.0, *(to_digits(value, digits) - value for digits in range(1, MOST_DIGITS + 1))] for value in values]
        )

    def steepest_rows(self) -> NDArray[np.int64]:
        """For each constant, the row on which it matters most; only for the first constants if there are many."""
        rows: NDArray[np.int64] = np.abs(self._slopes[:, :READABLE_DIGITS_MOST_STARTS]).argmax(axis=0)
        return rows

    def digits(self, tolerance: float) -> NDArray[np.int64]:
        """The number of digits of each constant (P,) with which y changes by at most `tolerance` on each row."""
        enough = np.abs(self._changes) * self._steepest[:, None] <= tolerance
        enough[:, : self._fewest] = False
        enough[:, -1] = True
        # Rows on which y does not depend on a constant, as on that of sign(x - c), cannot say how many it needs.
        enough[self._steepest == 0, :-1] = False
        digits: NDArray[np.int64] = enough.argmax(axis=1)
        total = self._slopes @ self._changes[np.arange(len(digits)), digits]
        self._add_digits(digits, total, tolerance)
        self._drop_digits(digits, total, tolerance)
        return digits

    def _add_digits(self, digits: NDArray[np.int64], total: Array, tolerance: float) -> None:
        """Add digits, each time to the constant that adds most in the worst row, until all are within tolerance."""
        constants = np.arange(len(digits))
        while True:
            row = int(np.abs(total).argmax()) if len(total) else 0
            if not len(total) or abs(total[row]) <= tolerance:
                return
            parts = self._slopes[row] * self._changes[constants, digits] * np.sign(total[row])
            worst = int(parts.argmax())
            better = np.abs(self._changes[worst]) < abs(self._changes[worst, digits[worst]])
            better[: digits[worst] + 1] = False
            if not better.any():
                return
            self._set(digits, total, worst, int(better.argmax()))

    def _drop_digits(self, digits: NDArray[np.int64], total: Array, tolerance: float) -> None:
        """Remove digits, starting with the constants that have the most, as long as all rows stay within tolerance."""
        for constant in np.argsort(-digits, kind="stable").tolist():
            if self._steepest[constant] == 0:
                continue
            for fewer in range(self._fewest, int(digits[constant])):
                change = self._changes[constant, fewer] - self._changes[constant, digits[constant]]
                if (np.abs(total + self._slopes[:, constant] * change) <= tolerance).all():
                    self._set(digits, total, constant, fewer)
                    break

    def _set(self, digits: NDArray[np.int64], total: Array, constant: int, count: int) -> None:
        total += self._slopes[:, constant] * (
            self._changes[constant, count] - self._changes[constant, digits[constant]]
        )
        digits[constant] = count


def slopes_of(tree: Tree, x: Array, places: Sequence[int]) -> Array:
    """The derivatives (N, P) of y with respect to the constants at these places."""
    numbers = {n for n, step in enumerate(tree) if step[0] == "const"}
    constants = Constants(tree, numbers.difference(places))
    _, jacobian = constants.derivatives(constants.values, x)
    column = {place: n for n, place in enumerate(places)}
    total = np.zeros((len(x), len(places)), order="F")
    for n, place in enumerate(constants.places):  # a number that the tree uses twice has two columns there
        total[:, column[constants.sources[place]]] += jacobian[:, n]
    return total
