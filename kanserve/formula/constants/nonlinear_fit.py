"""The constants of a closed form as parameters: values, exact derivatives, and nonlinear least squares.

    constants = Constants(tree)
    constants.values                          # (P,), one for each occurrence of a number
    value, jacobian = constants.derivatives(constants.values, x)   # (N,), (N, P)
    refit(tree, x, y)                         # the tree with the constants that fit best

A number that is used in two places is two constants: whether they are equal is left to the fit. The factor -1 of a
difference and the exponent of a power are not constants.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kanserve.data.row_weights import square_roots
from kanserve.errors import DataError, FormulaError
from kanserve.formula.expressions.tree import Step, Tree, check_tree, integer_power, references
from kanserve.network.functions import FUNCTIONS, finite_slope

Array = NDArray[np.float64]

MOST_ITERATIONS = 60  # of Levenberg-Marquardt on the constants of a formula
DIRECTIONS = 1e-10  # relative to the largest singular value: directions below this are not followed
FIRST_DAMPING = 1e-3  # damping that a fit of constants begins with
MOST_DAMPING = 1e3  # damping at which a fit of constants ends
SETTLED = 1e-15  # relative to the size of y: an error at rounding level


class Constants:
    """The constants of a tree. `places` are their steps in `tree`, in which no number is shared; `fixed` are positions
    in the original tree of numbers that must not change."""

    def __init__(self, tree: Sequence[Sequence[Any]], fixed: Collection[int] = ()) -> None:
        if any(step[0] == "spline" for step in tree):
            raise FormulaError("Only a closed form has constants to fit; this one has a spline.")
        checked = check_tree(tree, {})
        self.tree, self.sources = _apart(checked)
        signs = _signs(self.tree)
        self.places = tuple(
            place
            for place, source in enumerate(self.sources)
            if self.tree[place][0] == "const" and source not in fixed and place not in signs
        )
        self._depends = _depending(self.tree, self.places)

    @property
    def values(self) -> Array:
        return np.array([self.tree[place][1] for place in self.places], dtype=np.float64)

    def with_values(self, values: ArrayLike) -> Tree:
        """The tree with these values (P,) for its constants."""
        numbers = dict(zip(self.places, np.asarray(values, dtype=np.float64).tolist(), strict=True))
        return tuple(("const", numbers[n]) if n in numbers else step for n, step in enumerate(self.tree))

    def value(self, values: Array, x: Array) -> Array:
        """The formula's values (N,) with these constants at rows x (N, inputs); some may not be finite."""
        got: Array = self._forward(values, x)[-1] + np.zeros(len(x))
        return got

    def derivatives(self, values: Array, x: Array) -> tuple[Array, Array]:
        """The formula's values (N,), and exact derivatives with respect to the constants (N, P), in reverse mode."""
        with np.errstate(all="ignore"):
            steps = self._forward(values, x)
            slopes: list[Any] = [0.0] * len(steps)
            slopes[-1] = np.ones(len(x))
            for place in range(len(steps) - 1, -1, -1):
                if self._depends[place] and self.tree[place][0] != "const":
                    self._backward(place, steps, slopes)
            jacobian = np.empty((len(x), len(self.places)), order="F")
            for n, place in enumerate(self.places):
                jacobian[:, n] = slopes[place]
        return steps[-1] + np.zeros(len(x)), jacobian

    def _forward(self, values: Array, x: Array) -> list[Any]:
        """The value of each step; a number if it is a constant."""
        numbers = dict(zip(self.places, values.tolist(), strict=True))
        steps: list[Any] = []
        with np.errstate(all="ignore"):
            for place, step in enumerate(self.tree):
                steps.append(numbers[place] if place in numbers else _value(step, steps, x))
        return steps

    def _backward(self, place: int, steps: list[Any], slopes: list[Any]) -> None:
        """Propagate the derivative of a step to its operands."""
        slope = slopes[place]
        match self.tree[place]:
            case ("add", *arguments):
                for operand in arguments:
                    if self._depends[operand]:
                        slopes[operand] = slopes[operand] + slope
            case ("mul", *arguments):
                for n, operand in enumerate(arguments):
                    if self._depends[operand]:
                        # Not the product divided by the factor: it may be 0.
                        others = [steps[argument] for m, argument in enumerate(arguments) if m != n]
                        slopes[operand] = slopes[operand] + math.prod(others, start=slope)
            case ("pow", operand, exponent):
                rest = integer_power(steps[operand], exponent - 1) if exponent != 1 else 1.0
                slopes[operand] = slopes[operand] + slope * (exponent * rest)
            case ("call", name, operand):
                slopes[operand] = slopes[operand] + slope * finite_slope(name, np.asarray(steps[operand]))


