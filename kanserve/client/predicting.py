"""Predictions and derivatives, written once for both clients: generators that yield requests and are sent responses.
Prediction requests are serialized by hand, since all bytes before the numbers are the same each time and can be
cached."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from kanserve.client import dataframes, describing
from kanserve.client.dataframes import Frame, Rows
from kanserve.client.describing import Steps
from kanserve.client.responses import ModelInfo, Prediction
from kanserve.data.frames import as_table
from kanserve.errors import DataError, KanserveError, TensorError
from kanserve.inference import grpc_service_pb2 as pb
from kanserve.inference import wire
from kanserve.network.conformal_intervals import interval_of
from kanserve.v1 import formula_pb2

if TYPE_CHECKING:
    from kanserve.analysis.contributions import Contributions

Array = NDArray[np.float64]
Output = Literal["y", "probabilities", "label"]
Coverage = dict[float, tuple[int, int]]
"""Of each level of intervals, how many measured values were compared, and how many were within."""
T = TypeVar("T")

_ROWS_AT_A_TIME = 16_384
_BYTES_AT_A_TIME = 2**23
_LITTLE = sys.byteorder == "little"
_DATATYPES = {8: "FP64", 4: "FP32"}
_NUMBERS: dict[str, tuple[np.dtype[Any], np.dtype[Any]]] = {
    "FP64": (np.dtype("<f8"), np.dtype("f8")),
    "FP32": (np.dtype("<f4"), np.dtype("f4")),
}
_RAW = b"\x3a"  # of ModelInferRequest.raw_input_contents: field 7, with its length
_MOST_REMEMBERED = 256


@dataclass
class Memory:
    """A client's cache of model metadata and request bytes; thread-safe."""

    infos: dict[tuple[str, str], ModelInfo] = field(default_factory=dict)
    beginnings: dict[tuple[Any, ...], bytes] = field(default_factory=dict)


def predict(memory: Memory, name: str, x: Rows | Frame, version: str, output: Output, dtype: DTypeLike) -> Steps[Any]:
    """Predict one output: an array for an array, a DataFrame for a DataFrame."""
    x = as_table(x)
    if not dataframes.is_frame(x):
        rows = _rows(x, dtype)
        values, _ = yield from _predict(memory, name, rows, version, output)
        return values
    info, values = yield from _for_frame(
        memory, name, x, version, dtype, lambda rows, pinned: _predict(memory, name, rows, pinned, output)
    )
    match output:
        case "label":
            return dataframes.series(x, values, output)
        case "probabilities":
            return dataframes.like(x, values, info.classes)
        case _:
            return dataframes.like(x, values, info.outputs)


def predict_interval(
    memory: Memory, name: str, x: Rows | Frame, version: str, level: float, dtype: DTypeLike
) -> Steps[tuple[Any, Any]]:
    """The ends (low, high) of the prediction intervals: arrays for an array, DataFrames for a DataFrame."""
    x = as_table(x)
    if dataframes.is_frame(x):
        info, answered = yield from _for_frame(
            memory, name, x, version, dtype, lambda rows, pinned: _answer(memory, name, rows, pinned)
        )
    else:
        answered, _ = yield from _answer(memory, name, _rows(x, dtype), version)
    values, number = answered
    info = memory.infos.get((name, str(number))) or (yield from _ask(memory, name, str(number)))
    low, high = interval_of(info.intervals, level, f"Version {number} of the model {name!r}").around(values)
    if dataframes.is_frame(x):
        return dataframes.like(x, low, info.outputs), dataframes.like(x, high, info.outputs)
    return low, high


def _answer(memory: Memory, name: str, rows: NDArray[Any], version: str) -> Steps[tuple[tuple[NDArray[Any], int], int]]:
    values, number = yield from _predict(memory, name, rows, version, "y")
    return (values, number), number


def infer(memory: Memory, name: str, x: Rows | Frame, version: str, dtype: DTypeLike) -> Steps[Prediction]:
    """Predict all outputs as arrays, and which rows are outside the training range."""
    x = as_table(x)
    if not dataframes.is_frame(x):
        prediction, _ = yield from _infer(memory, name, _rows(x, dtype), version)
        return prediction
    _, prediction = yield from _for_frame(
        memory, name, x, version, dtype, lambda rows, pinned: _infer(memory, name, rows, pinned)
    )
    return prediction


def differentiate(
    memory: Memory, name: str, x: Rows | Frame, version: str, hessian: bool = False
) -> Steps[tuple[Array, ...]]:
    """The outputs (N, outputs), their derivatives (N, outputs, inputs) and, if asked, the second derivatives."""
    x = as_table(x)
    if not dataframes.is_frame(x):
        arrays, _ = yield from _differentiate(name, _rows(x, np.float64), version, hessian)
        return arrays
    _, arrays = yield from _for_frame(
        memory, name, x, version, np.float64, lambda rows, pinned: _differentiate(name, rows, pinned, hessian)
    )
    return arrays


