"""Products of Chebyshev polynomials of several inputs, or of their logarithms."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations_with_replacement, product

import numpy as np
from numpy.typing import NDArray

from kanserve.search.regression import budget

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

# Ratio of an input's largest to its smallest size below which its logarithm is nearly a straight line.
LEAST_LOGARITHM_RATIO = 1.5

_STEPS_OF_CROSS = (4, 6, 8, 12, 16, 24, 32)  # hyperbolic crosses for three inputs or more
_STEPS_OF_NARROW_CROSS = (24, 36, 48)  # for two inputs: many periods along one of them
_HIGHEST_DEGREES = (40, 18, 14)  # for one input, two, and more


@dataclass(frozen=True)
class Coordinate:
    """A coordinate u = (t(x) - centre) / width, in [-1, 1] on the data, where t is the identity or log|x|."""

    logarithmic: bool
    centre: float
    width: float

    def of(self, x: Array) -> Array:
        t = np.log(np.maximum(np.abs(x), 1e-300)) if self.logarithmic else x
        return (t - self.centre) / self.width

    def slope(self, x: Array) -> Array:
        """The derivative du/dx."""
        return 1 / (self.width * x) if self.logarithmic else np.full_like(x, 1 / self.width)


def coordinate(values: Array, logarithmic: bool = False) -> Coordinate:
    t = np.log(np.abs(values)) if logarithmic else values
    low, high = float(t.min()), float(t.max())
    return Coordinate(logarithmic, (low + high) / 2, (high - low) / 2 or 1.0)


def has_logarithm(values: Array) -> bool:
    """Whether the logarithm of an input is useful: its values have one sign, and the largest magnitude is many times
    the smallest. Then log(x^p) = p·log(x) makes powers linear."""
    low, high = float(values.min()), float(values.max())
    if low <= 0 <= high:
        return False
    ends = sorted((abs(low), abs(high)))
    return ends[1] >= LEAST_LOGARITHM_RATIO * ends[0]


@dataclass(frozen=True, eq=False)
class Basis:
    """Products T_a(u_1)·T_b(u_2)·... of Chebyshev polynomials, one for each row (a, b, ...) of `indices` (P, d)."""

    coordinates: tuple[Coordinate, ...]
    indices: Indices

    def design(self, x: Array) -> Array:
        """The design matrix (N, P) at rows x (N, d)."""
        columns = np.ones((len(x), len(self.indices)))
        for i, values in enumerate(self._polynomials(x)):
            used = self.indices[:, i] > 0
            columns[:, used] *= values[:, self.indices[used, i]]
        return columns

    def slopes(self, x: Array, i: int) -> Array:
        """The derivatives (N, P) of the columns with respect to input i."""
        columns = np.zeros((len(x), len(self.indices)))
        used = self.indices[:, i] > 0
        part = np.ones((len(x), int(used.sum())))
        for j, values in enumerate(self._polynomials(x)):
            if j == i:
                values = _derivatives(values) * self.coordinates[i].slope(x[:, i])[:, None]
            part *= values[:, self.indices[used, j]]
        columns[:, used] = part
        return columns

    def _polynomials(self, x: Array) -> list[Array]:
        """T_0 .. T_degree of each input, each (N, degree + 1)."""
        degrees = self.indices.max(axis=0, initial=0)
        pairs = zip(self.coordinates, degrees, strict=True)
        return [
            chebyshev(coordinate_of_input.of(x[:, i]), int(degree))
            for i, (coordinate_of_input, degree) in enumerate(pairs)
        ]


def chebyshev(u: Array, degree: int) -> Array:
    """The Chebyshev polynomials T_0 .. T_degree at u (N,): (N, degree + 1)."""
    columns = np.ones((len(u), degree + 1))
    if degree > 0:
        columns[:, 1] = u
    for n in range(2, degree + 1):
        columns[:, n] = 2 * u * columns[:, n - 1] - columns[:, n - 2]
    return columns


def _derivatives(columns: Array) -> Array:
    """The derivatives of T_0 .. T_degree: T_n' = 2n·T_(n-1) + n/(n-2)·T_(n-2)'."""
    slopes = np.zeros_like(columns)
    for n in range(1, columns.shape[1]):
        slopes[:, n] = n * columns[:, 0] if n == 1 else 2 * n * columns[:, n - 1]
        if n > 2:
            slopes[:, n] += n / (n - 2) * slopes[:, n - 2]
    return slopes


def terms_up_to(inputs: int, degree: int) -> int:
    """The number of monomials up to this total degree."""
    return math.comb(inputs + degree, degree)


@lru_cache(maxsize=256)
def total_degree(inputs: int, degree: int) -> Indices:
    """The exponents (P, inputs) of all monomials up to this total degree, sorted by degree."""
    budget.check()
    parts = [np.zeros((1, inputs), np.int64)]
    for own in range(1, degree + 1):
        factors = np.array([*combinations_with_replacement(range(inputs), own)], np.int64).reshape(-1, own)
        part = np.zeros((len(factors), inputs), np.int64)
        for column in factors.T:
            part[np.arange(len(part)), column] += 1
        parts.append(part)
    return np.concatenate(parts)


@lru_cache(maxsize=256)
def hyperbolic_cross(inputs: int, limit: int) -> Indices:
    """The exponents of monomials with (a + 1)·(b + 1)·... ≤ limit: high powers of one input, low ones of several."""
    budget.check()
    if inputs == 0:
        return np.zeros((1, 0), np.int64)
    rows = [
        (first, *rest) for first in range(limit) for rest in hyperbolic_cross(inputs - 1, limit // (first + 1)).tolist()
    ]
    return np.array(rows, np.int64).reshape(-1, inputs)


@lru_cache(maxsize=256)
def straight_in(inputs: int, straight: tuple[int, ...], together: int, degree: int) -> Indices:
    """Monomials up to a total degree in the other inputs, times at most `together` straight inputs: (P, inputs)."""
    others = [i for i in range(inputs) if i not in straight]
    lines = [row for row in product((0, 1), repeat=len(straight)) if sum(row) <= together]
    powers = total_degree(len(others), degree)
    indices = np.zeros((len(powers), len(lines), inputs), np.int64)
    indices[:, :, others] = powers[:, None]
    indices[:, :, straight] = np.array(lines, np.int64).reshape(len(lines), -1)
    return indices.reshape(len(powers) * len(lines), inputs)


@lru_cache(maxsize=256)
def ladder(inputs: int, terms: int) -> tuple[Indices, ...]:
    """Index sets with at most `terms` terms, smallest first: total degrees and, for more inputs, hyperbolic crosses."""
    sets = []
    highest = _HIGHEST_DEGREES[min(inputs, 3) - 1]
    for degree in range(1, highest + 1):
        indices = total_degree(inputs, degree)
        if len(indices) > terms:
            break
        sets.append(indices)
    if inputs >= 2:
        limits = _STEPS_OF_CROSS if inputs > 2 else _STEPS_OF_NARROW_CROSS
        crosses = [hyperbolic_cross(inputs, limit) for limit in limits if limit * inputs < 8 * terms]
        sets += [indices for indices in crosses if len(indices) <= terms]
    return tuple(sorted(sets, key=len)) or (np.zeros((1, inputs), np.int64),)


def ladder_in_others(inputs: int, straight: tuple[int, ...], together: int, terms: int) -> Iterator[Indices]:
    """The sets of `straight_in` with at most `terms` terms, smallest first."""
    for degree in range(1, _HIGHEST_DEGREES[min(inputs - len(straight), 3) - 1] + 1):
        indices = straight_in(inputs, straight, together, degree)
        if len(indices) > terms:
            break
        yield indices


def separate(parts: Sequence[Sequence[int]], inputs: int, sets: Sequence[Indices]) -> Indices:
    """The constant, and the terms of each part's index set, as indices over all inputs."""
    rows = [np.zeros((1, inputs), np.int64)]
    for part, indices in zip(parts, sets, strict=True):
        own = indices[indices.sum(axis=1) > 0]
        placed = np.zeros((len(own), inputs), np.int64)
        placed[:, list(part)] = own
        rows.append(placed)
    return np.concatenate(rows)
