"""The HTTP port for monitoring: /metrics, /v2/health/live, /v2/health/ready, /v2/models/NAME/ready.

One thread does the non-blocking I/O of all connections; another renders the metrics. So a slow client only occupies a
connection, of which there are MOST; beyond that, the oldest is closed.
"""

import errno
import logging
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from queue import SimpleQueue
from urllib.parse import unquote

from kanserve.errors import ConflictError, InputError, InvalidNameError, NotFoundError
from kanserve.serve.observability import prometheus
from kanserve.serve.observability.http_request import Request
from kanserve.serve.settings import Settings
from kanserve.serve.state import ServerState

MOST = 64  # connections
LONGEST_HEAD = 8192  # bytes of a request
READ_SECONDS = 5.0  # timeout for a request, from the connection or from the previous answer
FAREWELL_SECONDS = 1.0  # for the client to close its side after the last answer
WRITE_SECONDS = 10.0  # timeout for sending an answer
PAGE_SECONDS = 30.0  # timeout for rendering the metrics
_TICK = 0.25  # seconds between checks of the timeouts
_END = b"\r\n\r\n"
_BREATH = 0.05  # seconds without accepting, once file descriptors have run out

_logger = logging.getLogger(__name__)


def serve(settings: Settings, state: ServerState, ready: Callable[[], bool], reuse_port: bool = False) -> "Http":
    """Listen on the HTTP host and port of the settings; `ready` tells whether the server accepts calls now.

    ConflictError when the port is in use, InputError when the host or port cannot be used.
    """
    return Http(_listen(settings.host_of_http(), settings.http_port, reuse_port), state, ready)


