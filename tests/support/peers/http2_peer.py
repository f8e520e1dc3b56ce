"""A client of HTTP/2 in frames written by hand, which breaks rules when a test wants it to.

Only response headers are decoded by a library, nghttp2, which the native transport needs too.
"""

import ctypes
import socket
import ssl
import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote

from tests.support import programs

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED = 1, 1, 4, 8
NO_ERROR, PROTOCOL_ERROR, REFUSED_STREAM, CANCEL, ENHANCE_YOUR_CALM = 0, 1, 7, 8, 11
LARGEST_FRAME = 16_384
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE = 3, 4  # settings
SECONDS = 60.0  # after which a wait for a frame ends in an error


@dataclass(frozen=True)
class Frame:
    kind: int
    flags: int
    stream: int
    body: bytes

    @property
    def error(self) -> int:
        """The code of RST_STREAM or GOAWAY."""
        return int.from_bytes(self.body[:4] if self.kind == RST_STREAM else self.body[4:8], "big")

    @property
    def last_stream(self) -> int:
        """Of GOAWAY."""
        return int.from_bytes(self.body[:4], "big") & 0x7FFFFFFF


@dataclass
class Answer:
    """All that came on a stream."""

    headers: dict[str, str] = field(default_factory=dict)  # and trailers
    data: bytes = b""
    reset: int | None = None  # the code of RST_STREAM
    parts: int = 0  # frames of headers

    @property
    def status(self) -> int:
        return int(self.headers["grpc-status"])

    @property
    def text(self) -> str:
        return unquote(self.headers.get("grpc-message", ""))

    @property
    def messages(self) -> list[bytes]:
        made, at = [], 0
        while at < len(self.data):
            (size,) = struct.unpack_from(">I", self.data, at + 1)
            made.append(self.data[at + 5 : at + 5 + size])
            at += 5 + size
        return made


class Peer:
    """A connection; with a TLS context over TLS."""

    def __init__(
        self,
        address: str,
        *,
        settings: Mapping[int, int] | None = None,
        greet: bool = True,
        tls: ssl.SSLContext | None = None,
        receive_buffer: int = 0,
        seconds: float = SECONDS,
    ) -> None:
        if address.startswith("unix:"):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(seconds)
            self.socket.connect(address[5:])
        else:
            host, _, port = address.rpartition(":")
            self.socket = socket.socket()
            self.socket.settimeout(seconds)
            if receive_buffer:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            self.socket.connect((host, int(port)))
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")
        self._unread = b""
        self._inflater = _Inflater()
        self.answers: dict[int, Answer] = {}
        self.goaways: list[Frame] = []
        self.next_stream = 1
        self.acknowledges = True  # PING by itself
        if greet:
            self.send(PREFACE)
            self.frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *pair) for pair in (settings or {}).items()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.socket.close()
        self._inflater.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def frame(self, kind: int, flags: int = 0, stream: int = 0, body: bytes = b"") -> None:
        self.send(frame(kind, flags, stream, body))

    def call(self, path: str, *, end: bool = False, **fields: str | None) -> int:
        """Begin a call, whose number is returned. `fields` are further headers, or None for one that is left out; an
        underscore stands for a dash, method and so on for those with a colon."""
        stream, self.next_stream = self.next_stream, self.next_stream + 2
        block, kind, flags = request_headers(path, fields), HEADERS, END_STREAM if end else 0
        while len(block) > LARGEST_FRAME:
            self.frame(kind, flags, stream, block[:LARGEST_FRAME])
            block, kind, flags = block[LARGEST_FRAME:], CONTINUATION, 0
        self.frame(kind, flags | END_HEADERS, stream, block)
        return stream

    def message(self, stream: int, message: bytes, *, end: bool = True, flag: int = 0, size: int | None = None) -> None:
        """Send a message; `size`: the length that it claims.

        A large one wants a `round_trip` before: until the server's SETTINGS are acknowledged, its windows are small.
        """
        whole = struct.pack(">BI", flag, len(message) if size is None else size) + message
        for at in range(0, max(len(whole), 1), LARGEST_FRAME):
            part, last = whole[at : at + LARGEST_FRAME], at + LARGEST_FRAME >= len(whole)
            self.frame(DATA, END_STREAM if end and last else 0, stream, part)

    def ask(self, path: str, message: bytes = b"", **fields: str | None) -> Answer:
        """A unary call and its answer."""
        stream = self.call(path, end=False, **fields)
        self.message(stream, message)
        return self.answer(stream)

    def open(self, stream: int = 0, size: int = 2**24) -> None:
        """Open a window."""
        self.frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", size))

    def frames(self) -> Iterator[Frame]:
        """What comes, until the connection ends; SETTINGS and PING are answered."""
        while (got := self._next()) is not None:
            if got.kind == SETTINGS and not got.flags & ACK:
                self._reply(frame(SETTINGS, ACK, 0, b""))
            elif got.kind == PING and not got.flags & ACK and self.acknowledges:
                self._reply(frame(PING, ACK, 0, got.body))
            self._note(got)
            yield got

    def answer(self, stream: int, *, reset: bool = False) -> Answer:
        """The answer to a call, once it has ended; `reset`: and once RST_STREAM has followed."""
        made = self.answers.setdefault(stream, Answer())
        if made.reset is None and (reset or "grpc-status" not in made.headers):
            for got in self.frames():
                ended = got.stream == stream and (got.kind == RST_STREAM or (got.flags & END_STREAM and not reset))
                if ended or (got.kind == GOAWAY and got.error):
                    break
        return made

    def end(self) -> list[int]:
        """Read until the connection ends: the codes of GOAWAY."""
        for _ in self.frames():
            pass
        return [goaway.error for goaway in self.goaways]

    def round_trip(self) -> None:
        """Wait until all that was sent has been read."""
        self.frame(PING, 0, 0, b"12345678")
        for got in self.frames():
            if got.kind == PING and got.flags & ACK:
                return
        raise AssertionError("the connection has ended")

    def _note(self, got: Frame) -> None:
        answer = self.answers.setdefault(got.stream, Answer())
        if got.kind == HEADERS:
            answer.headers |= self._inflater.inflate(got.body)
            answer.parts += 1
        elif got.kind == DATA:
            answer.data += got.body
        elif got.kind == RST_STREAM:
            answer.reset = got.error
        elif got.kind == GOAWAY:
            self.goaways.append(got)

    def _reply(self, data: bytes) -> None:
        with suppress(OSError):  # the server has ended the connection, and what it wrote is still to be read
            self.send(data)

    def _next(self) -> Frame | None:
        head = self._exactly(9)
        if head is None:
            return None
        body = self._exactly(int.from_bytes(head[:3], "big"))
        return None if body is None else Frame(head[3], head[4], int.from_bytes(head[5:], "big"), body)

    def _exactly(self, size: int) -> bytes | None:
        while len(self._unread) < size:
            try:
                more = self.socket.recv(2**16)
            except ConnectionError:
                more = b""
            if not more:
                return None
            self._unread += more
        data, self._unread = self._unread[:size], self._unread[size:]
        return data


