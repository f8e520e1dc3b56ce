"""Sums of two functions f(a·x_i) and a low polynomial, with the factors a read off a grid.

As for `term_sums`, the residual of every pair is read off one Gram matrix. The grid comes only close to the factors of
a law, so the best pairs are where a fit of all constants begins, not what it ends with.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from kanserve.search.search_settings import SEARCH

Array = NDArray[np.float64]

FUNCTIONS: Mapping[str, Callable[[Array], Array]] = MappingProxyType(
    {"exp": np.exp, "tanh": np.tanh, "arctan": np.arctan, "gaussian": lambda u: np.exp(-(u**2))}
)


@dataclass(frozen=True)
class Scaled:
    """f(factor·x_i + shift)."""

    i: int
    function: str
    factor: float
    shift: float = 0.0


@dataclass(frozen=True)
class ScaledSum:
    """constant + Σ coefficient·f(a·x_i) + Σ coefficient·x_i^power."""

    constant: float
    terms: tuple[tuple[float, Scaled], ...]
    powers: tuple[tuple[float, int, int], ...]


def scaled_sums(x: Array, y: Array, degree: int) -> Iterator[ScaledSum]:
    """Sums close to y (N,) at rows x (N, d), the closest first: of one or two terms and a polynomial of a degree."""
    settings = SEARCH.get().closed_forms
    some = np.linspace(0, len(x) - 1, min(settings.term_rows, len(x))).astype(int)
    x, y = x[some], y[some]
    groups, values = _columns(x)
    powers = [(i, power) for power in range(1, degree + 1) for i in range(x.shape[1])]
    beside = np.column_stack([np.ones(len(x)), *(x[:, i] ** power for i, power in powers)])
    for chosen in _ranked(groups, values, y, beside):
        columns = [k for group in chosen for k in groups[group][1]]
        design = np.column_stack([beside, values[:, columns]])
        solution = np.linalg.lstsq(design, y, rcond=1e-12)[0]
        own = dict(zip(columns, solution[beside.shape[1] :], strict=True))
        yield ScaledSum(
            float(solution[0]),
            tuple(_term(*groups[group], own) for group in chosen),
            tuple((float(c), i, power) for c, (i, power) in zip(solution[1:], powers, strict=False)),
        )


Group = tuple[Scaled, tuple[int, ...]]
"""A term, and its columns: a sine has that of the cosine too, for its phase."""


def _term(term: Scaled, columns: tuple[int, ...], own: Mapping[int, float]) -> tuple[float, Scaled]:
    if len(columns) == 1:
        return float(own[columns[0]]), term
    sine, cosine = (own[k] for k in columns)
    return float(np.hypot(sine, cosine)), Scaled(term.i, "sin", term.factor, float(np.arctan2(cosine, sine)))


def _columns(x: Array) -> tuple[list[Group], Array]:
    settings = SEARCH.get().closed_forms
    groups: list[Group] = []
    columns: list[Array] = []
    for i in range(x.shape[1]):
        half = float(np.ptp(x[:, i])) / 2 or 1.0
        for factor in np.arange(1, settings.scaled_waves + 1) * settings.scaled_wave_step / half:
            groups.append((Scaled(i, "sin", float(factor)), (len(columns), len(columns) + 1)))
            columns += [np.sin(factor * x[:, i]), np.cos(factor * x[:, i])]
        for name, function in FUNCTIONS.items():
            for size in np.geomspace(*settings.scaled_factors, settings.scaled_count) / half:
                for factor in (size, -size) if name == "exp" else (size,):
                    with np.errstate(all="ignore"):
                        column = function(factor * x[:, i])
                    if np.isfinite(column).all() and np.abs(column).max() < settings.term_largest_value:
                        groups.append((Scaled(i, name, float(factor)), (len(columns),)))
                        columns.append(column)
    return groups, np.stack(columns, axis=1)


def _ranked(groups: list[Group], values: Array, y: Array, beside: Array) -> Iterator[tuple[int, ...]]:
    """The single terms, then the pairs, that leave least of y, one of each neighbourhood of the grid."""
    settings = SEARCH.get().closed_forms
    q = np.linalg.qr(beside)[0]
    centred = values - q @ (q.T @ values)
    target = y - q @ (q.T @ y)
    bases = []
    for _, columns in groups:
        basis, triangle = np.linalg.qr(centred[:, columns])
        sizes = np.abs(np.diagonal(triangle))
        bases.append(basis if sizes.min() > 1e-6 * np.sqrt(len(y)) else np.zeros_like(basis))
    left = np.array([np.sum((target - basis @ (basis.T @ target)) ** 2) for basis in bases])
    if beside.shape[1] > 1:  # a single curve is a shape, which is found as such
        for k in np.argsort(left)[: settings.scaled_candidates]:
            yield (int(k),)
    first = np.argsort(left)[: settings.scaled_first]
    pairs: list[tuple[float, int, int]] = []
    for k in first:  # the second term beside a first
        rest = target - bases[k] @ (bases[k].T @ target)
        for n, basis in enumerate(bases):
            if n == k:
                continue
            apart = basis - bases[k] @ (bases[k].T @ basis)
            own = np.linalg.qr(apart)[0] if np.abs(apart).max() > 1e-6 else np.zeros_like(apart)
            pairs.append((float(np.sum((rest - own @ (own.T @ rest)) ** 2)), int(k), n))
    pairs.sort()
    taken: list[tuple[int, int]] = []
    for _, k, n in pairs:
        a, b = min(k, n), max(k, n)
        if any(abs(a - c) <= 1 and abs(b - d) <= 1 for c, d in taken):
            continue
        taken.append((a, b))
        yield a, b
        if len(taken) == settings.scaled_candidates:
            return
