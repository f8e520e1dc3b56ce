"""Every call of a client, once for both of them: a generator that yields what to send and is sent what came back."""

import json
from collections.abc import Generator
from typing import Any, Literal, TypeVar

import grpc
import numpy as np
from numpy.typing import ArrayLike, NDArray

from kanserve import errors
from kanserve.client.results import (
    Edge,
    ModelInfo,
    ModelStatus,
    Network,
    NetworkLayer,
    Node,
    Prediction,
    ServedAlternative,
    ServedFormula,
)
from kanserve.errors import DataError, KanserveError, MissingDependencyError, TensorError
from kanserve.formula import Table
from kanserve.formula.constants import Constant
from kanserve.inference import grpc_service_pb2 as pb
from kanserve.ir import Variable
from kanserve.v1 import formula_pb2

Array = NDArray[np.float64]
Output = Literal["y", "probabilities", "label"]
T = TypeVar("T")
Steps = Generator[tuple[str, Any], Any, T]  # yields (name of the call, request), is sent the response, returns T

_ROWS_AT_A_TIME = 16_384
_BYTES_AT_A_TIME = 2**23


def live() -> Steps[bool]:
    try:
        response = yield "ServerLive", pb.ServerLiveRequest()
    except errors.UnreachableError:
        return False
    return bool(response.live)


def ready(name: str, version: str) -> Steps[bool]:
    try:
        if name:
            response = yield "ModelReady", pb.ModelReadyRequest(name=name, version=version)
        else:
            response = yield "ServerReady", pb.ServerReadyRequest()
    except errors.UnreachableError:
        return False
    return bool(response.ready)


def models() -> Steps[tuple[ModelStatus, ...]]:
    response = yield "RepositoryIndex", pb.RepositoryIndexRequest()
    return tuple(ModelStatus(one.name, int(one.version), one.state == "READY", one.reason) for one in response.models)


def metadata(name: str, version: str) -> Steps[ModelInfo]:
    response = yield "ModelMetadata", pb.ModelMetadataRequest(name=name, version=version)
    facts = response.properties
    return ModelInfo(
        name=response.name,
        version=int(facts["version"]),
        versions=tuple(int(one) for one in response.versions),
        inputs=tuple(json.loads(facts["inputs"])),
        outputs=tuple(json.loads(facts["outputs"])),
        classes=tuple(json.loads(facts["classes"])),
        precision=facts["precision"],
        backend=facts["backend"],
    )


def predict(name: str, x: ArrayLike, version: str, output: Output) -> Steps[NDArray[Any]]:
    prediction = yield from infer(name, x, version, (output,))
    match output:
        case "probabilities" if prediction.probabilities is not None:
            return prediction.probabilities
        case "label" if prediction.labels is not None:
            return prediction.labels
        case _:
            return prediction.values


def infer(name: str, x: ArrayLike, version: str, outputs: tuple[str, ...]) -> Steps[Prediction]:
    rows = _rows(x)
    parts: dict[str, list[NDArray[Any]]] = {}
    count, outside = 0, []
    start, step = 0, _rows_at_a_time(rows)
    while start < max(1, len(rows)):
        part = rows[start : start + step]
        tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP64", shape=part.shape)
        request = pb.ModelInferRequest(
            model_name=name,
            model_version=version,
            inputs=[tensor],
            outputs=[pb.ModelInferRequest.InferRequestedOutputTensor(name=one) for one in outputs],
            raw_input_contents=[part.astype("<f8", copy=False).tobytes()],
        )
        try:
            response = yield "ModelInfer", request
        except TensorError:
            told = yield "ModelConfig", pb.ModelConfigRequest(name=name, version=version)
            if not 0 < told.config.max_batch_size < len(part):
                raise
            step = told.config.max_batch_size
            continue
        version = response.model_version  # the parts of one answer come from one version
        for described, data in zip(response.outputs, response.raw_output_contents, strict=True):
            parts.setdefault(described.name, []).append(_tensor(described, data))
        count += response.parameters["outside_training_range"].int64_param
        named = response.parameters["outside_rows"].string_param
        outside += [start + int(one) for one in named.split(",") if one]
        start += step
    whole = {one: np.concatenate(values) for one, values in parts.items()}
    values = whole.get("y", np.empty((len(rows), 0)))
    return Prediction(values, int(version), count, tuple(outside), whole.get("probabilities"), whole.get("label"))


def _tensor(described: pb.ModelInferResponse.InferOutputTensor, data: bytes) -> NDArray[Any]:
    if described.datatype == "BYTES":
        texts, position = [], 0
        while position < len(data):
            size = int.from_bytes(data[position : position + 4], "little")
            texts.append(data[position + 4 : position + 4 + size].decode())
            position += 4 + size
        return np.array(texts, np.str_)
    return np.frombuffer(data, "<f8").reshape(tuple(described.shape)).astype(np.float64)


def formula(name: str, version: str) -> Steps[tuple[ServedFormula, ...]]:
    response = yield "GetFormula", formula_pb2.GetFormulaRequest(model_name=name, model_version=version)
    return tuple(
        ServedFormula(
            name=one.name,
            text=one.text,
            latex=one.latex,
            python=one.python,
            c=one.c,
            closed_form=one.closed_form,
            shortened=one.shortened,
            variables=tuple(_variable(variable) for variable in one.variables),
            r2=one.r2 if one.HasField("r2") else None,
            max_error=one.max_error if one.HasField("max_error") else None,
            rmse=one.rmse if one.HasField("rmse") else None,
            tree=_tree(one),
            tables=_tables(one),
            domain=tuple(one.domain),
            constants=tuple(Constant(each.value, each.standard_error, each.text) for each in one.constants),
            sigma=one.residual_standard_deviation if one.HasField("residual_standard_deviation") else None,
            degrees=one.degrees_of_freedom if one.HasField("degrees_of_freedom") else None,
            pareto=tuple(_alternative(each) for each in one.pareto),
        )
        for one in response.outputs
    )


