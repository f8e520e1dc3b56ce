"""Quotients of low polynomials under a link function, for outputs with noise: y = g⁻¹(P/Q).

The first P and Q are those of Sanathanan and Koerner (IEEE Transactions on Automatic Control, 1963): P - g(y)·Q is
linear in the coefficients, and each solution gives the weights of the next. A polynomial that follows y stands for y
there, so that noise biases nothing. Levenberg-Marquardt then minimises the error in y itself. Terms are left out one by
one, the least significant first. How many stay, and which link and degrees are the best, is decided by the extended
Bayesian information criterion (Chen and Chen, Biometrika, 2008), in which a model costs more if there are many like it.
It is of errors in y, so that links can be compared.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from kanserve.data.row_weights import square_roots
from kanserve.search.regression import budget
from kanserve.search.regression.link_functions import IDENTITY, Link, of_smooth_values
from kanserve.search.regression.sparse_polynomial import Polynomial, Powers, Rational, monomials, powers_of
from kanserve.search.regression.variable_projection import SCALED_DAMPING, SCALED_MOST_DAMPING, SCALED_STEPS

Array = NDArray[np.float64]

# Degrees of P and Q by the number of inputs, for outputs with noise.
NOISY_DEGREES = MappingProxyType(
    {1: ((1, 1), (2, 2), (3, 3)), 2: ((1, 1), (2, 2)), 3: ((1, 1), (2, 2)), 4: ((2, 0), (1, 1), (2, 1))}
)
NOISY_OTHER_DEGREES = ((2, 0), (1, 1))  # those with more inputs
NOISY_ROWS_PER_TERM = 10  # rows for each term of P and Q, at least
NOISY_ITERATIONS = 3  # linear problems, each with the weights of the one before
NOISY_RIDGE = 1e-9  # added to the normal equations, relative to their diagonal: P and Q may have a factor in common
NOISY_LEAST_SLOPE = 1e-3  # least slope of a link, relative to its median slope
NOISY_LEAST_DIVISOR = 0.05  # least divisor in a weight, relative to their mean
NOISY_LEAST_GAIN = 1e-6  # relative: a smaller gain of a step ends the fit
# Terms that are tried, the least significant first, until the quotient without one is finite on all rows.
NOISY_TRIED_TERMS = 3
NOISY_DEVIATIONS = 3.0  # standard errors within which numbers are rounded to halves
GROWING_SIZES = (1, 2, 3, 4, 6, 8, 12, 16)  # numbers of terms of the sums that are listed


@dataclass(frozen=True, eq=False)
class LinkedQuotient:
    """The model link⁻¹(P/Q), inside a logarithm plus powers of the inputs, and its information criterion (lower is
    better). `doubt` is the largest relative standard error of a number; `simpler` have fewer terms and larger
    errors."""

    link: Link
    quotient: Rational
    exponents: tuple[float, ...]
    criterion: float
    doubt: float
    simpler: tuple["LinkedQuotient", ...] = ()


def possible_links(smooth: Array) -> list[tuple[Link, Array]]:
    """The links that suit outputs near `smooth` (N,), each with these values moved into its domain."""
    return [(IDENTITY, smooth), *of_smooth_values(smooth)]


def best_first(found: Iterable[LinkedQuotient | None]) -> list[LinkedQuotient]:
    """Sort the quotients by their information criterion, without the None entries."""
    return sorted((quotient for quotient in found if quotient is not None), key=lambda quotient: quotient.criterion)


def noisy_quotient(x: Array, y: Array, link: Link, near: Array, weights: Array | None) -> LinkedQuotient | None:
    """The best quotient for a link of y (N,) at rows x (N, d), or None. `near` (N,): values near y with less noise."""
    found: list[LinkedQuotient] = []
    for top, bottom in NOISY_DEGREES.get(x.shape[1], NOISY_OTHER_DEGREES):
        model = _Model.of(x, y, link, top, bottom, weights)
        if model.terms * NOISY_ROWS_PER_TERM <= len(y):
            budget.count_fit()
            with np.errstate(all="ignore"):
                found += _sparse(model, near)
    return next(iter(best_first(found)), None)


@dataclass(frozen=True, eq=False)
class _Model:
    """The model y = link⁻¹(top·p / bottom·q + logs·e), with the constants p, q and e in one vector."""

    link: Link
    y: Array
    roots: Array
    top: Array
    bottom: Array
    logs: Array
    above: tuple[Powers, ...]
    below: tuple[Powers, ...]
    logarithmic: tuple[int, ...]
    scales: Array

    @staticmethod
    def of(x: Array, y: Array, link: Link, top: int, bottom: int, weights: Array | None) -> "_Model":
        scales = np.sqrt(np.mean(x**2, axis=0))
        scales = np.where(scales > 0, scales, 1.0)
        small, count = x / scales, x.shape[1]
        logarithmic = tuple(i for i in range(count) if link.name == "log" and small[:, i].min() > 0)
        above, below = powers_of(count, top), powers_of(count, bottom)
        roots = np.ones(len(y)) if weights is None else square_roots(weights)
        columns = monomials(small, above), monomials(small, below), np.log(small[:, logarithmic])
        return _Model(link, y, roots, *columns, above, below, logarithmic, scales)

    @property
    def terms(self) -> int:
        return len(self.above) + len(self.below) + len(self.logarithmic)

    @property
    def parts(self) -> tuple[range, range, range]:
        """The index ranges of p, q and e."""
        first, second = len(self.above), len(self.above) + len(self.below)
        return range(first), range(first, second), range(second, self.terms)

    def residuals(self, constants: Array) -> tuple[Array, Array]:
        """The weighted residuals (N,), infinite if Q passes through 0, and the derivatives of y (N, terms)."""
        first, second = len(self.above), len(self.above) + len(self.below)
        p, q = self.top @ constants[:first], self.bottom @ constants[first:second]
        if q.min() <= 0 <= q.max():
            return np.full(len(q), np.inf), self.top
        values = self.link.inverse(p / q + self.logs @ constants[second:])
        slope = self.roots * _slope(self.link, values)
        over = (slope / q)[:, None]
        slopes = [self.top * over, self.bottom * (-p / q)[:, None] * over, self.logs * slope[:, None]]
        return self.roots * (self.y - values), np.concatenate(slopes, axis=1)

    def to_quotient(self, constants: Array, kept: Sequence[int], criterion: float, doubt: float) -> LinkedQuotient:
        above, below, logs = self.parts
        top = [(self.above[k], constants[k]) for k in above if k in kept]
        bottom = [(self.below[k - below.start], constants[k]) for k in below if k in kept]
        exponents = [0.0] * len(self.scales)
        for k in logs:
            exponents[self.logarithmic[k - logs.start]] = float(constants[k]) if k in kept else 0.0
        constant = -sum(e * math.log(scale) for e, scale in zip(exponents, self.scales.tolist(), strict=True))
        top = top or [((0,) * len(self.scales), 0.0)]
        numerator, denominator = (self._polynomial(terms) for terms in (top, bottom))
        if constant:
            numerator = _plus(numerator, denominator, constant)
        unit = max(denominator.coefficients, key=abs)
        quotient = Rational(_over(numerator, unit), _over(denominator, unit))
        return LinkedQuotient(self.link, quotient, tuple(exponents), criterion, doubt)

    def sizes(self, powers: Sequence[Powers]) -> Array:
        """The factors by which the columns of these terms were divided."""
        return np.asarray(np.prod(self.scales ** np.array(powers, np.float64).reshape(-1, len(self.scales)), axis=1))

    def _polynomial(self, terms: Sequence[tuple[Powers, float]]) -> Polynomial:
        powers = tuple(powers for powers, value in terms if value) or (terms[0][0],)
        values = dict(terms)
        sizes = zip(powers, self.sizes(powers).tolist(), strict=True)
        return Polynomial(powers, tuple(float(values[own]) / size for own, size in sizes))


def _slope(link: Link, values: Array) -> Array:
    """The derivative of link⁻¹ at the points where it has these values (N,), bounded where it is infinite."""
    slopes = link.slope(values)
    least = NOISY_LEAST_SLOPE * float(np.median(np.abs(slopes)))
    return np.asarray(np.where(slopes < 0, -1.0, 1.0) / np.maximum(np.abs(slopes), least or 1e-300))


def _plus(polynomial: Polynomial, other: Polynomial, factor: float) -> Polynomial:
    """The sum polynomial + factor·other."""
    terms = dict(zip(polynomial.powers, polynomial.coefficients, strict=True))
    for powers, coefficient in zip(other.powers, other.coefficients, strict=True):
        terms[powers] = terms.get(powers, 0.0) + factor * coefficient
    return Polynomial(tuple(terms), tuple(terms.values()))


def _over(polynomial: Polynomial, unit: float) -> Polynomial:
    return Polynomial(polynomial.powers, tuple(coefficient / unit for coefficient in polynomial.coefficients))


@dataclass(frozen=True, eq=False)
class _State:
    """Constants, the sum of squares at them, and the weighted derivatives of the fitted y by them, (N, terms)."""

    constants: Array
    squares: float
    slopes: Array


def _sparse(model: _Model, smooth: Array) -> Iterator[LinkedQuotient]:
    """Backward elimination: the quotient of least information criterion among those with fewer and fewer terms."""
    every = list(range(model.terms))
    fits = [_descend(model, start, every) for start in _starts(model, smooth)]
    usable = [state for state in fits if state is not None]
    if not usable:
        return
    path = list(_fewer_and_fewer(model, min(usable, key=lambda state: state.squares), every))
    _, state, kept = min(path, key=lambda step: step[0])
    if any(k in model.parts[1][1:] for k in kept):
        # P and Q may have kept a factor in common: terms are left out one by one.
        *_, start = _starts(model, smooth)
        polynomial = [k for k in every if k not in model.parts[1][1:]]
        fitted = _descend(model, start, polynomial)
        rivals = [] if fitted is None else list(_fewer_and_fewer(model, fitted, polynomial))
        path = min(path, rivals, key=lambda steps: min((step[0] for step in steps), default=math.inf))
        _, state, kept = min(path, key=lambda entry: entry[0])
    sizes = GROWING_SIZES
    simpler = tuple(
        model.to_quotient(other.constants, own, criterion, math.inf)
        for criterion, other, own in path
        if len(own) < len(kept) and len(own) in sizes
    )
    state, criterion, doubt = _with_simple_numbers(model, state, kept)
    yield replace(model.to_quotient(state.constants, kept, criterion, doubt), simpler=simpler)


def _fewer_and_fewer(
    model: _Model, state: _State, kept: Sequence[int]
) -> Iterator[tuple[float, _State, Sequence[int]]]:
    """Drop one term after another; yields the criterion, the state and the remaining terms each time."""
    yield _criterion(model, state, kept), state, kept
    while (fewer := _without_one(model, state, kept)) is not None:
        state, kept = fewer
        yield _criterion(model, state, kept), state, kept


def _starts(model: _Model, smooth: Array) -> Iterator[Array]:
    """Starting constants from linear problems: a polynomial, and two iterations of a quotient. Since the link of noisy
    y may be undefined, that of the smooth values is used, with the residual along its slope."""
    linked = model.link.forward(smooth)
    weight = _slope(model.link, smooth)
    target = linked + (model.y - smooth) / weight
    weight = np.abs(weight) * model.roots
    below = model.parts[1]
    means = model.bottom.mean(axis=0)
    # Q is 1 on average, so the coefficient of its constant follows from the others.
    centred = (model.bottom - means)[:, 1:]
    divisor = np.ones(len(smooth))
    for _ in range(NOISY_ITERATIONS):
        columns = [model.top, -linked[:, None] * centred, model.logs * divisor[:, None]]
        design = np.concatenate(columns, axis=1) * (weight / divisor)[:, None]
        solved = _least_squares(design, target * weight / divisor)
        own = solved[below.start : below.stop - 1]
        q = np.concatenate([[1 - means[1:] @ own], own])
        yield np.concatenate([solved[: below.start], q, solved[below.stop - 1 :]])
        divisor = model.bottom @ q
        size = NOISY_LEAST_DIVISOR * float(np.abs(divisor).mean())
        divisor = np.where(np.abs(divisor) > size, divisor, size)
    design = np.concatenate([model.top, model.logs], axis=1) * weight[:, None]
    solved = _least_squares(design, target * weight)
    constant = np.eye(len(model.below))[0]
    yield np.concatenate([solved[: below.start], constant, solved[below.start :]])


def _least_squares(design: Array, target: Array) -> Array:
    """Least-squares coefficients with a small ridge, since P and Q may share any common factor."""
    sizes = np.sqrt(np.sum(design**2, axis=0))
    sizes = np.where(sizes > 0, sizes, 1.0)
    scaled = design / sizes
    normal = scaled.T @ scaled
    normal[np.diag_indices_from(normal)] += NOISY_RIDGE
    return np.asarray(np.linalg.solve(normal, scaled.T @ target) / sizes)


def _descend(model: _Model, start: Array, kept: Sequence[int]) -> _State | None:
    """Levenberg-Marquardt for the constants in `kept`; the others are fixed. None if the start is not finite."""
    constants = start
    residuals, slopes = model.residuals(constants)
    squares = _squares(residuals)
    if not (math.isfinite(squares) and _usable(slopes)):
        return None
    damping = SCALED_DAMPING
    for _ in range(SCALED_STEPS):
        own = slopes[:, kept]
        sizes = np.sqrt(np.sum(own**2, axis=0))
        sizes = np.where(sizes > 0, sizes, 1.0)
        scaled = own / sizes
        normal, gradient = scaled.T @ scaled, scaled.T @ residuals
        before = squares
        while damping <= SCALED_MOST_DAMPING:
            step = np.linalg.solve(normal + damping * np.eye(len(kept)), gradient) / sizes
            moved = constants.copy()
            moved[kept] += step
            left, other = model.residuals(moved)
            size = _squares(left)
            if size < squares and _usable(other):
                constants, residuals, slopes, squares = moved, left, other, size
                damping = max(damping / 10, 1e-9)
                break
            damping *= 10
        if before - squares <= NOISY_LEAST_GAIN * before:
            break
    return _State(constants, squares, slopes)


def _usable(slopes: Array) -> bool:
    """Whether the squares of the derivatives have a finite sum."""
    return math.isfinite(float(np.vdot(slopes, slopes)))


def _squares(residuals: Array) -> float:
    found = float(residuals @ residuals)
    return found if math.isfinite(found) else math.inf


def _without_one(model: _Model, state: _State, kept: Sequence[int]) -> tuple[_State, list[int]] | None:
    """Drop the term that the data need least, and refit. None if no term can be dropped."""
    below = model.parts[1]
    sizes = np.sqrt(np.mean(model.bottom**2, axis=0)) * np.abs(state.constants[below.start : below.stop])
    # P and Q may be multiplied by any number: the largest term of Q stays, while it is not the one to leave out.
    order = sorted((k for k in kept if k in below), key=lambda k: -sizes[k - below.start])
    needed = {kind[0] for kind in (order, [k for k in kept if k not in below]) if len(kind) == 1}
    losses: list[tuple[float, int, Array]] = []
    for unit, places in [(order[0], [k for k in kept if k != order[0]]), *((k, order[:1]) for k in order[1:2])]:
        free = [k for k in kept if k != unit]
        own = state.slopes[:, free]
        scales = np.sqrt(np.sum(own**2, axis=0))
        scales = np.where(scales > 0, scales, 1.0)
        scaled = own / scales
        normal = scaled.T @ scaled
        normal[np.diag_indices_from(normal)] += NOISY_RIDGE
        inverse = np.linalg.inv(normal)
        for k in places:
            n = free.index(k)
            value = state.constants[k] * scales[n]
            moved = state.constants.copy()
            moved[free] -= inverse[:, n] * value / inverse[n, n] / scales
            moved[k] = 0.0
            if k not in needed and np.isfinite(moved).all():
                losses.append((float(value**2 / inverse[n, n]), k, moved))
    for _, k, moved in sorted(losses, key=lambda entry: entry[:2])[:NOISY_TRIED_TERMS]:
        rest = [other for other in kept if other != k]
        plain = state.constants.copy()
        plain[k] = 0.0
        for start in (moved, plain):
            fitted = _descend(model, start, rest)
            if fitted is not None:
                return fitted, rest
    return None


def _criterion(model: _Model, state: _State, kept: Sequence[int]) -> float:
    rows, count, terms = len(model.y), len(kept) - 1, model.terms - 1
    choices = math.lgamma(terms + 1) - math.lgamma(count + 1) - math.lgamma(terms - count + 1)
    error = max(state.squares / rows, 1e-300)
    return rows * math.log(error) + count * math.log(rows) + 2 * choices


def _with_simple_numbers(model: _Model, state: _State, kept: Sequence[int]) -> tuple[_State, float, float]:
    """Round the numbers, or only the exponents, to halves if the fit stays as good, since these cost no constant. Also
    returns the criterion and the largest relative error."""
    _, below, logs = model.parts
    units = np.concatenate([model.sizes(model.above), model.sizes(model.below), np.ones(len(logs))])
    largest = max((k for k in kept if k in below), key=lambda k: abs(state.constants[k] / units[k]))
    units[: below.stop] *= state.constants[largest] / units[largest]
    free = [k for k in kept if k != largest]
    own = state.slopes[:, free] * units[free]
    scales = np.sqrt(np.sum(own**2, axis=0))
    normal = (own / scales).T @ (own / scales)
    normal[np.diag_indices_from(normal)] += NOISY_RIDGE
    variances = np.diag(np.linalg.inv(normal)) / scales**2 * state.squares / max(1, len(model.y) - len(free))
    numbers, errors = (state.constants / units)[free], np.sqrt(np.maximum(variances, 0.0))
    doubts = errors / np.maximum(np.abs(numbers), 1e-300)
    halves = np.round(2 * numbers) / 2
    near = np.abs(halves - numbers) < NOISY_DEVIATIONS * errors
    rounded = {k: float(half) for k, half, close in zip(free, halves, near, strict=True) if close}
    criterion = _criterion(model, state, kept)
    for places in (set(rounded), set(rounded).intersection(logs)):
        constants = state.constants.copy()
        for k in places:
            constants[k] = rounded[k] * units[k]
        other = _descend(model, constants, [k for k in free if k not in places]) if places else None
        simpler = np.inf if other is None else _criterion(model, other, kept) - len(places) * math.log(len(model.y))
        if other is not None and simpler < criterion:
            gone = [k in places and rounded[k] == 0 for k in free]
            return other, simpler, float(np.max(np.where(gone, 0.0, doubts), initial=0.0))
    return state, criterion, float(np.max(doubts, initial=0.0))
