"""HTTP/1.1 by raw bytes: a client that sends what it likes, and the native loop with a test's own handler."""

import json
import socket
import ssl
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

from kanserve.serve.transport import native_library as native
from kanserve.serve.transport.native_request import NativeRequest
from tests.support import programs
from tests.support.servers.loop_server import SECOND, LoopServer

Answering = Callable[[bytes, NativeRequest], None]


class Response(NamedTuple):
    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def request(
    target: str = "/v2/echo",
    method: str = "GET",
    body: bytes = b"",
    host: str = "x",
    version: str = "1.1",
    **headers: str,
) -> bytes:
    """The bytes of a request; names of headers have _ for -."""
    given = {"Host": host} | ({"Content-Length": str(len(body))} if body else {})
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{method} {target} HTTP/{version}", *(f"{name}: {value}" for name, value in given.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Http1Peer:
    """A connection to a server."""

    def __init__(self, address: str, tls: ssl.SSLContext | None = None, receives: int = 0, seconds: float = 60) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.socket()
        if receives:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receives)
        self.socket.settimeout(seconds)
        self.socket.connect((host, int(port)))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")
        self._unread = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ask(self, data: bytes) -> Response:
        self.send(data)
        return self.response()

    def response(self, head: bool = False) -> Response:
        """The next response; without a body if it answers a HEAD."""
        while b"\r\n\r\n" not in self._unread:
            self._receive()
        top, _, self._unread = self._unread.partition(b"\r\n\r\n")
        line, *lines = top.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        length = 0 if head else int(headers.get("content-length", "0"))
        while len(self._unread) < length:
            self._receive()
        body, self._unread = self._unread[:length], self._unread[length:]
        return Response(int(line.split()[1]), headers, body)

    def ended(self) -> bool:
        """Wait for the end of the connection: whether nothing more came before."""
        rest = self._unread
        try:
            while data := self.socket.recv(65_536):
                rest += data
        except ConnectionError:
            pass
        return not rest

    def _receive(self) -> None:
        data = self.socket.recv(65_536)
        if not data:
            raise ConnectionError(f"the server has closed the connection after {self._unread!r}")
        self._unread += data


def line_of(context: NativeRequest) -> dict[str, str]:
    """A request's line and headers, as the loop hands them out."""
    return dict(context.pairs())


def echo_request(body: bytes, context: NativeRequest) -> None:
    """Answer with what came."""
    text = json.dumps({"line": line_of(context), "body": body.decode("latin-1")}).encode()
    context.respond(200, [("content-type", "application/json")], text)


class Http1Server(LoopServer):
    """The loop with an HTTP port too, whose requests `answer` gets, each on a thread of its own."""

    def __init__(
        self, answer: Answering = echo_request, *, patience: float = 60.0, sends: int = 0, **options: Any
    ) -> None:
        super().__init__(answer, patience=patience, **options)
        if not self.library.serves_http:
            self.close()
            programs.skip("llhttp")
        listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        if sends:  # bytes that the kernel keeps for a slow client
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, sends)
        listener.setblocking(False)
        self.http_address = f"127.0.0.1:{listener.getsockname()[1]}"
        paths = (native.Path * 2)(
            native.Path(native.PATH_UNARY, 0, 1, 0, round(patience * SECOND)),
            native.Path(native.PATH_UNARY, 0, 0, 1, round(patience * SECOND)),
        )
        assert self.library.listen_http(self.server, listener.detach(), paths) == 0
