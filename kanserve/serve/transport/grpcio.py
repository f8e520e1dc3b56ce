"""grpcio as the transport: its threads accept connections and read calls, and the server's thread pool answers them.

Every call is registered as one that takes a stream, and none has a parser or a serializer: grpc would wait without a
timeout for a single message, and would report errors of parsing in a way that a client should not see.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, cast

import grpc

from kanserve.errors import ConflictError, InputError
from kanserve.serve import sockets
from kanserve.serve.auth import tls
from kanserve.serve.request import GoneError, Pairs, Request
from kanserve.serve.rpc import routes
from kanserve.serve.rpc.pipeline import Handler
from kanserve.serve.scheduling.thread_pool import ThreadPool
from kanserve.serve.settings import Settings
from kanserve.serve.state import ServerState
from kanserve.serve.status import AbortedError

_FAREWELL = 1.0  # seconds in which idle streams are closed
_LOOK = 0.005  # seconds between checks for unsent answers
_HANDSHAKE_SECONDS = 10.0
_PING_SECONDS = 10.0  # a client that sends keepalive pings more often is disconnected
_PING_ANSWER_SECONDS = 20.0
_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


class GrpcioTransport:
    """Listens, and answers calls with the handlers of `routes`. Raises what `sockets.listen` does."""

    def __init__(self, state: ServerState, handlers: routes.Handlers, shared: bool) -> None:
        self._settings, self._shared = state.settings, shared
        self._threads: ThreadPool = state.threads
        self._port = 0
        self._server = grpc.server(
            cast(Any, state.threads),  # grpc only calls its `submit`, but its stubs demand a ThreadPoolExecutor
            options=_options(state.settings, shared),
            maximum_concurrent_rpcs=routes.most_calls(state.settings),
        )
        self._server.add_generic_rpc_handlers((_Handlers(handlers),))

    def listen(self) -> int:
        """Bind the port, or the socket file, of the settings. Returns the port."""
        settings, secrets = self._settings, credentials(self._settings)
        if settings.unix_socket:
            _listen_on_file(self._server, settings.unix_socket, secrets)
        else:
            if not self._shared:
                sockets.check_free(settings.host, settings.port)
            self._port = _listen(self._server, settings.host, settings.port, secrets)
        return self._port

    def start(self) -> None:
        self._server.start()

    def announce_end(self) -> None:
        """Refuse new work: grpc can send its clients elsewhere only when it ends."""
        self._threads.close()

    def drain(self, grace: float) -> bool:
        """Refuse new work, and wait for accepted calls. Returns whether they ended in time."""
        return self._threads.drain(grace)

    def hang_up(self, seconds: float, last: bool) -> None:
        """Send pending data, and end the connections. With `last`, the process ends next and that closes the port: when
        a connection breaks, new calls get UNAVAILABLE and clients try another server, while grpc's close would give
        CANCELLED."""
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
        """Nothing is left to close after `hang_up`."""

    def _open_calls(self) -> set[Any]:
        """Calls whose answer is not fully sent, from grpc's private state, since there is no public API."""
        return set(getattr(getattr(self._server, "_state", None), "rpc_states", ()))


class _Request(Request):
    """A call of grpc."""

    def __init__(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> None:
        self._context = context
        self.messages = _messages(requests)

    @property
    def metadata(self) -> Pairs:  # type: ignore[override]  # it does not change either
        return cast(Pairs, self._context.invocation_metadata() or ())

    @property
    def peer(self) -> str:
        return self._context.peer()

    @property
    def identity(self) -> Mapping[str, Any]:
        return self._context.auth_context()

    def alive(self) -> bool:
        return self._context.is_active()

    def time_left(self) -> float | None:
        return self._context.time_remaining()

    def cancel(self) -> None:
        self._context.cancel()  # type: ignore[no-untyped-call]  # of the stubs

    def when_left(self, callback: Callable[[], None]) -> bool:
        return self._context.add_callback(callback)


def _messages(requests: Iterator[bytes]) -> Iterator[bytes]:
    try:
        yield from requests
    except grpc.RpcError as error:
        raise GoneError from error


class _Handlers(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic only in its stubs
    """The handlers in the form that grpc takes."""

    def __init__(self, handlers: routes.Handlers) -> None:
        self._handlers = handlers
        self._made: dict[Handler, Any] = {}

    def service(self, handler_call_details: Any) -> Any:
        handler = self._handlers.find(handler_call_details.method, handler_call_details.invocation_metadata)
        return None if handler is None else self._made.get(handler) or self._made.setdefault(handler, _wrap(handler))


def _wrap(handler: Handler) -> Any:
    def unary(requests: Iterator[bytes], context: grpc.ServicerContext, *more: Any) -> Any:
        try:
            return handler.answer(_Request(requests, context), *more)
        except AbortedError as error:
            failed = error
        except GoneError as error:
            raise cast(grpc.RpcError, error.__cause__) from None  # which grpc knows
        _abort(context, failed)

    def stream(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        try:
            yield from handler.answer(_Request(requests, context))
        except AbortedError as error:
            failed = error
        except GoneError as error:
            raise cast(grpc.RpcError, error.__cause__) from None
        else:
            return
        _abort(context, failed)

    answer: Any = stream if handler.streams and not handler.held else unary
    # grpc looks for these.
    if handler.held:
        answer.experimental_non_blocking = True
    if handler.threads is not None:
        answer.experimental_thread_pool = handler.threads
    make: Callable[..., Any] = (
        grpc.stream_stream_rpc_method_handler if handler.streams else grpc.stream_unary_rpc_method_handler
    )
    return make(answer)


def _abort(context: grpc.ServicerContext, error: AbortedError) -> None:
    context.set_trailing_metadata(error.failure.metadata)
    context.abort(_CODES[error.failure.code], error.failure.text)


def credentials(settings: Settings) -> grpc.ServerCredentials | None:
    """The credentials of a secure port; None without TLS. Raises InputError if the files cannot be used."""
    files = tls.files(settings)
    if files is None:
        return None

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        made = files.read_changed()
        return None if made is None else _configuration(made)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(files.current),
        fetch,  # type: ignore[arg-type]  # None means unchanged, which the stubs do not allow
        bool(settings.tls_client_ca),
    )


def _configuration(pem: tls.Pem) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(pem.key, pem.chain)], pem.authorities)


def _listen(server: grpc.Server, host: str, port: int, secrets: grpc.ServerCredentials | None) -> int:
    """Bind a server to a port, and return the port. Raises ConflictError."""
    where = sockets.address(host, port)
    try:
        bound = _add(server, where, secrets)
    except RuntimeError:  # taken in the meantime, or a host that grpc cannot bind
        bound = 0
    if bound == 0:
        raise ConflictError(f"Cannot listen on {where}. Choose another port, or stop what listens there.")
    return bound


def _listen_on_file(server: grpc.Server, path: str, secrets: grpc.ServerCredentials | None) -> None:
    """Bind a server to a socket file that only this user may open. Raises ConflictError or InputError."""
    sockets.check_file(path)
    mask = os.umask(0o177)  # a chmod afterwards would leave it open to others for a moment
    try:
        _add(server, f"unix:{path}", secrets)
    except RuntimeError:
        raise InputError(f"Cannot listen on the socket file {path!r}. Give a path in a folder of yours.") from None
    finally:
        os.umask(mask)


def _add(server: grpc.Server, where: str, secrets: grpc.ServerCredentials | None) -> int:
    return server.add_insecure_port(where) if secrets is None else server.add_secure_port(where, secrets)


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
