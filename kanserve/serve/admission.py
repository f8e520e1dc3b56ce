"""What is settled before a call is answered: whether there is room for it, and that its message is what it weighs.

Parsed, an empty tensor of 2 bytes takes 50 times as much memory, and a message may hold millions. So all of a message
but its numbers, which take what they weigh, may have `MAX_DESCRIPTION_BYTES`; it is refused before it is parsed.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from threading import BoundedSemaphore
from types import MappingProxyType
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError

from kanserve.errors import BusyError, InputError
from kanserve.inference import wire
from kanserve.serve import status
from kanserve.serve.workers import Workers, on_threads_of_its_own

MAX_DESCRIPTION_BYTES = 2**16  # of a message without its numbers
_LONGEST_VARINT = 10

T = TypeVar("T")
Handler = Any  # grpc.RpcMethodHandler, which is generic in its stubs alone
Fields = Mapping[int, Any]  # of a message: the numbers of fields that are arrays ({}) or have arrays in them (Fields)

_TENSORS: Fields = {5: {5: {6: {}, 7: {}}}, 7: {}}  # inputs.contents.fp32_contents, fp64_contents; raw_input_contents
ARRAYS: Mapping[str, Fields] = MappingProxyType(
    {
        f"/{wire.SERVICE_NAME}/ModelInfer": _TENSORS,
        f"/{wire.SERVICE_NAME}/ModelStreamInfer": _TENSORS,
        f"/{wire.FORMULA_SERVICE_NAME}/Differentiate": {3: {2: {}}},  # rows.values
    }
)
_SERVICES = (f"/{wire.SERVICE_NAME}/", f"/{wire.FORMULA_SERVICE_NAME}/")


class Admission(grpc.ServerInterceptor):  # type: ignore[type-arg]  # generic in its stubs alone
    """Calls of our two services beyond `most` that are accepted and not yet answered are refused at once.

    Health has room then, and reflection: a server that is busy is not one that is gone.
    """

    def __init__(self, workers: Workers, most: int) -> None:
        self._workers, self._most = workers, most
        self._handlers: dict[str, Handler] = {}
        # A stream, so that no request is read first.
        self._refusal: Handler = grpc.stream_stream_rpc_method_handler(on_threads_of_its_own(_refuse, 1))

    def intercept_service(self, continuation: Callable[..., Any], handler_call_details: Any) -> Any:
        handler, method = continuation(handler_call_details), handler_call_details.method
        if handler is None or not method.startswith(_SERVICES):
            return handler
        if self._workers.accepted >= self._most:
            return self._refusal
        if method not in self._handlers:
            self._handlers[method] = _reading(handler, ARRAYS.get(method, {}))
        return self._handlers[method]


def limited(stream: Callable[..., Any], most: int) -> Any:  # grpc types one method as both kinds of server need it
    """A call of streams on threads of its own, of which `most` may be open: one more is refused and does not wait."""
    free = BoundedSemaphore(most)

    def answer(requests: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        if not free.acquire(blocking=False):
            status.abort(context, status.failure(BusyError(f"{most} streams are open. Try again later.")))
        try:
            yield from stream(requests, context)
        finally:
            free.release()

    # One thread more than streams may be open, so that there is one to say so.
    return on_threads_of_its_own(answer, most + 1)


def read(parse: Callable[[bytes], T], arrays: Fields, data: bytes) -> T | InputError:
    """A request, or what is wrong with its bytes: grpc would log what its deserializer raises, and say "internal"."""
    try:
        # Of a message that small, the arrays do not matter.
        if len(data) > MAX_DESCRIPTION_BYTES and _left(data, 0, len(data), arrays, MAX_DESCRIPTION_BYTES) < 0:
            return InputError(
                f"A message may have {MAX_DESCRIPTION_BYTES} bytes beside its numbers, which must be raw or packed; "
                "this has more."
            )
        return parse(data)
    except (DecodeError, IndexError, ValueError):
        return InputError("The message is not of the type that this call takes.")


def _left(data: bytes, at: int, end: int, arrays: Fields, left: int) -> int:
    """What is left of so many bytes after everything from `at` to `end` that is not in an array; negative: too much.

    ValueError and IndexError where there is no protobuf. Ends at the first byte too much.
    """
    while at < end and left >= 0:
        begun = at
        tag, at = _varint(data, at)
        match tag & 7:
            case 0:
                _, at = _varint(data, at)
            case 1:
                at += 8
            case 5:
                at += 4
            case 2:
                size, at = _varint(data, at)
                inside = arrays.get(tag >> 3)
                if inside is not None:
                    left -= at - begun
                    begun = at + size
                if inside:
                    left = _left(data, at, min(at + size, end), inside, left)
                at += size
            case _:
                raise ValueError("a group, which no message here has")
        left -= at - begun
    return left


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at a place, and the place after it."""
    value = 0
    for position in range(_LONGEST_VARINT):
        byte = data[at + position]
        value |= (byte & 0x7F) << 7 * position
        if byte < 0x80:
            return value, at + position + 1
    raise ValueError("a number of more than 64 bits")


def _reading(handler: Handler, arrays: Fields) -> Handler:
    """The handler with `read` before it."""
    kind = "_".join("stream" if one else "unary" for one in (handler.request_streaming, handler.response_streaming))
    make: Callable[..., Handler] = getattr(grpc, f"{kind}_rpc_method_handler")
    return make(
        getattr(handler, kind),
        request_deserializer=partial(read, handler.request_deserializer, arrays),
        response_serializer=handler.response_serializer,
    )


def _refuse(requests: Any, context: grpc.ServicerContext) -> Iterator[Any]:
    status.abort(context, status.failure(BusyError("The queue is full. Try again later.")))
