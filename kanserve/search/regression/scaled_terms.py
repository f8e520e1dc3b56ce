"""Sums of two functions f(a·x_i + b) and a low polynomial, with all constants. As in `term_sums`, one Gram matrix gives
the residual of every pair over a grid of factors a; a and b of the best pairs are then refined by variable projection.
A sine may have a rate: exp(r·x)·sin(a·x + b)."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from kanserve.network.functions import FUNCTIONS
from kanserve.search.regression.rivals import outdoes_polynomials
from kanserve.search.regression.term_sums import TERM_EXACT_ERROR, TERM_ROUNDING, TERM_ROWS, is_usable
from kanserve.search.regression.variable_projection import Constant, Scaled, fit_terms
from kanserve.search.regression.waves import SCALED_CANDIDATES, SCALED_WAVE_STEP, SCALED_WAVES

Array = NDArray[np.float64]

SCALED_FACTORS = (0.3, 20.0)  # factors of other functions on the grid, over half of the input's range
SCALED_COUNT = 16  # factors on the grid
SCALED_FIRST = 24  # terms for which every second term is tried, the best alone
# Candidates of the same functions, with factors of the same signs: a law off the grid looks like many of them.
SCALED_ALIKE = 3
# Coefficients over the spread of the outputs, at most: close functions that cancel are a derivative.
SCALED_LARGEST_TERM = 1e4
SCALED_LEAST = 1e-12  # least square of a column beside the others, relative: what is left of a smaller one is rounding

NAMES = ("exp", "tanh", "arctan", "gaussian")
_FREE: Mapping[str, tuple[Constant, ...]] = MappingProxyType(
    {"exp": ("factor",), "sin": ("factor", "rate"), **dict.fromkeys(NAMES[1:], ("factor", "shift"))}
)


@dataclass(frozen=True)
class ScaledSum:
    """A sum constant + Σ coefficient·f(a·x_i) + Σ coefficient·x_i^power."""

    constant: float
    terms: tuple[tuple[float, Scaled], ...]
    powers: tuple[tuple[float, int, int], ...]


Group = tuple[Scaled, tuple[int, ...]]
"""A term, and its columns: a sine has that of the cosine too, for its phase."""


def fit_scaled_sum(x: Array, y: Array, count: int, degree: int) -> ScaledSum | None:
    """The sum of `count` terms and a polynomial of this degree that equals y (N,) at rows x (N, d), or None."""
    some = np.linspace(0, len(x) - 1, min(TERM_ROWS, len(x))).astype(int)
    x, y = x[some], y[some]
    groups, values = _columns(x)
    powers = [(i, power) for power in range(1, degree + 1) for i in range(x.shape[1])]
    beside = np.column_stack([np.ones(len(x)), *(x[:, i] ** power for i, power in powers)])
    spread = float(np.sqrt(np.mean((y - y.mean()) ** 2)))
    for terms in _rank_terms(groups, values, y, beside, count):
        fitted, coefficients, error = fit_terms(terms, x, y, beside)
        sizes = [abs(c) for c in coefficients[beside.shape[1] :].tolist()]
        constants = len(coefficients) + sum(len(term.free) for term in fitted)
        if (
            error < TERM_EXACT_ERROR * spread
            and max(sizes) < SCALED_LARGEST_TERM * spread
            and outdoes_polynomials(x, y, constants, error)
        ):
            return to_scaled_sum([_without_rate(term, x) for term in fitted], coefficients, powers)
    return None


def _without_rate(term: Scaled, x: Array) -> Scaled:
    """Set a rate to 0 if it is 0 up to rounding."""
    rounding = TERM_ROUNDING
    return replace(term, rate=0.0) if abs(term.rate) * float(np.ptp(x[:, term.i])) < rounding else term


def to_scaled_sum(terms: Sequence[Scaled], coefficients: Array, powers: Sequence[tuple[int, int]]) -> ScaledSum:
    """Build the sum from the coefficients that `fit_terms` returns."""
    constant, *rest = coefficients.tolist()
    slopes, own = rest[: len(powers)], iter(rest[len(powers) :])
    found: list[tuple[float, Scaled]] = []
    for term in terms:
        if term.function == "sin":
            sine, cosine = next(own), next(own)
            found.append((float(np.hypot(sine, cosine)), replace(term, shift=float(np.arctan2(cosine, sine)))))
        else:
            found.append((next(own), term))
    return ScaledSum(
        constant, tuple(found), tuple((slope, i, power) for slope, (i, power) in zip(slopes, powers, strict=True))
    )


def _columns(x: Array) -> tuple[list[Group], Array]:
    groups: list[Group] = []
    columns: list[Array] = []
    for i in range(x.shape[1]):
        half = float(np.ptp(x[:, i])) / 2 or 1.0
        for factor in np.arange(1, SCALED_WAVES + 1) * SCALED_WAVE_STEP / half:
            groups.append((Scaled(i, "sin", float(factor), free=_FREE["sin"]), (len(columns), len(columns) + 1)))
            columns += [np.sin(factor * x[:, i]), np.cos(factor * x[:, i])]
        for name in NAMES:
            for size in np.geomspace(*SCALED_FACTORS, SCALED_COUNT) / half:
                for factor in (size, -size) if name == "exp" else (size,):
                    with np.errstate(all="ignore"):
                        column = FUNCTIONS[name].numpy(factor * x[:, i])
                    if is_usable(column):
                        groups.append((Scaled(i, name, float(factor), free=_FREE[name]), (len(columns),)))
                        columns.append(column)
    return groups, np.stack(columns, axis=1)


def _rank_terms(
    groups: list[Group], values: Array, y: Array, beside: Array, count: int
) -> Iterator[tuple[Scaled, ...]]:
    """The single terms, or pairs, that explain most of y; only a few of each kind and of neighbouring grid points."""
    q = np.linalg.qr(beside)[0]
    centred = values - q @ (q.T @ values)
    centred /= np.sqrt(np.sum(values**2, axis=0)) + 1e-300
    target = y - q @ (q.T @ y)
    ranked = np.argsort(-_explain(groups, centred, target), kind="stable")
    if count == 1:
        yield from _apart(groups, ((int(k),) for k in ranked))
        return
    pairs: list[tuple[float, int, int]] = []
    for k in ranked[:SCALED_FIRST]:  # the second term beside a first
        basis = np.linalg.qr(centred[:, groups[k][1]])[0]
        rest = target - basis @ (basis.T @ target)
        own = _explain(groups, centred - basis @ (basis.T @ centred), rest)
        own[k] = 0.0
        size = float(rest @ rest)
        pairs += [(size - gain, int(k), n) for n, gain in enumerate(own.tolist())]
    pairs.sort()
    yield from _apart(groups, ((min(k, n), max(k, n)) for _, k, n in pairs))


def _explain(groups: list[Group], columns: Array, target: Array) -> Array:
    """How much of the target's sum of squares each term explains: one column, or a sine and a cosine together."""
    sizes, dots = np.sum(columns**2, axis=0), columns.T @ target
    first = np.array([own[0] for _, own in groups])
    last = np.array([own[-1] for _, own in groups])
    cross = np.where(first == last, 0.0, np.sum(columns[:, first] * columns[:, last], axis=0))
    with np.errstate(all="ignore"):
        alone = dots[first] ** 2 / sizes[first]
        determinant = sizes[first] * sizes[last] - cross**2
        both = sizes[last] * dots[first] ** 2 - 2 * cross * dots[first] * dots[last] + sizes[first] * dots[last] ** 2
        gained: Array = np.where(first == last, alone, both / determinant)
        left = np.where(first == last, sizes[first], determinant / sizes[first])
    told = left > SCALED_LEAST
    return np.where(told & np.isfinite(gained), gained, 0.0)


def _apart(groups: list[Group], ranked: Iterator[tuple[int, ...]]) -> Iterator[tuple[Scaled, ...]]:
    taken: list[tuple[int, ...]] = []
    alike: Counter[tuple[tuple[str, bool], ...]] = Counter()
    for chosen in ranked:
        terms = tuple(groups[k][0] for k in chosen)
        kind = tuple((term.function, term.factor > 0) for term in terms)
        near = any(all(abs(a - b) <= 1 for a, b in zip(chosen, known, strict=True)) for known in taken)
        if near or alike[kind] == SCALED_ALIKE:
            continue
        alike[kind] += 1
        taken.append(chosen)
        yield terms
        if len(taken) == SCALED_CANDIDATES:
            return
