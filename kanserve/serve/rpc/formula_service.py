"""kanserve.v1.FormulaService, one plain function per call: formula, edges and exact derivatives of a model.

`CALLS` has all of them. Streaming calls return iterators and do not evaluate the network: the sources of a model
(`export_source`), and changes of the served versions (`watch`).
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter_ns
from types import MappingProxyType
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import DeadlineError, FormulaError, InputError
from kanserve.formula import Formula, to_json
from kanserve.formula.constants.uncertainty_report import Alternative, Evidence
from kanserve.network.evaluate import edges, evaluate, jacobian
from kanserve.network.kan import Layer, Sum, Symbolic, Variable, Zero
from kanserve.serve.models.catalog import Model
from kanserve.serve.rpc.export_source import export_source
from kanserve.serve.rpc.range_violations import bounds, find_violations
from kanserve.serve.rpc.tensors import decode_rows, encode_array
from kanserve.serve.rpc.watch import watch
from kanserve.serve.state import Call, ServerState
from kanserve.v1 import formula_pb2 as pb

Array = NDArray[np.float64]

CURVE_POINTS = 65
MAX_CURVE_POINTS = 2048

TEXTS = ("text", "latex", "python", "c")  # of each output
# Of all outputs together, and their names in `kanserve.formula.from_network.sources`.
FUNCTIONS = {
    **{language: language for language in ("fortran", "julia", "matlab", "numpy", "octave", "rust")},
    **{f"{language}_function": language for language in ("c", "python")},
}

_KINDS = {"Spline": pb.EDGE_KIND_SPLINE, "Symbolic": pb.EDGE_KIND_SYMBOLIC, "Sum": pb.EDGE_KIND_SUM}


@dataclass(eq=False)
class _Written:
    """The formulas of a model as texts, made once for each model."""

    response: pb.GetFormulaResponse
    size: int
    functions: dict[str, str]  # by format


_written: WeakKeyDictionary[Model, _Written] = WeakKeyDictionary()


def find(state: ServerState, request: Any, call: Call) -> Model:
    """The model that a request names, recorded in the call (Any: each message has its own type)."""
    model = state.catalog.find(request.model_name, request.model_version)
    call.model, call.version = model.name, model.version
    return model


def get_formula(state: ServerState, request: pb.GetFormulaRequest, call: Call) -> pb.GetFormulaResponse:
    """One formula per output, in the requested formats; FormulaError when they exceed the message limit, or cannot be
    written in a language."""
    model = find(state, request, call)
    wanted = {_known_format(name) for name in request.formats}
    written = _written.get(model) or _written.setdefault(model, _write(model))
    if not wanted:
        response, size = written.response, written.size
    else:
        for function in wanted & set(FUNCTIONS):
            if function not in written.functions:
                written.functions[function] = _function(model, FUNCTIONS[function])
        response = _selected(written, wanted)
        size = response.ByteSize()
    if size > state.settings.max_message_bytes:
        most = state.settings.max_message_bytes
        raise FormulaError(f"The formulas of {model.name!r} need more than {most} bytes. Simplify it first.")
    return response


def _known_format(name: str) -> str:
    if name not in TEXTS and name not in FUNCTIONS:
        raise InputError(f"A format is one of {', '.join((*TEXTS, *sorted(FUNCTIONS)))}; got {name!r:.60}.")
    return name


def _write(model: Model) -> _Written:
    response = pb.GetFormulaResponse(
        model_name=model.name,
        model_version=str(model.version),
        outputs=[_formula(model, q) for q in range(len(model.kan.outputs))],
        classes=model.kan.classes,
    )
    return _Written(response, response.ByteSize(), {})


def _function(model: Model, language: str) -> str:
    from kanserve.formula.from_network.sources import law  # most servers are never asked

    return law(model.formulas, model.kan.inputs, model.kan.outputs, language)


def _selected(written: _Written, wanted: set[str]) -> pb.GetFormulaResponse:
    """The response with only the requested formats."""
    response = pb.GetFormulaResponse()
    response.CopyFrom(written.response)
    for output in response.outputs:
        for unwanted in set(TEXTS) - wanted:
            setattr(output, unwanted, "")
        for alternative in output.pareto:
            for unwanted in {"text", "latex"} - wanted:
                setattr(alternative, unwanted, "")
    for function in wanted & set(FUNCTIONS):
        response.functions[function] = written.functions[function]
    return response


def _formula(model: Model, q: int) -> pb.OutputFormula:
    formula = model.formulas[q]
    known = model.evidence[q] if model.evidence else Evidence()
    message = pb.OutputFormula(
        name=formula.name,
        text=formula.text,
        latex=formula.latex,
        python=formula.python,
        c=formula.c,
        closed_form=formula.closed_form,
        shortened=formula.shortened,
        variables=[_variable(variable) for variable in formula.variables],
        constants=[
            pb.Constant(value=constant.value, text=constant.text, standard_error=constant.standard_error)
            for constant in known.constants
        ],
        residual_standard_deviation=known.sigma,
        degrees_of_freedom=known.degrees,
        pareto=[_alternative(alternative) for alternative in known.alternatives],
        domain=formula.domain,
        **_tree(formula),
    )
    if (metrics := model.manifest.metrics) is not None:
        for name in ("r2", "max_error", "rmse"):
            if (value := getattr(metrics, name)[q]) is not None:
                setattr(message, name, value)
    return message


def _alternative(one: Alternative) -> pb.Alternative:
    return pb.Alternative(
        text=one.formula.text,
        latex=one.formula.latex,
        complexity=one.complexity,
        rmse=one.rmse,
        validation_rmse=one.validation_rmse,
        **_tree(one.formula),
    )


def _tree(one: Formula) -> dict[str, Any]:
    """The fields of a message for the expression and its splines, as JSON texts."""
    data = to_json([one])
    return {"expression_json": json.dumps(data["formulas"][0]["tree"]), "tables_json": json.dumps(data["tables"])}


def get_network(state: ServerState, request: pb.GetNetworkRequest, call: Call) -> pb.GetNetworkResponse:
    """Nodes and edges, and for each edge its curve over the range of its input for rows in the training range."""
    model = find(state, request, call)
    kan = model.kan
    values = state.settings.max_message_bytes // 16  # of all curves together, an x and a y each
    points = _curve_points(model, values, request.curve_points if request.HasField("curve_points") else None)
    return pb.GetNetworkResponse(
        model_name=model.name,
        model_version=str(model.version),
        inputs=[_variable(variable) for variable in kan.inputs],
        outputs=[_variable(output) for output in kan.outputs],
        classes=kan.classes,
        layers=[_layer(model, number, points) for number in range(len(kan.layers))],
        input_shift=kan.input_shift.tolist(),
        input_scale=kan.input_scale.tolist(),
        output_shift=kan.output_shift.tolist(),
        output_scale=kan.output_scale.tolist(),
    )


def _curve_points(model: Model, values: int, wanted: int | None) -> int:
    """The number of points per curve: as requested, or by default enough for a smooth picture, or as many as fit."""
    # Pruned edges have no curve in the response, but all edges of a layer are evaluated together.
    count = sum(layer.subnodes * layer.inputs for layer in model.kan.layers)
    most = min(MAX_CURVE_POINTS, values // count)
    if wanted is None:
        return min(CURVE_POINTS, most)
    if wanted > most:
        raise InputError(f"A curve of this network may have {most} points, got {wanted}.")
    return wanted


def _layer(model: Model, number: int, points: int) -> pb.NetworkLayer:
    layer, last = model.kan.layers[number], number == len(model.kan.layers) - 1
    names = (
        [output.name for output in model.kan.outputs]
        if last
        else [f"h{number + 1}.{q + 1}" for q in range(layer.nodes)]
    )
    return pb.NetworkLayer(
        nodes=[
            pb.NetworkNode(name=names[q], subnodes=group, scale=layer.node_scale[q], bias=layer.node_bias[q])
            for q, group in enumerate(layer.groups)
        ],
        subnodes=[
            pb.NetworkSubnode(scale=scale, bias=bias)
            for scale, bias in zip(layer.subnode_scale, layer.subnode_bias, strict=True)
        ],
        edges=_edges(layer, model, number, points),
    )


def _edges(layer: Layer, model: Model, number: int, points: int) -> list[pb.NetworkEdge]:
    low, high = model.spans[number].T
    x = np.linspace(low, np.where(high > low, high, low + 1), points)
    y = edges(layer, x)
    shares = np.zeros((layer.subnodes, layer.inputs)) if model.shares is None else model.shares.edges[number]
    messages = []
    for j in range(layer.subnodes):
        for i in range(layer.inputs):
            message = pb.NetworkEdge(source=i, target=j, share=shares[j, i])
            edge = layer.edge(j, i)
            if isinstance(edge, Zero):
                message.kind = pb.EDGE_KIND_ZERO
            else:
                message.kind = _KINDS[type(edge).__name__]
                message.x.extend(x[:, i].tolist())
                message.y.extend(y[:, j, i].tolist())
            symbolic = edge.symbolic if isinstance(edge, Sum) else edge
            if isinstance(symbolic, Symbolic):
                message.function = symbolic.function
                message.a, message.b, message.c, message.d = symbolic.a, symbolic.b, symbolic.c, symbolic.d
            messages.append(message)
    return messages


def differentiate(state: ServerState, request: pb.DifferentiateRequest, call: Call) -> pb.DifferentiateResponse:
    """The outputs and the exact Jacobian at each row, in float64, by the reference evaluation."""
    model = find(state, request, call)
    inputs, outputs = len(model.kan.inputs), len(model.kan.outputs)
    rows = decode_rows(request.rows, inputs, model.max_differentiated_rows)
    values, jacobians = np.empty((len(rows), outputs)), np.empty((len(rows), outputs, inputs))
    call.rows, begun = len(rows), perf_counter_ns()
    for start in range(0, len(rows), model.rows_at_a_time):
        if not call.alive():
            raise DeadlineError("The deadline passed, or the caller left, before all rows were differentiated.")
        part = slice(start, start + model.rows_at_a_time)
        values[part] = evaluate(model.kan, rows[part])
        jacobians[part] = jacobian(model.kan, rows[part])
    call.computed = perf_counter_ns() - begun
    beyond = find_violations(bounds(model, "FP64"), rows)
    return pb.DifferentiateResponse(
        model_name=model.name,
        model_version=str(model.version),
        values=encode_array(values),
        jacobian=encode_array(jacobians),
        outside_rows=[] if beyond is None else beyond.rows.tolist(),
    )


def _variable(one: Variable) -> pb.Variable:
    return pb.Variable(name=one.name, unit=one.unit, low=one.low, high=one.high)


CALLS: Mapping[str, Callable[[ServerState, Any, Call], Any]] = MappingProxyType(
    {
        "GetFormula": get_formula,
        "GetNetwork": get_network,
        "Differentiate": differentiate,
        "ExportSource": export_source,
        "Watch": watch,
    }
)
