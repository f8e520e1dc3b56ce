"""How many digits each constant of a formula needs in text that people read.

    readable(tree, tables, x, ends)  # the tree with each constant rounded to the fewest digits that suffice

The rounded formula stays within 1e-4 of the standard deviation of y over the training range. The derivative of y with
respect to each constant says which digits matter; the rounded tree is then evaluated, and gets more digits until it is
within the tolerance.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from kanserve.formula.constants.nonlinear_fit import Constants
from kanserve.formula.expressions.tree import Step, Table, Tree, evaluate_tree, references, value_of
from kanserve.formula.formula_limits import LIMITS
from kanserve.network.functions import FUNCTIONS

Array = NDArray[np.float64]

_MOST_DIGITS = 17  # with these, each decimal reads back as the same double


def readable(
    tree: Tree,
    tables: Mapping[str, Table],
    x: Array,
    ends: Array,
    *,
    fewest: int = 1,
    exact: Collection[int] = (),
) -> Tree:
    """The tree with the constants of its text.

    The rows x (N, inputs) are uniform in the training range, and say how much y varies; the rows `ends` (M, inputs) are
    at its corners.

    Constants at the positions `exact` stay, and so do decimals of up to six digits. The others get at least `fewest`
    digits; where y has no deviation, or the formula has splines or is too large for its derivatives, they all get the
    same number of digits, at least six.
    """
    places = [
        n for n, step in enumerate(tree) if step[0] == "const" and n not in exact and not _is_short_decimal(step[1])
    ]
    if not places:
        return tree
    small = len(tree) * len(x) <= LIMITS.readable_digits_most_values and all(step[0] != "spline" for step in tree)
    target = _Target(tree, tables, places, x, np.concatenate([ends, _turning_rows(tree, x)]) if small else ends)
    if not (target.varies and small):
        return target.alike(max(fewest, LIMITS.notations_digits))
    tolerance = target.tolerance
    sensitivity = _Sensitivity(target.values, _slopes(tree, target.x, places), fewest)
    for _ in range(LIMITS.readable_digits_most_rounds):
        shorter = target.rounded(sensitivity.digits(tolerance))
        if not target.met_by(shorter):
            tolerance /= 4
            continue
        worse = target.worse(shorter, sensitivity.steepest_rows())
        if not len(worse):
            return shorter
        target.add(worse)
        sensitivity = _Sensitivity(target.values, _slopes(tree, target.x, places), fewest)
    return tree


def rounded(tree: Tree, digits: int) -> Tree:
    """The tree with all of its constants rounded to this many digits."""
    return tuple(("const", _to_digits(step[1], digits)) if step[0] == "const" else step for step in tree)


class _Target:
    """What a rounded tree must meet: the values of the exact one at the rows x and `ends` where these are finite."""

    def __init__(
        self, tree: Tree, tables: Mapping[str, Table], places: Sequence[int], inside: Array, ends: Array
    ) -> None:
        self._tree, self._tables, self._places = tree, tables, places
        self.values = [float(tree[place][1]) for place in places]
        x = np.concatenate([inside, ends])
        y = evaluate_tree(tree, tables, x)
        finite = np.isfinite(y)
        self.x, self._y = x[finite], y[finite]
        self._low, self._high = ends.min(axis=0), ends.max(axis=0)
        size = float(np.abs(self._y).max(initial=0.0))
        within = y[: len(inside)][finite[: len(inside)]]
        deviation = _deviation(within / size) if size and len(within) else 0.0  # of y, the squares could overflow
        self.varies = deviation > 16 * np.finfo(np.float64).eps
        share = LIMITS.readable_digits_tolerance * deviation if self.varies else LIMITS.readable_digits_of_a_constant
        self.tolerance = LIMITS.readable_digits_share * share * size

    def rounded(self, digits: NDArray[np.int64]) -> Tree:
        numbers = dict(zip(self._places, map(_to_digits, self.values, digits.tolist()), strict=True))
        return tuple(("const", numbers[n]) if n in numbers else step for n, step in enumerate(self._tree))

    def met_by(self, tree: Tree) -> bool:
        return bool((self._errors(tree, self.x, self._y) <= self.tolerance).all())

    def _errors(self, tree: Tree, x: Array, y: Array | None = None) -> Array:
        """How far a tree is from the exact one; infinite where it alone is not finite, 0 where the exact one is not."""
        y = evaluate_tree(self._tree, self._tables, x) if y is None else y
        errors = np.abs(evaluate_tree(tree, self._tables, x) - y)
        return np.where(np.isfinite(y), np.where(np.isnan(errors), np.inf, errors), 0.0)

    def worse(self, tree: Tree, starts: NDArray[np.int64]) -> Array:
        """Rows between the known ones on which the tree is not within tolerance, such as those close to a pole.

        A local search for the largest error, from these rows and from those with the largest errors, in ever smaller
        boxes around them.
        """
        count, trials = LIMITS.readable_digits_searched_from, LIMITS.readable_digits_trials
        errors = self._errors(tree, self.x, self._y)
        starts = np.unique(np.concatenate([starts, np.argsort(errors)[-count:]]))
        best, largest = self.x[starts], errors[starts]
        rng = np.random.default_rng(0)
        for box in LIMITS.readable_digits_boxes:
            steps = rng.uniform(-box, box, (trials, *best.shape)) * (self._high - self._low)
            near = np.clip(best + steps, self._low, self._high)
            found = self._errors(tree, near.reshape(-1, near.shape[-1])).reshape(trials, -1)
            chosen = found.argmax(axis=0)
            farther = found.max(axis=0) > largest
            best = np.where(farther[:, None], near[chosen, np.arange(len(best))], best)
            largest = np.maximum(largest, found.max(axis=0))
        return best[largest > self.tolerance]

    def add(self, x: Array) -> None:
        """Further rows, on which the exact tree is finite."""
        self.x = np.concatenate([self.x, x])
        self._y = np.concatenate([self._y, evaluate_tree(self._tree, self._tables, x)])

    def alike(self, fewest: int) -> Tree:
        """The tree with the same number of digits for all constants."""
        for digits in range(fewest, _MOST_DIGITS):
            tree = self.rounded(np.full(len(self.values), digits))
            if self.met_by(tree):
                return tree
        return self._tree


class _Sensitivity:
    """The change of y, to first order, that rounding the constants makes; `slopes` (N, P) are derivatives of y."""

    def __init__(self, values: list[float], slopes: Array, fewest: int) -> None:
        self._slopes = slopes
        self._steepest = np.abs(slopes).max(axis=0, initial=0.0)
        self._fewest = fewest
        # (P, 18): the change of each constant that is rounded to that many digits
        self._changes = np.array(
            [[0.0, *(_to_digits(value, digits) - value for digits in range(1, _MOST_DIGITS + 1))] for value in values]
        )

    def steepest_rows(self) -> NDArray[np.int64]:
        """For each constant, the row on which it matters most; of the first constants, if there are many."""
        rows: NDArray[np.int64] = np.abs(self._slopes[:, : LIMITS.readable_digits_most_starts]).argmax(axis=0)
        return rows

    def digits(self, tolerance: float) -> NDArray[np.int64]:
        """(P,): the digits with which y changes by at most `tolerance` on each row."""
        enough = np.abs(self._changes) * self._steepest[:, None] <= tolerance
        enough[:, : self._fewest] = False
        enough[:, -1] = True
        # Rows on which y does not depend on a constant, as on that of sign(x - c), cannot say how many it needs.
        enough[self._steepest == 0, :-1] = False
        digits = enough.argmax(axis=1)
        total = self._slopes @ self._changes[np.arange(len(digits)), digits]
        self._add_digits(digits, total, tolerance)
        self._drop_digits(digits, total, tolerance)
        return digits

    def _add_digits(self, digits: NDArray[np.int64], total: Array, tolerance: float) -> None:
        """Adds digits to the constant with the largest part in the worst row until all rows are within tolerance."""
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
        """Takes digits from the constants that have the most, where all rows stay within tolerance."""
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


def _deviation(y: Array) -> float:
    """The standard deviation, without the outermost values if it depends on them: other rows may have none such."""
    inner = np.argsort(np.abs(y - np.median(y)))[: len(y) - int(LIMITS.readable_digits_outermost * len(y))]
    return float(max(y[inner].std(), LIMITS.readable_digits_outermost_share * y.std()))


def _slopes(tree: Tree, x: Array, places: Sequence[int]) -> Array:
    """The derivatives of y with respect to the constants at these places, (N, P); 0 where they are not finite."""
    numbers = {n for n, step in enumerate(tree) if step[0] == "const"}
    constants = Constants(tree, numbers.difference(places))
    _, jacobian = constants.derivatives(constants.values, x)
    column = {place: n for n, place in enumerate(places)}
    slopes = np.zeros((len(x), len(places)), order="F")
    for n, place in enumerate(constants.places):  # a number that the tree uses twice has two columns there
        slopes[:, column[constants.sources[place]]] += jacobian[:, n]
    return np.where(np.isfinite(slopes), slopes, 0.0)


def _turning_rows(tree: Tree, x: Array) -> Array:
    """Rows where the argument of a function or power is about 0, between rows of x where it has other signs.

    There tanh is steepest, abs and exp(-u^2) turn, and 1/u has its pole; random rows are rarely as close.
    """
    below, above, found = [], [], []
    arguments = _arguments(tree, x)
    for place, values in arguments.items():
        negative, positive = np.flatnonzero(values < 0), np.flatnonzero(values > 0)
        if len(negative) and len(positive) and len(found) < 2 * LIMITS.readable_digits_most_starts:
            found += [place, place]
            below += [x[negative[0]], x[negative[-1]]]
            above += [x[positive[0]], x[positive[-1]]]
    if not found:
        return x[:0]
    low, high = np.array(below), np.array(above)
    for _ in range(LIMITS.readable_digits_bisections):
        middle = (low + high) / 2
        arguments = _arguments(tree, middle)
        left = np.array([arguments[place][row] < 0 for row, place in enumerate(found)])[:, None]
        low, high = np.where(left, middle, low), np.where(left, high, middle)
    return np.concatenate([low, high])


def _arguments(tree: Tree, x: Array) -> dict[int, Array]:
    """What the functions and powers of a tree are of, by step; of tan the cosine, which is 0 at its poles."""
    values: list[Array] = []
    with np.errstate(all="ignore"):
        for step in tree:
            values.append(value_of(step, [values[n] for n in references(step)], {}, x))
        return {
            place: np.cos(values[references(step)[0]]) if step[1] == "tan" else values[references(step)[0]]
            for place, step in enumerate(tree)
            if step[0] in ("call", "pow")
        }


def _is_short_decimal(value: float) -> bool:
    return _to_digits(value, LIMITS.notations_digits) == value


def _to_digits(value: float, digits: int) -> float:
    return float(f"{value:.{digits - 1}e}")
