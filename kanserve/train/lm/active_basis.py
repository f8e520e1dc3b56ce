"""The active basis: the k + 1 B-splines of an input that are not zero at a point, and their slopes. Arrays have the
rows as their last axis, (inputs, rows), for long passes over memory; cached tables are read-only."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from kanserve.network.kan import Layer
from kanserve.network.splines import Extrapolation

Array = NDArray[np.float64]
Indices = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class ActiveBasis:
    """The basis of each input of a layer as local polynomials, also outside its range. On piece p of input i (flat
    index i·P + p), function `first[p] + r` is Σ_s polynomials[s, r, p]·(v - origins[p])^s."""

    breaks: tuple[Array, ...]
    origins: Array  # (I·P,)
    first: Indices  # (I·P,)
    polynomials: Array  # (k+1, k+1, I·P)
    functions: int  # G + k

    @property
    def inputs(self) -> int:
        return len(self.breaks)


@dataclass(frozen=True, eq=False)
class Active:
    """The active basis functions at v (I, N): positions in a flat (I, G+k, N) array, pieces and offsets."""

    places: Indices  # (I, N), of the first active function
    piece: Indices  # (I, N)
    offset: Array  # (I, N), v less the origin of its piece


def active_basis(layer: Layer) -> ActiveBasis:
    return _basis(layer.knots.tobytes(), layer.inputs, layer.order, layer.extrapolation, layer.coefficients.shape[2])


@lru_cache(maxsize=8)  # a table of a wide layer on a fine grid has megabytes
def _basis(knots_bytes: bytes, inputs: int, order: int, extrapolation: Extrapolation, functions: int) -> ActiveBasis:
    rows = np.frombuffer(knots_bytes).reshape(inputs, -1)
    tables = [_table(row.tobytes(), order, extrapolation) for row in rows]
    most = max(len(table[1]) for table in tables)

    def pad(array: NDArray[np.generic]) -> NDArray[np.generic]:
        return np.concatenate([array, np.repeat(array[-1:], most - len(array), axis=0)])

    basis = ActiveBasis(
        breaks=tuple(table[0] for table in tables),
        origins=np.concatenate([pad(table[1]) for table in tables]).astype(np.float64),
        first=np.concatenate([pad(table[2]) for table in tables]).astype(np.intp),
        polynomials=np.ascontiguousarray(
            np.concatenate([pad(table[3]) for table in tables]).astype(np.float64).transpose(2, 1, 0)
        ),
        functions=functions,
    )
    _protect(basis.origins, basis.first, basis.polynomials)
    return basis


def _protect(*arrays: NDArray[np.generic]) -> None:
    """Make cached arrays read-only."""
    for array in arrays:
        array.setflags(write=False)


@lru_cache(maxsize=4096)
def _table(knots_bytes: bytes, order: int, extrapolation: Extrapolation) -> tuple[Array, Array, Indices, Array]:
    """For one input: breaks (P-1,), origins (P,), first active function (P,), polynomials (P, k+1 functions, k+1).
    Equals `splines.pieces` of unit coefficients, without computing the zeros."""
    knots = np.frombuffer(knots_bytes)
    count = len(knots) - order - 1
    inside = np.arange(order, count) if extrapolation == "linear" else np.arange(len(knots) - 1)
    intervals = inside[knots[inside] < knots[inside + 1]]
    starts, end = knots[intervals], knots[intervals[-1] + 1]
    first = np.clip(intervals - order, 0, count - order - 1)
    # Near the ends of a basis without extrapolation fewer functions exist: they begin at `shift`.
    local = np.zeros((len(intervals), 3 * order + 1, order + 1))
    local[:, order : 2 * order + 1] = _active_polynomials(knots, order, intervals)
    shift = first - (intervals - order) + order
    inner = np.take_along_axis(local, (shift[:, None] + np.arange(order + 1))[:, :, None], axis=1)
    outer = np.zeros((2, order + 1, order + 1))
    if extrapolation == "linear":
        width = end - starts[-1]
        powers = width ** np.arange(order + 1)
        outer[0, :, :2] = inner[0, :, :2]
        outer[1, :, 0] = inner[-1] @ powers
        outer[1, :, 1] = inner[-1, :, 1:] @ (np.arange(1, order + 1) * powers[:-1])
    table = (
        np.append(starts, end),
        np.concatenate([starts[:1], starts, [end]]),
        np.concatenate([first[:1], first, first[-1:]]),
        np.concatenate([outer[:1], inner, outer[1:]]),
    )
    _protect(*table)
    return table


def _active_polynomials(knots: Array, order: int, intervals: Indices) -> Array:
    """The k + 1 functions that are nonzero on each interval j, as polynomials in x - knots[j] (J, k+1, k+1), by the
    Cox-de Boor recursion. Function r of degree d on interval j is B_(j-d+r); entries beyond the knots are
    meaningless."""
    step = knots[-1] - knots[0]
    beyond = np.arange(1, order + 1) * step
    every = np.concatenate([knots[0] - beyond[::-1], knots, knots[-1] + beyond])
    at = intervals + order
    origin = every[at]
    values = np.zeros((len(at), order + 1, order + 1))
    values[:, 0, 0] = 1.0
    for degree in range(1, order + 1):
        # The weights of the lower degree rise to 1 on (t_m, t_(m+d)), and fall on (t_(m+1), t_(m+d+1)).
        r = np.arange(degree)
        left, right = every[at[:, None] - degree + 1 + r], every[at[:, None] + 1 + r]
        share = values[:, :degree] / (right - left)[:, :, None]
        moved = np.zeros_like(share)
        moved[:, :, 1:] = share[:, :, :-1]  # multiplied by x - origin
        rising = moved + (origin[:, None] - left)[:, :, None] * share
        falling = (right - origin[:, None])[:, :, None] * share - moved
        values[:, : degree + 1] = 0.0
        values[:, 1 : degree + 1] += rising
        values[:, :degree] += falling
    return values


@dataclass(frozen=True, eq=False)
class Tables:
    """The active basis for the compiled kernels, which compute one power of all functions at once; padded over inputs.
    `guesses`: an input's first break and 1/step if uniform, else 0. `polynomials`: k + 1 functions on the last axis,
    padded to a multiple of 4."""

    breaks: Array  # (I, P-1), infinite where an input has fewer
    guesses: Array  # (I, 2)
    origins: Array  # (I, P)
    first: NDArray[np.int32]  # (I, P)
    polynomials: Array  # (I, P, k+1, width)


def tables(layer: Layer) -> Tables:
    """The active basis of a layer's grids, for the compiled kernels."""
    return _tables(layer.knots.tobytes(), layer.inputs, layer.order, layer.extrapolation)