def frame(kind: int, flags: int = 0, stream: int = 0, body: bytes = b"") -> bytes:
    return struct.pack(">I", len(body))[1:] + struct.pack(">BBI", kind, flags, stream) + body


def request_headers(path: str, fields: Mapping[str, str | None]) -> bytes:
    usual: dict[str, str | None] = {
        **{":method": "POST", ":scheme": "http", ":path": path, ":authority": "localhost"},
        **{"te": "trailers", "content-type": "application/grpc"},
    }
    given = {(f":{name}" if f":{name}" in usual else name.replace("_", "-")): value for name, value in fields.items()}
    return b"".join(literal(name, value) for name, value in (usual | given).items() if value is not None)


def literal(name: str, value: str) -> bytes:
    """A header as HPACK writes it without its tables and without Huffman's code."""
    return b"\0" + _text(name) + _text(value)


def _text(text: str) -> bytes:
    data = text.encode("latin-1")
    return _integer(len(data)) + data


def _integer(value: int) -> bytes:
    """With a prefix of 7 bits."""
    if value < 127:
        return bytes([value])
    made, value = bytearray([127]), value - 127
    while value >= 128:
        made.append(128 | (value & 127))
        value >>= 7
    return bytes([*made, value])


class _Pair(ctypes.Structure):
    """nghttp2_nv"""

    _fields_ = (
        ("name", ctypes.POINTER(ctypes.c_uint8)),
        ("value", ctypes.POINTER(ctypes.c_uint8)),
        ("name_length", ctypes.c_size_t),
        ("value_length", ctypes.c_size_t),
        ("flags", ctypes.c_uint8),
    )


class _Inflater:
    """HPACK by nghttp2."""

    def __init__(self) -> None:
        self._library = _nghttp2()
        self._inflater = ctypes.c_void_p()
        assert self._library.nghttp2_hd_inflate_new(ctypes.byref(self._inflater)) == 0

    def inflate(self, block: bytes) -> dict[str, str]:
        found, at, pair, flags = {}, 0, _Pair(), ctypes.c_int()
        while True:
            data = block[at:]
            used = self._library.nghttp2_hd_inflate_hd2(
                self._inflater, ctypes.byref(pair), ctypes.byref(flags), data, len(data), 1
            )
            assert used >= 0, used
            at += used
            if flags.value & 2:  # a pair was emitted
                name = ctypes.string_at(pair.name, pair.name_length).decode()
                found[name] = ctypes.string_at(pair.value, pair.value_length).decode("latin-1")
            if flags.value & 1:
                self._library.nghttp2_hd_inflate_end_headers(self._inflater)
                return found

    def close(self) -> None:
        self._library.nghttp2_hd_inflate_del(self._inflater)
        self._inflater = ctypes.c_void_p()


def _nghttp2() -> Any:
    try:
        library = ctypes.CDLL("libnghttp2.so.14")
    except OSError:
        programs.skip("nghttp2")
    library.nghttp2_hd_inflate_hd2.restype = ctypes.c_ssize_t
    library.nghttp2_hd_inflate_hd2.argtypes = (
        *(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p),
        *(ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int),
    )
    library.nghttp2_hd_inflate_end_headers.argtypes = (ctypes.c_void_p,)
    library.nghttp2_hd_inflate_del.argtypes = (ctypes.c_void_p,)
    library.nghttp2_hd_inflate_del.restype = None
    return library
