"""The HTTP port where the native transport does not serve it: HTTP/1.1 in Python.

One thread does the non-blocking I/O of all connections and answers health; another renders the metrics; calls run on
the server's thread pool. So a slow client only occupies a connection, of which there are MOST; beyond that, the oldest
idle one is closed.
"""

import errno
import logging
import math
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

from kanserve.errors import ConflictError, InputError
from kanserve.serve.rest.api import RestApi
from kanserve.serve.rest.http_connection import Connection
from kanserve.serve.rest.http_head import END, Chunks, parse_head
from kanserve.serve.rest.messages import HttpError, RestRequest, RestResponse
from kanserve.serve.scheduling.thread_pool import MAX_INFLIGHT_BYTES
from kanserve.serve.settings import Settings

MOST = 256  # connections
LONGEST_HEAD = 16384  # bytes of a request without its body
READ_SECONDS = 5.0  # timeout for the head of a request, from the connection or from its first byte
IDLE_SECONDS = 60.0  # until the next request begins
BODY_SECONDS = 60.0  # timeout for a body, from its head
FAREWELL_SECONDS = 1.0  # for the client to close its side after the last answer, and for answers under way at the end
WRITE_SECONDS = 30.0  # timeout for sending an answer
PAGE_SECONDS = 30.0  # timeout for rendering the metrics
_TICK = 0.25  # seconds between checks of the timeouts
_PIECE = 2**18  # bytes that are received at once
_LARGE = 2**16  # bytes of a request from which memory is looked after
_BREATH = 0.05  # seconds without accepting, once file descriptors have run out
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_logger = logging.getLogger(__name__)


def serve(settings: Settings, api: RestApi, submit: Callable[..., Any], reuse_port: bool = False) -> "Http":
    """Listen on the HTTP host and port of the settings; `submit` runs calls on the thread pool. Raises ConflictError if
    the port is in use, InputError if host or port cannot be used."""
    return Http(_listen(settings.host_of_http(), settings.http_port, reuse_port), api, submit)


