"""The other calls over REST: their JSON to the gRPC message and back.

The names in JSON are those of the protobuf messages. 64-bit integers are numbers and absent optional fields are left
out; NaN and infinities are null.
"""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from kanserve.errors import InputError
from kanserve.inference import grpc_service_pb2 as pb
from kanserve.serve.rest.categories import Coded
from kanserve.serve.rest.errors import JSON
from kanserve.serve.rest.infer import as_numbers, set_parameters
from kanserve.serve.rest.messages import RestRequest, RestResponse
from kanserve.serve.rest.strict_json import Body, field
from kanserve.serve.rpc.message_limits import MAX_DESCRIPTION_BYTES
from kanserve.serve.rpc.tensors import encode_array
from kanserve.v1 import formula_pb2

# Fills in a request message (Any: of its own type); the last parameter codes names of categories.
Write = Callable[[Any, RestRequest, bytes | memoryview, Coded | None], None]


class MessageCodec:
    """A call whose request message is `request` with what `write` adds, and whose answer is the message `response`, or
    only one `part` of it."""

    def __init__(self, request: Message, response: type[Message], write: "Write | None" = None, part: str = "") -> None:
        self._request, self._response, self._write, self._part = request, response, write, part

    def decode(self, request: RestRequest, body: bytes | memoryview, coded: Coded | None = None) -> bytes:
        """The bytes of the request message. InputError for a body that is none."""
        try:
            if self._write is not None:
                self._write(self._request, request, body, coded)
            return self._request.SerializeToString()
        except (UnicodeEncodeError, OverflowError) as error:
            raise InputError(f"The body has a text or a number that no message can hold: {error}"[:300]) from None

    def encode(self, answer: bytes) -> RestResponse:
        """The response for the bytes of the answer."""
        made = as_json(self._response.FromString(answer))
        return RestResponse(200, [JSON], json.dumps(made[self._part] if self._part else made).encode())


def write_index(
    message: pb.RepositoryIndexRequest, request: RestRequest, body: bytes | memoryview, coded: Coded | None
) -> None:
    message.ready = field(_small(body), "ready", bool, "", False)


def write_load(
    message: pb.RepositoryModelLoadRequest, request: RestRequest, body: bytes | memoryview, coded: Coded | None
) -> None:
    set_parameters(message.parameters, field(_small(body), "parameters", dict, "", {}))


def write_formats(
    message: formula_pb2.GetFormulaRequest, request: RestRequest, body: bytes | memoryview, coded: Coded | None
) -> None:
    """The formats of a formula, from a query such as `formats=text,latex`."""
    try:
        query = parse_qsl(request.target.partition("?")[2], keep_blank_values=True, max_num_fields=64)
    except ValueError:
        raise InputError("The query has more than 64 fields.") from None
    for name, value in query:
        if name == "formats":
            message.formats.extend(filter(None, value.split(",")))


def write_rows(
    message: formula_pb2.DifferentiateRequest, request: RestRequest, body: bytes | memoryview, coded: Coded | None
) -> None:
    """The rows, and the message's options, each by its name."""
    parsed = Body(body)
    if "rows" not in parsed.fields:
        raise InputError('The body needs "rows": an array of rows, each an array of numbers.')
    numbers, length = parsed.numbers(parsed.fields["rows"], "rows", coded)
    if length is None and len(numbers):
        raise InputError('"rows" must be an array of rows, each an array of numbers; got numbers.')
    message.rows.CopyFrom(encode_array(numbers.reshape(len(numbers) // length if length else 0, length or 0)))
    for one in message.DESCRIPTOR.fields:
        if one.type == FieldDescriptor.TYPE_BOOL:
            setattr(message, one.name, field(parsed.fields, one.name, bool, "", False))


def _small(body: bytes | memoryview) -> dict[str, Any]:
    """The JSON of a body that may be empty."""
    if len(body) > MAX_DESCRIPTION_BYTES:
        raise InputError(f"The body of this call may have {MAX_DESCRIPTION_BYTES} bytes; it has {len(body)}.")
    return Body(body).fields if len(body) else {}


def as_json(message: Message) -> dict[str, Any]:
    """A message as JSON values."""
    made: dict[str, Any] = {}
    for one in message.DESCRIPTOR.fields:
        value = getattr(message, one.name)
        if one.message_type is not None and one.message_type.GetOptions().map_entry:
            of_messages = one.message_type.fields_by_name["value"].message_type is not None
            made[one.name] = {key: as_json(item) if of_messages else item for key, item in value.items()}
        elif one.is_repeated:
            made[one.name] = [_value(one, item) for item in value]
        elif not one.has_presence or message.HasField(one.name):
            made[one.name] = _value(one, value)
    return made


def _value(one: Any, value: Any) -> Any:
    """A value as JSON has it (`one`: the descriptor of its field, of which protobuf has two classes)."""
    if one.message_type is formula_pb2.Float64Array.DESCRIPTOR:
        return as_numbers(np.frombuffer(value.values, "<f8").reshape(tuple(value.shape)))
    if one.message_type is not None:
        return as_json(value)
    if one.enum_type is not None:
        return one.enum_type.values_by_number[value].name
    if isinstance(value, float):
        return as_numbers(np.array(value))
    return value