def _for_frame(
    memory: Memory,
    name: str,
    frame: Any,
    version: str,
    dtype: DTypeLike,
    ask: Callable[[Any, str], Steps[tuple[T, int]]],
) -> Steps[tuple[ModelInfo, T]]:
    """Call `ask` with the columns of the DataFrame that the model takes, in its order; returns its result. If the
    answer is from another version than the cached metadata and its inputs differ, the request is repeated."""
    info = memory.infos.get((name, version))
    if info is None:
        info = yield from _ask(memory, name, version)
    rows = dataframes.select(frame, info.inputs, np.dtype(dtype).type, info.categories)
    answer, answered = yield from ask(rows, version)
    if answered != info.version:
        known, info = info, (yield from _ask(memory, name, str(answered)))
        memory.infos[name, version] = info
        if (info.inputs, info.categories) != (known.inputs, known.categories):
            rows = dataframes.select(frame, info.inputs, np.dtype(dtype).type, info.categories)
            answer, _ = yield from ask(rows, str(answered))
    return info, answer


def _ask(memory: Memory, name: str, version: str) -> Steps[ModelInfo]:
    info = yield from describing.metadata(name, version)
    if len(memory.infos) >= _MOST_REMEMBERED:
        memory.infos.clear()
    memory.infos[name, version] = info
    return info


def _predict(
    memory: Memory, name: str, rows: NDArray[Any], version: str, output: str
) -> Steps[tuple[NDArray[Any], int]]:
    parts = []
    responses = yield from _responses(memory, name, rows, version, (output,))
    for _, response in responses:
        parts.append(_tensor(response.outputs[0], response.raw_output_contents[0]))
    return (parts[0] if len(parts) == 1 else np.concatenate(parts)), int(responses[-1][1].model_version)


def _infer(memory: Memory, name: str, rows: NDArray[Any], version: str) -> Steps[tuple[Prediction, int]]:
    parts: dict[str, list[NDArray[Any]]] = {}
    count, outside = 0, []
    responses = yield from _responses(memory, name, rows, version, ())
    for start, response in responses:
        for described, data in zip(response.outputs, response.raw_output_contents, strict=True):
            parts.setdefault(described.name, []).append(_tensor(described, data))
        count += response.parameters["outside_training_range"].int64_param
        named = response.parameters["outside_rows"].string_param
        outside += [start + int(word) for word in named.split(",") if word]
    whole = {key: np.concatenate(values) for key, values in parts.items()}
    found = int(responses[-1][1].model_version)
    values = whole.get("y", np.empty((len(rows), 0)))
    return Prediction(values, found, count, tuple(outside), whole.get("probabilities"), whole.get("label")), found


def _responses(
    memory: Memory, name: str, rows: NDArray[Any], version: str, outputs: tuple[str, ...]
) -> Steps[list[tuple[int, pb.ModelInferResponse]]]:
    """The responses of as many requests as the rows need, each with the number of its first row."""
    responses: list[tuple[int, pb.ModelInferResponse]] = []
    start, step = 0, _rows_at_a_time(rows)
    while start < max(1, len(rows)):
        part = rows if len(rows) <= step else rows[start : start + step]
        try:
            response = yield "ModelInfer", _request(memory, name, version, outputs, part)
        except TensorError:
            answer = yield "ModelConfig", pb.ModelConfigRequest(name=name, version=version)
            if not 0 < answer.config.max_batch_size < len(part):
                raise
            step = answer.config.max_batch_size
            continue
        responses.append((start, response))
        version = response.model_version  # so that one version answers all parts
        start += len(part) or 1
    return responses


def _request(memory: Memory, name: str, version: str, outputs: tuple[str, ...], part: NDArray[Any]) -> bytes:
    """The bytes of a ModelInferRequest for rows (N, columns)."""
    key = (name, version, outputs, part.shape, part.itemsize)
    beginning = memory.beginnings.get(key)
    if beginning is None:
        tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype=_DATATYPES[part.itemsize], shape=part.shape)
        asked = [pb.ModelInferRequest.InferRequestedOutputTensor(name=output) for output in outputs]
        message = pb.ModelInferRequest(model_name=name, model_version=version, inputs=[tensor], outputs=asked)
        beginning = message.SerializeToString() + _RAW + wire.varint(part.nbytes)
        if len(memory.beginnings) >= _MOST_REMEMBERED:
            memory.beginnings.clear()
        memory.beginnings[key] = beginning
    return beginning + (part if _LITTLE else part.byteswap()).tobytes()


def _tensor(described: pb.ModelInferResponse.InferOutputTensor, data: bytes) -> NDArray[Any]:
    if described.datatype == "BYTES":
        texts, position = [], 0
        while position < len(data):
            size = int.from_bytes(data[position : position + 4], "little")
            texts.append(data[position + 4 : position + 4 + size].decode())
            position += 4 + size
        return np.array(texts, np.str_)
    travels, dtype = _NUMBERS[described.datatype]
    return np.frombuffer(data, travels).reshape(tuple(described.shape)).astype(dtype)