class Http:
    """A running HTTP port; `close` ends it."""

    takes_tls = False

    def __init__(self, listener: socket.socket, api: RestApi, submit: Callable[..., Any]) -> None:
        self._listener, self._api, self._submit = listener, api, submit
        self.port: int = listener.getsockname()[1]
        self._connections: dict[int, Connection] = {}  # by descriptor, the oldest first
        self._most_held = max(MAX_INFLIGHT_BYTES, 4 * api.most)  # bytes of requests that are not answered
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._pages: SimpleQueue[tuple[Connection, RestRequest] | None] = SimpleQueue()
        self._answered: SimpleQueue[tuple[Connection, RestResponse]] = SimpleQueue()
        self._closing = math.inf  # the time at which the port is closed
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
        """Send the answers that are ready, and close all connections."""
        self._closing = min(self._closing, time.monotonic() + FAREWELL_SECONDS)
        self._pages.put(None)
        self._notify()
        for thread in self._threads:
            thread.join(2 * FAREWELL_SECONDS)

    def _notify(self) -> None:
        try:
            self._wake.send(b".")
        except OSError:  # closed, or enough wake-ups are pending
            return

    def _move(self) -> None:
        try:
            while self._goes_on():
                pending = False
                for key, _ in self._selector.select(_TICK if self._connections else None):
                    if key.fileobj is self._listener:
                        pending = True
                    elif key.fileobj is self._woken:
                        self._woken.recv(4096)
                        self._deliver()
                    elif key.fd in self._connections:  # it may have been dropped in this loop
                        self._guard(self._go_on, self._connections[key.fd])
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

    def _goes_on(self) -> bool:
        if math.isinf(self._closing):
            return True
        unsent = any(connection.unsent for connection in self._connections.values()) or not self._answered.empty()
        return unsent and time.monotonic() < self._closing

    def _accept(self) -> None:
        try:
            accepted, address = self._listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                time.sleep(_BREATH)
            return
        if len(self._connections) >= MOST:
            # Drop the oldest without a request; if all have one, the oldest of all.
            oldest = next(iter(self._connections.values()))
            self._drop(next((idle for idle in self._connections.values() if idle.reading), oldest))
        accepted.setblocking(False)
        with suppress(OSError):
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(accepted, address, time.monotonic() + READ_SECONDS)
        self._connections[accepted.fileno()] = connection
        self._selector.register(accepted, selectors.EVENT_READ)

    def _guard(self, step: Callable[[Connection], None], connection: Connection) -> None:
        try:
            step(connection)
        except HttpError as error:
            connection.last = True
            self._begin_sending(connection, error.response())
        except Exception:  # a bug, triggered by one client; the port stays open for the others
            _logger.exception("a request to the HTTP port failed")
            self._drop(connection)

    def _go_on(self, connection: Connection) -> None:
        """Receive, or send the rest of the answer."""
        if connection.asked:  # what follows is read once this request is answered
            self._selector.unregister(connection.socket)
            return
        try:
            if not connection.reading:
                self._send(connection)
                return
            received = connection.socket.recv(_PIECE if connection.head else LONGEST_HEAD)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            received = b""
        if not received:
            self._drop(connection)
        elif not connection.last:
            if connection.idle and not connection.received:
                connection.deadline = time.monotonic() + READ_SECONDS
            connection.received += received
            if len(connection.received) > _LARGE or connection.chunks is not None:
                self._check_memory()
            self._receive(connection)

    def _check_memory(self) -> None:
        if sum(connection.held for connection in self._connections.values()) > self._most_held:
            raise HttpError(503, "The requests under way take too much memory. Try again later.")

    def _receive(self, connection: Connection) -> None:
        """Answer the request once it is complete."""
        if connection.head is None:
            end = connection.received.find(END)
            if end > LONGEST_HEAD or (end < 0 and len(connection.received) >= LONGEST_HEAD):
                raise HttpError(431, f"The head of a request may have {LONGEST_HEAD} bytes.")
            if end < 0:
                return
            connection.head = parse_head(bytes(connection.received[:end]))
            del connection.received[: end + len(END)]
            connection.deadline = time.monotonic() + BODY_SECONDS
            connection.chunks = Chunks(self._api.most) if connection.head.length is None else None
            if not connection.complete():
                request = connection.request(b"")
                if self._api.early(request):
                    connection.last = True
                    self._ask(connection, request)
                    return
                if connection.head.waits:
                    with suppress(OSError):
                        connection.socket.send(_CONTINUE)
                return
        elif not connection.complete():
            return
        self._ask(connection, connection.request(connection.take_body()))

    def _ask(self, connection: Connection, request: RestRequest) -> None:
        """Answer at once if that does not block, else on a thread of the pool."""
        assert connection.head is not None
        connection.last |= not connection.head.keep_alive
        path = request.target.partition("?")[0]
        if self._api.aside(path) and path != "/metrics":
            self._begin_sending(connection, self._api.answer(request))
            return
        connection.asked, connection.deadline = True, math.inf
        if path == "/metrics":
            connection.deadline = time.monotonic() + PAGE_SECONDS
            self._pages.put((connection, request))
        else:
            self._submit(self._answer, connection, request)

    def _answer(self, connection: Connection, request: RestRequest) -> None:
        self._answered.put((connection, self._api.answer(request)))
        self._notify()

    def _write_pages(self) -> None:
        while (asked := self._pages.get()) is not None:
            self._answer(*asked)

    def _deliver(self) -> None:
        """Send the answers that other threads have finished."""
        while not self._answered.empty():
            connection, response = self._answered.get()
            if self._connections.get(connection.descriptor) is connection:  # else it timed out
                if connection.descriptor not in self._selector.get_map():
                    self._selector.register(connection.socket, selectors.EVENT_READ)
                self._begin_sending(connection, response)

    def _begin_sending(self, connection: Connection, response: RestResponse) -> None:
        connection.unsent = memoryview(connection.write_response(response))
        connection.next_request()
        if connection.last:  # what follows is not read
            connection.received.clear()
        connection.deadline = time.monotonic() + WRITE_SECONDS
        if not connection.received:  # else the loop sends it, so that requests that came together do not recurse
            self._send(connection)
        if connection.unsent and connection.descriptor in self._connections:
            self._selector.modify(connection.socket, selectors.EVENT_WRITE)

    def _send(self, connection: Connection) -> None:
        try:
            connection.unsent = connection.unsent[connection.socket.send(connection.unsent) :]
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._drop(connection)
            return
        if connection.unsent:
            return
        connection.deadline = time.monotonic() + (FAREWELL_SECONDS if connection.last else IDLE_SECONDS)
        self._selector.modify(connection.socket, selectors.EVENT_READ)
        if connection.last:
            # Closing with unread input would reset the connection, and the client might never see the answer.
            with suppress(OSError):
                connection.socket.shutdown(socket.SHUT_WR)
        elif connection.received:  # a pipelined request
            connection.deadline = time.monotonic() + READ_SECONDS
            self._receive(connection)

    def _drop(self, connection: Connection) -> None:
        del self._connections[connection.descriptor]
        if connection.descriptor in self._selector.get_map():
            self._selector.unregister(connection.socket)
        connection.socket.close()


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
