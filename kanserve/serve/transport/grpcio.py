"""grpcio as the transport: its threads accept connections and read calls, and the server's thread pool answers them."""

import os
import time
from contextlib import suppress
from typing import Any, cast

import grpc

from kanserve.serve import sockets
from kanserve.serve.auth import tls
from kanserve.serve.rpc import routes
from kanserve.serve.scheduling.thread_pool import ThreadPool
from kanserve.serve.settings import Settings
from kanserve.serve.state import ServerState

_FAREWELL = 1.0  # seconds in which idle streams are closed
_LOOK = 0.005  # seconds between checks for unsent answers
_HANDSHAKE_SECONDS = 10.0
_PING_SECONDS = 10.0  # a client that sends keepalive pings more often is disconnected
_PING_ANSWER_SECONDS = 20.0


class GrpcioTransport:
    """Listens, and answers calls by the handlers of `routes`: ConflictError, InputError as `sockets.listen`."""

    def __init__(self, state: ServerState, handlers: routes.Handlers, shared: bool) -> None:
        self._settings, self._shared = state.settings, shared
        self._threads: ThreadPool = state.threads
        self._port = 0
        self._server = grpc.server(
            cast(Any, state.threads),  # grpc only calls its `submit`, but its stubs demand a ThreadPoolExecutor
            options=_options(state.settings, shared),
            maximum_concurrent_rpcs=routes.most_calls(state.settings),
        )
        self._server.add_generic_rpc_handlers((handlers,))

    def listen(self) -> int:
        """Bind the port, or the socket file, of the settings; returns the port."""
        settings, credentials = self._settings, tls.credentials(self._settings)
        if settings.unix_socket:
            sockets.listen_on_file(self._server, settings.unix_socket, credentials)
        else:
            if not self._shared:
                sockets.check_free(settings.host, settings.port)
            self._port = sockets.listen(self._server, settings.host, settings.port, credentials)
        return self._port

    def start(self) -> None:
        self._server.start()

    def announce_end(self) -> None:
        """Refuse new work: grpc can tell its clients to go elsewhere only when it ends."""
        self._threads.close()

    def drain(self, grace: float) -> bool:
        """Refuse new work, and wait for what was accepted; whether that ended in time."""
        return self._threads.drain(grace)

    def hang_up(self, seconds: float, last: bool) -> None:
        """Send what is to be sent, and end the connections.

        `last`: the process ends next, and its end closes the port. If grpc closed it, new calls would get CANCELLED;
        when the connection breaks, they get UNAVAILABLE, after which a client tries another server.
        """
        path = self._settings.unix_socket
        unsent, deadline = self._open_calls(), time.monotonic() + seconds
        while unsent and time.monotonic() < deadline:
            time.sleep(_LOOK)
            unsent &= self._open_calls()
        sockets.hang_up(self._port, path)
        if not last:
            stopped = self._server.stop(_FAREWELL)
            sockets.hang_up(self._port, path)  # clients that reconnected at once
            stopped.wait()
        elif path:
            with suppress(OSError):
                os.unlink(path)

    def close(self) -> None:
        """Nothing is left to end after `hang_up`."""

    def _open_calls(self) -> set[Any]:
        """Calls whose answer is not fully sent; from grpc's private state, since it has no public API for that."""
        return set(getattr(getattr(self._server, "_state", None), "rpc_states", ()))


def _options(settings: Settings, shared: bool) -> list[tuple[str, int]]:
    milliseconds = {
        "grpc.keepalive_time_ms": settings.keepalive_seconds,
        "grpc.keepalive_timeout_ms": _PING_ANSWER_SECONDS,
        "grpc.http2.min_ping_interval_without_data_ms": _PING_SECONDS,
        "grpc.server_handshake_timeout_ms": _HANDSHAKE_SECONDS,
    }
    return [
        ("grpc.so_reuseport", int(shared)),  # by default a second server could bind the port and get half of the calls
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        ("grpc.max_concurrent_streams", max(routes.STREAMS, 2 * settings.queue)),
        ("grpc.http2.bdp_probe", 0),  # otherwise the flow-control window grows, and a waiting call holds up to 15 MiB
        ("grpc.http2.max_ping_strikes", 2),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.max_metadata_size", routes.METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", routes.METADATA_BYTES),
        *((name, round(1000 * seconds)) for name, seconds in milliseconds.items()),
    ]
