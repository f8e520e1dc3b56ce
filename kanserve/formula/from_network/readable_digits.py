"""How many digits each constant of a formula needs in text that people read.

    readable(tree, tables, x, ends)  # the tree with each constant rounded to the fewest digits that suffice

The rounded formula stays within 1e-4 of the standard deviation of y over the training range. The derivative of y with
respect to each constant says which digits matter; the rounded tree is then evaluated, and gets more digits until it is
within the tolerance.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from kanserve.formula.expressions.tree import Table, Tree, evaluate_tree, references, value_of
from kanserve.formula.from_network.constant_sensitivity import (
    MOST_DIGITS,
    READABLE_DIGITS_MOST_STARTS,
    Sensitivity,
    slopes_of,
    to_digits,
)
from kanserve.formula.printing.notations import NOTATIONS_DIGITS

Array = NDArray[np.float64]

READABLE_DIGITS_TURNING_PAIRS = 16  # of rows where such an argument has other signs: between each, a zero is searched
READABLE_DIGITS_BISECTIONS = 25  # to a row where the argument of a function is 0


def turning_rows(tree: Tree, x: Array) -> tuple[Array, Array]:
    """Rows where the argument of a function or power is about 0, between rows of x where it has different signs: there
    tanh is steepest, abs turns, and 1/u has its pole. The first array has two such rows per argument, the second
    further ones, and rows at halving distances from all of them."""
    pairs, inputs = READABLE_DIGITS_TURNING_PAIRS, x.shape[1]
    below: list[Array] = []
    above: list[Array] = []
    found: list[int] = []
    for place, values in _arguments(tree, x).items():
        negative, positive = np.flatnonzero(values < 0), np.flatnonzero(values > 0)
        if len(negative) and len(positive) and len(found) < READABLE_DIGITS_MOST_STARTS:
            found.append(place)
            below.append(x[negative[np.linspace(0, len(negative) - 1, pairs).astype(np.int64)]])
            above.append(x[positive[np.linspace(0, len(positive) - 1, pairs).astype(np.int64)]])
    if not found:
        return x[:0], x[:0]
    low, high = np.array(below), np.array(above)  # (arguments, pairs, inputs)
    way: list[Array] = []
    for _ in range(READABLE_DIGITS_BISECTIONS):
        middle = (low + high) / 2
        arguments = _arguments(tree, middle.reshape(-1, inputs))
        own = [arguments[place].reshape(len(found), pairs)[n] for n, place in enumerate(found)]
        left = np.array(own)[:, :, None] < 0
        low, high = np.where(left, middle, low), np.where(left, high, middle)
        way.append(middle)
    outermost = np.concatenate([low[:, [0, -1]], high[:, [0, -1]]])
    return outermost.reshape(-1, inputs), np.concatenate([*way, low, high]).reshape(-1, inputs)


def _arguments(tree: Tree, x: Array) -> dict[int, Array]:
    """The arguments of the functions and powers of a tree, by step; for tan the cosine, which is 0 at its poles."""
    values: list[Array] = []
    with np.errstate(all="ignore"):
        for step in tree:
            values.append(value_of(step, [values[n] for n in references(step)], {}, x))
        return {
            place: np.cos(values[references(step)[0]]) if step[1] == "tan" else values[references(step)[0]]
            for place, step in enumerate(tree)
            if step[0] in ("call", "pow")
        }


# Of the standard deviation of y over the training range: what rounding the constants of a text may change.
TOLERANCE = 1e-4
SHARE = 0.5  # of the tolerance that is used on the rows that are checked; between them the change may be larger
PARTS = 8  # into which the rows are divided for the deviation of y, which is the least of theirs
ROUNDING = 1e-14  # of the size of y: a smaller deviation is that of rounding
FARTHEST = 100.0  # deviations from the median: a value further away may change in proportion to its distance
SEARCHED_FROM = 8  # rows from which the largest error is searched, beside those on which a constant matters most
# Of the training range, on which the text that has been found is compared too; fewer for a long formula.
FURTHER_ROWS = 8000
TRIALS = 16  # rows that are tried around each, for each size of a box
BOXES = (0.05, 0.01, 0.002, 4e-4, 8e-5)  # half the sides of the boxes in which they are drawn, relative to the range
MOST_ROUNDS = 40  # of adding digits; then all constants get all of them
OF_A_CONSTANT = 1e-6  # of the size of y: the tolerance where y does not vary
# Steps × rows of a formula whose constants get digits by their sensitivity; in a larger one all get the same.
MOST_VALUES = 1_000_000


def readable(
    tree: Tree, tables: Mapping[str, Table], x: Array, ends: Array, *, fewest: int = 1, exact: Collection[int] = ()
) -> Tree:
    """Round the constants to the digits of the text. Rows x (N, inputs) are uniform in the training range and show how
    much y varies; `ends` (M, inputs) are its corners. Constants at positions `exact` and decimals of up to six digits
    stay. Others get at least `fewest` digits; all get the same number, at least six, if y does not vary or derivatives
    are impossible."""
    places = [
        n for n, step in enumerate(tree) if step[0] == "const" and n not in exact and not _is_short_decimal(step[1])
    ]
    if not places:
        return tree
    with np.errstate(all="ignore"):
        return _shortest(tree, tables, places, x, ends, fewest)


def _shortest(
    tree: Tree, tables: Mapping[str, Table], places: Sequence[int], x: Array, ends: Array, fewest: int
) -> Tree:
    small = len(tree) * len(x) <= MOST_VALUES and all(step[0] != "spline" for step in tree)
    turning, on_the_way = turning_rows(tree, x) if small else (x[:0], x[:0])
    drawn = _draw(ends, min(FURTHER_ROWS, MOST_VALUES // len(tree)))
    target = _Target(tree, tables, places, x, np.concatenate([ends, turning]), drawn if small else x[:0])
    if not (target.varies and small):
        return target.alike(max(fewest, NOTATIONS_DIGITS))
    target.try_on(on_the_way)
    tolerance = 1.0
    sensitivity = target.sensitivity(fewest)
    for _ in range(MOST_ROUNDS):
        shorter = target.round_to(sensitivity.digits(tolerance))
        if not target.is_met(shorter):
            tolerance /= 4
            continue
        worse = target.worse(shorter, sensitivity.steepest_rows())
        if not len(worse):
            return shorter
        target.add(worse)
        sensitivity = target.sensitivity(fewest)
    return tree


def round_constants(tree: Tree, digits: int) -> Tree:
    """The tree with all of its constants rounded to this many digits."""
    return tuple(("const", to_digits(step[1], digits)) if step[0] == "const" else step for step in tree)


class _Target:
    """The test for a rounded tree: it must match the exact one at rows x and at the `ends`, where these are finite."""

    def __init__(
        self, tree: Tree, tables: Mapping[str, Table], places: Sequence[int], inside: Array, ends: Array, further: Array
    ) -> None:
        """`inside` and `further` are uniform in the range; a text is compared on `further` only after it has passed."""
        self._tree, self._tables, self._places = tree, tables, places
        self._values = [float(tree[place][1]) for place in places]
        x = np.concatenate([inside, ends])
        y = evaluate_tree(tree, tables, x)
        finite = np.isfinite(y)
        self._x, self._y = x[finite], y[finite]
        self._low, self._high = ends.min(axis=0), ends.max(axis=0)
        self._further, self._further_y = further, evaluate_tree(tree, tables, further)
        within = np.concatenate([y[: len(inside)], self._further_y])
        within = within[np.isfinite(within)]
        deviation = _deviation(within) if len(self._y) else 0.0
        size = float(np.abs(self._y).max(initial=0.0))
        self.varies = deviation > 0
        tolerance = TOLERANCE * deviation
        self._tolerance = SHARE * (tolerance if self.varies else OF_A_CONSTANT * size)
        self._median = float(np.median(self._y)) if len(self._y) else 0.0

    def try_on(self, rows: Array) -> None:
        """Compare a text on these rows too."""
        self._further = np.concatenate([self._further, rows])
        self._further_y = np.concatenate([self._further_y, evaluate_tree(self._tree, self._tables, rows)])

    def round_to(self, digits: NDArray[np.int64]) -> Tree:
        numbers = dict(zip(self._places, map(to_digits, self._values, digits.tolist()), strict=True))
        return tuple(("const", numbers[n]) if n in numbers else step for n, step in enumerate(self._tree))

    def sensitivity(self, fewest: int) -> Sensitivity:
        """The effect of each constant on the output: the derivative on each row, divided by the error allowed there."""
        slopes = slopes_of(self._tree, self._x, self._places) / self._allow(self._y)[:, None]
        return Sensitivity(self._values, slopes, fewest)

    def is_met(self, tree: Tree) -> bool:
        return bool((self._errors(tree, self._x, self._y) <= 1).all())

    def _allow(self, y: Array) -> Array:
        """The error allowed on rows with these values; larger close to a pole, where y is unbounded."""
        far = TOLERANCE * np.abs(y - self._median) / FARTHEST
        return np.maximum(self._tolerance, SHARE * far)

    def _errors(self, tree: Tree, x: Array, y: Array | None = None) -> Array:
        """The error of a tree relative to the allowed one: infinite if it is not finite, 0 if the exact one is not."""
        y = evaluate_tree(self._tree, self._tables, x) if y is None else y
        errors = np.abs(evaluate_tree(tree, self._tables, x) - y)
        errors = np.where(errors > 0, errors / self._allow(y), errors)
        return np.where(np.isfinite(y), np.where(np.isnan(errors), np.inf, errors), 0.0)

    def worse(self, tree: Tree, starts: NDArray[np.int64]) -> Array:
        """Rows between the known ones on which the tree is not within tolerance, for example close to a pole; found by
        local search from these rows and those with the largest errors, in shrinking boxes."""
        count, trials = SEARCHED_FROM, TRIALS
        errors, further = self._errors(tree, self._x, self._y), self._errors(tree, self._further, self._further_y)
        starts = np.unique(np.concatenate([starts, np.argsort(errors)[-count:]]))
        others = np.argsort(further)[-count:]
        best = np.concatenate([self._x[starts], self._further[others]])
        largest = np.concatenate([errors[starts], further[others]])
        rng = np.random.default_rng(0)
        for box in BOXES:
            steps = rng.uniform(-box, box, (trials, *best.shape)) * (self._high - self._low)
            near = np.clip(best + steps, self._low, self._high)
            found = self._errors(tree, near.reshape(-1, near.shape[-1])).reshape(trials, -1)
            chosen = found.argmax(axis=0)
            farther = found.max(axis=0) > largest
            best = np.where(farther[:, None], near[chosen, np.arange(len(best))], best)
            largest = np.maximum(largest, found.max(axis=0))
        return best[largest > 1]

    def add(self, x: Array) -> None:
        """Add rows on which the exact tree is finite."""
        self._x = np.concatenate([self._x, x])
        self._y = np.concatenate([self._y, evaluate_tree(self._tree, self._tables, x)])

    def alike(self, fewest: int) -> Tree:
        """The tree with the same number of digits for all constants."""
        for digits in range(fewest, MOST_DIGITS):
            tree = self.round_to(np.full(len(self._values), digits))
            if self.is_met(tree):
                return tree
        return self._tree


def _draw(ends: Array, count: int) -> Array:
    """`count` random rows in the range, different from a network's samples."""
    return np.random.default_rng(1).uniform(ends.min(axis=0), ends.max(axis=0), (count, ends.shape[1]))


def _deviation(y: Array) -> float:
    """The smallest standard deviation among parts of the values, ignoring constant parts (0 if all are constant): a few
    large values could otherwise dominate."""
    parts = [y, *np.array_split(y, PARTS)]
    return min((deviation for part in parts if (deviation := _varying(part))), default=0.0)


def _varying(y: Array) -> float:
    """The standard deviation; 0 if it is only rounding."""
    size = float(np.abs(y).max(initial=0.0))
    deviation = float((y / size).std()) if size else 0.0  # the squares of y could overflow
    return deviation * size if deviation > ROUNDING else 0.0


def _is_short_decimal(value: float) -> bool:
    return to_digits(value, NOTATIONS_DIGITS) == value
