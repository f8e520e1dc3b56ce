"""GetNetwork: the nodes and edges of a model, and for each edge its curve. The edges of large networks are joined from
bytes, since NumPy already holds the curves in the message's encoding."""

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import InputError
from kanserve.inference.wire import varint
from kanserve.network.evaluate import edges
from kanserve.network.kan import Variable
from kanserve.serve.models.catalog import Model
from kanserve.v1 import formula_pb2 as pb

Array = NDArray[np.float64]

CURVE_POINTS = 65
MAX_CURVE_POINTS = 2048

_EDGE_BYTES = 128  # about as much as an edge without its curve, a node, or an input takes
_LAYERS, _EDGES, _X, _Y = b"\x32", b"\x1a", b"\x52", b"\x5a"  # the tags of these fields


def network_answer(model: Model, points: int | None, most: int) -> bytes:
    """A GetNetworkResponse of at most `most` bytes: nodes, edges, and the curve of each edge over its input's range in
    the training data. Raises InputError, before building anything, if it would be too large."""
    points = _curve_points(model, points, most)
    answer = model.answers.get((pb.GetNetworkResponse, points), lambda: _network(model, points))
    if len(answer) > most:  # for very long names
        raise InputError(f"The network needs more than {most} bytes. Ask for fewer curve points.")
    return answer


def variable(described: Variable) -> pb.Variable:
    return pb.Variable(
        name=described.name,
        unit=described.unit,
        low=described.low,
        high=described.high,
        fill_value=described.fill_value,
        categories=described.categories,
        category_values=described.category_values,
    )


def _curve_points(model: Model, wanted: int | None, most: int) -> int:
    """The number of points per curve: as requested, or by default enough for a smooth picture, or as many as fit."""
    # Pruned edges have no curve in the response, but all edges of a layer are evaluated together.
    count = sum(layer.subnodes * layer.inputs for layer in model.kan.layers)
    names = sum(layer.nodes for layer in model.kan.layers) + len(model.kan.inputs)
    left = most - (count + names) * _EDGE_BYTES
    fit = min(MAX_CURVE_POINTS, left // (16 * count))
    if fit < 0:
        raise InputError(f"A network of {count} edges is too large for a message of {most} bytes. Simplify it first.")
    if wanted is None:
        return min(CURVE_POINTS, fit)
    if wanted > fit:
        raise InputError(f"A curve of this network may have {fit} points, got {wanted}.")
    return wanted


def _network(model: Model, points: int) -> bytes:
    kan = model.kan
    frame = pb.GetNetworkResponse(
        model_name=model.name,
        model_version=str(model.version),
        inputs=map(variable, kan.inputs),
        outputs=map(variable, kan.outputs),
        classes=kan.classes,
        input_shift=kan.input_shift.tolist(),
        input_scale=kan.input_scale.tolist(),
        output_shift=kan.output_shift.tolist(),
        output_scale=kan.output_scale.tolist(),
    )
    layers = (_layer(model, number, points) for number in range(len(kan.layers)))
    return b"".join((frame.SerializeToString(), *(part for layer in layers for part in _field(_LAYERS, layer))))


def _field(tag: bytes, content: bytes) -> tuple[bytes, bytes, bytes]:
    return tag, varint(len(content)), content


def _layer(model: Model, number: int, points: int) -> bytes:
    layer, last = model.kan.layers[number], number == len(model.kan.layers) - 1
    names = (
        [output.name for output in model.kan.outputs]
        if last
        else [f"h{number + 1}.{q + 1}" for q in range(layer.nodes)]
    )
    frame = pb.NetworkLayer(
        nodes=[
            pb.NetworkNode(name=names[q], subnodes=group, scale=layer.node_scale[q], bias=layer.node_bias[q])
            for q, group in enumerate(layer.groups)
        ],
        subnodes=[
            pb.NetworkSubnode(scale=scale, bias=bias)
            for scale, bias in zip(layer.subnode_scale, layer.subnode_bias, strict=True)
        ],
    )
    return b"".join((frame.SerializeToString(), *_edges(model, number, points)))


def _edges(model: Model, number: int, points: int) -> list[bytes]:
    """The edges of a layer, as parts of the message."""
    layer = model.kan.layers[number]
    low, high = model.spans[number].T
    x = np.linspace(low, np.where(high > low, high, low + 1), points)
    y = edges(layer, x).astype("<f8", copy=False)
    x_bytes = [x[:, i].astype("<f8").tobytes() for i in range(layer.inputs)]
    shares = np.zeros((layer.subnodes, layer.inputs)) if model.shares is None else model.shares.edges[number]
    kinds = _kinds(layer.spline_mask, layer.symbolic_mask)
    affine = layer.affine.tolist()
    parts: list[bytes] = []
    for j in range(layer.subnodes):
        curves = np.ascontiguousarray(y[:, j, :].T)
        for i, (kind, share) in enumerate(zip(kinds[j].tolist(), shares[j].tolist(), strict=True)):
            message = pb.NetworkEdge(source=i, target=j, share=share, kind=kind)
            if kind in (pb.EDGE_KIND_SYMBOLIC, pb.EDGE_KIND_SUM):
                message.function = str(layer.functions[j, i])
                message.a, message.b, message.c, message.d = affine[j][i]
            data = message.SerializeToString()
            if kind != pb.EDGE_KIND_ZERO and points:
                size = varint(8 * points)
                data = b"".join((data, _X, size, x_bytes[i], _Y, size, curves[i].tobytes()))
            parts += _field(_EDGES, data)
    return parts


def _kinds(splines: NDArray[np.bool_], functions: NDArray[np.bool_]) -> NDArray[np.int64]:
    return np.select(
        [splines & functions, splines, functions],
        [int(pb.EDGE_KIND_SUM), int(pb.EDGE_KIND_SPLINE), int(pb.EDGE_KIND_SYMBOLIC)],
        int(pb.EDGE_KIND_ZERO),
    )
