"""Interval arithmetic: bounds of each step of a tree while its variables stay in their ranges. The ends are computed as
`evaluate_tree` computes values; rounding is monotonic, so the bounds hold for evaluated values too. In x^2 - x the two
x are treated as independent, so bounds may be wide."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from kanserve.formula.expressions.tree import Step, Table, Tree, integer_power
from kanserve.network.expression import PRIMITIVES, steps
from kanserve.network.functions import FUNCTIONS
from kanserve.network.powers import exponent_of, is_odd, real_power, takes_negative

Array = NDArray[np.float64]
Interval = tuple[float, float]

ANYTHING: Interval = (-math.inf, math.inf)


def intervals(tree: Tree, tables: Mapping[str, Table], spans: Sequence[Interval]) -> list[Interval]:
    """(low, high) for each step, infinite if unknown; `spans` are the ranges of the columns. A bound holds where the
    step is defined: log of (-1, e) is in (-inf, 1)."""
    found: list[Interval] = []
    with np.errstate(all="ignore"):
        for step in tree:
            found.append(_interval(step, found, tables, spans))
    return found


def _interval(step: Step, found: list[Interval], tables: Mapping[str, Table], spans: Sequence[Interval]) -> Interval:
    match step[0]:
        case "const":
            return step[1], step[1]
        case "var":
            return spans[step[1]]
        case "add":
            parts = [found[operand] for operand in step[1:]]
            return _replace_nan(_add([low for low, _ in parts]), _add([high for _, high in parts]))
        case "mul":
            product = found[step[1]]
            for factor in step[2:]:
                product = _multiply(product, found[factor])
            return product
        case "pow":
            return _power(found[step[1]], step[2])
        case "call" if step[3:]:
            return _choice(step[1], [found[operand] for operand in step[2:]])
        case "call":
            return _call(step[1], found[step[2]])
        case _:
            return _spline(tables[step[1]], found[step[2]])


def _replace_nan(low: float, high: float) -> Interval:
    """Replace an end that is NaN by infinity."""
    return (-math.inf if math.isnan(low) else low), (math.inf if math.isnan(high) else high)


def _add(ends: list[float]) -> float:
    total = ends[0]
    for end in ends[1:]:
        total += end
    return total


def _multiply(a: Interval, b: Interval) -> Interval:
    ends = [0.0 if 0 in (left, right) else left * right for left in a for right in b]
    return min(ends), max(ends)


def _power(base: Interval, exponent: float) -> Interval:
    if not isinstance(exponent, int):
        return _real_power(lambda ends: real_power(ends, exponent), base, exponent)
    low, high = base
    if exponent < 0 and low <= 0 <= high:
        return ANYTHING
    ends = integer_power(np.array(base), exponent).tolist()
    if exponent > 0 and exponent % 2 == 0 and low < 0 < high:
        return 0.0, max(ends)
    return _replace_nan(min(ends), max(ends))


def _choice(name: str, parts: list[Interval]) -> Interval:
    """The bounds of a comparison (0 to 1), or of a conditional."""
    if name == "less":
        (low, high), (bottom, top) = parts
        return float(high < bottom), float(low < top)
    if name != "where":
        return ANYTHING
    chosen, yes, no = parts
    if chosen[0] > 0 or chosen[1] < 1:  # all of the range, or nothing of it
        return yes if chosen[0] > 0 else no
    return min(yes[0], no[0]), max(yes[1], no[1])


def _call(name: str, argument: Interval) -> Interval:
    low, high = argument
    exponent = exponent_of(name)
    if exponent is not None:
        return _real_power(FUNCTIONS[name].numpy, argument, exponent)
    primitive = PRIMITIVES.get(name)
    if primitive is None:
        bottom, top = intervals(steps(FUNCTIONS[name].expression, PRIMITIVES), {}, [argument])[-1]
        least, most = FUNCTIONS[name].bounds
        return max(bottom, least), min(top, most)
    if not primitive.shape:
        return primitive.bounds
    bottom, top = (float(end) for end in primitive.numpy(np.array([low, high])))
    if primitive.shape == "rising":
        return _replace_nan(bottom, top)
    if primitive.shape == "falling":
        return _replace_nan(top, bottom)
    middle = bottom if low > 0 else top if high < 0 else float(primitive.numpy(np.zeros(1))[0])
    ends = sorted((bottom, top, middle))
    return _replace_nan(ends[0], ends[-1])


def _real_power(values: Callable[[Array], Array], base: Interval, exponent: float) -> Interval:
    """The bounds of a power where it is real."""
    low, high = base
    if not takes_negative(exponent):
        low = max(low, 0.0)
        if high < low:
            return ANYTHING
    elif exponent < 0 and low <= 0 <= high:
        return ANYTHING
    ends = [float(end) for end in values(np.array([low, high]))]
    if low < 0 < high and not is_odd(exponent):
        ends.append(0.0)
    return _replace_nan(min(ends), max(ends))


def _spline(table: Table, argument: Interval) -> Interval:
    """The bounds of a spline: the union over its pieces, each by Horner's rule in intervals."""
    low, high = argument
    first, last = (int(np.searchsorted(table.breaks, end, side="right")) for end in argument)
    bottom, top = math.inf, -math.inf
    for piece in range(first, last + 1):
        begin = low if piece == first else float(table.breaks[piece - 1])
        end = high if piece == last else float(table.breaks[piece])
        origin = float(table.origins[piece])
        t = (begin - origin, end - origin)
        *lower, highest = table.coefficients[piece].tolist()
        total = (highest, highest)
        for coefficient in reversed(lower):
            total = _multiply(total, t)
            total = (total[0] + coefficient, total[1] + coefficient)
        bottom, top = min(bottom, total[0]), max(top, total[1])
    return _replace_nan(bottom, top)
