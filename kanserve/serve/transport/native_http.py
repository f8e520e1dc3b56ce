"""The HTTP port of the native transport: requests that its loop does not answer itself go to `rest`."""

import logging
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from kanserve.errors import ConflictError
from kanserve.serve import sockets
from kanserve.serve.request import GoneError
from kanserve.serve.rest.api import RestApi
from kanserve.serve.rest.messages import RestRequest, RestResponse
from kanserve.serve.state import ServerState
from kanserve.serve.transport import native_library as native
from kanserve.serve.transport.native_queue import http_paths
from kanserve.serve.transport.native_request import NativeRequest, message_bytes

_ASIDE = 20  # health and metrics that are answered at once; as many loads and unloads

_logger = logging.getLogger(__name__)


class NativeHttp:
    """Answers the HTTP requests that the loop hands out."""

    takes_tls = True

    def __init__(self, library: Any, state: ServerState, api: RestApi, watched: dict[int, NativeRequest]) -> None:
        self._library, self._state, self._api, self._watched = library, state, api, watched
        self._aside = ThreadPoolExecutor(_ASIDE, thread_name_prefix="kanserve-http")
        self._changes = ThreadPoolExecutor(_ASIDE, thread_name_prefix="kanserve-http-change")  # which may wait for long
        self.port = 0

    def listen(self, server: int, shared: bool) -> None:
        """Bind the port. Raises ConflictError and InputError like `sockets.check_free`."""
        settings = self._state.settings
        host, self.port = settings.host_of_http(), settings.http_port
        try:
            if not shared:
                sockets.check_free(host, self.port)
            listeners = sockets.bind(host, self.port, shared)
        except ConflictError:
            raise ConflictError(f"Port {self.port} of {host} is in use. Choose another HTTP port.") from None
        for listener in listeners:
            self.port = self.port or listener.getsockname()[1]
            listener.listen(socket.SOMAXCONN)
            listener.setblocking(False)
            self._library.listen_http(server, listener.detach(), http_paths(settings))

    def request(self, event: native.Event) -> tuple[RestRequest, NativeRequest, bool]:
        """The arguments of `answer`: a request, its call, and whether its body is still arriving."""
        call = NativeRequest(self._library, event, self._watched)
        line: dict[str, str] = {}
        headers: list[tuple[str, str]] = []
        for name, value in call.pairs():
            if name.startswith(":"):
                line[name] = value
            else:
                headers.append((name, value))
        request = RestRequest(
            method=line[":method"],
            target=line[":target"],
            headers=headers,
            body=message_bytes(event.message or 0, event.length),
            peer=call.peer,
            secure=line[":secure"] == "1",
            alive=call.alive,
            identity=call.identity,
            arrived=event.arrived,
        )
        return request, call, event.kind == native.EVENT_HTTP_EARLY

    def answer(self, request: RestRequest, call: NativeRequest, early: bool) -> None:
        try:
            if early and not self._api.early(request):
                request = replace(request, body=next(call.received(), b""))
            response = self._api.answer(request)
        except GoneError:  # the caller has left
            response = RestResponse(499, [], b"")
        except BaseException:
            _logger.exception("a request could not be answered")
            response = RestResponse(500, [], b"")
        call.respond(response.status, response.headers, response.body)

    def answer_aside(self, event: native.Event) -> None:
        """Answer on a thread outside the pool."""
        request, call, early = self.request(event)
        threads = self._aside if self._api.aside(request.target) else self._changes
        threads.submit(self.answer, request, call, early)

    def close(self) -> None:
        """End the threads, after the loop has ended."""
        self._aside.shutdown(wait=False)
        self._changes.shutdown(wait=False)