@dataclass(frozen=True, eq=False)
class Fit:
    """The best constants (P,), and the remaining error (RMSE)."""

    values: Array
    error: float


@dataclass(frozen=True, eq=False)
class FitData:
    """Samples x (N, inputs), y (N,), and square roots (N,) of weights with mean 1; None if all are equal."""

    x: Array
    y: Array
    roots: Array | None = None

    def weight_rows(self, values: Array) -> Array:
        """Multiply values (N, ...) by the square roots of the weights, so that least squares becomes weighted."""
        return values if self.roots is None else (values.T * self.roots).T


def refit(
    tree: Sequence[Sequence[Any]],
    x: ArrayLike,
    y: ArrayLike,
    fixed: Collection[int] = (),
    weights: ArrayLike | None = None,
) -> Tree:
    """Fit the constants to y (N,) at rows x (N, inputs) by (weighted) least squares, with damped Gauss-Newton steps.
    Constants of which only a combination matters move as little as possible; those at positions `fixed` stay. A tree
    that is not finite on some row is returned unchanged."""
    constants = Constants(tree, fixed)
    return constants.with_values(fit_constants(constants, check_data(x, y, weights)).values)


def check_data(x: ArrayLike, y: ArrayLike, weights: ArrayLike | None = None) -> FitData:
    """Validate rows (N, inputs), values (N,) and weights (N,). Raises DataError unless all are finite."""
    rows, wanted = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    wanted = wanted[:, 0] if wanted.ndim == 2 and wanted.shape[1] == 1 else wanted
    if rows.ndim != 2 or wanted.shape != (len(rows),) or not len(rows):
        raise DataError(f"Rows (N, inputs) and values (N,) are needed, got {rows.shape} and {wanted.shape}.")
    if not (np.isfinite(rows).all() and np.isfinite(wanted).all()):
        raise DataError("Rows and values must be finite.")
    if weights is None:
        return FitData(np.asfortranarray(rows), wanted)
    shares = np.asarray(weights, dtype=np.float64)
    if shares.shape != wanted.shape or not (np.isfinite(shares).all() and (shares >= 0).all() and shares.any()):
        raise DataError("Weights are finite numbers of 0 or more, one a row, and not all of them 0.")
    kept = shares > 0
    return FitData(np.asfortranarray(rows[kept]), wanted[kept], square_roots(shares[kept]))


def fit_constants(constants: Constants, data: FitData) -> Fit:
    """Like `refit`, for checked data."""
    x, y = data.x, data.y
    values = constants.values
    got, jacobian = constants.derivatives(values, x)
    residual = data.weight_rows(y - got)
    error = size(residual)
    floor = SETTLED * size(data.weight_rows(y))
    damping = 0.0
    slow = 0
    if not len(values) or not math.isfinite(error):
        return Fit(values, error)
    for _ in range(MOST_ITERATIONS):
        if error <= floor or not np.isfinite(jacobian).all():
            break
        step = _Directions(data.weight_rows(jacobian), residual)
        better = None
        while damping <= MOST_DAMPING:
            trial = values + step(damping)
            got = constants.value(trial, x)
            trial_error = size(data.weight_rows(y - got))
            if trial_error < error:
                better = trial
                break
            damping = max(10 * damping, FIRST_DAMPING)
            if step.gain < 1e-9 * error:
                break  # any gain would be below rounding
        if better is None:
            break
        slow = slow + 1 if trial_error > 0.999 * error else 0
        values, error = better, trial_error
        damping = damping / 10 if damping > FIRST_DAMPING else 0.0
        if slow == 3:
            break
        got, jacobian = constants.derivatives(values, x)
        residual = data.weight_rows(y - got)
    return Fit(values, error)


