"""A network as ONNX (by default opset 18, IR 9): one node per layer, in the domain `ai.kanserve`.

    x ─▶ ai.kanserve.CardinalCubic ─▶ ... ─▶ ai.kanserve.Symbolic ─▶ y
         layer 1 with the input affine       layer L with the output affine

Each layer's node calls a function in the file, whose body is standard operators and whose parameters are the layer's
tables; layers that differ only in their numbers share one. So the file runs wherever ONNX does, and a native operator
of the same name may replace a node. The node's doc_string names the chosen body and the reason; its attributes have,
for such an operator, the names of its tables, the order of its splines and its base function. For runtimes without
model-local functions, such as OpenVINO, the form "operators" has the bodies in the graph itself.

Input "x" (batch, inputs), output "y" (batch, outputs), of the chosen type. A classifier's y are its scores; it also has
"probabilities" (batch, classes) and "label" (batch,), int64: the index of the class in the metadata, or -1 where the
row is NaN. The metadata have `inputs` and `outputs` (name, unit, training range; null where it is not known),
`classes`, `formula`, its lines, and `batch`: the number of rows whose intermediate values fit into the cache; and
`intervals`, if there are any: their levels and half widths, and scales where these depend on the output. The shape and
the formula are the model's doc_string too.

A row with a non-finite value becomes NaN: no layer can hide such a value (`_onnx/layers.py`).
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from kanserve.errors import ExportError, MissingDependencyError
from kanserve.network.encoding import encodes
from kanserve.network.export_options import ExportOptions, Precision
from kanserve.network.kan import Kan, Layer
from kanserve.network.serialization import variable_out
from kanserve_exporters._onnx.body import Body, Constant, Operation
from kanserve_exporters._onnx.costs import How
from kanserve_exporters._onnx.layers import LayerBody, layer_body
from kanserve_exporters._shared.layer_tables import refuse_underflow
from kanserve_exporters._shared.source_text import formula_lines

if TYPE_CHECKING:
    import onnx

from kanserve.network.kan import Variable

_INT64, _FLOAT, _DOUBLE = 7, 1, 11  # numbers of the types in ONNX


def encode(body: Body, x: str, inputs: tuple[Variable, ...]) -> str:
    """Encode raw values x as the numbers (batch, inputs) of the network; without a number NaN, infinities stay."""
    fills = body.table(
        "fill_values", np.array([np.nan if variable.fill_value is None else variable.fill_value for variable in inputs])
    )
    missing = body("IsNaN", x)
    counts = [len(variable.categories) for variable in inputs]
    if not any(counts):
        return body("Where", missing, fills, x)
    # Which values are codes of categories: of other inputs none, since their count is 0.
    count = body.table("category_count", np.array(counts, np.float64))
    near = body("And", body("GreaterOrEqual", x, body.number(0)), body("Less", x, count))
    code = body("Cast", body("Where", near, x, body.number(0)), to=_INT64)
    whole = body("Equal", body("Cast", code, to=_FLOAT if body.precision == "float" else _DOUBLE), x)
    known = body("And", near, whole)
    starts = body.table("category_first", np.cumsum([0, *counts[:-1]]))
    values = body.table(
        "category_values", np.array([number for variable in inputs for number in variable.category_values])
    )
    # Within the table also where the code is of no use.
    index = body("Add", body("Where", known, code, body.integer(0)), body("Min", starts, body.integer(sum(counts) - 1)))
    categorical = body("Greater", count, body.number(0))
    finite = body("Not", body("IsInf", x))
    filled = body("Or", missing, body("And", categorical, finite))
    return body("Where", known, body("Gather", values, index, axis=0), body("Where", filled, fills, x))


DOMAIN = "ai.kanserve"
LIMIT = 2**31 - 2**24  # bytes of all tables: protobuf's limit, with room for the rest
LARGEST = 2**22  # bytes of one intermediate tensor, so that they stay in the cache
OLDEST, OLDEST_IR = 15, 8  # opset 15 has every operator as it is used here; IR 8 has model-local functions


def export(kan: Kan, options: ExportOptions) -> Mapping[str, bytes]:
    """The network as {"model.onnx": bytes}; equal networks give equal bytes."""
    return {"model.onnx": export_as(kan, options)}


def export_as(kan: Kan, options: ExportOptions, how: How | None = None) -> bytes:
    """The file with all splines computed in one way (`how`), for benchmarks; None: the best way for each layer."""
    try:
        import onnx
    except ImportError:
        raise MissingDependencyError("onnx", "export") from None
    _check_versions(options)
    refuse_underflow(kan, options.floating)
    layers = _layers(kan, options.floating, how)
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
    own = options.onnx_form == "functions"
    formula = formula_lines(kan)
    model = onnx.helper.make_model(
        graph,
        ir_version=options.ir_version,
        producer_name="kanserve",
        doc_string="\n".join([_shape(kan), *formula]),
        opset_imports=[onnx.helper.make_opsetid("", options.opset), *([onnx.helper.make_opsetid(DOMAIN, 1)] * own)],
        functions=[_function(name, distinct[name], options.opset) for name in sorted(distinct)] if own else [],
    )
    onnx.helper.set_model_props(model, _metadata(kan, layers, body.dtype.itemsize, formula, options))
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _check_versions(options: ExportOptions) -> None:
    """Raise ExportError unless the installed onnx supports these versions, and they have what the bodies need."""
    import onnx

    for name, asked, oldest, newest in (
        ("opset", options.opset, OLDEST, onnx.defs.onnx_opset_version()),
        ("ir_version", options.ir_version, OLDEST_IR, onnx.IR_VERSION),
    ):
        if not oldest <= asked <= newest:
            raise ExportError(
                f"The option {name} must be from {oldest} to {newest} (onnx {onnx.__version__}), got {asked}."
            )


def _layers(kan: Kan, precision: Precision, how: How | None) -> list[LayerBody]:
    """The bodies of the layers, with the input affine map in the first and the output affine map in the last."""
    layers = _with_output_affine(kan)
    affine = (kan.input_shift, kan.input_scale)
    moved = affine[0].any() or (affine[1] != 1).any()
    ends = [(affine if moved and n == 0 else None, n == len(layers) - 1) for n in range(len(layers))]
    return [layer_body(layer, precision, how, *end) for layer, end in zip(layers, ends, strict=True)]


def _with_output_affine(kan: Kan) -> tuple[Layer, ...]:
    """The layers, with the scale and shift of the outputs folded into the last one's nodes."""
    last = kan.layers[-1]
    with np.errstate(all="ignore"):
        scale = kan.output_scale * last.node_scale
        bias = kan.output_scale * last.node_bias + kan.output_shift
    return (*kan.layers[:-1], replace(last, node_scale=scale, node_bias=bias))


