"""A cache of decoded ModelInfer requests: clients send the same message again and again, except for its numbers.

If the raw numbers come last in a message, the bytes before them are the cache key. Their decoded content is kept as
long as the catalog for which it was decoded, and messages with the same start are not parsed again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from kanserve.errors import TensorError
from kanserve.inference import grpc_service_pb2 as pb
from kanserve.inference import wire
from kanserve.serve.methods import TENSORS
from kanserve.serve.models.catalog import Catalog, Model
from kanserve.serve.models.routes import route_value
from kanserve.serve.request import Unpacked
from kanserve.serve.rpc import tensors
from kanserve.serve.rpc.message_limits import read, read_apart
from kanserve.serve.rpc.range_violations import Bounds, bounds
from kanserve.serve.state import Call

INPUT, OUTPUT, PROBABILITIES, LABEL = "x", "y", "probabilities", "label"
_CHANGED_BY = ("classification", "shared_memory_region")  # output parameters that would change the answer's content
_MOST_KEPT = 256  # entries per catalog
_LONGEST_KEPT = 1024  # bytes before the numbers
_LARGEST_KEPT = 2**18  # bytes of a whole message; in a larger one, the numbers dominate the cost
_RAW = b"\x3a"  # the tag of ModelInferRequest's raw_input_contents

Writer = Callable[[Model, NDArray[Any], str], NDArray[Any] | Sequence[bytes]]  # numbers in the wire type, or texts


@dataclass(eq=False, slots=True)
class DecodedRequest:
    """A request without its numbers, and what is derived from it: `bounds` and, after the first answer, `head`."""

    model: Model
    id: str
    outputs: dict[str, Writer]
    datatype: str
    rows: int
    raw: bool  # whether the numbers came raw; then the answer is raw too
    bounds: Bounds
    head: bytes = b""  # of an answer whose rows are all inside the training range


class RequestCache:
    """The decoded requests of one catalog, keyed by their bytes without the numbers."""

    def __init__(self) -> None:
        self._asked: dict[bytes, DecodedRequest] = {}
        self._starts: dict[int, int] = {}  # by the length of a message, the offset of its numbers

    def find(self, data: bytes | Unpacked) -> tuple[DecodedRequest, NDArray[Any]] | None:
        numbers: bytes | memoryview
        if isinstance(data, Unpacked):
            if len(data.buffers) != 1:
                return None
            before, (numbers,) = data.message.SerializeToString(), data.buffers
        else:
            start = self._starts.get(len(data))
            if start is None:
                return None
            before, numbers = data[:start], data[start:]  # a copy, since they may be misaligned in the message
        asked = self._asked.get(before)
        if asked is None:
            return None
        shape = (asked.rows, len(asked.model.kan.inputs))
        # The key may match although the numbers do not begin here, in a message with fewer numbers and more fields.
        if len(numbers) != shape[0] * shape[1] * tensors.FLOATS[asked.datatype].itemsize:
            return None
        return asked, tensors.floats(numbers, asked.datatype, shape)

    def keep(self, data: bytes | Unpacked, asked: DecodedRequest, request: pb.ModelInferRequest) -> None:
        """Cache a request if its raw numbers come last and nothing else in it depends on them."""
        if not asked.raw or asked.id or asked.rows == 0 or len(data) > _LARGEST_KEPT:
            return
        if isinstance(data, Unpacked):
            before = request.SerializeToString()
        else:
            before = data[: len(data) - len(request.raw_input_contents[0])]
        if len(before) > _LONGEST_KEPT or not (isinstance(data, Unpacked) or _has_numbers_last(before, request)):
            return
        if len(self._asked) >= _MOST_KEPT:
            self._asked.clear()
            self._starts.clear()
        self._asked[before] = asked
        if isinstance(data, bytes):
            self._starts[len(data)] = len(before)


def _has_numbers_last(before: bytes, request: pb.ModelInferRequest) -> bool:
    """Whether a message is these bytes followed by its raw numbers, and nothing else in it depends on them. Overwrites
    the numbers in `request`."""
    (numbers,) = request.raw_input_contents
    if not before.endswith(_RAW + wire.varint(len(numbers))):
        return False
    # Verify with the parser that the end of the message is really the numbers: parse it with other numbers.
    others = bytes(len(numbers)) if any(numbers) else b"\1" * len(numbers)
    request.raw_input_contents[0] = others
    try:
        return pb.ModelInferRequest.FromString(before + others) == request
    except DecodeError:
        return False


_kept: WeakKeyDictionary[Catalog, RequestCache] = WeakKeyDictionary()


def decode_request(
    catalog: Catalog,
    data: bytes | Unpacked,
    call: Call,
    allowed: Callable[[str], None] | None,
    route_header: str = "",
) -> tuple[DecodedRequest, NDArray[Any]]:
    """The decoded request and its rows (N, inputs) in float32 or float64; a view of a large message. Raises InputError,
    TensorError, NotFoundError, or AccessError if the caller may not use the model. `route_header` is the setting."""
    kept = _kept.get(catalog)
    if kept is None:
        kept = _kept.setdefault(catalog, RequestCache())
    cached = kept.find(data)
    if cached is not None:
        asked, x = cached
        if allowed is not None:
            allowed(asked.model.name)
        call.model, call.version, call.rows = asked.model.name, asked.model.version, asked.rows
        return asked, x
    buffers: Sequence[bytes | memoryview]
    if isinstance(data, Unpacked):
        request, buffers = data.message, data.buffers
    elif len(data) > _LARGEST_KEPT:
        request, buffers = read_apart(pb.ModelInferRequest.FromString, TENSORS, data)
    else:
        request = read(pb.ModelInferRequest.FromString, TENSORS, data)
        buffers = request.raw_input_contents
    asked, x = _decode(catalog, request, buffers, call, allowed, route_header)
    if request.model_version or request.model_name not in catalog.shares:  # else the next one may get another version
        kept.keep(data, asked, request)
    return asked, x


def _decode(
    catalog: Catalog,
    request: pb.ModelInferRequest,
    buffers: Sequence[bytes | memoryview],
    call: Call,
    allowed: Callable[[str], None] | None,
    route_header: str,
) -> tuple[DecodedRequest, NDArray[Any]]:
    if allowed is not None:
        allowed(request.model_name)
    drawn_by = route_value(call.metadata, route_header) or request.id
    model = catalog.find(request.model_name, request.model_version, drawn_by)
    call.model, call.version = model.name, model.version
    outputs = _outputs(model, request)
    rows = tensors.decode(request, buffers, INPUT, model.kan.inputs, model.max_rows)
    call.rows = len(rows.x)
    asked = DecodedRequest(
        model, request.id, outputs, rows.datatype, len(rows.x), rows.raw, bounds(model, rows.datatype)
    )
    return asked, rows.x


def outputs_of(model: Model) -> dict[str, Writer]:
    return _CLASSIFIER if model.kan.classes else _REGRESSION


def _scores(model: Model, values: NDArray[Any], datatype: str) -> NDArray[Any]:
    return tensors.as_datatype(values, datatype)


def _probabilities(model: Model, values: NDArray[Any], datatype: str) -> NDArray[Any]:
    from kanserve.network.evaluate import softmax  # only classifiers need it

    return tensors.as_datatype(softmax(values.astype(np.float64)), datatype)


def _labels(model: Model, values: NDArray[Any], datatype: str) -> Sequence[bytes]:
    # -1 is the empty label at the end.
    likeliest = np.where(np.isnan(values[:, 0]), -1, values.argmax(axis=1))
    return [model.labels[index] for index in likeliest.tolist()]


_REGRESSION: dict[str, Writer] = {OUTPUT: _scores}
_CLASSIFIER: dict[str, Writer] = {OUTPUT: _scores, PROBABILITIES: _probabilities, LABEL: _labels}


def _outputs(model: Model, request: pb.ModelInferRequest) -> dict[str, Writer]:
    """The writers of the requested outputs, by default all. Raises TensorError for an unknown output."""
    known = outputs_of(model)
    asked = request.outputs
    if not asked:
        return known
    if len(asked) > len(known):
        raise TensorError(f"The outputs are {', '.join(map(repr, known))}, each once; got {len(asked)} requested.")
    wanted: dict[str, Writer] = {}
    for output in asked:
        if output.name not in known:
            raise TensorError(f"The outputs are {', '.join(map(repr, known))}; got {output.name!r:.80}.")
        if output.name in wanted:
            raise TensorError(f"An output can be requested only once, got {output.name!r} twice.")
        for parameter in _CHANGED_BY:
            if parameter in output.parameters:
                raise TensorError(f"The output parameter {parameter!r} is not supported. Leave it out.")
        wanted[output.name] = known[output.name]
    return wanted
