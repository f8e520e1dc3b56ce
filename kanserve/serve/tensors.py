"""Tensors of a request to arrays and back.

A message that is not mostly numbers has been refused before it was parsed (`admission`); one of 16 MiB of numbers, raw
or typed, takes 54 MiB at the peak to receive and to parse (measured). Here no array is allocated before its shape is
believed: it must be that of the model, within its rows, and exactly the bytes for it are there. Numbers are never
multiplied before each is known to be small.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import TensorError
from kanserve.inference.grpc_service_pb2 import InferTensorContents, ModelInferRequest, ModelInferResponse
from kanserve.v1.formula_pb2 import Float64Array

Array = NDArray[np.float64]
Tensor = ModelInferRequest.InferInputTensor

MAX_MESSAGE_BYTES = 16 * 2**20
MAX_ROWS = 65_536
MAX_DIFFERENTIATED_ROWS = 8192
FLOATS: dict[str, np.dtype[Any]] = {"FP64": np.dtype("<f8"), "FP32": np.dtype("<f4")}
_TYPED = {"FP64": "fp64_contents", "FP32": "fp32_contents"}
_SHARED_MEMORY = "shared_memory_region"


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of a request: x (N, columns), and how they came, which is how they are answered."""

    x: NDArray[Any]
    datatype: str
    raw: bool


def decode(request: ModelInferRequest, name: str, columns: int, most: int) -> Rows:
    """The one input of a model that takes `most` rows of `columns` numbers; TensorError when it is something else."""
    tensor = _only_input(request, name)
    dtype = FLOATS.get(tensor.datatype)
    if dtype is None:
        raise TensorError(f"Input {name!r} must be FP64 or FP32, got {tensor.datatype!r:.40}.")
    rows = _rows(tensor.shape, f"Input {name!r}", columns, most)
    if _SHARED_MEMORY in tensor.parameters:
        raise TensorError(f"Input {name!r} names shared memory, which is not read here; send the numbers themselves.")
    if not request.raw_input_contents:
        return Rows(_typed(tensor, columns, rows), tensor.datatype, raw=False)
    if len(request.raw_input_contents) != 1:
        raise TensorError(f"1 input needs 1 raw buffer, got {len(request.raw_input_contents)}.")
    if tensor.HasField("contents"):
        raise TensorError(f"Input {name!r} must come raw or typed, got both: contents and raw_input_contents.")
    data = request.raw_input_contents[0]
    return Rows(_floats(data, (rows, columns), dtype, f"Input {name!r}"), tensor.datatype, raw=True)


def decode_rows(message: Float64Array, columns: int, most: int) -> Array:
    """At most `most` rows of `columns` numbers; TensorError when the message is something else."""
    rows = _rows(message.shape, "rows", columns, most)
    return _floats(message.values, (rows, columns), FLOATS["FP64"], "rows")


def encode_array(values: Array) -> Float64Array:
    """An array of any shape as a message."""
    return Float64Array(shape=values.shape, values=values.astype("<f8", copy=False).tobytes())


def add_floats(response: ModelInferResponse, name: str, values: NDArray[Any], asked: Rows) -> None:
    """Append an output (N, n) to a response, in the float type and the form in which the rows came."""
    numbers = as_datatype(values, asked.datatype)
    output = response.outputs.add(name=name, datatype=asked.datatype, shape=numbers.shape)
    if asked.raw:
        response.raw_output_contents.append(numbers.tobytes())
    else:
        getattr(output.contents, _TYPED[asked.datatype]).extend(numbers.ravel().tolist())


def add_texts(response: ModelInferResponse, name: str, texts: Sequence[bytes], asked: Rows) -> None:
    """Append an output (N,) of BYTES to a response, in the form in which the rows came."""
    output = response.outputs.add(name=name, datatype="BYTES", shape=[len(texts)])
    if asked.raw:
        response.raw_output_contents.append(b"".join(len(one).to_bytes(4, "little") + one for one in texts))
    else:
        output.contents.bytes_contents.extend(texts)


def as_datatype(values: NDArray[Any], datatype: str) -> NDArray[Any]:
    """Values (N, n) in a float type; a row that overflows it is NaN, as any in which something is not finite."""
    dtype = FLOATS[datatype]
    if values.dtype == dtype:
        return values
    with np.errstate(all="ignore"):
        converted = values.astype(dtype)
        if dtype.itemsize < values.dtype.itemsize:
            converted[~np.isfinite(converted).all(axis=1)] = np.nan
    return converted


def _only_input(request: ModelInferRequest, name: str) -> Tensor:
    names = [one.name for one in request.inputs]
    if names != [name]:
        raise TensorError(
            f"The model takes one input, {name!r}; got {', '.join(map(repr, names[:8])) or 'none'!s:.200}."
        )
    return request.inputs[0]


def _rows(shape: Sequence[int], what: str, columns: int, most: int) -> int:
    """The number of rows that a shape says; TensorError when it is not (rows, columns) with 0 to `most` rows."""
    if len(shape) != 2 or shape[1] != columns or shape[0] < 0:
        got = ", ".join(map(str, shape[:8])) + (", ..." if len(shape) > 8 else "")
        raise TensorError(f"{what} must have shape [rows, {columns}], got [{got}].")
    if shape[0] > most:
        raise TensorError(f"{what} may have {most} rows in one request, got {shape[0]}. Send them in parts.")
    return shape[0]


def _floats(data: bytes, shape: tuple[int, int], dtype: np.dtype[Any], what: str) -> NDArray[Any]:
    wanted = shape[0] * shape[1] * dtype.itemsize
    if len(data) != wanted:
        raise TensorError(f"{what} of shape {list(shape)} must have {wanted} bytes, got {len(data)}.")
    return np.frombuffer(data, dtype).reshape(shape)


def _typed(tensor: Tensor, columns: int, rows: int) -> NDArray[Any]:
    wanted = _TYPED[tensor.datatype]
    for field, _ in tensor.contents.ListFields():
        if field.name != wanted:
            raise TensorError(f"{tensor.datatype} numbers must come in {wanted} or raw, got {field.name}.")
    values = _contents(tensor.contents, wanted)
    if len(values) != rows * columns:
        raise TensorError(f"Shape [{rows}, {columns}] needs {rows * columns} numbers in {wanted}, got {len(values)}.")
    return np.array(values, FLOATS[tensor.datatype]).reshape(rows, columns)


def _contents(contents: InferTensorContents, field: str) -> Sequence[float]:
    values: Sequence[float] = getattr(contents, field)
    return values
