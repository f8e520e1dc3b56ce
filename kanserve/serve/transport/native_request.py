"""A call of the native transport: its data, and how it is answered."""

import base64
import binascii
import ctypes
import logging
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from threading import Lock
from time import monotonic_ns
from typing import Any

from kanserve.serve.request import GoneError, Pairs, Request
from kanserve.serve.status import Code, Failure
from kanserve.serve.transport.native_library import GONE, NO_MORE, Event, as_pairs, pairs

_CALLBACKS = Lock()  # guards those of all contexts
_LARGE = 2**16  # bytes of a message; a larger one is copied without the GIL

_logger = logging.getLogger(__name__)


class NativeRequest(Request):
    """One call, which must be ended exactly once."""

    def __init__(self, library: Any, event: Event, watched: "dict[int, NativeRequest]") -> None:
        self._library, self._call, self._watched = library, event.call, watched
        library.retain(event.call)  # other threads may look at it after it has ended
        self._deadline = event.deadline
        self._metadata_bytes = ctypes.string_at(event.metadata, event.metadata_length) if event.metadata_length else b""
        self._identity = ctypes.string_at(event.identity, event.identity_length) if event.identity_length else b""
        self._peer = event.peer or b""
        self._ended = False
        self._callbacks: list[Callable[[], None]] = []
        self.answered: Callable[[bytes], object] = len  # called with a unary answer after it was sent

    def __del__(self) -> None:
        self._library.release(self._call)

    @cached_property
    def metadata(self) -> Pairs:  # type: ignore[override]  # it does not change either
        return tuple(_decode(key, value) for key, value in pairs(self._metadata_bytes))

    def pairs(self) -> Iterator[tuple[str, str]]:
        """The metadata as text, as HTTP/1.1 has it."""
        return ((key.decode("latin-1"), value.decode("latin-1")) for key, value in pairs(self._metadata_bytes))

    @property
    def peer(self) -> str:
        return self._peer.decode(errors="replace")

    @property
    def identity(self) -> dict[str, list[bytes]]:
        names: dict[str, list[bytes]] = {}
        for key, value in pairs(self._identity):
            names.setdefault(key.decode(), []).append(value)
        return names

    def alive(self) -> bool:
        return not self._ended and not self._library.gone(self._call) and self.time_left() != 0

    def time_left(self) -> float | None:
        return max(0, self._deadline - monotonic_ns()) / 1e9 if self._deadline else None

    def cancel(self) -> None:
        if not self._ended:
            self._library.cancel(self._call)

    def when_left(self, callback: Callable[[], None]) -> bool:
        with _CALLBACKS:
            self._callbacks.append(callback)
            if len(self._callbacks) > 1:  # the event that was asked for with the first is still to come
                return True
            self._watched[self._call] = self
        if self._library.notify(self._call):
            return True
        with _CALLBACKS:
            del self._watched[self._call]
            self._callbacks.clear()
        return False

    def leave(self) -> None:
        """Run the callbacks, because the caller has left."""
        with _CALLBACKS:
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            try:
                callback()
            except Exception:
                _logger.exception("a callback of a call failed")
        self.finish()

    def answer(self, message: bytes) -> None:
        """End a unary call."""
        if not self._ended:
            self._ended = True
            self._library.answer(self._call, message, len(message))
            self.answered(message)

    def respond(self, status: int, headers: Iterable[tuple[str, str]], body: bytes) -> None:
        """End an HTTP/1.1 request."""
        if not self._ended:
            self._ended = True
            packed = as_pairs(headers)
            self._library.respond(self._call, status, packed, len(packed), body, len(body))

    def send(self, message: bytes) -> bool:
        """Send a message of a stream. Returns False once the caller has left."""
        return not self._ended and self._library.send(self._call, message, len(message)) == 0

    def finish(self, code: Code = Code.OK, text: str = "", trailing: Pairs = ()) -> None:
        """End the call with a status."""
        if self._ended:
            return
        self._ended = True
        said, trailers = text.replace("\0", "").encode(), as_pairs(trailing)
        self._library.finish(self._call, code, said, len(said), trailers, len(trailers))

    def fail(self, failure: Failure) -> None:
        """End the call with a failure."""
        self.finish(failure.code, failure.text, failure.metadata)

    def received(self) -> Iterator[bytes]:
        """The messages of a stream, as they arrive."""
        pointer = ctypes.c_void_p()
        while True:
            length = self._library.receive(self._call, ctypes.byref(pointer))
            if length == NO_MORE:
                return
            if length == GONE:
                raise GoneError
            message = message_bytes(pointer.value or 0, length)
            self._library.received(self._call, pointer)
            yield message


_new_bytes = ctypes.pythonapi.PyBytes_FromStringAndSize
_new_bytes.restype, _new_bytes.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_ssize_t)
_address = ctypes.pythonapi.PyBytes_AsString
_address.restype, _address.argtypes = ctypes.c_void_p, (ctypes.py_object,)
_copy = ctypes.CDLL(None).memcpy  # releases the GIL
_copy.restype, _copy.argtypes = ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


def message_bytes(address: int, length: int) -> bytes:
    """Copy memory of the library."""
    if length <= _LARGE:
        return ctypes.string_at(address, length) if length else b""
    made: bytes = _new_bytes(None, length)
    _copy(_address(made), address, length)
    return made


def _decode(key: bytes, value: bytes) -> tuple[str, str | bytes]:
    name = key.decode("latin-1")
    if not name.endswith("-bin"):
        try:
            return name, value.decode()
        except UnicodeDecodeError:
            return name, value.decode("latin-1")
    try:
        return name, base64.b64decode(value + b"=" * (-len(value) % 4), validate=False)
    except binascii.Error:
        return name, b""