class Http:
    """A running port; `close` ends it."""

    def __init__(self, listener: socket.socket, state: ServerState, ready: Callable[[], bool]) -> None:
        self._listener, self._state, self._ready = listener, state, ready
        self.port: int = listener.getsockname()[1]
        self._connections: dict[int, _Connection] = {}  # by descriptor, the oldest first
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._asked: SimpleQueue[_Connection | None] = SimpleQueue()
        self._written: SimpleQueue[tuple[_Connection, tuple[bytes, str] | None]] = SimpleQueue()
        self._closing = False
        for end in (listener, self._woken, self._wake):
            end.setblocking(False)
        for end in (listener, self._woken):
            self._selector.register(end, selectors.EVENT_READ)
        self._threads = [
            threading.Thread(target=self._move, name="kanserve-http", daemon=True),
            threading.Thread(target=self._write_pages, name="kanserve-metrics", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop at once and close all connections."""
        self._closing = True
        self._asked.put(None)
        self._notify()
        for thread in self._threads:
            thread.join(1.0)

    def _notify(self) -> None:
        try:
            self._wake.send(b".")
        except OSError:  # closed, or enough wake-ups are pending
            return

    def _move(self) -> None:
        try:
            while not self._closing:
                pending = False
                for key, _ in self._selector.select(_TICK if self._connections else None):
                    if key.fileobj is self._listener:
                        pending = True
                    elif key.fileobj is self._woken:
                        self._woken.recv(4096)
                        self._deliver()
                    elif key.fd in self._connections:  # it may have been dropped in this loop
                        self._try_to_go_on(self._connections[key.fd])
                if pending:  # last, so that no connection whose request has arrived is dropped to make room
                    self._accept()
                now = time.monotonic()
                for late in [connection for connection in self._connections.values() if connection.deadline < now]:
                    self._drop(late)
        finally:
            for connection in list(self._connections.values()):
                self._drop(connection)
            self._selector.close()
            for end in (self._listener, self._wake, self._woken):
                end.close()

    def _accept(self) -> None:
        try:
            accepted, _ = self._listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                time.sleep(_BREATH)
            return
        if len(self._connections) >= MOST:
            # Drop the oldest without a request; if all have one, the oldest of all.
            oldest = next(iter(self._connections.values()))
            self._drop(next((idle for idle in self._connections.values() if idle.reading), oldest))
        accepted.setblocking(False)
        connection = _Connection(accepted)
        self._connections[accepted.fileno()] = connection
        self._selector.register(accepted, selectors.EVENT_READ)

    def _try_to_go_on(self, one: "_Connection") -> None:
        try:
            self._go_on(one)
        except Exception:  # a bug, triggered by one client; the port stays open for the others
            _logger.exception("a request to the HTTP port failed")
            self._drop(one)

    def _go_on(self, one: "_Connection") -> None:
        """Receive, or send the rest of the answer."""
        try:
            if not one.reading:
                self._send(one)
                return
            received = one.socket.recv(LONGEST_HEAD)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            received = b""
        if not received:
            self._drop(one)
        elif not one.last:
            one.received += received
            self._answer(one)

    def _answer(self, one: "_Connection") -> None:
        """Answer the request, once it is complete."""
        end = one.received.find(_END)
        if end < 0 and len(one.received) < LONGEST_HEAD:
            return
        request = Request(bytes(one.received[: end + len(_END)] if end >= 0 else one.received[:LONGEST_HEAD]))
        del one.received[: end + len(_END)]
        if end < 0 or end > LONGEST_HEAD:
            request.refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        elif request.understood():
            if request.path == "/metrics":
                one.request, one.deadline = request, time.monotonic() + PAGE_SECONDS
                self._selector.unregister(one.socket)
                self._asked.put(one)
                return
            request.answer_json(*self._health(request.path))
        self._begin_sending(one, request)

    def _health(self, path: str) -> tuple[HTTPStatus, dict[str, object]]:
        match path.strip("/").split("/"):
            case ["v2", "health", "live"]:
                return HTTPStatus.OK, {"live": True}
            case ["v2", "health", "ready"]:
                return _ready(self._ready())
            case ["v2", "models", name, "ready"]:
                return self._model_ready(name, "")
            case ["v2", "models", name, "versions", version, "ready"]:
                return self._model_ready(name, version)
        return HTTPStatus.NOT_FOUND, {"error": "There are /metrics, /v2/health/live and /v2/health/ready here."}

    def _model_ready(self, name: str, version: str) -> tuple[HTTPStatus, dict[str, object]]:
        try:
            found = self._state.catalog.find(unquote(name), unquote(version))
        except (NotFoundError, InvalidNameError) as error:
            return HTTPStatus.NOT_FOUND, {"error": str(error)[:500]}
        status, body = _ready(self._ready())
        return status, {"name": found.name, **body}

    def _write_pages(self) -> None:
        """Render the metrics when they are requested: once for all connections that wait."""
        while (first := self._asked.get()) is not None:
            waiting: list[_Connection] = [first]
            while not self._asked.empty():
                if (another := self._asked.get()) is None:
                    return
                waiting.append(another)
            try:
                snapshot = self._state.control.snapshot()
                pages = {kind: prometheus.page(snapshot, kind) for kind in {waiter.accepts for waiter in waiting}}
            except Exception:  # those that wait get a 500, and this thread must go on for others
                _logger.exception("the metrics could not be written")
                pages = {}
            for waiter in waiting:
                self._written.put((waiter, pages.get(waiter.accepts)))
            self._notify()

    def _deliver(self) -> None:
        """Send the rendered pages."""
        while not self._written.empty():
            connection, page = self._written.get()
            request, connection.request = connection.request, None
            if self._connections.get(connection.descriptor) is not connection or request is None:
                continue  # it timed out
            if page is None:
                request.answer_json(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": "internal error"})
            else:
                request.answer(HTTPStatus.OK, page[1], page[0])
            self._selector.register(connection.socket, selectors.EVENT_WRITE)
            self._begin_sending(connection, request)

    def _begin_sending(self, one: "_Connection", request: "Request") -> None:
        one.unsent = memoryview(request.answered)
        one.last = request.close_connection
        one.deadline = time.monotonic() + WRITE_SECONDS
        self._selector.modify(one.socket, selectors.EVENT_WRITE)

    def _send(self, one: "_Connection") -> None:
        one.unsent = one.unsent[one.socket.send(one.unsent) :]
        if one.unsent:
            return
        one.deadline = time.monotonic() + (FAREWELL_SECONDS if one.last else READ_SECONDS)
        self._selector.modify(one.socket, selectors.EVENT_READ)
        if one.last:
            # Closing with unread input would reset the connection, and the client might never see the answer.
            one.socket.shutdown(socket.SHUT_WR)
        elif one.received:  # a pipelined request
            self._answer(one)

    def _drop(self, one: "_Connection") -> None:
        del self._connections[one.descriptor]
        if one.descriptor in self._selector.get_map():
            self._selector.unregister(one.socket)
        one.socket.close()


class _Connection:
    """One client: what was received of its next request, or the rest of the answer to send."""

    def __init__(self, accepted: socket.socket) -> None:
        self.socket = accepted
        self.descriptor = accepted.fileno()
        self.deadline = time.monotonic() + READ_SECONDS
        self.received = bytearray()
        self.unsent = memoryview(b"")
        self.last = False
        self.request: Request | None = None  # the one that waits for the page of metrics

    @property
    def reading(self) -> bool:
        return not self.unsent and self.request is None

    @property
    def accepts(self) -> str:
        """OpenMetrics or the older format, by the Accept header; nothing else in it matters."""
        wanted = self.request.headers.get("Accept", "") if self.request else ""
        return _OPEN_METRICS if _OPEN_METRICS in wanted else ""


_OPEN_METRICS = "application/openmetrics-text"


def _ready(ready: bool) -> tuple[HTTPStatus, dict[str, object]]:
    return (HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE), {"ready": ready}


def _listen(host: str, port: int, reuse_port: bool) -> socket.socket:
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
            0
        ]
        listener = socket.socket(family, kind)
    except (OSError, OverflowError, UnicodeError):
        raise InputError(f"The host {host!r:.80} has no address. Give one of this machine, as 127.0.0.1.") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise ConflictError(f"Port {port} of {host} is in use. Choose another HTTP port.") from None
        raise InputError(f"Cannot listen on port {port} of {host}: {os.strerror(error.errno or 0)}.") from None
    return listener
