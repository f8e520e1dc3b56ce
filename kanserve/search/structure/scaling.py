"""Scaling symmetries: laws that depend on fewer products of powers than there are inputs. If x_k -> c^a_k·x_k makes y
-> c^p·y, Euler's relation sum a_k·x_k·dy/dx_k = p·y holds, so every such symmetry is a null vector of one matrix, made
from the surrogate's gradient. Like units, symmetries give a product of powers that y scales with, and groups
(`dimensions`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from kanserve.search.regression.bases import coordinate, has_logarithm
from kanserve.search.regression.interactions import interior
from kanserve.search.regression.least_squares import root_mean_square
from kanserve.search.regression.surrogates import Surrogate, answer_units
from kanserve.search.structure.dimensions import Dimensionless, groups_of, scales_of
from kanserve.search.structure.form_test import Block, across, fit_blocks, holds

Array = NDArray[np.float64]

LARGEST_RESIDUAL = 0.1  # largest residual of a null vector, relative to y; above it, the symmetry does not exist
EXACT_RESIDUAL = 1e-3  # that residual for an exact surrogate
# Added to it for each unit of the surrogate's error, whose gradient is less accurate than its value.
RESIDUAL_PER_ERROR = 6.0
MOST_FORMS = 2  # number of ways to write one symmetry that are kept, at most, those of least error
LARGEST_DENOMINATOR = 4  # largest denominator of the fractions to which powers are rounded
LARGEST_POWER = 8  # largest power, in size, of a symmetry
# Largest distance of a power from its fraction; also the smallest pivot when null vectors are solved.
ROUNDING_DISTANCE = 0.04

_POWERS = {"log": 0.0, "identity": 1.0, "square": 2.0, "sqrt": 0.5, "reciprocal": -1.0, "reciprocal square": -2.0}


@dataclass(frozen=True, eq=False)
class Scaling:
    """The form y = Π x_i^powers_i · F(groups), with exponents `groups` and fewer groups than inputs. `values` (N,
    groups) are the groups at the rows; `error` is leave-one-out, relative to y's root mean square."""

    powers: tuple[Fraction, ...]
    groups: tuple[tuple[int, ...], ...]
    values: Array
    error: float


def scalings(x: Array, y: Array, ranked: Sequence[Surrogate]) -> tuple[Scaling, ...]:
    """The scaling symmetries that rows x (N, d), y (N,), with the surrogates `ranked`, do not refute, as the largest
    group; empty if there are none."""
    plain = next(surrogate for surrogate in ranked if surrogate.link.name in _POWERS)
    sizes, vectors = _null(x, y, plain)
    limit = min(LARGEST_RESIDUAL, EXACT_RESIDUAL + RESIDUAL_PER_ERROR * plain.error)
    for count in range(min(int(np.sum(sizes < limit)), x.shape[1] - 1), 0, -1):
        dimensions = _simple(vectors[:, :count])
        found = _verify(x, y, plain, dimensions) if dimensions is not None else []
        if found:
            return tuple(sorted(found, key=lambda scaling: scaling.error)[:MOST_FORMS])
    return ()


def _null(x: Array, y: Array, plain: Surrogate) -> tuple[Array, Array]:
    """Singular values, smallest first, and vectors of the scaled matrix of x_k·dy/dx_k and y (for a link: y^q)."""
    inner = interior(x, plain)
    slopes = x[inner] * plain.gradient_of_link(x[inner])
    # Where y scales with c^p, y^q scales with c^(p·q), and log y increases by p·log c.
    power = _POWERS[plain.link.name]
    linked = plain.link.forward(y)
    scale = root_mean_square(linked) if power else 1.0
    last = power * linked[inner] / scale if power else np.ones(len(slopes))
    matrix = np.concatenate([slopes / scale, last[:, None]], axis=1)
    sizes, vectors = np.linalg.eigh(matrix.T @ matrix / len(matrix))
    return np.sqrt(np.maximum(sizes, 0)), vectors


def _simple(vectors: Array) -> list[tuple[Fraction, ...]] | None:
    """A basis of the null space with fractions: the exponents of each input and of -y. None if they are not simple."""
    rows = vectors.T.copy()
    pivots: list[int] = []
    for k in range(len(rows)):
        free = [c for c in range(rows.shape[1] - 1) if c not in pivots]
        r, c = max(((r, c) for r in range(k, len(rows)) for c in free), key=lambda at: abs(rows[at]))
        if abs(rows[r, c]) < ROUNDING_DISTANCE:
            return None
        rows[[k, r]] = rows[[r, k]]
        rows[k] /= rows[k, c]
        for number in range(len(rows)):
            if number != k:
                rows[number] -= rows[number, c] * rows[k]
        pivots.append(c)
    simple = [[Fraction(float(value)).limit_denominator(LARGEST_DENOMINATOR) for value in row] for row in rows]
    if np.abs(np.array(simple, np.float64) - rows).max() > ROUNDING_DISTANCE or np.abs(rows).max() > LARGEST_POWER:
        return None
    return list(zip(*simple, strict=True))


def _verify(x: Array, y: Array, plain: Surrogate, dimensions: list[tuple[Fraction, ...]]) -> list[Scaling]:
    *inputs, negative = dimensions
    groups = groups_of(inputs)
    found = []
    for powers in scales_of(inputs, tuple(-component for component in negative)):
        if not (possible(x, powers) and all(possible(x, group) for group in groups)):
            continue
        reduced = Dimensionless((powers,), groups)
        values, weight = reduced.group_inputs(x), reduced.multiply_powers(x)
        coordinates = tuple(coordinate(column, has_logarithm(column)) for column in values.T)
        power = _POWERS[plain.link.name]
        targets, units = y, np.full(len(y), 1 / root_mean_square(y))
        if power:
            if weight.min() < 0 and power != round(power):
                continue
            targets, weight, units = plain.link.forward(y), weight**power, answer_units(plain.link, y)
        form = fit_blocks(values, targets, [Block(tuple(range(len(groups))), coordinates, weight)], units)
        singletons = [(i,) for i in range(x.shape[1])]
        lines = np.stack([axis.of(x[:, i]) for i, axis in enumerate(plain.coordinates)], axis=1)
        missing = np.concatenate([lines, across(x, plain.coordinates, singletons)], axis=1) * weight[:, None]
        if holds(form, plain.error, missing):
            found.append(Scaling(powers, groups, values, form.error))
    return found


def possible(x: Array, exponents: Sequence[Fraction | int]) -> bool:
    """Whether the powers avoid roots of negative numbers and division by zero."""
    signed = x.min(axis=0) <= 0
    return all(
        not signed[i] or (power >= 0 and power == int(power)) or (x[:, i].max() < 0 and power == int(power))
        for i, power in enumerate(exponents)
    )
