"""ModelInfer over REST: JSON, with the binary tensor data extension, to the gRPC message and back.

Numbers become an array once, beside the message, whatever they came as. An output comes back as JSON
unless it is asked for in binary. JSON numbers are the shortest texts that read back to the same float64; NaN and
infinities, which JSON lacks, become null.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from google.protobuf.message import Message
from numpy.typing import NDArray

from kanserve.errors import InputError, TensorError
from kanserve.inference import grpc_service_pb2 as pb
from kanserve.serve.request import Unpacked
from kanserve.serve.rest.messages import JSON, RestRequest, RestResponse
from kanserve.serve.rest.strict_json import Body, Coded, field
from kanserve.serve.rpc import tensors
from kanserve.serve.rpc.tensors import FLOATS

HEADER_LENGTH = "inference-header-content-length"
_BINARY = ("Content-Type", "application/octet-stream")
_SIZE, _WANTED, _ALL_WANTED = "binary_data_size", "binary_data", "binary_data_output"  # parameters of the extension
_JSON_TYPES = ("FP64", "FP32")
_BINARY_TYPES = ("FP16", "BF16")
_LIMIT = 2**63
_PIECE = 4096  # numbers that are written at once

_write = json.JSONEncoder(separators=(",", ":")).encode


class InferCodec:
    """Translates a ModelInfer call: `decode` its body, then `encode` the answer as the body asked for it."""

    def __init__(self, model: str, version: str) -> None:
        self._model, self._version = model, version
        self._binary: dict[str, bool] = {}  # by output, whether it is wanted in binary
        self._all_binary = False

    def decode(self, request: RestRequest, body: bytes | memoryview, coded: Coded | None = None) -> Unpacked:
        """The ModelInferRequest in the body. Raises InputError or TensorError if it is not valid."""
        head, binary = _split(request, body)
        parsed = Body(head)
        try:
            return self._message(parsed, binary, coded)
        except (UnicodeEncodeError, OverflowError) as error:  # of a text or a number that a message cannot hold
            raise InputError(f"The body has a text or a number that no message can hold: {error}"[:300]) from None

    def encode(self, answer: bytes) -> RestResponse:
        response = pb.ModelInferResponse.FromString(answer)
        head: dict[str, Any] = {"model_name": response.model_name, "model_version": response.model_version}
        if response.id:
            head["id"] = response.id
        head["parameters"] = {name: parameter_value(parameter) for name, parameter in response.parameters.items()}
        parts, binary = [_write(head)[:-1], ',"outputs":['], []
        for number, (output, data) in enumerate(zip(response.outputs, response.raw_output_contents, strict=True)):
            about = {"name": output.name, "datatype": output.datatype, "shape": list(output.shape)}
            if number:
                parts.append(",")
            if self._binary.get(output.name, self._all_binary):
                parts.append(_write(about | {"parameters": {_SIZE: len(data)}}))
                binary.append(data)
            else:
                parts += (_write(about)[:-1], ',"data":[', *_values(output.datatype, data), "]}")
        parts.append("]}")
        body = "".join(parts).encode()
        if not binary:
            return RestResponse(200, [JSON], body)
        headers = [_BINARY, ("Inference-Header-Content-Length", str(len(body)))]
        return RestResponse(200, headers, b"".join((body, *binary)))

    def _message(self, parsed: Body, binary: memoryview, coded: Coded | None) -> Unpacked:
        fields = parsed.fields
        message = pb.ModelInferRequest(model_name=self._model, model_version=self._version)
        message.id = field(fields, "id", str, "", "")
        parameters = field(fields, "parameters", dict, "", {})
        self._all_binary = field(parameters, _ALL_WANTED, bool, "The parameter ", False)
        set_parameters(message.parameters, parameters, (_ALL_WANTED,))
        buffers: list[bytes | memoryview] = []
        inputs = field(fields, "inputs", list, "")
        if not inputs:
            raise InputError('The body needs "inputs": an array of one object with name, datatype, shape and data.')
        for tensor in inputs:
            data, binary = _add_input(message, tensor, parsed, binary, coded)
            buffers.append(data)
        if len(binary):
            raise InputError(f"{len(binary)} bytes of binary data follow those of the inputs. Correct {_SIZE}.")
        for output in field(fields, "outputs", list, "", []):
            self._add_output(message, output)
        return Unpacked(message, buffers)

    def _add_output(self, message: pb.ModelInferRequest, output: Any) -> None:
        if type(output) is not dict:
            raise InputError('Each of "outputs" must be an object with a name.')
        made = message.outputs.add(name=field(output, "name", str, "An output's ", ""))
        parameters = field(output, "parameters", dict, "An output's ", {})
        wanted = field(parameters, _WANTED, bool, "The parameter ")
        if wanted is not None:
            self._binary[made.name] = wanted
        set_parameters(made.parameters, parameters, (_WANTED,))


def _split(request: RestRequest, body: bytes | memoryview) -> tuple[memoryview, memoryview]:
    """Split a body into its JSON and the binary data after it."""
    view, text = memoryview(body), request.header(HEADER_LENGTH)
    if not text:
        return view, view[:0]
    if sum(name == HEADER_LENGTH for name, _ in request.headers) > 1:
        raise InputError("Inference-Header-Content-Length must come once.")
    length = int(text) if text.isascii() and text.isdecimal() and len(text) < 12 else -1
    if not 0 < length <= len(view):
        raise InputError(
            f"Inference-Header-Content-Length must be the bytes of the JSON, from 1 to {len(view)}; got {text:.40}."
        )
    return view[:length], view[length:]


def _add_input(
    message: pb.ModelInferRequest, tensor: Any, parsed: Body, binary: memoryview, coded: Coded | None
) -> tuple[bytes | memoryview, memoryview]:
    """Add an input without its numbers. Returns the raw numbers, and the remaining binary data."""
    if type(tensor) is not dict:
        raise InputError('Each of "inputs" must be an object with name, datatype, shape and data.')
    name = field(tensor, "name", str, "An input's ", "")
    where = f"Input {name!r:.80}: "
    datatype = field(tensor, "datatype", str, where, "")
    shape = field(tensor, "shape", list, where, [])
    for size in shape:
        if type(size) is not int or not -_LIMIT <= size < _LIMIT:
            raise TensorError(f"{where}each size of its shape must be a whole number.")
    parameters = field(tensor, "parameters", dict, where, {})
    made = message.inputs.add(name=name, datatype=datatype, shape=shape)
    set_parameters(made.parameters, parameters, (_SIZE,))
    size = field(parameters, _SIZE, int, f"{where}the parameter ")
    if size is None:
        return _json_data(tensor, datatype, shape, parsed, where, coded), binary
    if "data" in tensor:
        raise InputError(f"{where}its numbers must come in data or in binary, got both.")
    if not 0 <= size <= len(binary):
        raise InputError(
            f"{where}{_SIZE} is {size}, and {len(binary)} bytes of binary data follow the JSON. Set "
            "Inference-Header-Content-Length to the length of the JSON."
        )
    return binary[:size], binary[size:]


def _json_data(
    tensor: dict[str, Any], datatype: str, shape: Sequence[int], parsed: Body, where: str, coded: Coded | None
) -> bytes | memoryview:
    """The numbers of an input, in the byte format of a message."""
    if datatype in _BINARY_TYPES:
        raise TensorError(f"{where}{datatype} has no JSON. Send FP64 or FP32, or its bytes by the binary extension.")
    if datatype not in _JSON_TYPES or len(shape) != 2 or min(shape) < 0:
        return b""  # the handler refuses it by its type or its shape, as it does over gRPC
    if "data" not in tensor:
        raise TensorError(f"{where}it has no data.")
    numbers, length = parsed.numbers(tensor["data"], f"{where}data", coded)
    if len(numbers) != shape[0] * shape[1]:
        raise TensorError(f"{where}shape {list(shape)} needs {shape[0] * shape[1]} numbers, got {len(numbers)}.")
    if length is not None and length != shape[1] and len(numbers):
        raise TensorError(f"{where}shape {list(shape)} needs rows of {shape[1]} numbers, got {length}.")
    with np.errstate(over="ignore"):
        made = numbers.astype(FLOATS[datatype], copy=False)
    if datatype == "FP32" and np.isinf(made).any():
        raise TensorError(f"{where}data has a number beyond the range of {datatype}.")
    return made.data.cast("B") if made.size else b""


def _values(datatype: str, data: bytes) -> Iterator[str]:
    """The elements of an output as JSON, without the surrounding brackets."""
    if datatype == "BYTES":
        yield _write(_texts(data))[1:-1]
        return
    values: NDArray[Any] = np.frombuffer(data, FLOATS[datatype])
    if datatype == "BF16":
        values = tensors.to_float32(values)
    for start in range(0, len(values), _PIECE):
        part = values[start : start + _PIECE]
        text = _write(as_numbers(part))[1:-1]
        yield f",{text}" if start else text


def as_numbers(values: NDArray[Any]) -> Any:
    """An array as nested lists for JSON; null for numbers that JSON cannot represent."""
    if np.isfinite(values).all():
        return values.tolist()
    made = values.astype(object)
    made[~np.isfinite(values)] = None
    return made.tolist()


def _texts(data: bytes) -> list[str]:
    texts, at = [], 0
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "little")
        texts.append(data[at + 4 : end].decode(errors="replace"))
        at = end
    return texts


def set_parameters(message: Any, parameters: Mapping[str, Any], but: Sequence[str] = ()) -> None:
    """Set a message's map of parameters from JSON, except the names in `but`."""
    for name, value in parameters.items():
        if name in but:
            continue
        kind = type(value)
        if kind is bool:
            message[name].bool_param = value
        elif kind is str:
            message[name].string_param = value
        elif kind is int and -_LIMIT <= value < _LIMIT:
            message[name].int64_param = value
        elif kind is int and 0 <= value < 2 * _LIMIT and hasattr(message[name], "uint64_param"):
            message[name].uint64_param = value
        elif kind is float and hasattr(message[name], "double_param"):
            message[name].double_param = value
        elif kind is float and value.is_integer() and -_LIMIT <= value < _LIMIT:
            message[name].int64_param = int(value)  # JSON Schema calls 2.0 an integer, too
        else:
            raise InputError(f"The parameter {name!r:.80} must be true, false, a string or a number.")


def parameter_value(parameter: Message) -> Any:
    kind = parameter.WhichOneof("parameter_choice")
    return getattr(parameter, kind) if kind else None
