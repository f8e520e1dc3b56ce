"""The Open Inference Protocol, one plain function per call: from the server's state and a request to a response.

A model takes "x" [rows, inputs] and returns "y" [rows, outputs], both in raw units, in the request's type: FP64, FP32,
FP16 or BF16. A classifier returns its scores as "y", their softmax as "probabilities" and the name of the likeliest
class as "label". A row with a non-finite value is NaN in all numbers and has the empty label.

The parameters of a response have the number of rows outside the training range (`outside_training_range`) and, if there
are any, the first hundred of them (`outside_rows`, as in "0,3,17"): there the model extrapolates.
"""

import json
from collections.abc import Callable
from time import perf_counter_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanserve import __version__
from kanserve.errors import DeadlineError, InputError, NotFoundError
from kanserve.inference import grpc_service_pb2 as pb
from kanserve.inference import model_config_pb2 as config
from kanserve.inference import wire
from kanserve.serve.models import loader
from kanserve.serve.models.catalog import Model
from kanserve.serve.observability import metrics
from kanserve.serve.request import Unpacked
from kanserve.serve.rpc import tensors
from kanserve.serve.rpc.range_violations import RangeViolations
from kanserve.serve.rpc.request_cache import INPUT, LABEL, OUTPUT, PROBABILITIES, DecodedRequest, decode_request
from kanserve.serve.settings import Settings
from kanserve.serve.state import Call, ServerState

OUTSIDE_COUNT, OUTSIDE_ROWS = "outside_training_range", "outside_rows"
EXTENSIONS = ("model_repository", "model_configuration", "statistics")
_MOST_NAMED = 100

_TYPES = {"FP64": config.TYPE_FP64, "FP32": config.TYPE_FP32, "BYTES": config.TYPE_STRING}
_ID, _RAW = b"\x1a", b"\x32"  # the tags of ModelInferResponse's id and raw_output_contents


def server_live(state: ServerState, request: pb.ServerLiveRequest, call: Call) -> pb.ServerLiveResponse:
    return pb.ServerLiveResponse(live=True)


def server_ready(state: ServerState, request: pb.ServerReadyRequest, call: Call) -> pb.ServerReadyResponse:
    return pb.ServerReadyResponse(ready=state.threads.ready)


def server_metadata(state: ServerState, request: pb.ServerMetadataRequest, call: Call) -> pb.ServerMetadataResponse:
    return pb.ServerMetadataResponse(name="kanserve", version=__version__, extensions=EXTENSIONS)


def model_ready(state: ServerState, request: pb.ModelReadyRequest, call: Call) -> pb.ModelReadyResponse:
    """Whether the model is ready; a missing model is not an error."""
    try:
        _find(state, request.name, request.version, call)
    except NotFoundError:
        return pb.ModelReadyResponse(ready=False)
    return pb.ModelReadyResponse(ready=state.threads.ready)


def model_metadata(state: ServerState, request: pb.ModelMetadataRequest, call: Call) -> pb.ModelMetadataResponse:
    catalog = state.catalog
    model = catalog.find(request.name, request.version)
    call.model, call.version = model.name, model.version
    made = pb.ModelMetadataResponse.TensorMetadata
    inputs = [made(name=INPUT, datatype=model.datatype, shape=[-1, len(model.kan.inputs)])]
    outputs = [made(name=name, datatype=kind, shape=[-1, *dims]) for name, kind, dims in _outputs(model)]
    properties = {
        "version": str(model.version),
        "backend": model.kind,
        "precision": model.manifest.precision,
        "inputs": json.dumps([variable.name for variable in model.kan.inputs]),
        "outputs": json.dumps([output.name for output in model.kan.outputs]),
        "classes": json.dumps(model.kan.classes),
        "max_differentiated_rows": str(model.max_differentiated_rows),
        "max_hessian_rows": str(model.max_hessian_rows),
        "max_explained_rows": str(model.max_explained_rows),
    }
    categories = {variable.name: variable.categories for variable in model.kan.inputs if variable.categories}
    may_be_missing = [variable.name for variable in model.kan.inputs if variable.fill_value is not None]
    properties |= {"categories": json.dumps(categories)} if categories else {}
    properties |= {"may_be_missing": json.dumps(may_be_missing)} if may_be_missing else {}
    if intervals := model.manifest.intervals:
        properties["intervals"] = json.dumps([interval.to_json() for interval in intervals])
    return pb.ModelMetadataResponse(
        name=model.name,
        versions=[str(version) for version in catalog.models[model.name]],
        platform=_platform(model),
        inputs=inputs,
        outputs=outputs,
        properties=properties,
    )