def _network(kan: Kan, layers: list[LayerBody], names: list[str], options: ExportOptions) -> Body:
    """The graph from "x" to "y"."""
    body = Body(options.floating)
    value = encode(body, "x", kan.inputs) if encodes(kan) else "x"
    for number, (layer, name) in enumerate(zip(layers, names, strict=True), 1):
        prefix = f"layer{number}_"
        if options.onnx_form == "operators":
            value = body.inline(layer.body, value, layer.output, prefix)
            continue
        tables = [body.table(prefix + key, table) for key, table in layer.body.tables.items()]
        named = ",".join(layer.body.tables)
        doc = layer.reason + "."
        value = body.call(DOMAIN, name, value, *tables, doc=doc, tables=named, order=layer.order, base=layer.base)
    body.give("y", value)
    if kan.classes:
        body.give("probabilities", body("Softmax", "y", axis=1))
        best = body("ArgMax", "y", axis=1, keepdims=0)
        broken = body("IsNaN", body("Gather", "y", body.integer(0), axis=1))
        body.give("label", body("Where", broken, body.integer(-1), best))
    return body


def _function_names(layers: list[LayerBody]) -> list[str]:
    """The name of each layer's function: its kind, numbered from the second distinct program of that kind on."""
    known: dict[object, str] = {}
    count: dict[str, int] = {}
    for layer in layers:
        if layer.body.program not in known:
            count[layer.kind] = count.get(layer.kind, 0) + 1
            known[layer.body.program] = layer.kind + (str(count[layer.kind]) if count[layer.kind] > 1 else "")
    return [known[layer.body.program] for layer in layers]


def _function(name: str, layer: LayerBody, opset: int) -> "onnx.FunctionProto":
    import onnx

    return onnx.helper.make_function(
        DOMAIN,
        name,
        ["v", *layer.body.tables],
        [layer.output],
        [_node(step) for step in layer.body.steps],
        [onnx.helper.make_opsetid("", opset)],
        ["tables", "order", "base"],
    )


def _node(step: Operation | Constant) -> "onnx.NodeProto":
    import onnx

    if isinstance(step, Constant):
        return onnx.helper.make_node("Constant", [], [step.output], value=onnx.numpy_helper.from_array(step.value))
    attributes = dict[str, Any](step.attributes)  # make_node mixes its own options with the operator's attributes
    return onnx.helper.make_node(
        step.kind, step.inputs, step.outputs, domain=step.domain or None, doc_string=step.doc or None, **attributes
    )


def _shape(kan: Kan) -> str:
    nodes = [len(kan.inputs), *(layer.nodes for layer in kan.layers)]
    return f"A Kolmogorov-Arnold network of shape {nodes}."


def _metadata(
    kan: Kan, layers: list[LayerBody], itemsize: int, formula: list[str], options: ExportOptions
) -> dict[str, str]:
    values: dict[str, Any] = {
        "inputs": [variable_out(variable) for variable in kan.inputs],
        "outputs": [variable_out(output) for output in kan.outputs],
        "classes": list(kan.classes),
        "formula": formula,
        "batch": max(1, LARGEST // (itemsize * max(layer.width for layer in layers))),
    }
    if options.intervals:
        values["intervals"] = [interval.to_json() for interval in options.intervals]
    return {key: json.dumps(value, allow_nan=False) for key, value in values.items()}
