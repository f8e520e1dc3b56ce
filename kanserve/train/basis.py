"""The active basis: of all B-splines of an input, the k + 1 that are not zero at a point, with their slopes.

Arrays here run along the rows last, (inputs, rows): every operation of a fit is then one long pass over memory.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from kanserve.ir import Layer
from kanserve.splines import Extrapolation, pieces

Array = NDArray[np.float64]
Indices = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class ActiveBasis:
    """The basis of each input of a layer as local polynomials, outside its range included.

    On piece p of input i (flat index i·P + p) function `first[p] + r` is Σ_s polynomials[s, r, p]·(v - origins[p])^s.
    """

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
    """The active functions at values v (I, N): where they stand in a flat (I, G+k, N) array, and what they need."""

    places: Indices  # (I, N), of the first active function
    piece: Indices  # (I, N)
    offset: Array  # (I, N), v less the origin of its piece


def active_basis(layer: Layer) -> ActiveBasis:
    """The active basis of a layer's grids."""
    tables = [_table(row.tobytes(), layer.order, layer.extrapolation) for row in layer.knots]
    most = max(len(one[1]) for one in tables)

    def padded(array: NDArray[np.generic]) -> NDArray[np.generic]:
        return np.concatenate([array, np.repeat(array[-1:], most - len(array), axis=0)])

    return ActiveBasis(
        breaks=tuple(one[0] for one in tables),
        origins=np.concatenate([padded(one[1]) for one in tables]).astype(np.float64),
        first=np.concatenate([padded(one[2]) for one in tables]).astype(np.intp),
        polynomials=np.ascontiguousarray(
            np.concatenate([padded(one[3]) for one in tables]).astype(np.float64).transpose(2, 1, 0)
        ),
        functions=layer.coefficients.shape[2],
    )


@lru_cache(maxsize=4096)
def _table(knots_bytes: bytes, order: int, extrapolation: Extrapolation) -> tuple[Array, Array, Indices, Array]:
    """Of one input: breaks (P-1,), origins (P,), first active function (P,), polynomials (P, k+1 functions, k+1)."""
    knots = np.frombuffer(knots_bytes)
    count = len(knots) - order - 1
    local = pieces(knots[None], np.eye(count)[:, None], order, extrapolation)
    every = local.coefficients[:, 0].transpose(1, 0, 2)  # (P, functions, powers)
    touched = (every != 0).any(axis=2)
    first = np.minimum(np.argmax(touched, axis=1), count - order - 1)
    rows = first[:, None] + np.arange(order + 1)
    return local.breaks[0], local.origins[0], first, np.take_along_axis(every, rows[:, :, None], axis=1)


def locate(basis: ActiveBasis, v: Array) -> Active:
    """Which functions are active at v (I, N); a value that is not finite gets some piece and stays what it is."""
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
    """All functions at the located values, (I, G+k, N): zero but for the active ones."""
    table = basis.polynomials.take(active.piece, axis=2)
    result = table[-1]
    for lower in table[-2::-1]:
        result *= active.offset
        result += lower
    return _dense(basis, active, result)


def slopes(basis: ActiveBasis, active: Active) -> Array:
    """The derivatives of all functions at the located values, (I, G+k, N)."""
    table = basis.polynomials[1:].take(active.piece, axis=2)
    order = len(table)
    result = table[-1]
    result *= order
    for power in range(order - 1, 0, -1):
        result *= active.offset
        result += power * table[power - 1]
    return _dense(basis, active, result)


def _dense(basis: ActiveBasis, active: Active, local: Array) -> Array:
    """Active values (k+1, I, N) put in their places among the zeros of (I, G+k, N)."""
    inputs, rows = active.offset.shape
    dense = np.zeros(inputs * basis.functions * rows)
    for r, one in enumerate(local):
        dense[active.places + r * rows] = one
    return dense.reshape(inputs, basis.functions, rows)
