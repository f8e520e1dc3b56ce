"""The domain of a formula: the conditions under which it is real and finite, and where training rows violate them."""

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from kanserve.formula.expressions.intervals import Interval, intervals
from kanserve.formula.expressions.tree import Table, Tree, evaluate_tree
from kanserve.formula.printing.notations import Text
from kanserve.formula.printing.unfolding import print_tree, unfold
from kanserve.network.functions import FUNCTIONS

Array = NDArray[np.float64]

MOST = 100  # conditions that are listed
OPERATIONS = 25  # of an expression within a condition; longer ones have "…"
CHARACTERS = 2000  # of a printed condition


def domain(
    tree: Tree, tables: Mapping[str, Table], names: Sequence[str], spans: Sequence[Interval] = (), text: Tree = ()
) -> tuple[str, ...]:
    """The conditions on raw features under which the formula is real and finite (overflow aside), such as "log: 3*x + 1
    > 0". Those proven by interval arithmetic over the ranges `spans`, or always true, are left out. `text` is the tree
    with the constants to show in the conditions, by default all digits."""
    bounds = intervals(tree, tables, spans or [(-math.inf, math.inf)] * len(names))
    found: dict[str, None] = {}
    for step in tree:
        match step:
            case ("pow", base, exponent) if exponent < 0:
                kind, condition, argument = "division", "x != 0", base
            case ("call", name, argument) if FUNCTIONS[name].domain:
                kind, condition = name, FUNCTIONS[name].domain
            case _:
                continue
        if not _holds(condition, *bounds[argument]):
            before, after = re.split(r"\bx\b", condition)
            found[f"{kind}: {before}{shorten_step(text or tree, argument, names)}{after}"] = None
    listed = list(found)
    if len(listed) > MOST:
        listed[MOST:] = [f"… and {len(listed) - MOST} more"]
    return tuple(listed)


def breaks(tree: Tree, tables: Mapping[str, Table], x: Array) -> tuple[int, int] | None:
    """The first row of x on which the tree is not finite, and the first step that is not finite there; or None."""
    bad = np.flatnonzero(np.isnan(evaluate_tree(tree, tables, x)))
    if not len(bad):
        return None
    row = x[bad[:1]]
    fine, broken = -1, len(tree) - 1
    while broken - fine > 1:  # bisection: a prefix of the tree is finite as long as all of its steps are
        middle = (fine + broken) // 2
        if np.isnan(evaluate_tree(tree[: middle + 1], tables, row)).any():
            broken = middle
        else:
            fine = middle
    return int(bad[0]), broken


def shorten_step(tree: Tree, position: int, names: Sequence[str]) -> str:
    """A step as text, shortened if it is long."""
    limit = OPERATIONS
    while True:
        text = print_tree(unfold(tree[: position + 1], limit), Text(names), CHARACTERS)
        if text is not None:
            return text
        limit //= 2


def _holds(condition: str, low: float, high: float) -> bool:
    """Whether a condition from the table of functions holds on the whole interval."""
    match condition.split():
        case ["x", "!=", "0"]:
            return low > 0 or high < 0
        case ["x", ">", bound]:
            return low > float(bound)
        case ["x", ">=", bound]:
            return low >= float(bound)
        case [lower, "<=", "x", "<=", upper]:
            return float(lower) <= low and high <= float(upper)
        case [lower, "<", "x", "<", upper]:
            return float(lower) < low and high < float(upper)
        case ["x", "!=", "pi/2", "+", "n*pi"]:
            turns = [(end - math.pi / 2) / math.pi for end in (low, high)]
            return all(map(math.isfinite, turns)) and math.floor(turns[0]) == math.floor(turns[1])
        case _:
            return False