def _alternative(one: formula_pb2.Alternative) -> ServedAlternative:
    return ServedAlternative(
        text=one.text,
        latex=one.latex,
        complexity=one.complexity,
        rmse=one.rmse,
        validation_rmse=one.validation_rmse if one.HasField("validation_rmse") else None,
        tree=_tree(one),
        tables=_tables(one),
    )


def _tree(one: formula_pb2.OutputFormula | formula_pb2.Alternative) -> tuple[tuple[Any, ...], ...]:
    return tuple(tuple(step) for step in json.loads(one.expression_json))


def _tables(one: formula_pb2.OutputFormula | formula_pb2.Alternative) -> dict[str, Table]:
    return {spline: Table(**table) for spline, table in json.loads(one.tables_json).items()}


def network(name: str, version: str, curve_points: int | None) -> Steps[Network]:
    request = formula_pb2.GetNetworkRequest(model_name=name, model_version=version, curve_points=curve_points)
    response = yield "GetNetwork", request
    return Network(
        name=response.model_name,
        version=int(response.model_version),
        inputs=tuple(one.name for one in response.inputs),
        outputs=tuple(one.name for one in response.outputs),
        classes=tuple(response.classes),
        input_variables=tuple(_variable(one) for one in response.inputs),
        output_variables=tuple(_variable(one) for one in response.outputs),
        layers=tuple(_layer(one) for one in response.layers),
        input_affine=(np.array(response.input_shift), np.array(response.input_scale)),
        output_affine=(np.array(response.output_shift), np.array(response.output_scale)),
    )


def _layer(message: formula_pb2.NetworkLayer) -> NetworkLayer:
    return NetworkLayer(
        nodes=tuple(Node(one.name, tuple(one.subnodes), one.scale, one.bias) for one in message.nodes),
        subnodes=tuple((one.scale, one.bias) for one in message.subnodes),
        edges=tuple(
            Edge(
                source=one.source,
                target=one.target,
                kind=formula_pb2.EdgeKind.Name(one.kind).removeprefix("EDGE_KIND_").lower(),
                function=one.function,
                affine=(one.a, one.b, one.c, one.d),
                share=one.share,
                x=np.array(one.x),
                y=np.array(one.y),
            )
            for one in message.edges
        ),
    )


def _variable(message: formula_pb2.Variable) -> Variable:
    return Variable(message.name, message.unit, message.low, message.high)


def differentiate(name: str, x: ArrayLike, version: str) -> Steps[tuple[Array, Array]]:
    rows = _rows(x)
    values, jacobians = [], []
    start, step = 0, _rows_at_a_time(rows)
    while start < max(1, len(rows)):
        part = rows[start : start + step]
        request = formula_pb2.DifferentiateRequest(model_name=name, model_version=version)
        request.rows.shape.extend(part.shape)
        request.rows.values = part.astype("<f8", copy=False).tobytes()
        try:
            response = yield "Differentiate", request
        except TensorError:
            told = yield "ModelMetadata", pb.ModelMetadataRequest(name=name, version=version)
            most = int(told.properties.get("max_differentiated_rows", 0))
            if not 0 < most < len(part):
                raise
            step = most
            continue
        version = response.model_version  # as of predictions
        values.append(_array(response.values))
        jacobians.append(_array(response.jacobian))
        start += step
    return np.concatenate(values), np.concatenate(jacobians)


def _array(message: formula_pb2.Float64Array) -> Array:
    return np.frombuffer(message.values, "<f8").reshape(tuple(message.shape)).astype(np.float64)


def _rows(x: ArrayLike) -> Array:
    try:
        rows = np.asarray(x, np.float64)
    except (TypeError, ValueError):
        raise DataError("Rows must be numbers; got something that is not.") from None
    if rows.ndim != 2:
        raise DataError(f"Rows must have shape (N, inputs), got {rows.shape}.")
    return rows


def _rows_at_a_time(rows: Array) -> int:
    columns = max(1, int(rows.shape[1]))
    return max(1, min(_ROWS_AT_A_TIME, _BYTES_AT_A_TIME // (8 * columns)))


def raised(error: Any, address: str, timeout: float) -> KanserveError:
    """The error that a failed call stands for: the server's own where it says which, otherwise by the status code."""
    code, text = error.code(), error.details() or ""
    named = getattr(errors, str(dict(error.trailing_metadata() or ()).get("kanserve-error", "")), None)
    if isinstance(named, type) and issubclass(named, KanserveError) and named is not MissingDependencyError:
        return named(text)
    match code:
        case grpc.StatusCode.INVALID_ARGUMENT:
            return errors.InputError(text)
        case grpc.StatusCode.NOT_FOUND:
            return errors.NotFoundError(text)
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return errors.DeadlineError(f"The server at {address} did not answer within {timeout:g} seconds.")
        case grpc.StatusCode.RESOURCE_EXHAUSTED if "larger than max" in text:
            return errors.InputError(f"The message is too large for the server at {address}: {text}. Send it in parts.")
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return errors.BusyError(f"The server at {address} is busy: {text} Try again later.")
        case grpc.StatusCode.UNAVAILABLE:
            return errors.UnreachableError(f"No server answers at {address}: {text}.")
        case _:
            return KanserveError(f"The server at {address} failed: {code.name}: {text}.")
