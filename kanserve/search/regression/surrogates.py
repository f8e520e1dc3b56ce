"""Surrogates: polynomial fits of an unknown law, for all links by one least-squares fit, with leave-one-out errors."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kanserve.search.regression.bases import (
    Basis,
    Coordinate,
    Indices,
    coordinate,
    has_logarithm,
    ladder,
    ladder_in_others,
    total_degree,
)
from kanserve.search.regression.least_squares import Fit, fit, root_mean_square
from kanserve.search.regression.link_functions import Link, applicable

Array = NDArray[np.float64]

# Error, relative to the outputs' root mean square, below which a fit is exact up to rounding.
SURROGATES_EXACT_ERROR = 1e-11
MOST_TERMS = 220  # terms of a surrogate, at most
ROWS_PER_TERM = 3  # fewest rows per term of a surrogate
LEAST_SLOPE = 0.02  # least slope of a link that converts errors to those of y, relative to its median slope
# An input is switched to or from its logarithm if the error falls below this times the error before.
LOGARITHM_ERROR_RATIO = 0.8
PATIENCE = 2  # index sets without improvement before early stopping
# Relative error from which nothing stops early: many periods need many terms before any gain.
EARLY_STOPPING_ERROR = 0.1
NO_WORSE_RATIO = 1.1  # a simpler form is no worse if its error stays below this times the error before


def is_exact(error: float) -> bool:
    """Whether a fit with this error, relative to the outputs' root mean square, is exact up to rounding."""
    return error < SURROGATES_EXACT_ERROR


def is_gain(error: float, before: float) -> bool:
    """Whether an error is so much lower than before that more terms or steps are worth trying."""
    return error < 0.9 * before


@dataclass(frozen=True, eq=False)
class Surrogate:
    """A polynomial fitted to link(y). `error` is leave-one-out, converted to y, relative to y's root mean square."""

    link: Link
    basis: Basis
    coefficients: Array
    error: float

    @property
    def coordinates(self) -> tuple[Coordinate, ...]:
        return self.basis.coordinates

    @property
    def straight(self) -> tuple[int, ...]:
        """The inputs in which link(y) is linear while the others are fixed."""
        return tuple(np.flatnonzero(self.basis.indices.max(axis=0) <= 1).tolist())

    @property
    def together(self) -> int:
        """The largest number of straight inputs multiplied in one term."""
        return int(self.basis.indices[:, self.straight].sum(axis=1).max())

    def link_values(self, x: Array) -> Array:
        """link(y) at rows x (N, d)."""
        return self.basis.design(x) @ self.coefficients

    def gradient_of_link(self, x: Array) -> Array:
        """The gradient (N, d) of link(y), which is parallel to that of y."""
        slopes = [self.basis.slopes(x, i) @ self.coefficients for i in range(x.shape[1])]
        return np.stack(slopes, axis=1)

    def value(self, x: Array) -> Array:
        """y at rows x (N, d)."""
        return self.link.inverse(self.link_values(x))


def surrogates(x: Array, y: Array, links: Sequence[Link] | None = None) -> tuple[Surrogate, ...]:
    """A surrogate for each link that applies to y (N,), given x (N, d); best first."""
    chosen = tuple(links) if links is not None else applicable(y)
    targets = _Targets.of(y, chosen)
    inputs = x.shape[1]
    raw = tuple(coordinate(x[:, i]) for i in range(inputs))
    bent = tuple(coordinate(x[:, i], has_logarithm(x[:, i])) for i in range(inputs))
    best = _climb(x, targets, raw)
    if any(axis.logarithmic for axis in bent):
        best = _better(best, _climb(x, targets, bent))
        best = _flip_logarithms(x, targets, best)
    found = [
        Surrogate(link, choice.basis, choice.coefficients, choice.error)
        for link, choice in zip(chosen, best, strict=True)
    ]
    return tuple(sorted(found, key=lambda surrogate: surrogate.error))


@dataclass(frozen=True, eq=False)
class _Targets:
    """link(y) centred and scaled (N, K), and the factors that convert its errors to errors of y."""

    values: Array
    centres: Array
    scales: Array
    to_answers: Array

    @staticmethod
    def of(y: Array, links: Sequence[Link]) -> "_Targets":
        raw = np.stack([link.forward(y) for link in links], axis=1)
        centres, scales = raw.mean(axis=0), raw.std(axis=0)
        scales = np.where(scales > 0, scales, 1.0)
        factors = np.stack([answer_units(link, y) for link in links], axis=1)
        return _Targets((raw - centres) / scales, centres, scales, factors * scales)

    def errors(self, candidate: Fit) -> Array:
        return np.asarray(np.sqrt(np.mean((candidate.left_out * self.to_answers) ** 2, axis=0)))


def answer_units(link: Link, y: Array) -> Array:
    """For each row (N,): the error in y, relative to its root mean square, that an error of 1 in link(y) means."""
    size = root_mean_square(y) or 1.0
    slope = np.abs(link.slope(y))
    return 1 / (np.maximum(slope, LEAST_SLOPE * float(np.median(slope)) or 1.0) * size)