@dataclass(frozen=True, eq=False)
class Fitted:
    """A tree with its constants fitted, the places of those that are settled, and its error (RMSE)."""

    tree: Tree
    settled: frozenset[int]
    error: float

    def settle(self, numbers: Mapping[int, float], data: FitData) -> "Fitted":
        """Fix these numbers at their places, and refit the constants that are not settled."""
        tree = tuple(("const", numbers[n]) if n in numbers else step for n, step in enumerate(self.tree))
        return all_fitted(tree, data, self.settled | set(numbers))


def all_fitted(tree: Sequence[Sequence[Any]], data: FitData, settled: frozenset[int] = frozenset()) -> Fitted:
    """Fit the constants, except those at the places `settled`. Returns the tree, these places and the error."""
    constants = Constants(tree, settled)
    fit = fit_constants(constants, data)
    return Fitted(constants.with_values(fit.values), settled, fit.error)


class _Directions:
    """Solves a linear least-squares problem with scaled columns for any damping, from a single QR and SVD."""

    def __init__(self, jacobian: Array, residual: Array) -> None:
        sizes = np.sqrt(np.einsum("np,np->p", jacobian, jacobian))
        self._scale = 1 / np.where(sizes > 0, sizes, 1.0)
        q, r = np.linalg.qr(jacobian * self._scale)
        u, self._s, self._vt = np.linalg.svd(r, full_matrices=False)
        along = u.T @ (q.T @ residual)
        self._kept = self._s > DIRECTIONS * self._s[0]
        self._along = np.where(self._kept, along, 0.0)
        # The predicted decrease of the error (RMSE), exact for a linear problem.
        total = float(residual @ residual)
        left = max(total - float(self._along @ self._along), 0.0)
        self.gain = (math.sqrt(total) - math.sqrt(left)) / math.sqrt(len(residual))

    def __call__(self, damping: float) -> Array:
        s = np.where(self._kept, self._s, 1.0)
        step: Array = self._scale * (self._vt.T @ (self._along / (s + damping / s)))
        return step


def size(values: Array) -> float:
    """The root mean square; infinite if a value is not finite."""
    with np.errstate(all="ignore"):
        found = math.sqrt(float(values @ values) / len(values))
    return found if math.isfinite(found) else math.inf


def _value(step: Step, steps: list[Any], x: Array) -> Any:
    match step:
        case ("const", value):
            return value
        case ("var", column):
            return x[:, column]
        case ("add", *arguments):
            return sum((steps[argument] for argument in arguments[1:]), start=steps[arguments[0]])
        case ("mul", *arguments):
            return math.prod((steps[argument] for argument in arguments[1:]), start=steps[arguments[0]])
        case ("pow", operand, exponent):
            return integer_power(np.asarray(steps[operand]), exponent)
        case ("call", name, operand):
            return FUNCTIONS[name].numpy(np.asarray(steps[operand]))
    raise AssertionError(step)


def _apart(tree: Tree) -> tuple[Tree, tuple[int, ...]]:
    """Give each use of a number its own step. Returns the tree, and the original position of each step."""
    steps: list[Step] = []
    sources: list[int] = []
    moved: dict[int, int] = {}

    def add(step: Step, source: int) -> int:
        steps.append(step)
        sources.append(source)
        return len(steps) - 1

    def place(operand: int) -> int:
        return add(tree[operand], operand) if tree[operand][0] == "const" else moved[operand]

    for position, step in enumerate(tree):
        if step[0] == "const" and position < len(tree) - 1:
            continue
        match step:
            case ("add" | "mul" as operation, *arguments):
                step = (operation, *[place(argument) for argument in arguments])
            case ("pow", base, exponent):
                step = ("pow", place(base), exponent)
            case ("call" | "spline" as operation, name, argument):
                step = (operation, name, place(argument))
        moved[position] = add(step, position)
    return tuple(steps), tuple(sources)


def _signs(tree: Tree) -> set[int]:
    """The positions of numbers that are the -1 of a product."""
    return {
        factor
        for step in tree
        if step[0] == "mul"
        for factor in step[1:]
        if tree[factor][0] == "const" and tree[factor][1] == -1
    }


def _depending(tree: Tree, places: Collection[int]) -> list[bool]:
    """Whether each step depends on one of the constants."""
    depends: list[bool] = []
    for place, step in enumerate(tree):
        depends.append(place in places or any(depends[reference] for reference in references(step)))
    return depends
