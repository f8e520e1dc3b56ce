"""Dimensional analysis: what the units of inputs and output imply for a law before anything is fitted. By Buckingham's
theorem (Phys. Rev. 4, 345, 1914) y = (a product of powers of the inputs, in the unit of y) · F(dimensionless groups),
where the number of groups is that of the inputs minus the rank of their dimensions."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import InputError
from kanserve.search.regression import budget
from kanserve.search.structure.factors import raise_to

Array = NDArray[np.float64]
Dimension = tuple[Fraction, ...]

MOST_SCALES = 4  # number of products of powers in the output's unit to try, at most, the simplest first
"""Exponents of metre, kilogram, second, ampere, kelvin, mole, candela."""

_BASE = ("m", "kg", "s", "A", "K", "mol", "cd")
_DERIVED = {
    "g": "kg", "rad": "1", "sr": "1", "Hz": "s^-1", "Bq": "s^-1", "N": "kg*m*s^-2", "Pa": "kg*m^-1*s^-2",
    "J": "kg*m^2*s^-2", "eV": "kg*m^2*s^-2", "W": "kg*m^2*s^-3", "C": "A*s", "V": "kg*m^2*s^-3*A^-1",
    "F": "kg^-1*m^-2*s^4*A^2", "ohm": "kg*m^2*s^-3*A^-2", "Ω": "kg*m^2*s^-3*A^-2", "S": "kg^-1*m^-2*s^3*A^2",
    "Wb": "kg*m^2*s^-2*A^-1", "T": "kg*s^-2*A^-1", "H": "kg*m^2*s^-2*A^-2", "L": "m^3", "l": "m^3", "bar":
    "kg*m^-1*s^-2", "min": "s", "h": "s", "deg": "1", "%": "1",
}  # fmt: skip
_PREFIXES = ("da", "n", "u", "µ", "m", "c", "d", "k", "M", "G", "T", "p")
_TOKEN = re.compile(r"\s*(\*\*|[\^*/()·]|[-+]?\d+(?:\.\d+)?|[A-Za-zµΩ%]+)")


@dataclass(frozen=True)
class Dimensionless:
    """The form y = scale · F(groups). `scales`: exponents of the inputs that give the unit of y, simplest first (any
    will do). `groups`: integer exponents of the simplest independent dimensionless products."""

    scales: tuple[tuple[Fraction, ...], ...]
    groups: tuple[tuple[int, ...], ...]

    def multiply_powers(self, x: Array) -> Array:
        """The product of powers (N,) that has the unit of y, at rows x (N, d)."""
        return _product(x, self.scales[0])

    def group_inputs(self, x: Array) -> Array:
        """The dimensionless groups (N, groups) at rows x (N, d)."""
        columns = [_product(x, group) for group in self.groups]
        return np.stack(columns, axis=1) if columns else np.zeros((len(x), 0))


def dimensionless(inputs: Sequence[str], output: str) -> Dimensionless:
    """Dimensional analysis of units like "m/s^2", "kg*m^2/s", "J/(mol*K)", and "" or "1" for dimensionless numbers.
    Raises InputError for an unknown unit, or if no product of powers has the output's unit."""
    dimensions = [dimension(unit) for unit in inputs]
    wanted = dimension(output)
    scales = scales_of(dimensions, wanted)
    if not scales:
        known = ", ".join(f"[{unit or '1'}]" for unit in inputs)
        raise InputError(
            f"No product of powers of inputs in {known} is in [{output}], so no law can relate them. "
            "Check the units, or add a missing constant, such as c or G, as an input."
        )
    return Dimensionless(scales, groups_of(dimensions))


def dimension(unit: str) -> Dimension:
    """The dimension of a unit written with *, /, ^ and parentheses. Prefixes are ignored: "km" equals "m"."""
    tokens = _tokens(unit)
    if not tokens:
        return (Fraction(0),) * len(_BASE)
    found, end = _quotient(tokens, 0, unit)
    if end != len(tokens):
        raise _unreadable(unit)
    return found


def _tokens(unit: str) -> list[str]:
    tokens, at = [], 0
    text = unit.strip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise _unreadable(unit)
        tokens.append(match[1].replace("**", "^").replace("·", "*"))
        at = match.end()
    return tokens


def _quotient(tokens: list[str], at: int, unit: str) -> tuple[Dimension, int]:
    """Parse factors up to the end or a closing parenthesis; a space multiplies, like *."""
    total, at = _power(tokens, at, unit)
    while at < len(tokens) and tokens[at] != ")":
        sign = -1 if tokens[at] == "/" else 1
        factor, at = _power(tokens, at + (tokens[at] in "*/"), unit)
        total = tuple(left + sign * right for left, right in zip(total, factor, strict=True))
    return total, at


def _power(tokens: list[str], at: int, unit: str) -> tuple[Dimension, int]:
    if at >= len(tokens):
        raise _unreadable(unit)
    if tokens[at] == "(":
        base, at = _quotient(tokens, at + 1, unit)
        if at >= len(tokens):
            raise _unreadable(unit)
        at += 1
    else:
        base, at = _read_unit(tokens[at], unit), at + 1
    if at < len(tokens) and tokens[at] == "^":
        exponent, at = _exponent(tokens, at + 1, unit)
        base = tuple(component * exponent for component in base)
    return base, at


