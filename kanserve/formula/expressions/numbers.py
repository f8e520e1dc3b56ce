"""Numbers with a name: fractions, their multiples of pi, roots and logarithms, and short decimals.

    named(1.5707963267948966).text            # "pi/2"
    near(0.3334, 0.001)                       # the simple numbers within that distance: 1/3, ...

Simplicity is measured in bits, roughly those needed to write the number down; the number 1 takes none.
"""

import math
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LARGEST = 199  # numerator or denominator
LARGEST_OF_BOTH = 12  # the smaller of numerator and denominator
FIRST_RARE = 7  # the first prime that costs more bits
DIGITS = 10  # of a decimal
DECIMAL = 2.0  # bits for being a decimal; those for the position of its point are extra
SAME = 4e-16  # two doubles this close, relatively, are the same number computed in two ways
MOST_BITS = 28.0  # of a number that is recognised by name: 7 digits and the point


# (numerator, denominator, value, bits): 3/4 of the last is 3/(4*sqrt(2*pi)).
_BASES = (
    ("", "", 1.0, 0.0),
    ("pi", "", math.pi, 2.5),
    ("", "pi", 1 / math.pi, 3.0),
    ("sqrt(2)", "", math.sqrt(2), 3.0),
    ("sqrt(3)", "", math.sqrt(3), 3.5),
    ("sqrt(5)", "", math.sqrt(5), 4.5),
    ("sqrt(6)", "", math.sqrt(6), 5.0),
    ("sqrt(7)", "", math.sqrt(7), 5.5),
    ("e", "", math.e, 4.5),
    ("", "e", 1 / math.e, 5.0),
    ("pi^2", "", math.pi**2, 4.0),
    ("", "pi^2", math.pi**-2, 4.5),
    ("pi^3", "", math.pi**3, 5.5),
    ("pi^4", "", math.pi**4, 6.0),
    ("sqrt(pi)", "", math.sqrt(math.pi), 4.0),
    ("", "sqrt(pi)", 1 / math.sqrt(math.pi), 4.5),
    ("sqrt(2*pi)", "", math.sqrt(2 * math.pi), 4.5),
    ("", "sqrt(2*pi)", 1 / math.sqrt(2 * math.pi), 4.5),
    ("log(2)", "", math.log(2), 4.0),
    ("", "log(2)", 1 / math.log(2), 4.5),
    ("log(10)", "", math.log(10), 4.5),
    ("", "log(10)", 1 / math.log(10), 5.0),
)