def model_config(state: ServerState, request: pb.ModelConfigRequest, call: Call) -> pb.ModelConfigResponse:
    model = _find(state, request.name, request.version, call)
    x = config.ModelInput(name=INPUT, data_type=_TYPES[model.datatype], dims=[len(model.kan.inputs)])
    # A dimension of size 1 stands for a tensor with only the batch dimension, which the format cannot express.
    outputs = [
        config.ModelOutput(name=name, data_type=_TYPES[kind], dims=dims or [1]) for name, kind, dims in _outputs(model)
    ]
    made = config.ModelConfig(
        name=model.name,
        platform=_platform(model),
        backend="kanserve",
        version_policy=_policy(state.settings, model.name),
        max_batch_size=model.max_rows,
        input=[x],
        output=outputs,
    )
    return pb.ModelConfigResponse(config=made)


def model_statistics(state: ServerState, request: pb.ModelStatisticsRequest, call: Call) -> pb.ModelStatisticsResponse:
    """The statistics of all processes of the server together."""
    return metrics.statistics(state.control.snapshot(), state.catalog, request)


def repository_index(state: ServerState, request: pb.RepositoryIndexRequest, call: Call) -> pb.RepositoryIndexResponse:
    """Every version that was found, with its state, and the reason if it is not loaded."""
    catalog = state.catalog
    made = pb.RepositoryIndexResponse.ModelIndex
    return pb.RepositoryIndexResponse(
        models=[
            made(name=name, version=str(version), state=now, reason=catalog.reasons.get((name, version), "")[:500])
            for (name, version), now in catalog.states.items()
            if now == "READY" or not request.ready
        ]
    )


def repository_model_load(
    state: ServerState, request: pb.RepositoryModelLoadRequest, call: Call
) -> pb.RepositoryModelLoadResponse:
    if request.parameters:
        raise InputError("A model is loaded as it was published, without parameters. Leave them out.")
    name = wire.get_requested_model(request)
    state.control.load(name)
    call.model = name
    return pb.RepositoryModelLoadResponse()


def repository_model_unload(
    state: ServerState, request: pb.RepositoryModelUnloadRequest, call: Call
) -> pb.RepositoryModelUnloadResponse:
    name = wire.get_requested_model(request)
    state.control.unload(name)
    call.model = name
    return pb.RepositoryModelUnloadResponse()


def infer(
    state: ServerState, data: bytes | Unpacked, call: Call, allowed: Callable[[str], None] | None = None
) -> bytes:
    """Answer ModelInfer, from bytes to bytes; `allowed` is the result of `state.Access.check`."""
    begun = perf_counter_ns()
    asked, x = decode_request(state.catalog, data, call, allowed, state.settings.route_header)
    model = asked.model
    predict, most = model.backend.predict, at_once(state.settings, model.name)
    with state.threads.computing(model.name, most, rows=asked.rows) as aside:
        read = perf_counter_ns()
        if aside is None:
            values = predict(x if x.flags.aligned else x.copy())
            computed = perf_counter_ns()
            beyond = asked.bounds.find_violations(x)
        else:
            values, beyond = aside(_in_turn, call, asked, x)
            computed = perf_counter_ns()
    call.decoded, call.computed = read - begun, computed - read
    if beyond is not None:
        call.outside = beyond.features
    model.inputs.add(x, asked.bounds)
    return _raw(asked, values, beyond) if asked.raw else _encode_typed(asked, values, beyond)


