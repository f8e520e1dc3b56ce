"""Whether a formula explains more than a simpler one when most of the variance is noise. The ratio of two errors does
not tell then: if the best formula has an error of .95 times that of the mean, nothing is a tenth better than the mean.
So the share of the explainable variance is compared."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from kanserve.search.findings.scored_formula import ScoredFormula

FIND_FORMULAS_HELD_OUT_SHARE = 0.2  # share of the rows that is held out for validation
# Share of what the best formula explains that a formula explains beyond a simpler one, and is listed for.
EXPLAINED_SHARE = 0.1
EXPLAINED_EVIDENCE = 12.0  # by how much its mean squared error is below the simpler one's, times the samples, at least

T = TypeVar("T")


@dataclass(frozen=True)
class Explained:
    """The mean squared errors of the mean and of the best formula, on `rows` samples."""

    mean: float
    least: float
    rows: int

    @classmethod
    def of(cls, errors: Iterable[float], rows: int) -> "Explained":
        """Make it from the errors of formulas, of which the first is the mean's."""
        squares = [error**2 for error in errors]
        return cls(squares[0], min(squares), rows)

    def more(self, error: float, than: float) -> bool:
        """Whether a formula with error `error` explains significantly more than one with `than`. By chance the squared
        error falls by one part in `rows`; EXPLAINED_EVIDENCE such parts are required."""
        gain = than**2 - error**2
        enough = gain > EXPLAINED_SHARE * (self.mean - self.least)
        return enough and self.rows * gain > EXPLAINED_EVIDENCE * error**2

    def more_by(self, error: Callable[[T], float]) -> Callable[[T, T], bool]:
        """A comparison of two formulas: whether the first explains more than the second, by `error`."""
        return lambda formula, than: self.more(error(formula), error(than))


def overall_error(found: ScoredFormula) -> float:
    """The root mean square error expected on new samples: from the error on the fitted rows, corrected for overfitting
    as by Akaike, and the error on the held-out rows."""
    rows, held = len(found.data), count_held_rows(len(found.data))
    fitted = found.error**2 * (1 + 2 * found.complexity / rows)
    return math.sqrt((rows * fitted + held * found.validation**2) / (rows + held))


def count_held_rows(learnt: int) -> int:
    """How many samples are held out when `learnt` samples are used for fitting."""
    share = FIND_FORMULAS_HELD_OUT_SHARE
    return round(learnt * share / (1 - share))
