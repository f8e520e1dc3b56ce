"""What a ModelInfer asks for, read once: clients send the same message again and again but for its numbers.

A message whose raw numbers come last is told from the next by those alone. What was found in the bytes before them is
kept for as long as the catalog in which it was found, and a message that begins so is not parsed again.
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
from kanserve.serve.models.catalog import Catalog, Model
from kanserve.serve.rpc import tensors
from kanserve.serve.rpc.message_limits import TENSORS, read, read_apart
from kanserve.serve.rpc.range_violations import Bounds, bounds
from kanserve.serve.state import Call

INPUT, OUTPUT, PROBABILITIES, LABEL = "x", "y", "probabilities", "label"
_CHANGED_BY = ("classification", "shared_memory_region")  # parameters of an output that ask for something else
_MOST_KEPT = 256  # of one catalog
_LONGEST_KEPT = 1024  # bytes before the numbers
_LARGEST_KEPT = 2**18  # bytes of a whole message; of a larger one the numbers cost more than all else
_RAW = b"\x3a"  # the tag of ModelInferRequest's raw_input_contents

Writer = Callable[[Model, NDArray[Any], str], NDArray[Any] | Sequence[bytes]]  # numbers as they travel, or texts


@dataclass(eq=False, slots=True)
class DecodedRequest:
    """All of a request but its numbers. What comes of it is kept with it: `bounds` and, once there is one, `head`."""

    model: Model
    id: str
    outputs: dict[str, Writer]
    datatype: str
    rows: int
    raw: bool  # whether the numbers came so, as they are then answered
    bounds: Bounds
    head: bytes = b""  # of an answer whose rows are all inside the training range


class RequestCache:
    """Of one catalog: what was asked, by the bytes before the numbers."""

    def __init__(self) -> None:
        self._asked: dict[bytes, DecodedRequest] = {}
        self._starts: dict[int, int] = {}  # where the numbers start in a message of so many bytes

    def find(self, data: bytes) -> tuple[DecodedRequest, NDArray[Any]] | None:
        start = self._starts.get(len(data))
        if start is None:
            return None
        asked = self._asked.get(data[:start])
        if asked is None:
            return None
        shape = (asked.rows, len(asked.model.kan.inputs))
        numbers = data[start:]  # a copy, for the numbers may lie at any address in a message
        # What began as long may have had more numbers: here more than numbers follows.
        if len(numbers) != shape[0] * shape[1] * tensors.FLOATS[asked.datatype].itemsize:
            return None
        return asked, tensors.floats(numbers, asked.datatype, shape)

    def keep(self, data: bytes, asked: DecodedRequest, request: pb.ModelInferRequest) -> None:
        """Where the numbers come last, and only their bytes say what they are."""
        if not asked.raw or asked.id or asked.rows == 0 or len(data) > _LARGEST_KEPT:
            return
        (numbers,) = request.raw_input_contents
        start = len(data) - len(numbers)
        before = data[:start]
        if start > _LONGEST_KEPT or not before.endswith(_RAW + wire.varint(len(numbers))):
            return
        # Only a parser knows whether the end of a message is what it seems to be.
        others = bytes(len(numbers)) if any(numbers) else b"\1" * len(numbers)
        request.raw_input_contents[0] = others
        try:
            if pb.ModelInferRequest.FromString(before + others) != request:
                return
        except DecodeError:
            return
        if len(self._asked) >= _MOST_KEPT:
            self._asked.clear()
            self._starts.clear()
        self._asked[before] = asked
        self._starts[len(data)] = start


_kept: WeakKeyDictionary[Catalog, RequestCache] = WeakKeyDictionary()


def decode_request(
    catalog: Catalog, data: bytes, call: Call, allowed: Callable[[str], None] | None
) -> tuple[DecodedRequest, NDArray[Any]]:
    """What a message asks for, and its rows (N, inputs) in float32 or float64; of a large one where they lie in it.

    InputError, TensorError, NotFoundError, and AccessError where the caller may not use the model.
    """
    kept = _kept.get(catalog)
    if kept is None:
        kept = _kept.setdefault(catalog, RequestCache())
    found = kept.find(data)
    if found is not None:
        asked, x = found
        if allowed is not None:
            allowed(asked.model.name)
        call.model, call.version, call.rows = asked.model.name, asked.model.version, asked.rows
        return asked, x
    buffers: Sequence[bytes | memoryview]
    if len(data) > _LARGEST_KEPT:
        request, buffers = read_apart(pb.ModelInferRequest.FromString, TENSORS, data)
    else:
        request = read(pb.ModelInferRequest.FromString, TENSORS, data)
        buffers = request.raw_input_contents
    if allowed is not None:
        allowed(request.model_name)
    model = catalog.find(request.model_name, request.model_version)
    call.model, call.version = model.name, model.version
    outputs = _outputs(model, request)
    rows = tensors.decode(request, buffers, INPUT, len(model.kan.inputs), model.max_rows)
    call.rows = len(rows.x)
    asked = DecodedRequest(
        model, request.id, outputs, rows.datatype, len(rows.x), rows.raw, bounds(model, rows.datatype)
    )
    kept.keep(data, asked, request)
    return asked, rows.x


def outputs_of(model: Model) -> dict[str, Writer]:
    """What writes each output that a model has."""
    return _CLASSIFIER if model.kan.classes else _REGRESSION


def _scores(model: Model, values: NDArray[Any], datatype: str) -> NDArray[Any]:
    return tensors.as_datatype(values, datatype)


def _probabilities(model: Model, values: NDArray[Any], datatype: str) -> NDArray[Any]:
    from kanserve.network.evaluate import softmax  # classifiers alone need it

    return tensors.as_datatype(softmax(values.astype(np.float64)), datatype)


def _labels(model: Model, values: NDArray[Any], datatype: str) -> Sequence[bytes]:
    # -1 is the empty label at the end.
    likeliest = np.where(np.isnan(values[:, 0]), -1, values.argmax(axis=1))
    return [model.labels[one] for one in likeliest.tolist()]


_REGRESSION: dict[str, Writer] = {OUTPUT: _scores}
_CLASSIFIER: dict[str, Writer] = {OUTPUT: _scores, PROBABILITIES: _probabilities, LABEL: _labels}


def _outputs(model: Model, request: pb.ModelInferRequest) -> dict[str, Writer]:
    """What writes each output that is asked for, by default all; TensorError for one that there is not."""
    known = outputs_of(model)
    asked = request.outputs
    if not asked:
        return known
    if len(asked) > len(known):
        raise TensorError(f"The outputs are {', '.join(map(repr, known))}, each once; got {len(asked)} to give.")
    wanted: dict[str, Writer] = {}
    for one in asked:
        if one.name not in known:
            raise TensorError(f"The outputs are {', '.join(map(repr, known))}; got {one.name!r:.80}.")
        if one.name in wanted:
            raise TensorError(f"An output can be asked for once, got {one.name!r} twice.")
        for parameter in _CHANGED_BY:
            if parameter in one.parameters:
                raise TensorError(f"The parameter {parameter!r} of an output is not known here. Leave it out.")
        wanted[one.name] = known[one.name]
    return wanted