@dataclass(frozen=True)
class Named:
    """A number, its cost in bits, and its size as a quotient of products: 3/(4*pi) is (3) over (4, pi). The factors are
    texts for the formula parser; `below` is empty for an integer or a decimal."""

    value: float
    bits: float
    above: tuple[str, ...]
    below: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The number by its name, in the syntax of the formula parser."""
        above, below = ("*".join(factors) for factors in (self.above, self.below))
        sign = "-" if self.value < 0 else ""
        if not below:
            return f"{sign}{above}"
        return f"{sign}{above}/{below}" if len(self.below) == 1 else f"{sign}{above}/({below})"


def near(value: float, distance: float, most: int = 6) -> list[Named]:
    """Up to `most` simple numbers with the same sign within this distance of a value, simplest first."""
    size = abs(value)
    if not (size > 0 and math.isfinite(size) and distance >= 0):
        return []
    table = _table()
    low, high = np.searchsorted(table.values, [size - distance, size + distance])
    found = [table.number_at(int(low + n)) for n in _least(table.bits[low:high], most)] + _decimals(size, distance)
    found.sort(key=lambda number: number.bits)
    unique: list[Named] = []
    for number in found:
        if all(abs(number.value - known.value) > SAME * number.value for known in unique):
            unique.append(number)
    return [replace(number, value=math.copysign(number.value, value)) for number in unique[:most]]


def shortest_between(low: float, high: float) -> float:
    """The number with the fewest decimals in (low, high], the nearest to 0 of equals; else `high`."""
    for digits in range(-12, 18):
        unit = 10.0**-digits
        count = math.floor(low / unit) + 1
        if count * unit <= high:
            last = max(math.floor(high / unit), count)
            chosen = 0 if count <= 0 <= last else min(count, last, key=abs)
            return float(round(chosen * unit, max(digits, 0)))
    return high


def name_number(value: float) -> Named | None:
    """The simple number that equals this one up to rounding; None if every such number is too long."""
    if value == 0:
        return Named(0.0, 0.0, ("0",))
    found = near(value, SAME * abs(value), most=1)
    return found[0] if found and found[0].bits <= MOST_BITS else None


@dataclass(frozen=True, eq=False)
class _Table:
    """All products of a fraction and a base constant, sorted by value."""

    values: Array
    bits: Array
    sources: NDArray[np.int64]  # numerator, denominator, base

    def number_at(self, n: int) -> Named:
        p, q, base = self.sources[n].tolist()
        return Named(float(self.values[n]), float(self.bits[n]), *_quotient(p, q, *_BASES[base][:2]))


@cache
def _table() -> _Table:
    numerators, denominators = np.meshgrid(np.arange(1, LARGEST + 1), np.arange(1, LARGEST + 1), indexing="ij")
    p, q = numerators.ravel(), denominators.ravel()
    kept = (np.gcd(p, q) == 1) & (np.minimum(p, q) <= LARGEST_OF_BOTH)
    p, q = p[kept], q[kept]
    bits = np.array([0.0, *(_bits(n) for n in range(1, LARGEST + 1))])
    fractions = bits[p] + bits[q] + (q > 1)
    values = np.concatenate([p * base / q for _, _, base, _ in _BASES])
    total = np.concatenate([fractions + more for _, _, _, more in _BASES])
    sources = [np.stack([p, q, np.full(len(p), n)], axis=1) for n in range(len(_BASES))]
    order = np.argsort(values, kind="stable")
    return _Table(values[order], total[order], np.concatenate(sources)[order])


def _bits(n: int) -> float:
    """The bits of an integer: log2, with prime factors from 7 on weighted 1.5, since they are rare in laws."""
    bits, prime = 0.0, 2
    while n > 1:
        while n % prime == 0:
            bits += math.log2(prime) * (1.0 if prime < FIRST_RARE else 1.5)
            n //= prime
        prime += 1
    return bits


def _quotient(p: int, q: int, above: str, below: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """p·above over q·below, as a short decimal if possible."""
    if not above and not below and 10**3 % q == 0:
        return (f"{p / q:g}",), ()
    numerator = (*([str(p)] if p > 1 or not above else []), *([above] if above else []))
    return numerator, (*([str(q)] if q > 1 else []), *([below] if below else []))


def _least(bits: Array, most: int) -> NDArray[np.int64]:
    """The positions of the `most` smallest values in order, the first among equals, without sorting all."""
    if len(bits) <= most:
        return np.argsort(bits, kind="stable")
    candidates = np.flatnonzero(bits <= np.partition(bits, most - 1)[most - 1])
    return candidates[np.argsort(bits[candidates], kind="stable")[:most]]


def _decimals(size: float, distance: float) -> list[Named]:
    """The shortest decimal near a value, and the next longer one."""
    found: list[Named] = []
    for digits in range(1, DIGITS + 1):
        text = f"{size:.{digits - 1}e}"
        value = float(text)
        if abs(value - size) <= distance:
            mantissa, exponent = text.split("e")
            whole = int(mantissa.replace(".", ""))
            shift = int(exponent) - digits + 1
            bits = math.log2(whole) + (DECIMAL + math.log2(1 + abs(shift)) if shift else 0.0)
            found.append(Named(value, bits, (f"{value:.{DIGITS}g}",)))
            if len(found) == 2:
                break
    return found
