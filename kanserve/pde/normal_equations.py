"""J'J and J'r from sparse rows of a Jacobian, by the compiled kernel. A row has one window of non-zeros for each input
of each layer (a source): the k + 1 active functions times the layer's subnodes. Parameters that are never zero form one
more source, followed by the residual. Pruned edges are computed too, and left out at the end."""

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanserve.pde.jet_propagation import Part, Row

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

VECTOR = 8  # numbers; windows are padded to whole vectors, and the matrix has as many numbers after its end


class Source(ctypes.Structure):
    """The C structure `kanserve_source` of windows.h."""

    _fields_ = (
        ("values", ctypes.c_void_p),
        ("first", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("stride", "length", "step", "positions", "offset")),
    )


@dataclass(frozen=True, eq=False)
class Plan:
    """The columns of the matrix: all possible spline coefficients of the layers, then the rest."""

    starts: tuple[int, ...]  # of each layer's sources
    rest: int  # the column of the first parameter that is not a coefficient
    size: int  # the number of columns, including the residual's
    columns: Indices  # (P,), the column of each parameter of the vector


def plan(parts: tuple[Part, ...]) -> Plan:
    starts, columns, at = [], [], 0
    rest = sum(
        part.layer.inputs * part.layer.subnodes * part.free.functions for part in parts if part.basis is not None
    )
    after = rest
    for part in parts:
        layer, free = part.layer, part.free
        starts.append(at)
        j, i = free.edges.T
        m = np.arange(free.functions)
        columns.append((at + ((i[:, None] * free.functions + m) * layer.subnodes + j[:, None])).ravel())
        others = free.size - free.splines
        columns.append(np.arange(after, after + others))
        after += others
        if part.basis is not None:
            at += layer.inputs * free.functions * layer.subnodes
    return Plan(tuple(starts), rest, after + 1, np.concatenate(columns))


def empty(scheme: Plan) -> Array:
    """A zero matrix (size, size) for the products of columns, with the padding that the kernel needs at its end."""
    return np.zeros(scheme.size**2 + VECTOR)


def add(library: Any, scheme: Plan, parts: tuple[Part, ...], row: Row, residual: Array, matrix: Array) -> None:
    """Add the products of some rows to the lower triangle of the matrix."""
    count = len(residual)
    sources, kept = [], []
    for part, start, windows, first in zip(parts, scheme.starts, row.windows, row.first, strict=True):
        if part.basis is None:
            continue
        outputs, functions = part.layer.subnodes, part.free.functions
        length = len(windows) * outputs
        stride = -(-length // VECTOR) * VECTOR
        for i in range(part.layer.inputs):
            values = np.zeros((count, stride))
            for r, window in enumerate(windows):
                values[:, r * outputs : (r + 1) * outputs] = window[:, i].T
            begins = np.ascontiguousarray(first[i], np.int32)
            kept += [values, begins]
            positions = functions - len(windows) + 1
            sources.append(_source(values, begins, length, outputs, positions, start + i * functions * outputs))
    rest = np.concatenate([part for part in row.rest if len(part)] or [np.empty((0, count))])
    for dense, offset in ((rest, scheme.rest), (residual[None], scheme.size - 1)):
        if len(dense):
            values = np.zeros((count, -(-len(dense) // VECTOR) * VECTOR))
            values[:, : len(dense)] = dense.T
            kept.append(values)
            sources.append(_source(values, None, len(dense), 1, 1, offset))
    every = (Source * len(sources))(*sources)
    rows, number = ctypes.c_int64(count), ctypes.c_int64(len(sources))
    library.kanserve_window_scratch.restype = ctypes.c_int64
    scratch = np.empty(library.kanserve_window_scratch(rows, number, every), np.int32)
    library.kanserve_window_products(
        rows, number, every, _pointer(matrix), ctypes.c_int64(scheme.size), _pointer(scratch)
    )


def finish(scheme: Plan, matrix: Array) -> tuple[Array, Array]:
    """J'J (P, P) and J'r (P,) in the order of the vector."""
    square = matrix[: scheme.size**2].reshape(scheme.size, scheme.size)
    lower = np.tril(square)  # the part above the diagonal is undefined
    whole = lower + lower.T
    whole.flat[:: scheme.size + 1] = lower.diagonal()
    return whole[np.ix_(scheme.columns, scheme.columns)], whole[-1, scheme.columns]


def _source(
    values: Array, first: NDArray[np.int32] | None, length: int, step: int, positions: int, offset: int
) -> Source:
    begins = None if first is None else first.ctypes.data
    return Source(values.ctypes.data, begins, values.shape[1], length, step, positions, offset)


def _pointer(array: NDArray[Any]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