def _exponent(tokens: list[str], at: int, unit: str) -> tuple[Fraction, int]:
    """Parse a number, or a number or fraction in parentheses."""
    opened = at < len(tokens) and tokens[at] == "("
    at += opened
    try:
        value = Fraction(tokens[at])
        at += 1
        if opened:
            if tokens[at] == "/":
                value, at = value / Fraction(tokens[at + 1]), at + 2
            if tokens[at] != ")":
                raise _unreadable(unit)
            at += 1
    except (ValueError, IndexError, ZeroDivisionError):
        raise _unreadable(unit) from None
    return value, at


def _read_unit(name: str, unit: str) -> Dimension:
    if name in ("*", "/", "^"):
        raise _unreadable(unit)
    if re.fullmatch(r"[-+]?\d+(\.\d+)?", name):
        return (Fraction(0),) * len(_BASE)
    for prefix in ("", *_PREFIXES):
        rest = name.removeprefix(prefix)
        if name.startswith(prefix) and rest in _BASE:
            return tuple(Fraction(rest == base) for base in _BASE)
        if name.startswith(prefix) and rest in _DERIVED:
            return dimension(_DERIVED[rest])
    raise InputError(
        f"The unit {unit!r} has {name!r} in it, which is not known. Known: {', '.join((*_BASE, *_DERIVED))}, "
        "with prefixes such as k, m, u, n, M and G; write 1 for a dimensionless number."
    )


def _unreadable(unit: str) -> InputError:
    return InputError(f"The unit {unit!r} cannot be read. Write it like m/s^2, kg*m^2/s or J/(mol*K), or 1 for none.")


def scales_of(dimensions: Sequence[Dimension], wanted: Dimension) -> tuple[tuple[Fraction, ...], ...]:
    """The exponents of products that have the wanted dimension and use the fewest inputs, smallest exponents first."""
    count = len(dimensions)
    for size in range(_rank(dimensions) + 1):
        found = []
        for subset in combinations(range(count), size):
            powers = _solve_powers([dimensions[i] for i in subset], wanted)
            if powers is not None:
                found.append(_place_powers(count, subset, powers))
        if found:
            return tuple(sorted(dict.fromkeys(found), key=_cost)[:MOST_SCALES])
    return ()


def groups_of(dimensions: Sequence[Dimension]) -> tuple[tuple[int, ...], ...]:
    """The simplest independent dimensionless products, each of which needs all of its inputs. The greedy choice is
    optimal, since they form a matroid."""
    count = len(dimensions)
    circuits = []
    for size in range(1, min(_rank(dimensions) + 1, count) + 1):
        for subset in combinations(range(count), size):
            budget.check()
            *others, last = subset
            powers = _solve_powers([dimensions[i] for i in others], tuple(-component for component in dimensions[last]))
            if powers is not None and all(power != 0 for power in powers):
                circuits.append(_whole(_place_powers(count, subset, (*powers, Fraction(1)))))
    chosen: list[tuple[int, ...]] = []
    for circuit in sorted(dict.fromkeys(circuits), key=_cost):
        if np.linalg.matrix_rank(np.array([*chosen, circuit], np.float64)) > len(chosen):
            chosen.append(circuit)
    return tuple(chosen)


def _rank(dimensions: Sequence[Dimension]) -> int:
    """The number of independent dimensions, which is the most inputs a product needs."""
    return int(np.linalg.matrix_rank(np.array(dimensions, np.float64))) if len(dimensions) else 0


def _solve_powers(columns: Sequence[Dimension], wanted: Dimension) -> tuple[Fraction, ...] | None:
    """The exponents with which independent columns give the wanted dimension; None if there are none or several."""
    count = len(columns)
    rows = [[column[k] for column in columns] + [wanted[k]] for k in range(len(wanted))]
    for k in range(count):
        pivot = next((r for r in range(k, len(rows)) if rows[r][k] != 0), None)
        if pivot is None:
            return None
        rows[k], rows[pivot] = rows[pivot], rows[k]
        rows[k] = [row / rows[k][k] for row in rows[k]]
        for r in range(len(rows)):
            if r != k and rows[r][k] != 0:
                rows[r] = [
                    entry - rows[r][k] * pivot_entry for entry, pivot_entry in zip(rows[r], rows[k], strict=True)
                ]
    if any(row[-1] != 0 for row in rows[count:]):
        return None
    return tuple(row[-1] for row in rows[:count])


def _place_powers(count: int, subset: Sequence[int], powers: Sequence[Fraction]) -> tuple[Fraction, ...]:
    full = [Fraction(0)] * count
    for i, power in zip(subset, powers, strict=True):
        full[i] = power
    return tuple(full)


def _whole(powers: Sequence[Fraction]) -> tuple[int, ...]:
    """The smallest integers in these proportions, with the sign that makes most positive (in a tie, the first)."""
    denominator = np.lcm.reduce([power.denominator for power in powers])
    numbers = [int(power * int(denominator)) for power in powers]
    divisor = int(np.gcd.reduce(numbers))
    leading = next(number for number in numbers if number)
    sign = 1 if sum(np.sign(numbers)) * 10 + np.sign(leading) > 0 else -1
    return tuple(sign * number // divisor for number in numbers)


def _cost(powers: Sequence[Fraction | int]) -> tuple[int, Fraction, int]:
    """A sort key for products: few inputs, then small integer exponents, then few divisions."""
    used = [Fraction(power) for power in powers if power != 0]
    size = sum((abs(power) + power.denominator - 1 for power in used), Fraction(0))
    return len(used), size, sum(power < 0 for power in used)


def _product(x: Array, powers: Sequence[Fraction | int]) -> Array:
    result = np.ones(len(x))
    for i, power in enumerate(powers):
        if power != 0:
            result = result * raise_to(x[:, i], float(power))
    return result
