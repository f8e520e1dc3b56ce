"""The other calls over REST: their JSON to the gRPC message and back.

The names in JSON are those of the protobuf messages. 64-bit integers are numbers and absent optional fields are left
out; NaN and infinities are null.
"""

import json
from typing import Any, Protocol
from urllib.parse import parse_qsl

import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from numpy.typing import NDArray

from kanserve.errors import InputError
from kanserve.serve.methods import Method, Rest
from kanserve.serve.request import Unpacked
from kanserve.serve.rest.infer import as_numbers, set_parameters
from kanserve.serve.rest.messages import JSON, RestRequest, RestResponse
from kanserve.serve.rest.strict_json import Body, Coded, field
from kanserve.serve.rpc.message_limits import MAX_DESCRIPTION_BYTES
from kanserve.serve.rpc.tensors import encode_array
from kanserve.v1 import formula_pb2


class Codec(Protocol):
    """Translates a call between HTTP and gRPC: `decode` its body, then `encode` the answer."""

    def decode(self, request: RestRequest, body: bytes | memoryview, coded: Coded | None = None) -> Unpacked: ...
    def encode(self, answer: bytes) -> RestResponse: ...


class MessageCodec:
    """REST calls as protobuf messages and back: a field is the path, query or body entry of the same name."""

    def __init__(self, method: Method, rest: Rest, model: str, version: str) -> None:
        self._method, self._rest, fields = method, rest, method.request.DESCRIPTOR.fields_by_name
        named = {"name": model, "version": version, "model_name": model, "model_version": version}
        self._request: Any = method.request(**{name: value for name, value in named.items() if name in fields})

    def decode(self, request: RestRequest, body: bytes | memoryview, coded: Coded | None = None) -> Unpacked:
        """Parse an HTTP request into its protobuf message. `coded` replaces category names with their codes. Raises
        InputError if the body is not valid."""
        try:
            if self._rest.query:
                self._read_query(request.target)
            if self._rest.body:
                self._read_body(body, coded)
            return Unpacked(self._request)
        except (UnicodeEncodeError, OverflowError) as error:
            raise InputError(f"The body has a text or a number that no message can hold: {error}"[:300]) from None

    def encode(self, answer: bytes) -> RestResponse:
        made = as_json(self._method.response.FromString(answer))
        return RestResponse(200, [JSON], json.dumps(made[self._rest.part] if self._rest.part else made).encode())

    def _read_query(self, target: str) -> None:
        """Parse a URL query such as `formats=text,latex` into the request's list-of-strings field."""
        try:
            query = parse_qsl(target.partition("?")[2], keep_blank_values=True, max_num_fields=64)
        except ValueError:
            raise InputError("The query has more than 64 fields.") from None
        for name, value in query:
            if name == self._rest.query:
                getattr(self._request, name).extend(filter(None, value.split(",")))

    def _read_body(self, body: bytes | memoryview, coded: Coded | None) -> None:
        """Read rows, flags and parameters. A body without rows may be empty, and must be small."""
        if not self._method.arrays and len(body) > MAX_DESCRIPTION_BYTES:
            raise InputError(f"The body of this call may have {MAX_DESCRIPTION_BYTES} bytes; it has {len(body)}.")
        parsed = Body(body if self._method.arrays or len(body) else b"{}")
        for part in self._request.DESCRIPTOR.fields:
            if part.message_type is formula_pb2.Float64Array.DESCRIPTOR:
                getattr(self._request, part.name).CopyFrom(encode_array(_rows(parsed, part.name, coded)))
            elif part.type == FieldDescriptor.TYPE_BOOL:
                setattr(self._request, part.name, field(parsed.fields, part.name, bool, "", False))
            elif part.message_type is not None:
                given = field(parsed.fields, part.name, dict, "", {})
                set_parameters(getattr(self._request, part.name), given)


def _rows(parsed: Body, name: str, coded: Coded | None) -> NDArray[np.float64]:
    if name not in parsed.fields:
        raise InputError(f'The body needs "{name}": an array of rows, each an array of numbers.')
    numbers, length = parsed.numbers(parsed.fields[name], name, coded)
    if length is None and len(numbers):
        raise InputError(f'"{name}" must be an array of rows, each an array of numbers; got numbers.')
    return numbers.reshape(len(numbers) // length if length else 0, length or 0)


def as_json(message: Message) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for part in message.DESCRIPTOR.fields:
        value = getattr(message, part.name)
        if part.message_type is not None and part.message_type.GetOptions().map_entry:
            of_messages = part.message_type.fields_by_name["value"].message_type is not None
            made[part.name] = {key: as_json(item) if of_messages else item for key, item in value.items()}
        elif part.is_repeated:
            made[part.name] = [_value(part, item) for item in value]
        elif not part.has_presence or message.HasField(part.name):
            made[part.name] = _value(part, value)
    return made


def _value(descriptor: Any, value: Any) -> Any:
    """A protobuf value as JSON data; `descriptor` is that of its field."""
    if descriptor.message_type is formula_pb2.Float64Array.DESCRIPTOR:
        return as_numbers(np.frombuffer(value.values, "<f8").reshape(tuple(value.shape)))
    if descriptor.message_type is not None:
        return as_json(value)
    if descriptor.enum_type is not None:
        return descriptor.enum_type.values_by_number[value].name
    if isinstance(value, float):
        return as_numbers(np.array(value))
    return value
