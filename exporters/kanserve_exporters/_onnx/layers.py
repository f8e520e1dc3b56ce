"""A layer as the body of an ONNX function: a matrix product of features, and one of splines.

    z = features(v) · weights + bias  [+ spline values]        subnodes, their scale and bias folded into the tables
    y = node_scale · Π z + node_bias                           only where there are multiplication nodes

The features always begin with base(v), or with v itself at weight 0 if the layer has no base function. With that
product, a row with a non-finite value becomes non-finite in every subnode: 0·NaN and 0·infinity are NaN, and so is
every later product with 0. So it does not matter if the rest of a body hides a NaN, as a clip or a comparison may.

The body of the splines is chosen per layer, see `splines.py`; named functions are grouped by name:

    arguments = v · a + b, one column per edge;  each function on its columns;  features for the product above

The first layer's body begins with the input affine map. The last one's ends by adding 0 times the sum of a row's
outputs to each of them: then a row with any NaN is all NaN.

If a matrix of all edges would be too large, the columns are gathered and summed by subnode instead.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import ExportError
from kanserve.network.export_options import Precision
from kanserve.network.functions import FUNCTIONS
from kanserve.network.kan import Layer
from kanserve_exporters._onnx import functions as onnx_functions
from kanserve_exporters._onnx import splines as onnx_splines
from kanserve_exporters._onnx.body import Body
from kanserve_exporters._onnx.costs import How

Array = NDArray[np.float64]

MATRIX = 2**16  # entries of a matrix of edges up to which a dense product, zeros included, costs less than gathering


@dataclass(frozen=True)
class LayerBody:
    """A finished body: its kind (the function's name), result, the reason for its choice, and numbers per row."""

    kind: str
    order: int
    base: str
    body: Body
    output: str
    reason: str
    width: int


def layer_body(
    layer: Layer,
    precision: Precision,
    how: How | None = None,
    affine: tuple[Array, Array] | None = None,
    last: bool = False,
) -> LayerBody:
    """The body of a layer, with its splines computed in the cheapest way, or in the way `how`. `affine` is the shift
    (I,) subtracted from the inputs first, and the scale they are then divided by."""
    body = Body(precision, last)
    v = "v"
    if affine is not None:
        v = body("Sub", v, body.table("input_shift", affine[0]))
        v = body("Div", v, body.table("input_scale", affine[1]))
    columns = _Columns(layer)
    features = [_base(body, v, layer, columns)]
    spline = onnx_splines.splines(body, v, layer, columns.scale_weights, how)
    features += spline.features
    named, sums = _name(body, v, layer, columns)
    features += named
    total = _product(body, features, columns.bias)
    if spline.weights is not None:
        total = body("Gemm", spline.basis, body.table(spline.table, spline.weights), total, alpha=spline.factor)
    for addend in (*spline.sums, *sums):
        total = body("Add", total, addend)
    output = _nodes(body, layer, total)
    if last:
        output = body("Gemm", output, body.table("zeros", np.zeros((layer.nodes, layer.nodes))), output)
    edges = int(layer.symbolic_mask.sum())
    parts = [spline.kind] * bool(spline.kind) + ["Symbolic"] * bool(edges)
    reasons = [spline.reason] * bool(spline.reason) + [f"Symbolic: {edges} named functions"] * bool(edges)
    return LayerBody(
        kind="".join(parts) or "Affine",
        order=layer.order,
        base=layer.base,
        body=body,
        output=output,
        reason="; ".join(reasons) or "Affine: no splines and no named functions are left",
        width=max(spline.width, edges, layer.inputs, layer.subnodes),
    )


class _Columns:
    """The columns of the product, one per subnode: scales, biases, and a column of ones to fill up short groups."""

    def __init__(self, layer: Layer) -> None:
        sums = (layer.arity == 1).all()
        self.scale = layer.subnode_scale * (layer.node_scale if sums else 1.0)
        with np.errstate(all="ignore"):
            constants = np.where(layer.symbolic_mask, layer.affine[:, :, 3], 0.0).sum(axis=1)
            bias = layer.subnode_scale * constants + layer.subnode_bias
            bias = layer.node_scale * bias + layer.node_bias if sums else bias
        if not np.isfinite(bias).all():
            raise ExportError(
                "The constants d of the edges into one sum add up to more than a double holds. Make them smaller."
            )
        self.ones = int(layer.arity.min() != layer.arity.max())
        self.bias: Array = np.append(bias, np.ones(self.ones))

    def scale_weights(self, weights: Array) -> Array:
        """Weights (..., O) of the edges as weights (..., columns) of the product."""
        padding = [(0, 0)] * (weights.ndim - 1) + [(0, self.ones)]
        result: Array = np.pad(weights * self.scale, padding)
        return result


def _base(body: Body, v: str, layer: Layer, columns: _Columns) -> tuple[str, Array]:
    weights = columns.scale_weights(layer.base_weight.T)
    if layer.base == "zero" or not weights.any():
        return v, np.zeros_like(weights)
    if layer.base == "identity":
        return v, weights
    return body("Mul", v, onnx_functions.operator(body, "Sigmoid", v)), weights


def _product(body: Body, features: list[tuple[str, Array]], bias: Array) -> str:
    names = [name for name, _ in features]
    weights = np.concatenate([block for _, block in features])
    left = names[0] if len(names) == 1 else body("Concat", *names, axis=1)
    return body("Gemm", left, body.table("weights", weights), body.table("bias", bias))


def _name(body: Body, v: str, layer: Layer, columns: _Columns) -> tuple[list[tuple[str, Array]], list[str]]:
    """The named functions of a layer: features with their weights, or sums that are already columns."""
    listed = list(FUNCTIONS)

    def order(name: str) -> tuple[int, str]:
        return (listed.index(name) if name in listed else len(listed)), name

    edges = sorted(np.argwhere(layer.symbolic_mask).tolist(), key=lambda edge: order(str(layer.functions[*edge])))
    if not edges:
        return [], []
    j, i = np.array(edges).T
    a, b, c, _ = layer.affine[j, i].T
    names = layer.functions[j, i].tolist()
    present = sorted(set(names), key=order)
    if len(edges) * max(layer.inputs, layer.subnodes) > MATRIX:
        return [], [_sums(body, v, layer, columns, number, name) for number, name in enumerate(present)]
    slopes = np.zeros((layer.inputs, len(edges)))
    slopes[i, np.arange(len(edges))] = a
    arguments = body("Gemm", v, body.table("slopes", slopes), body.table("shifts", b))
    sizes = [names.count(name) for name in present]
    pieces = body.split(arguments, sizes, axis=1) if len(present) > 1 else (arguments,)
    weights = np.zeros((len(edges), layer.subnodes))
    weights[np.arange(len(edges)), j] = c
    rows = np.split(columns.scale_weights(weights), np.cumsum(sizes)[:-1])
    values = [onnx_functions.apply(body, name, piece) for name, piece in zip(present, pieces, strict=True)]
    return list(zip(values, rows, strict=True)), []


def _sums(body: Body, v: str, layer: Layer, columns: _Columns, number: int, name: str) -> str:
    """All edges of one function in a layer with many edges, summed by subnode (batch, columns). Each subnode has as
    many slots as the largest; a spare slot repeats an edge with weight 0, so that it leaves its domain only on rows on
    which that edge does."""
    edges = [np.flatnonzero(layer.functions[j] == name) for j in range(layer.subnodes)]
    slots = max(len(edge) for edge in edges)
    spare_j = next(j for j, edge in enumerate(edges) if len(edge))
    spare_i = edges[spare_j][0]
    shape = (layer.subnodes + columns.ones, slots)
    index = np.full(shape, spare_i, np.int64)
    numbers = np.tile([*layer.affine[spare_j, spare_i, :2], 0.0], (*shape, 1))
    for j, own in enumerate(edges):
        index[j, : len(own)] = own
        numbers[j, : len(own)] = layer.affine[j, own, :3]
        numbers[j, :, 2] *= columns.scale[j]
    a, b, c = (body.table(f"{part}{number}", numbers[:, :, n]) for n, part in enumerate("abc"))
    chosen = body("Gather", v, body.table(f"inputs{number}", index), axis=1)
    values = onnx_functions.apply(body, name, body("Add", body("Mul", chosen, a), b))
    return body("ReduceSum", body("Mul", values, c), body.integers(2), keepdims=0)


def _nodes(body: Body, layer: Layer, subnodes: str) -> str:
    """The nodes: products of groups of subnodes; short groups are filled up with the column of ones."""
    if (layer.arity == 1).all():
        return subnodes
    index = np.full((layer.nodes, int(layer.arity.max())), layer.subnodes, np.int64)
    for q, group in enumerate(layer.groups):
        index[q, : len(group)] = group
    grouped = body("Gather", subnodes, body.table("groups", index), axis=1)
    product, *others = body.split(grouped, [1] * index.shape[1], axis=2)
    for factor in others:
        product = body("Mul", product, factor)
    products = body("Squeeze", product, body.integers(2))
    scaled = body("Mul", products, body.table("node_scale", layer.node_scale))
    return body("Add", scaled, body.table("node_bias", layer.node_bias))
