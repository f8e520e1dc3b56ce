"""The memory layout of a network for the compiled least-squares kernels.

The kernels hold all weights of a network in one array, padded along the subnodes. Their parameter vector has its own
order: first the splines, each input's coefficients as (function, subnode), so that the non-zeros of a row of the
Jacobian are one window per input; then everything else. In the last layer each output's parameters are together, as no
other output depends on them. C structures of 64-bit numbers and addresses are rows of integers here, in the order of
native/lm/network.h and native/lm/least_squares.h.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kanserve.network.functions import FUNCTIONS
from kanserve.network.kan import Kan, Layer
from kanserve.network.powers import exponent_of, is_odd, takes_negative
from kanserve.train.lm.active_basis import Tables, tables
from kanserve.train.lm.parameter_vector import Free

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

PADDING = 8  # doubles: rows of blocks begin at multiples of a vector register of AVX-512

_NUMBERS = {name: number for number, name in enumerate(FUNCTIONS)}
_POWER, _EVEN_POWER, _ODD_POWER = -1, -2, -3
BASES = {"zero": 0, "identity": 1, "silu": 2}
SPLINES, BASE_WEIGHTS, AFFINE, BIAS, RESIDUAL = range(5)


@dataclass(frozen=True, eq=False)
class LayerLayout:
    """One layer, and where its arrays start in the array of all weights."""

    layer: Layer
    tables: Tables | None  # None without splines
    padded: int
    coefficients: int  # (I, G+k, padded)
    base_weight: int  # (I, padded)
    affine: int  # (named, 4)
    node_bias: int  # (Q,)
    stop: int
    named: tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class ParameterBlock:
    """Consecutive entries of the parameter vector that belong to one input, one named edge or one node."""

    kind: int
    layer: int
    at: int  # the input, the named edge or the node
    slot: int  # of a named edge: which of a, b, c, d
    node: int  # the output that they belong to; -1 for all
    subnodes: Integers
    public: Integers  # their positions in the vector of `parameter_vector`
    places: Integers  # their positions in the array of all weights


def function_number(name: str) -> tuple[int, float]:
    """The number of a function in native/lm/functions.c, and the exponent of a power without its own number."""
    if name in _NUMBERS:
        return _NUMBERS[name], 0.0
    exponent = exponent_of(name)
    assert exponent is not None, "a layer has only functions of the table"
    if not takes_negative(exponent):
        return _POWER, exponent
    return (_ODD_POWER if is_odd(exponent) else _EVEN_POWER), exponent


def layouts_of(kan: Kan) -> tuple[LayerLayout, ...]:
    found = []
    start = 0
    for layer in kan.layers:
        padded = 1 if layer.subnodes == 1 else -(-layer.subnodes // PADDING) * PADDING
        named = tuple((int(j), int(i)) for j, i in np.argwhere(layer.symbolic_mask))
        sizes = [
            layer.inputs * layer.coefficients.shape[2] * padded + PADDING,  # SIMD may read beyond the last one
            layer.inputs * padded + PADDING,
            4 * len(named),
            layer.nodes,
        ]
        edges, straight, affine, bias, stop = (int(at) for at in np.cumsum([start, *sizes]))
        own = tables(layer) if layer.spline_mask.any() else None
        found.append(LayerLayout(layer, own, padded, edges, straight, affine, bias, stop, named))
        start = stop
    return tuple(found)


def weights(every: tuple[LayerLayout, ...]) -> Array:
    result = np.zeros(every[-1].stop)
    for layout in every:
        layer, o = layout.layer, layout.layer.subnodes
        edges = result[layout.coefficients : layout.base_weight - PADDING].reshape(layer.inputs, -1, layout.padded)
        edges[:, :, :o] = layer.coefficients.transpose(1, 2, 0)
        straight = result[layout.base_weight : layout.affine - PADDING].reshape(layer.inputs, layout.padded)
        straight[:, :o] = layer.base_weight.T
        for e, (j, i) in enumerate(layout.named):
            result[layout.affine + 4 * e : layout.affine + 4 * e + 4] = layer.affine[j, i]
        result[layout.node_bias : layout.stop] = layer.node_bias
    return result


def parts(free: tuple[Free, ...], every: tuple[LayerLayout, ...]) -> list[ParameterBlock]:
    """The blocks of the parameter vector, in the order of the kernels."""
    splines: list[ParameterBlock] = []
    scalars: list[ParameterBlock] = []
    start = 0
    for index, (own, layout) in enumerate(zip(free, every, strict=True)):
        last = index == len(every) - 1
        for node, group in enumerate(layout.layer.groups) if last else [(-1, range(layout.layer.subnodes))]:
            splines += _splines(index, node, group, own, layout, start)
            scalars += _scalars(index, node, group, own, layout, start)
        start += own.size
    return [*splines, *scalars]


def _splines(
    index: int, node: int, group: range, free: Free, layer_layout: LayerLayout, start: int
) -> Iterator[ParameterBlock]:
    functions = np.arange(free.functions)[:, None]
    for i, edges in _by_input(free.edges, group):
        j = free.edges[edges, 0]
        public = start + edges * free.functions + functions
        places = layer_layout.coefficients + (i * free.functions + functions) * layer_layout.padded + j
        yield ParameterBlock(SPLINES, index, i, 0, node, j, public.ravel(), places.ravel())


def _scalars(
    index: int, node: int, group: range, free: Free, layer_layout: LayerLayout, start: int
) -> Iterator[ParameterBlock]:
    start += free.splines
    for i, edges in _by_input(free.base, group):
        j = free.base[edges, 0]
        yield ParameterBlock(
            BASE_WEIGHTS, index, i, 0, node, j, start + edges, layer_layout.base_weight + i * layer_layout.padded + j
        )
    start += len(free.base)
    for s, (j, i, slot) in enumerate(free.affine.tolist()):
        if j in group:
            e = layer_layout.named.index((j, i))
            yield ParameterBlock(
                AFFINE, index, e, slot, node, _one(j), _one(start + s), _one(layer_layout.affine + 4 * e + slot)
            )
    start += len(free.affine)
    for b, q in enumerate(free.bias.tolist()):
        if q == node:
            yield ParameterBlock(BIAS, index, q, 0, node, _one(q), _one(start + b), _one(layer_layout.node_bias + q))


def _by_input(edges: Integers, group: range) -> Iterator[tuple[int, Integers]]:
    """For each input i: the positions in `edges` (E, 2: j, i) of its edges to a subnode j of the group."""
    inside = np.flatnonzero((edges[:, 0] >= group.start) & (edges[:, 0] < group.stop))
    if len(inside) == 0:
        return
    inputs = edges[inside, 1]
    order = np.argsort(inputs, kind="stable")
    inside, inputs = inside[order], inputs[order]
    stops = [*np.flatnonzero(np.diff(inputs)).tolist(), len(inputs) - 1]
    start = 0
    for stop in stops:
        yield int(inputs[stop]), inside[start : stop + 1]
        start = stop + 1


def _one(value: int) -> Integers:
    return np.array([value])


def layer_record(layer_layout: LayerLayout, weights: Array, keep: list[NDArray[np.generic]]) -> list[int]:
    """The C record `kanserve_layer` of native/lm/network.h. Arrays that it points to are appended to `keep`."""
    layer, own = layer_layout.layer, layer_layout.tables
    numbers = [function_number(str(layer.functions[j, i])) for j, i in layer_layout.named]
    edges = np.array(
        [(j, i, number) for (j, i), (number, _) in zip(layer_layout.named, numbers, strict=True)], np.int64
    )
    exponents = np.array([exponent for _, exponent in numbers])
    found: list[NDArray[np.generic]] = [
        edges,
        exponents,
        layer.subnode_scale,
        layer.subnode_bias,
        layer.node_scale,
        layer.arity,
    ]
    on_grid: list[NDArray[np.generic]] = []
    if own is not None:
        on_grid = [own.breaks, own.guesses, own.origins, own.first, own.polynomials]
    keep += found + on_grid
    return [
        layer.inputs,
        layer.subnodes,
        layer.nodes,
        layer_layout.padded,
        layer.order,
        0 if own is None else layer.coefficients.shape[2],
        0 if own is None else own.polynomials.shape[3],
        0 if own is None else own.origins.shape[1],
        BASES[layer.base],
        len(layer_layout.named),
        *([array.ctypes.data for array in on_grid] or [0] * 5),
        *(array.ctypes.data for array in found),
        *(
            weights.ctypes.data + 8 * at
            for at in (layer_layout.coefficients, layer_layout.base_weight, layer_layout.affine, layer_layout.node_bias)
        ),
    ]


def groups(every: list[ParameterBlock], outputs: int) -> list[list[ParameterBlock]]:
    """Groups of parameter blocks with a common window of the Jacobian's row, the residual last: the splines of an input
    are one group. With a single output, all other parameters are one group; with several, each output, the hidden
    layers and the residual have their own."""
    found: list[list[ParameterBlock]] = []
    for part in (*every, ParameterBlock(RESIDUAL, -1, 0, 0, -1, _one(0), _one(0)[:0], _one(0)[:0])):
        before = found[-1][-1] if found else part
        alone = outputs > 1 and (before.node != part.node or part.kind == RESIDUAL)
        if not found or SPLINES in (part.kind, before.kind) or alone:
            found.append([part])
        else:
            found[-1].append(part)
    return found


def group_records(every: list[list[ParameterBlock]], kan: Kan) -> tuple[list[list[int]], list[list[int]]]:
    """The C records `kanserve_group` (native/lm/least_squares.h) and `kanserve_part` (native/lm/network.h)."""
    records: list[list[int]] = []
    parts: list[list[int]] = []
    offset = 0
    for group in every:
        first = group[0]
        count = len(first.subnodes)
        if first.kind == SPLINES:
            layer = kan.layers[first.layer]
            positions = layer.coefficients.shape[2] - layer.order
            window = (layer.order + 1) * count
            records.append([first.layer, first.at, first.node, offset, window, count, positions, len(parts), 1])
        else:
            node = -1 if len(kan.outputs) == 1 else first.node
            window = sum(len(part.subnodes) for part in group)
            records.append([-1, 0, node, offset, window, 0, 1, len(parts), len(group)])
        place = 0
        for part in group:
            address = part.subnodes.ctypes.data
            parts.append([part.kind, part.layer, part.at, part.slot, len(part.subnodes), address, place])
            place += len(part.subnodes)
            offset += len(part.public)
    return records, parts
