"""The expression tree of a formula: plain JSON data that is validated and evaluated, never run as code.

A tree is a sequence of steps. A step names its operation and refers to earlier steps by their position, so that a
tree of any depth is read without recursion and shared subexpressions occur once. The last step is the value.

    ["const", 2.5]           a finite number
    ["var", 0]               a column of the raw features
    ["add", 0, 3, ...]       the sum of at least two earlier steps
    ["mul", 0, 3, ...]       their product
    ["pow", 3, -2]           an earlier step to an integer power from -64 to 64, not 0
    ["call", "sin", 3]       a function of the table of functions, of an earlier step
    ["spline", "s_1_2_3", 3] a piecewise polynomial of the tables, of an earlier step

Everything is float64. This module imports NumPy only: a server reads formulas without sympy.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kanserve.errors import DataError, FormatError
from kanserve.network.functions import FUNCTIONS

Array = NDArray[np.float64]
Step = tuple[Any, ...]
Tree = tuple[Step, ...]

TREE_MAX_STEPS = 1_000_000  # steps of one tree
MAX_REFERENCES = 4_000_000  # references between the steps of one tree
MAX_DEPTH = 10_000  # steps on the longest path through a tree
TREE_MAX_POWER = 64  # largest exponent of a power step
MAX_COLUMN = 1_000_000  # number of the last input
MAX_PIECES = 100_000  # intervals of one table
MAX_ORDER = 32  # order of the splines of a table

SPLINE_NAME = re.compile(r"s_[1-9][0-9]{0,8}_[1-9][0-9]{0,8}_[1-9][0-9]{0,8}", re.ASCII)


@dataclass(frozen=True, eq=False)
class Table:
    """A spline as local polynomials: at u it is Σ_r coefficients[p, r]·(u - origins[p])^r, p = number of breaks ≤ u.

    The first and the last piece extrapolate beyond the spline's range.

    Parameters
    ----------
    breaks : array_like of shape (P - 1,)
        Where the P pieces meet; they do not decrease.
    origins : array_like of shape (P,)
        Of each piece.
    coefficients : array_like of shape (P, degree + 1)
        Of each piece, from the constant on.

    Raises
    ------
    FormatError
        A number is not finite, a shape is wrong, or the breaks decrease.

    Examples
    --------
    >>> import kanserve.formula
    >>> bend = kanserve.formula.Table([0.5], [0, 0.5], [[0, 1], [0.5, 3]])  # slope 1, then 3
    >>> tree = (("var", 0), ("spline", "s_1_1_1", 0))
    >>> kanserve.formula.evaluate_tree(tree, {"s_1_1_1": bend}, [[0.25], [1.0]]).tolist()
    [0.25, 2.0]
    """

    breaks: Array
    origins: Array
    coefficients: Array

    def __post_init__(self) -> None:
        for name in ("breaks", "origins", "coefficients"):
            try:
                array = np.array(getattr(self, name), dtype=np.float64)
            except (TypeError, ValueError, OverflowError):
                raise FormatError(f"The {name} of a spline's table must be numbers.") from None
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        _check_table(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Table) and all(
            np.array_equal(getattr(self, name), getattr(other, name)) for name in ("breaks", "origins", "coefficients")
        )

    __hash__ = None  # type: ignore[assignment]  # arrays have no hash; None makes the class unhashable

    def __call__(self, u: Array) -> Array:
        """The spline at u, of any shape; NaN gives NaN."""
        piece = np.searchsorted(self.breaks, u, side="right")
        t = u - self.origins[piece]
        total = self.coefficients[piece, -1]
        for power in range(self.coefficients.shape[1] - 2, -1, -1):
            total = total * t + self.coefficients[piece, power]
        result: Array = total + 0 * t  # NaN must stay NaN even at order 0, which does not use t
        return result


def evaluate_tree(tree: Sequence[Sequence[Any]], tables: Mapping[str, Table], x: ArrayLike) -> Array:
    """The value (N,) of a tree at raw features x (N, inputs).

    A row with any intermediate value that is not finite gives NaN, without a warning.

    Parameters
    ----------
    tree : sequence
        `Formula.tree`.
    tables : mapping of str to Table
        The splines that the tree names: `Formula.tables`.
    x : array_like of shape (n_samples, n_inputs)
        Raw features.

    Returns
    -------
    ndarray of shape (n_samples,)
        The values.

    Raises
    ------
    FormatError
        The tree is invalid.
    DataError
        The rows do not fit it.

    Examples
    --------
    >>> import kanserve
    >>> law = kanserve.from_formula("2*x + 1").formula()
    >>> kanserve.formula.evaluate_tree(law.tree, law.tables, [[0.5]]).tolist()
    [2.0]
    """
    checked = check_tree(tree, tables)
    rows = _rows(checked, x)
    last_use = list(range(len(checked)))
    for position, step in enumerate(checked):
        for reference in references(step):
            last_use[reference] = position
    values: list[Array | None] = [None] * len(checked)
    finite = np.isfinite(rows).all(axis=1)
    value = np.zeros(len(rows))
    with np.errstate(all="ignore"):
        for position, step in enumerate(checked):
            # A value is kept until its last use; `check_tree` has ensured that references point backwards.
            arguments = [value for value in (values[r] for r in references(step)) if value is not None]
            value = value_of(step, arguments, tables, rows)
            finite &= np.isfinite(value)
            values[position] = value
            for reference in references(step):
                if last_use[reference] == position:
                    values[reference] = None  # frees memory: a wide network has very many steps
    return np.where(finite, value, np.nan)


def references(step: Step) -> Step:
    """The positions of the steps that a step refers to."""
    match step[0]:
        case "add" | "mul":
            return step[1:]
        case "pow":
            return step[1:2]
        case "call" | "spline":
            return step[2:]
        case _:
            return ()


def check_tree(tree: Sequence[Sequence[Any]], tables: Mapping[str, Table]) -> Tree:
    """Validate a tree, and return it as tuples. Raises FormatError that says which step is not allowed and why."""
    if not isinstance(tree, list | tuple) or not 1 <= len(tree) <= TREE_MAX_STEPS:
        raise FormatError(f"A tree is a list of 1 to {TREE_MAX_STEPS} steps.")
    depths: list[int] = []
    steps: list[Step] = []
    count = 0
    for position, step in enumerate(tree):
        if not isinstance(step, list | tuple) or not step:
            raise _refuse(position, "a step is a list that begins with its operation")
        checked = _check(position, step, tables)
        arguments = references(checked)
        count += len(arguments)
        for reference in arguments:
            if type(reference) is not int or not 0 <= reference < position:
                raise _refuse(position, "it must refer to earlier steps")
        depths.append(1 + max((depths[reference] for reference in arguments), default=0))
        if depths[-1] > MAX_DEPTH or count > MAX_REFERENCES:
            raise _refuse(position, f"over {MAX_DEPTH} levels or {MAX_REFERENCES} references")
        steps.append(checked)
    return tuple(steps)


def integer_power(base: Array, exponent: int) -> Array:
    """base^exponent by repeated squaring, as in generated code; 1/base^-exponent for a negative exponent."""
    if exponent < 0:
        reciprocal: Array = 1 / integer_power(base, -exponent)
        return reciprocal
    if exponent == 1:
        return base
    half = integer_power(base, exponent // 2)
    return half * half * base if exponent % 2 else half * half


def _rows(tree: Tree, x: ArrayLike) -> Array:
    try:
        rows = np.asarray(x, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError("Rows must be numbers; got something that is not.") from None
    needed = max((int(step[1]) + 1 for step in tree if step[0] == "var"), default=0)
    if rows.ndim != 2 or rows.shape[1] < needed:
        raise DataError(f"Rows must have shape (N, at least {needed}), got {rows.shape}.")
    return rows


def value_of(step: Step, arguments: Sequence[Array], tables: Mapping[str, Table], rows: Array) -> Array:
    """The values (N,) of one step at rows (N, inputs), given those of the steps it refers to."""
    match step[0]:
        case "const":
            return np.full(len(rows), step[1])
        case "var":
            return rows[:, step[1]]
        case "add":
            total = arguments[0]
            for argument in arguments[1:]:
                total = total + argument
            return total
        case "mul":
            product = arguments[0]
            for argument in arguments[1:]:
                product = product * argument
            return product
        case "pow":
            return integer_power(arguments[0], step[2])
        case "call":
            return FUNCTIONS[step[1]].numpy(arguments[0])
        case _:
            return tables[step[1]](arguments[0])


def _check(position: int, step: Sequence[Any], tables: Mapping[str, Table]) -> Step:
    """Validate a step and return it as a tuple; the caller checks its references."""
    match list(step):
        case ["const", value]:
            return ("const", _number(position, value))
        case ["var", int(column)] if type(column) is int and 0 <= column < MAX_COLUMN:
            return ("var", column)
        case ["add" | "mul", _, _, *_]:
            return tuple(step)
        case ["pow", _, int(exponent)] if type(exponent) is int and 1 <= abs(exponent) <= TREE_MAX_POWER:
            return tuple(step)
        case ["call", str(name), _] if name in FUNCTIONS:
            return tuple(step)
        case ["spline", str(name), _] if name in tables and SPLINE_NAME.fullmatch(name):
            return tuple(step)
        case _:
            raise _refuse(position, "no such operation with such operands")


def _number(position: int, value: Any) -> float:
    try:
        number = float(value) if type(value) in (int, float) else math.nan
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise _refuse(position, "a constant must be a finite number")
    return number


def _refuse(position: int, reason: str) -> FormatError:
    # The step itself is not shown: it is untrusted and may be of any size.
    return FormatError(f"Step {position} of the expression tree is not allowed: {reason}.")


def _check_table(table: Table) -> None:
    count = len(table.origins) if table.origins.ndim == 1 else 0
    shape = table.coefficients.shape
    if not (1 <= count <= MAX_PIECES and table.breaks.shape == (count - 1,)):
        raise FormatError("A spline of P pieces needs P origins and P-1 breaks.")
    if len(shape) != 2 or shape[0] != count or not 1 <= shape[1] <= MAX_ORDER + 1:
        raise FormatError(f"A spline of {count} pieces needs coefficients ({count}, order + 1), got {shape}.")
    if not all(np.isfinite(array).all() for array in (table.breaks, table.origins, table.coefficients)):
        raise FormatError("A spline's table must be finite.")
    if (np.diff(table.breaks) < 0).any():
        raise FormatError("The breaks of a spline must not decrease.")
