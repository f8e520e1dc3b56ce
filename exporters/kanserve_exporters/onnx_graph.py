"""A network as ONNX (opset 18, IR 9): one node a layer, in the domain `ai.kanserve`.

    x ─▶ Sub, Div ─▶ ai.kanserve.CardinalCubic ─▶ ... ─▶ ai.kanserve.Symbolic ─▶ Mul, Add ─▶ y
         input affine        layer 1                          layer L           output affine

Each layer's node calls a function that the file itself holds, whose body is standard operators and whose parameters
are the layer's tables; layers that differ only in their numbers share one. So the file runs wherever ONNX does, and a
native operator of the same name may take a node over. The node's doc_string says which body it is and why.

Input "x" (batch, inputs), output "y" (batch, outputs), of the type asked for. A classifier's y are its scores; it has
"probabilities" (batch, classes) and "label" (batch,), int64: the place of the class in the metadata, or -1 where the
row is NaN. The metadata hold `inputs` and `outputs` (name, unit, training range; null where it is not known),
`classes`, and `batch`: how many rows at a time keep the values on the way small.

A row in which anything is not finite is NaN: every layer lets no such value pass unseen (`_onnx_layers.py`), and at
the end each row's outputs, times 0 and summed, are added to all of them.
"""

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from kanserve.errors import ExportError, MissingDependencyError
from kanserve.ir import Kan, Variable
from kanserve.options import ExportOptions
from kanserve_exporters._onnx_body import Body, Constant, Operation
from kanserve_exporters._onnx_layers import LayerBody, layer_body

if TYPE_CHECKING:
    import onnx

DOMAIN, OPSET, IR = "ai.kanserve", 18, 9
LIMIT = 2**31 - 2**24  # bytes of a protobuf message, with room for all but the tables
LARGEST = 2**22  # bytes of one tensor on the way: a wide layer's would take gigabytes for 100,000 rows


def export(kan: Kan, options: ExportOptions) -> Mapping[str, bytes]:
    """The network as {"model.onnx": bytes}; equal networks give equal bytes."""
    try:
        import onnx
    except ImportError:
        raise MissingDependencyError("onnx", "export") from None
    layers = [layer_body(one, options.precision) for one in kan.layers]
    names = _function_names(layers)
    body = _network(kan, layers, names, options)
    if sum(table.nbytes for table in body.tables.values()) > LIMIT:
        raise ExportError(f"An ONNX file holds less than 2 GiB; the tables of {options.name!r} do not fit into it.")
    distinct = {name: layer for name, layer in zip(reversed(names), reversed(layers), strict=True)}
    number = onnx.helper.np_dtype_to_tensor_dtype(body.dtype)
    outputs = [onnx.helper.make_tensor_value_info("y", number, ["batch", len(kan.outputs)])]
    if kan.classes:
        outputs += [
            onnx.helper.make_tensor_value_info("probabilities", number, ["batch", len(kan.classes)]),
            onnx.helper.make_tensor_value_info("label", onnx.TensorProto.INT64, ["batch"]),
        ]
    graph = onnx.helper.make_graph(
        [_node(step) for step in body.steps],
        "kan",
        [onnx.helper.make_tensor_value_info("x", number, ["batch", len(kan.inputs)])],
        outputs,
        [onnx.numpy_helper.from_array(table, name) for name, table in body.tables.items()],
    )
    model = onnx.helper.make_model(
        graph,
        ir_version=IR,
        producer_name="kanserve",
        opset_imports=[onnx.helper.make_opsetid("", OPSET), onnx.helper.make_opsetid(DOMAIN, 1)],
        functions=[_function(name, distinct[name]) for name in sorted(distinct)],
    )
    onnx.helper.set_model_props(model, _metadata(kan, layers, body.dtype.itemsize))
    return {"model.onnx": model.SerializeToString(deterministic=True)}


def _network(kan: Kan, layers: list[LayerBody], names: list[str], options: ExportOptions) -> Body:
    """The graph from "x" to "y"."""
    body = Body(options.precision)
    value = "x"
    if kan.input_shift.any() or (kan.input_scale != 1).any():
        value = body("Sub", value, body.table("input_shift", kan.input_shift))
        value = body("Div", value, body.table("input_scale", kan.input_scale))
    for number, (layer, name) in enumerate(zip(layers, names, strict=True), 1):
        tables = [body.table(f"layer{number}_{key}", table) for key, table in layer.body.tables.items()]
        value = body.call(DOMAIN, name, value, *tables, doc=layer.reason + ".")
    if kan.output_shift.any() or (kan.output_scale != 1).any():
        value = body("Mul", value, body.table("output_scale", kan.output_scale))
        value = body("Add", value, body.table("output_shift", kan.output_shift))
    broken = body("MatMul", value, body.table("zeros", np.zeros((len(kan.outputs), 1))))
    value = body("Add", value, broken)
    body.give("y", value)
    if kan.classes:
        body.give("probabilities", body("Softmax", value, axis=1))
        best = body("ArgMax", value, axis=1, keepdims=0)
        is_broken = body("IsNaN", body("Squeeze", broken, body.integers(1)))
        body.give("label", body("Where", is_broken, body.integer(-1), best))
    return body


def _function_names(layers: list[LayerBody]) -> list[str]:
    """Each layer's function: its kind, numbered from the second on of those that differ in more than their tables."""
    known: dict[object, str] = {}
    count: dict[str, int] = {}
    for layer in layers:
        if layer.body.program not in known:
            count[layer.kind] = count.get(layer.kind, 0) + 1
            known[layer.body.program] = layer.kind + (str(count[layer.kind]) if count[layer.kind] > 1 else "")
    return [known[layer.body.program] for layer in layers]


def _function(name: str, layer: LayerBody) -> "onnx.FunctionProto":
    import onnx

    return onnx.helper.make_function(
        DOMAIN,
        name,
        ["v", *layer.body.tables],
        [layer.output],
        [_node(step) for step in layer.body.steps],
        [onnx.helper.make_opsetid("", OPSET)],
    )


def _node(step: Operation | Constant) -> "onnx.NodeProto":
    import onnx

    if isinstance(step, Constant):
        return onnx.helper.make_node("Constant", [], [step.output], value=onnx.numpy_helper.from_array(step.value))
    attributes = dict[str, Any](step.attributes)  # make_node takes its own options and the operator's alike
    return onnx.helper.make_node(
        step.kind, step.inputs, step.outputs, domain=step.domain or None, doc_string=step.doc or None, **attributes
    )


def _metadata(kan: Kan, layers: list[LayerBody], itemsize: int) -> dict[str, str]:
    values = {
        "inputs": [_variable(one) for one in kan.inputs],
        "outputs": [_variable(one) for one in kan.outputs],
        "classes": list(kan.classes),
        "batch": max(1, LARGEST // (itemsize * max(layer.width for layer in layers))),
    }
    return {key: json.dumps(value, allow_nan=False) for key, value in values.items()}


def _variable(one: Variable) -> dict[str, str | float | None]:
    low, high = (limit if math.isfinite(limit) else None for limit in (one.low, one.high))
    return {"name": one.name, "unit": one.unit, "low": low, "high": high}