@lru_cache(maxsize=256)
def _tables(knots_bytes: bytes, inputs: int, order: int, extrapolation: Extrapolation) -> Tables:
    rows = np.frombuffer(knots_bytes).reshape(inputs, -1)
    every = [_table(row.tobytes(), order, extrapolation) for row in rows]
    most = max(len(origins) for _, origins, _, _ in every)
    width = -(-(order + 1) // 4) * 4
    made = Tables(
        np.full((inputs, most - 1), np.inf),
        np.zeros((inputs, 2)),
        np.empty((inputs, most)),
        np.empty((inputs, most), np.int32),
        np.zeros((inputs, most, order + 1, width)),
    )
    for i, (breaks, origins, first, polynomials) in enumerate(every):
        count = len(origins)
        made.breaks[i, : count - 1] = breaks
        made.origins[i, :count], made.origins[i, count:] = origins, origins[-1]
        made.first[i, :count], made.first[i, count:] = first, first[-1]
        local = polynomials.transpose(0, 2, 1)
        made.polynomials[i, :count, :, : order + 1] = local
        made.polynomials[i, count:, :, : order + 1] = local[-1]
        step = (breaks[-1] - breaks[0]) / (count - 2)
        uniform = count == most and np.abs(breaks - breaks[0] - step * np.arange(count - 1)).max() < 1e-3 * step
        made.guesses[i] = breaks[0], 1 / step if uniform else 0.0
    _protect(made.breaks, made.guesses, made.origins, made.first, made.polynomials)
    return made


def locate(basis: ActiveBasis, v: Array) -> Active:
    """Find the functions that are active at v (I, N). A value that is not finite gets an arbitrary piece."""
    inputs, rows = v.shape
    piece = np.empty(v.shape, np.intp)
    per_input = len(basis.origins) // inputs
    for i, breaks in enumerate(basis.breaks):
        piece[i] = np.searchsorted(breaks, v[i], side="right")
        piece[i] += i * per_input
    places = basis.first[piece]
    places += np.arange(inputs)[:, None] * basis.functions
    places *= rows
    places += np.arange(rows)
    return Active(places, piece, v - basis.origins[piece])


def values(basis: ActiveBasis, active: Active) -> Array:
    """All basis functions at the located values (I, G+k, N); zero except for the active ones."""
    table = basis.polynomials.take(active.piece, axis=2)
    result = table[-1]
    for lower in table[-2::-1]:
        result *= active.offset
        result += lower
    return _dense(basis, active, result)


def slopes(basis: ActiveBasis, active: Active) -> Array:
    """The derivatives of all basis functions at the located values (I, G+k, N)."""
    table = basis.polynomials[1:].take(active.piece, axis=2)
    order = len(table)
    result = table[-1]
    result *= order
    for power in range(order - 1, 0, -1):
        result *= active.offset
        result += power * table[power - 1]
    return _dense(basis, active, result)


def _dense(basis: ActiveBasis, active: Active, local: Array) -> Array:
    """Scatter active values (k+1, I, N) into an array of zeros (I, G+k, N)."""
    inputs, rows = active.offset.shape
    dense = np.zeros(inputs * basis.functions * rows)
    for r, values in enumerate(local):
        dense[active.places + r * rows] = values
    return dense.reshape(inputs, basis.functions, rows)
