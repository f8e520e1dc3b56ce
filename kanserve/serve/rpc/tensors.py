"""Conversion of request tensors to arrays and back.

A message that is not mostly numbers was refused before parsing (`message_limits`); one of 16 MiB of numbers, raw or
typed, takes 54 MiB at the peak to receive and parse (measured). No array is allocated before its shape is validated: it
must match the model, be within the row limit, and fit the number of bytes exactly. Sizes are only multiplied once each
is known to be small.

FP64 and FP32 are used as they are; FP16 and BF16, which only come raw, are converted to FP32, which holds them exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import TensorError
from kanserve.inference.grpc_service_pb2 import InferTensorContents, ModelInferRequest, ModelInferResponse
from kanserve.network.kan import Variable
from kanserve.v1.formula_pb2 import Float64Array

_EXPONENT = 0x7F80  # all exponent bits: infinity, or with mantissa bits NaN
_NAN = 0x7FC0


def to_float32(values: NDArray[Any]) -> NDArray[np.float32]:
    """Convert float16, or BF16 bits as uint16 (the upper half of a float32; NumPy has no BF16), exactly to float32."""
    if values.dtype.kind == "f":
        with np.errstate(invalid="ignore"):  # a signaling NaN would warn
            return values.astype(np.float32)
    return (values.astype(np.uint32) << 16).view(np.float32)


def to_bfloat16(values: NDArray[Any]) -> NDArray[np.uint16]:
    """The BF16 bits of values (N, n), rounded once, half to even; a row with a non-finite value is all NaN."""
    with np.errstate(all="ignore"):
        single = values.astype(np.float32)
        bits = single.view(np.uint32)
        if values.dtype.itemsize > single.dtype.itemsize:
            half = (bits & 0xFFFF) == 0x8000
            if half.any():  # a tie may be an artifact of rounding to float32: undo that, to round only once
                beyond = np.sign(np.abs(values) - np.abs(single.astype(values.dtype)))
                bits = np.where(half, bits + beyond.astype(np.int64), bits).astype(np.uint32)
    rounded = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2")
    # Rounding may carry a NaN into the sign bit, so NaNs are detected before rounding.
    wrong = (rounded & _EXPONENT == _EXPONENT) | np.isnan(single)
    rounded[wrong.any(axis=1)] = _NAN
    return rounded


Array = NDArray[np.float64]
Tensor = ModelInferRequest.InferInputTensor

FLOATS: dict[str, np.dtype[Any]] = {  # wire types
    "FP64": np.dtype("<f8"),
    "FP32": np.dtype("<f4"),
    "FP16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),  # NumPy has none
}
_TYPED = {"FP64": "fp64_contents", "FP32": "fp32_contents"}
_SHARED_MEMORY = "shared_memory_region"


@dataclass(frozen=True, eq=False)
class TensorRows:
    """The rows of a request: x (N, columns), and their encoding, which the answer uses too."""

    x: NDArray[Any]
    datatype: str
    raw: bool


def decode(
    request: ModelInferRequest, buffers: Sequence[bytes | memoryview], name: str, inputs: Sequence[Variable], most: int
) -> TensorRows:
    """The input tensor of a request, with at most `most` rows and a number per input; `buffers` are its
    raw_input_contents. Raises TensorError if it is not valid."""
    tensor = _only_input(request, name)
    datatype = tensor.datatype
    dtype = FLOATS.get(datatype)
    if dtype is None:
        raise TensorError(f"Input {name!r} must be FP64, FP32, FP16 or BF16, got {datatype!r:.40}.")
    rows, columns = _rows(tensor.shape, f"Input {name!r}", inputs, most), len(inputs)
    if _SHARED_MEMORY in tensor.parameters:
        raise TensorError(f"Input {name!r} is in shared memory, which is not supported; send the numbers themselves.")
    if not buffers:
        return TensorRows(_decode_typed(tensor, columns, rows), datatype, raw=False)
    if len(buffers) != 1:
        raise TensorError(f"1 input needs 1 raw buffer, got {len(buffers)}.")
    if tensor.HasField("contents"):
        raise TensorError(f"Input {name!r} must come raw or typed, got both: contents and raw_input_contents.")
    return TensorRows(floats(buffers[0], datatype, (rows, columns), f"Input {name!r}"), datatype, raw=True)


def decode_rows(message: Float64Array, inputs: Sequence[Variable], most: int) -> Array:
    """At most `most` rows with one number per input. Raises TensorError if the message is not valid."""
    rows = _rows(message.shape, "rows", inputs, most)
    return floats(message.values, "FP64", (rows, len(inputs)), "rows")


def decode_measured(message: Float64Array, rows: int, outputs: int) -> Array:
    """A number for each row and output; TensorError for anything else."""
    if list(message.shape) != [rows, outputs]:
        raise TensorError(f"measured must have shape {[rows, outputs]}, rows and outputs; got {list(message.shape)}.")
    return floats(message.values, "FP64", (rows, outputs), "measured")


def floats(data: bytes | memoryview, datatype: str, shape: tuple[int, int], what: str = "rows") -> NDArray[Any]:
    """Raw numbers as an array (N, n) of float32 or float64. Raises TensorError for a wrong number of bytes."""
    dtype = FLOATS[datatype]
    wanted = shape[0] * shape[1] * dtype.itemsize
    if len(data) != wanted:
        raise TensorError(f"{what} of shape {list(shape)} must have {wanted} bytes, got {len(data)}.")
    x: NDArray[Any] = np.ndarray(shape, dtype, data)
    return x if dtype.itemsize > 2 else to_float32(x)


def encode_array(values: Array) -> Float64Array:
    """An array of any shape as a message."""
    return Float64Array(shape=values.shape, values=values.astype("<f8", copy=False).tobytes())


def add_typed(output: ModelInferResponse.InferOutputTensor, numbers: NDArray[Any]) -> None:
    """Add FP64 or FP32 numbers to the contents of an output."""
    getattr(output.contents, _TYPED[output.datatype]).extend(numbers.ravel().tolist())


def raw_texts(texts: Sequence[bytes]) -> bytes:
    """Texts in the raw encoding of BYTES: each is preceded by its length."""
    return b"".join(len(text).to_bytes(4, "little") + text for text in texts)


def as_datatype(values: NDArray[Any], datatype: str) -> NDArray[Any]:
    """Convert values (N, n), float32 or float64, to a wire type (BF16 as bits). A row that overflows, or has a
    non-finite value, becomes all NaN."""
    dtype = FLOATS[datatype]
    if values.dtype == dtype:
        return values
    if datatype == "BF16":
        return to_bfloat16(values)
    with np.errstate(all="ignore"):
        converted = values.astype(dtype)
        if dtype.itemsize < values.dtype.itemsize:
            converted[~np.isfinite(converted).all(axis=1)] = np.nan
    return converted


def _only_input(request: ModelInferRequest, name: str) -> Tensor:
    inputs = request.inputs
    if len(inputs) == 1 and inputs[0].name == name:
        return inputs[0]
    names = ", ".join(repr(variable.name) for variable in inputs[:8]) or "none"
    raise TensorError(f"The model takes one input, {name!r}; got {names:.200}.")


def _rows(shape: Sequence[int], what: str, inputs: Sequence[Variable], most: int) -> int:
    """The number of rows in a shape. Raises TensorError unless it is (rows, inputs) with 0 to `most` rows."""
    if len(shape) != 2 or shape[1] != len(inputs) or shape[0] < 0:
        names, got = _list([f"{variable.name:.40}" for variable in inputs]), _list(list(map(str, shape)))
        raise TensorError(f"{what} must have shape [rows, {len(inputs)}], got [{got}]. A row is {names}.")
    if shape[0] > most:
        raise TensorError(f"{what} may have {most} rows in one request, got {shape[0]}. Send them in parts.")
    return shape[0]


def _list(texts: Sequence[str]) -> str:
    return ", ".join(texts[:8]) + (", ..." if len(texts) > 8 else "")


def _decode_typed(tensor: Tensor, columns: int, rows: int) -> NDArray[Any]:
    wanted = _TYPED.get(tensor.datatype)
    if wanted is None:
        raise TensorError(f"{tensor.datatype} has no typed contents. Send its numbers in raw_input_contents.")
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