def _in_turn(call: Call, asked: DecodedRequest, x: NDArray[Any]) -> tuple[NDArray[Any], RangeViolations | None]:
    """Compute on a low-priority thread, after calls of other slow models."""
    if not call.alive():
        raise DeadlineError("The deadline passed, or the caller left, before the call could be computed.")
    if not x.flags.aligned:
        x = x.copy()
    return asked.model.backend.predict(x), asked.bounds.find_violations(x)


def at_once(settings: Settings, model: str) -> int:
    """The concurrency limit of a model. The server's default is at least `threads`, so it never limits fast models."""
    own = settings.models.get(model)
    return own.concurrency if own is not None and own.concurrency else max(settings.concurrency, settings.threads)


def _find(state: ServerState, name: str, version: str, call: Call) -> Model:
    model = state.catalog.find(name, version)
    call.model, call.version = model.name, model.version
    return model


def _raw(asked: DecodedRequest, values: NDArray[Any], beyond: RangeViolations | None) -> bytes:
    parts: list[Any] = [_head(asked, beyond)]
    if asked.id:
        name = asked.id.encode()
        parts += (_ID, wire.varint(len(name)), name)
    for write in asked.outputs.values():
        made = write(asked.model, values, asked.datatype)
        if not isinstance(made, np.ndarray):
            texts = tensors.raw_texts(made)
            parts += (_RAW, wire.varint(len(texts)), texts)
        elif made.flags.c_contiguous:
            parts += (_RAW, wire.varint(made.nbytes), made.data)
        else:
            parts += (_RAW, wire.varint(made.nbytes), made.tobytes())
    return b"".join(parts)


def _head(asked: DecodedRequest, beyond: RangeViolations | None) -> bytes:
    """The serialized response without its id and output values. It is cached and joined with them later, since
    serialized protobuf parts can be concatenated."""
    if beyond is not None:
        return _message(asked, beyond).SerializeToString()
    if not asked.head:
        asked.head = _message(asked, None).SerializeToString()
    return asked.head


def _message(asked: DecodedRequest, beyond: RangeViolations | None) -> pb.ModelInferResponse:
    model = asked.model
    response = pb.ModelInferResponse(model_name=model.name, model_version=str(model.version))
    for name in asked.outputs:
        if name == LABEL:
            response.outputs.add(name=name, datatype="BYTES", shape=[asked.rows])
        else:
            response.outputs.add(name=name, datatype=asked.datatype, shape=[asked.rows, len(model.kan.outputs)])
    response.parameters[OUTSIDE_COUNT].int64_param = 0 if beyond is None else len(beyond.rows)
    if beyond is not None:
        response.parameters[OUTSIDE_ROWS].string_param = ",".join(map(str, beyond.rows[:_MOST_NAMED].tolist()))
    return response


def _encode_typed(asked: DecodedRequest, values: NDArray[Any], beyond: RangeViolations | None) -> bytes:
    response = _message(asked, beyond)
    response.id = asked.id
    for output, write in zip(response.outputs, asked.outputs.values(), strict=True):
        made = write(asked.model, values, asked.datatype)
        if isinstance(made, np.ndarray):
            tensors.add_typed(output, made)
        else:
            output.contents.bytes_contents.extend(made)
    return response.SerializeToString()


def _policy(settings: Settings, model: str) -> config.ModelVersionPolicy:
    own = settings.models.get(model)
    served = loader.policy(own.versions if own is not None and own.versions else settings.versions)
    made = config.ModelVersionPolicy
    if served.newest is not None:
        return made(latest=made.Latest(num_versions=served.newest))
    if served.numbers is not None:
        return made(specific=made.Specific(versions=sorted(served.numbers)))
    return made(all=made.All())


def _outputs(model: Model) -> list[tuple[str, str, list[int]]]:
    """Name, datatype and dimensions, without the batch dimension, of each output."""
    width = [len(model.kan.outputs)]
    outputs = [(OUTPUT, model.datatype, width)]
    if model.kan.classes:
        outputs += [(PROBABILITIES, model.datatype, width), (LABEL, "BYTES", [])]
    return outputs


def _platform(model: Model) -> str:
    return f"kanserve_{model.kind}"
