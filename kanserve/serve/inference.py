"""The Open Inference Protocol, one plain function a call: from the catalog and a request to a response.

A model takes "x" [rows, inputs] and gives "y" [rows, outputs], both in raw units, in FP64 or FP32 as asked. A
classifier gives its scores as "y", their softmax as "probabilities" and the name of the likeliest class as "label". A
row in which anything is not finite is NaN in all numbers and has the empty label.

A response says in its parameters how many rows lie outside the training range (`outside_training_range`) and, when any
do, the first hundred of them (`outside_rows`, as in "0,3,17"): there the model extrapolates.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanserve import __version__
from kanserve.errors import NotFoundError, TensorError
from kanserve.inference import grpc_service_pb2 as pb
from kanserve.inference import model_config_pb2 as config
from kanserve.reference import softmax
from kanserve.serve import tensors
from kanserve.serve.models import Catalog, Model
from kanserve.serve.tensors import Rows

INPUT, OUTPUT, PROBABILITIES, LABEL = "x", "y", "probabilities", "label"
OUTSIDE_COUNT, OUTSIDE_ROWS = "outside_training_range", "outside_rows"
EXTENSIONS = ("model_configuration", "statistics")
_MOST_NAMED = 100
_CHANGED_BY = ("classification", "shared_memory_region")  # parameters of an output that ask for something else

_TYPES = {"FP64": config.TYPE_FP64, "FP32": config.TYPE_FP32, "BYTES": config.TYPE_STRING}


@dataclass(frozen=True)
class Execution:
    """What one inference took, in nanoseconds: to read the request, to compute, to write the response."""

    model: Model
    rows: int
    read: int
    computed: int
    written: int


def server_metadata() -> pb.ServerMetadataResponse:
    return pb.ServerMetadataResponse(name="kanserve", version=__version__, extensions=EXTENSIONS)


def model_ready(catalog: Catalog, request: pb.ModelReadyRequest) -> pb.ModelReadyResponse:
    """Whether the model is there; a model that is not is no error."""
    try:
        catalog.find(request.name, request.version)
    except NotFoundError:
        return pb.ModelReadyResponse(ready=False)
    return pb.ModelReadyResponse(ready=True)


def model_metadata(catalog: Catalog, request: pb.ModelMetadataRequest) -> pb.ModelMetadataResponse:
    model = catalog.find(request.name, request.version)
    made = pb.ModelMetadataResponse.TensorMetadata
    inputs = [made(name=INPUT, datatype=model.datatype, shape=[-1, len(model.kan.inputs)])]
    outputs = [made(name=name, datatype=kind, shape=[-1, *dims]) for name, kind, dims in _outputs(model)]
    properties = {
        "version": str(model.version),
        "backend": model.kind,
        "precision": model.manifest.precision,
        "inputs": json.dumps([one.name for one in model.kan.inputs]),
        "outputs": json.dumps([one.name for one in model.kan.outputs]),
        "classes": json.dumps(model.kan.classes),
        "max_differentiated_rows": str(model.max_differentiated_rows),
    }
    return pb.ModelMetadataResponse(
        name=model.name,
        versions=[str(one) for one in catalog.models[model.name]],
        platform=_platform(model),
        inputs=inputs,
        outputs=outputs,
        properties=properties,
    )


def model_config(catalog: Catalog, request: pb.ModelConfigRequest) -> pb.ModelConfigResponse:
    model = catalog.find(request.name, request.version)
    x = config.ModelInput(name=INPUT, data_type=_TYPES[model.datatype], dims=[len(model.kan.inputs)])
    # A dimension of size 1 stands for a tensor of the batch dimension alone, which the format cannot say.
    outputs = [
        config.ModelOutput(name=name, data_type=_TYPES[kind], dims=dims or [1]) for name, kind, dims in _outputs(model)
    ]
    made = config.ModelConfig(
        name=model.name,
        platform=_platform(model),
        backend="kanserve",
        max_batch_size=model.max_rows,
        input=[x],
        output=outputs,
    )
    return pb.ModelConfigResponse(config=made)


def repository_index(catalog: Catalog, request: pb.RepositoryIndexRequest) -> pb.RepositoryIndexResponse:
    """Every version that was found, loaded or not, and why not."""
    made = pb.RepositoryIndexResponse.ModelIndex
    loaded = {
        (name, version): made(name=name, version=str(version), state="READY")
        for name, versions in catalog.models.items()
        for version in versions
    }
    broken = {
        (name, version): made(name=name, version=str(version), state="UNAVAILABLE", reason=reason[:500])
        for (name, version), reason in catalog.reasons.items()
    }
    entries = loaded if request.ready else loaded | broken
    return pb.RepositoryIndexResponse(models=[entries[key] for key in sorted(entries)])


def infer(catalog: Catalog, request: pb.ModelInferRequest) -> tuple[pb.ModelInferResponse, Execution]:
    """The answer and what it took."""
    model = catalog.find(request.model_name, request.model_version)
    begun = perf_counter_ns()
    writers = _writers(model, request)
    rows = tensors.decode(request, INPUT, len(model.kan.inputs), model.max_rows)
    read = perf_counter_ns()
    values = model.backend.predict(rows.x)
    computed = perf_counter_ns()
    response = pb.ModelInferResponse(model_name=model.name, model_version=str(model.version), id=request.id)
    for write in writers:
        write(response, model, values, rows)
    _flag_outside(response, model, rows.x)
    written = perf_counter_ns()
    return response, Execution(model, len(rows.x), read - begun, computed - read, written - computed)


Writer = Callable[[pb.ModelInferResponse, Model, NDArray[Any], Rows], None]


def _write_scores(response: pb.ModelInferResponse, model: Model, values: NDArray[Any], rows: Rows) -> None:
    tensors.add_floats(response, OUTPUT, values, rows)


def _write_probabilities(response: pb.ModelInferResponse, model: Model, values: NDArray[Any], rows: Rows) -> None:
    tensors.add_floats(response, PROBABILITIES, softmax(values.astype(np.float64)), rows)


def _write_labels(response: pb.ModelInferResponse, model: Model, values: NDArray[Any], rows: Rows) -> None:
    # -1 is the empty label at the end.
    likeliest = np.where(np.isnan(values[:, 0]), -1, values.argmax(axis=1))
    tensors.add_texts(response, LABEL, [model.labels[one] for one in likeliest], rows)


_REGRESSION: dict[str, Writer] = {OUTPUT: _write_scores}
_CLASSIFIER: dict[str, Writer] = {OUTPUT: _write_scores, PROBABILITIES: _write_probabilities, LABEL: _write_labels}


def _writers(model: Model, request: pb.ModelInferRequest) -> list[Writer]:
    """What writes each output that is asked for, by default all; TensorError for one that there is not."""
    known = _CLASSIFIER if model.kan.classes else _REGRESSION
    if not request.outputs:
        return list(known.values())
    if len(request.outputs) > len(known):
        raise TensorError(
            f"The outputs are {', '.join(map(repr, known))}, each once; got {len(request.outputs)} to give."
        )
    wanted: dict[str, Writer] = {}
    for one in request.outputs:
        if one.name not in known:
            raise TensorError(f"The outputs are {', '.join(map(repr, known))}; got {one.name!r:.80}.")
        if one.name in wanted:
            raise TensorError(f"An output can be asked for once, got {one.name!r} twice.")
        for parameter in _CHANGED_BY:
            if parameter in one.parameters:
                raise TensorError(f"The parameter {parameter!r} of an output is not known here. Leave it out.")
        wanted[one.name] = known[one.name]
    return list(wanted.values())


def _flag_outside(response: pb.ModelInferResponse, model: Model, x: NDArray[Any]) -> None:
    outside = model.outside(x)
    response.parameters[OUTSIDE_COUNT].int64_param = len(outside)
    if len(outside):
        response.parameters[OUTSIDE_ROWS].string_param = ",".join(map(str, outside[:_MOST_NAMED].tolist()))


def _outputs(model: Model) -> list[tuple[str, str, list[int]]]:
    """Name, datatype and dimensions without the batch of each output."""
    width = [len(model.kan.outputs)]
    outputs = [(OUTPUT, model.datatype, width)]
    if model.kan.classes:
        outputs += [(PROBABILITIES, model.datatype, width), (LABEL, "BYTES", [])]
    return outputs


def _platform(model: Model) -> str:
    return f"kanserve_{model.kind}"