class _Grown:
    """A design matrix for index sets that grow; each column and each inner product is computed once."""

    def __init__(self, x: Array, coordinates: tuple[Coordinate, ...]) -> None:
        self.x, self.coordinates = x, coordinates
        self.places: dict[tuple[int, ...], int] = {}
        self.design = np.zeros((len(x), 0))
        self.gram = np.zeros((0, 0))

    def to(self, indices: Indices, targets: Array) -> tuple[Array, Array, Array]:
        """Extend the design to an index set. Returns the arguments of `fit`."""
        rows = [tuple(row) for row in indices.tolist()]
        new = [row for row in rows if row not in self.places]
        if new:
            columns = Basis(self.coordinates, np.array(new, np.int64)).design(self.x)
            corner = columns.T @ self.design
            self.gram = np.block([[self.gram, corner.T], [corner, columns.T @ columns]])
            self.design = np.concatenate([self.design, columns], axis=1)
            self.places |= {row: len(self.places) + k for k, row in enumerate(new)}
        at = np.array([self.places[row] for row in rows])
        return self.design[:, at], targets, self.gram[np.ix_(at, at)]


@dataclass(frozen=True, eq=False)
class _Choice:
    basis: Basis
    coefficients: Array
    error: float


def _climb(x: Array, targets: _Targets, coordinates: tuple[Coordinate, ...]) -> list[_Choice]:
    """Choose the best index set for each link."""
    grown = _Grown(x, coordinates)
    best: list[_Choice] = []
    idle = 0
    for indices in ladder(x.shape[1], most_terms(len(x))):
        step_fit = fit(*grown.to(indices, targets.values))
        step = _choices(Basis(coordinates, indices), step_fit, targets)
        gained = not best or any(is_gain(new.error, old.error) for new, old in zip(step, best, strict=True))
        best = _better(best, step) if best else step
        idle = 0 if gained else idle + 1
        least = min(choice.error for choice in best)
        if (idle >= PATIENCE and least < EARLY_STOPPING_ERROR) or is_exact(least):
            break
    return best


def _choices(basis: Basis, candidate: Fit, targets: _Targets) -> list[_Choice]:
    coefficients = candidate.coefficients * targets.scales
    coefficients[0] += targets.centres  # the first column of every set is the constant
    errors = targets.errors(candidate)
    return [_Choice(basis, coefficients[:, k], float(error)) for k, error in enumerate(errors)]


def _better(ones: list[_Choice], others: list[_Choice]) -> list[_Choice]:
    pairs = zip(ones, others, strict=True)
    return [rival if rival.error < 0.99 * choice.error else choice for choice, rival in pairs]


def _flip_logarithms(x: Array, targets: _Targets, best: list[_Choice]) -> list[_Choice]:
    """Switch inputs to or from their logarithms where that improves the best link."""
    for i in range(x.shape[1]):
        leader = min(best, key=lambda choice: choice.error)
        if not has_logarithm(x[:, i]) or is_exact(leader.error):
            continue
        other = coordinate(x[:, i], not leader.basis.coordinates[i].logarithmic)
        coordinates = (*leader.basis.coordinates[:i], other, *leader.basis.coordinates[i + 1 :])
        basis = Basis(coordinates, leader.basis.indices)
        step = _choices(basis, fit(basis.design(x), targets.values), targets)
        if min(choice.error for choice in step) < LOGARITHM_ERROR_RATIO * leader.error:
            best = _better(best, step)
    return best


def sharpen(x: Array, y: Array, known: Surrogate) -> Surrogate:
    """A more accurate surrogate, with high degrees in few inputs and straight lines in the others if their higher
    powers (plain or logarithmic) do not matter; else the same one."""
    if is_exact(known.error):
        return known
    targets, worst = _Targets.of(y, (known.link,)), NO_WORSE_RATIO * known.error
    axes, straight = list(known.coordinates), []
    for i in range(x.shape[1]):
        indices = known.basis.indices[known.basis.indices[:, i] <= 1]
        for logarithmic in (False, True)[: 1 + has_logarithm(x[:, i])]:
            trial = (*axes[:i], coordinate(x[:, i], logarithmic), *axes[i + 1 :])
            if _fit_basis(x, targets, Basis(trial, indices)).error < worst:
                axes[i] = trial[i]
                straight.append(i)
                break
    if len(straight) in (0, x.shape[1]):
        return known
    best = _Choice(known.basis, known.coefficients, known.error)
    for together in (1, 2)[: len(straight)]:
        for indices in ladder_in_others(x.shape[1], tuple(straight), together, most_terms(len(x))):
            (best,) = _better([best], [_fit_basis(x, targets, Basis(tuple(axes), indices))])
            if is_exact(best.error):
                break
    return Surrogate(known.link, best.basis, best.coefficients, best.error)


def _fit_basis(x: Array, targets: _Targets, basis: Basis) -> _Choice:
    (choice,) = _choices(basis, fit(basis.design(x), targets.values), targets)
    return choice


def far_from_polynomial(x: Array, y: Array, degree: int) -> float:
    """The leave-one-out error of the best polynomial of this total degree in x (N, d) for y (N,)."""
    basis = Basis(tuple(coordinate(column) for column in x.T), total_degree(x.shape[1], degree))
    return root_mean_square(fit(basis.design(x), y[:, None]).left_out)


def most_terms(rows: int) -> int:
    return max(2, min(MOST_TERMS, rows // ROWS_PER_TERM))
