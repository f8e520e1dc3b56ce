"""Waves: a product of sines of two inputs, or a sine of a bilinear form of them. Their frequencies come from the
correlation of y with waves over a grid of frequencies (matrix products), then a fit of all constants."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from kanserve.search.regression.term_sums import TERM_ROWS
from kanserve.search.regression.variable_projection import Scaled

Array = NDArray[np.float64]

WAVE_SHARE = 0.3  # share of the variance that a wave on the grid must explain before its frequencies are fitted
BILINEAR_WAVES = 20  # frequencies of either sign, of each part of a bilinear form
SCALED_WAVES = 60  # frequencies of sines on the grid
# Step of the frequencies, in radians over half of the input's range: a fit finds the phase from half a step.
SCALED_WAVE_STEP = 0.5
SCALED_CANDIDATES = 20  # terms alone, and pairs, whose constants are fitted


@dataclass(frozen=True)
class Wave:
    """A product coefficient·sin(first.factor·x_i + first.shift)·sin(second.factor·x_j + second.shift)."""

    coefficient: float
    first: Scaled
    second: Scaled


def waves(x: Array, y: Array) -> Iterator[Wave]:
    """Products of sines of two inputs that are close to y (N,), closest first. For each pair of inputs, a matrix
    multiplication correlates y with all frequencies."""
    some = np.linspace(0, len(x) - 1, min(2 * TERM_ROWS, len(x))).astype(int)
    x, y = x[some], y[some] - y[some].mean()
    frequencies = np.arange(1, SCALED_WAVES + 1) * SCALED_WAVE_STEP
    halves = np.maximum(np.ptp(x, axis=0) / 2, 1e-300)
    phases = [np.outer(column / half, frequencies) for column, half in zip(x.T, halves, strict=True)]
    tables = [np.concatenate([np.sin(phase), np.cos(phase)], axis=1) for phase in phases]
    count, ranked = len(frequencies), []
    for i, j in combinations(range(x.shape[1]), 2):
        correlations = (tables[i] * y[:, None]).T @ tables[j]
        energies = (correlations**2).reshape(2, count, 2, count).sum(axis=(0, 2))
        for k in np.argsort(-energies, axis=None)[:SCALED_CANDIDATES]:
            share = 4 * float(energies.flat[k]) / (len(y) * max(float(y @ y), 1e-300))
            if share > WAVE_SHARE:
                ranked.append((-share, i, j, *divmod(int(k), count)))
    for _, i, j, first, second in sorted(ranked)[:SCALED_CANDIDATES]:
        columns = np.column_stack(
            [tables[i][:, p] * tables[j][:, q] for p in (first, count + first) for q in (second, count + second)]
        )
        parts = np.linalg.lstsq(columns, y, rcond=1e-12)[0].reshape(2, 2)
        left, sizes, right = np.linalg.svd(parts)
        yield Wave(
            float(sizes[0]),
            Scaled(i, "sin", float(frequencies[first] / halves[i]), float(np.arctan2(left[1, 0], left[0, 0]))),
            Scaled(j, "sin", float(frequencies[second] / halves[j]), float(np.arctan2(right[0, 1], right[0, 0]))),
        )


@dataclass(frozen=True)
class BilinearWave:
    """A sum level + slopes·(x_i, x_j) + product·x_i·x_j + size·sin(phase + rates·(x_i, x_j) + rate·x_i·x_j)."""

    i: int
    j: int
    level: float
    slopes: tuple[float, float]
    product: float
    size: float
    phase: float
    rates: tuple[float, float]
    rate: float


def bilinear_waves(x: Array, y: Array) -> Iterator[BilinearWave]:
    """Sums of a bilinear form of two inputs and a sine of another, that are close to y (N,)."""
    some = np.linspace(0, len(x) - 1, min(2 * TERM_ROWS, len(x))).astype(int)
    x, y = x[some], y[some]
    steps = np.arange(-BILINEAR_WAVES, BILINEAR_WAVES + 1) * SCALED_WAVE_STEP
    middles = (x.max(axis=0) + x.min(axis=0)) / 2
    halves = np.maximum(np.ptp(x, axis=0) / 2, 1e-300)
    unit = (x - middles) / halves
    ranked = []
    for i, j in combinations(range(x.shape[1]), 2):
        u, v = unit[:, i], unit[:, j]
        beside = np.column_stack([np.ones(len(y)), u, v, u * v])
        rest = y - beside @ np.linalg.lstsq(beside, y, rcond=1e-12)[0]
        across, along = np.exp(1j * np.outer(u, steps)), np.exp(1j * np.outer(v, steps))
        for rate in steps[steps >= 0]:  # a sine of minus the form is the same one
            energies = np.abs((across * (rest * np.exp(1j * rate * u * v))[:, None]).T @ along)
            for k in np.argsort(-energies, axis=None)[:SCALED_CANDIDATES]:
                p, q = divmod(int(k), len(steps))
                share = 2 * float(energies[p, q]) ** 2 / (len(y) * max(float(rest @ rest), 1e-300))
                if share > WAVE_SHARE:
                    ranked.append((-share, i, j, float(rate), float(steps[p]), float(steps[q])))
    for _, i, j, rate, along_u, along_v in sorted(ranked)[:SCALED_CANDIDATES]:
        u, v = unit[:, i], unit[:, j]
        form = rate * u * v + along_u * u + along_v * v
        design = np.column_stack([np.ones(len(y)), x[:, i], x[:, j], x[:, i] * x[:, j], np.sin(form), np.cos(form)])
        level, first, second, product, sine, cosine = np.linalg.lstsq(design, y, rcond=1e-12)[0].tolist()
        (m, n), (g, h) = middles[[i, j]], halves[[i, j]]
        scale = float(rate / (g * h))
        rates = (float(along_u / g - scale * n), float(along_v / h - scale * m))
        phase = float(np.arctan2(cosine, sine) - along_u * m / g - along_v * n / h + scale * m * n)
        size = float(np.hypot(sine, cosine))
        yield BilinearWave(i, j, level, (first, second), product, size, phase, rates, scale)