def _differentiate(name: str, rows: Array, version: str, hessian: bool) -> Steps[tuple[tuple[Array, ...], int]]:
    limit = "max_hessian_rows" if hessian else "max_differentiated_rows"
    asked = formula_pb2.DifferentiateRequest(model_name=name, model_version=version, hessian=hessian)
    responses = yield from _in_parts("Differentiate", asked, rows, limit)
    if hessian and not responses[0].HasField("hessian"):
        raise KanserveError("The server does not know second derivatives: ask without hessian, or upgrade it.")
    fields = ("values", "jacobian", *(("hessian",) if hessian else ()))
    joined = [np.concatenate([_array(getattr(response, field)) for response in responses]) for field in fields]
    return tuple(joined), int(responses[0].model_version)


def explain(memory: Memory, name: str, x: Rows | Frame, version: str) -> "Steps[Contributions]":
    """The contributions of each input to each prediction."""
    x = as_table(x)
    if not dataframes.is_frame(x):
        found, _ = yield from _explain(name, _rows(x, np.float64), version)
        return found
    _, found = yield from _for_frame(
        memory, name, x, version, np.float64, lambda rows, pinned: _explain(name, rows, pinned)
    )
    return found


def _explain(name: str, rows: Array, version: str) -> "Steps[tuple[Contributions, int]]":
    from kanserve.analysis.contributions import Contributions

    asked = formula_pb2.ExplainRequest(model_name=name, model_version=version)
    responses = yield from _in_parts("Explain", asked, rows, "max_explained_rows")
    first = responses[0]
    values, errors = (
        np.concatenate([_array(getattr(response, field)) for response in responses])
        for field in ("contributions", "standard_errors")
    )
    inputs = tuple(map(describing.as_variable, first.inputs))
    found = Contributions(inputs, tuple(first.outputs), rows, np.array(first.base), values, errors)
    return found, int(first.model_version)


def feedback(memory: Memory, name: str, x: Rows | Frame, measured: ArrayLike, version: str) -> Steps[Coverage]:
    """How many measured values are in the prediction intervals."""
    x, truth = as_table(x), np.asarray(measured, dtype="<f8")
    if not dataframes.is_frame(x):
        found, _ = yield from _feedback(name, _rows(x, np.float64), truth, version)
        return found
    _, found = yield from _for_frame(
        memory, name, x, version, np.float64, lambda rows, pinned: _feedback(name, rows, truth, pinned)
    )
    return found


def _feedback(name: str, rows: Array, measured: Array, version: str) -> Steps[tuple[Coverage, int]]:
    asked = formula_pb2.FeedbackRequest(model_name=name, model_version=version)
    for sent, array in ((asked.rows, rows), (asked.measured, measured)):
        sent.shape.extend(array.shape)
        sent.values = array.astype("<f8", copy=False).tobytes()
    response = yield "Feedback", asked
    return {one.level: (one.values, one.covered) for one in response.coverage}, int(response.model_version)


def _in_parts(call: str, asked: Any, rows: Array, limit: str) -> Steps[list[Any]]:
    """The responses to a request with rows, in as many parts as the limit demands that the metadata have."""
    responses: list[Any] = []
    start, step = 0, _rows_at_a_time(rows)
    while start < max(1, len(rows)):
        part = rows[start : start + step]
        asked.rows.Clear()
        asked.rows.shape.extend(part.shape)
        asked.rows.values = part.astype("<f8", copy=False).tobytes()
        try:
            response = yield call, asked
        except TensorError:
            answer = yield "ModelMetadata", pb.ModelMetadataRequest(name=asked.model_name, version=asked.model_version)
            most = int(answer.properties.get(limit, 0))
            if not 0 < most < len(part):
                raise
            step = most
            continue
        asked.model_version = response.model_version  # so that one version answers all parts
        responses.append(response)
        start += step
    return responses


def _array(message: formula_pb2.Float64Array) -> Array:
    return np.frombuffer(message.values, "<f8").reshape(tuple(message.shape)).astype(np.float64)


def _rows(x: Any, dtype: DTypeLike) -> NDArray[Any]:
    """Rows (N, inputs) as float64 or float32."""
    kind = np.dtype(dtype)
    if kind not in (np.float64, np.float32):
        raise DataError(f"Rows are sent as float64 or float32, got {kind}.")
    try:
        given = np.ma.asanyarray(x) if isinstance(x, np.ma.MaskedArray) else np.asarray(x)
        if given.dtype.kind not in "biufO":
            raise TypeError
        rows = given.astype(kind, copy=False)
        if isinstance(rows, np.ma.MaskedArray):
            rows = rows.filled(np.nan)  # masked values are missing values
    except (TypeError, ValueError, OverflowError):
        raise DataError("Rows must be numbers.") from None
    if rows.ndim != 2:
        raise DataError(f"Rows must have shape (N, inputs), got {rows.shape}.")
    return rows


def _rows_at_a_time(rows: NDArray[Any]) -> int:
    columns = max(1, int(rows.shape[1]))
    return max(1, min(_ROWS_AT_A_TIME, _BYTES_AT_A_TIME // (rows.itemsize * columns)))
