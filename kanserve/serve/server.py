"""The server: one port with the inference protocol, the formula service, health and reflection.

Only wiring: plain functions in `rpc.inference_service` and `rpc.formula_service` compute the answers, and `rpc.routes`
maps calls to them. Stopping drains: health is NOT_SERVING, accepted calls are answered, later ones get UNAVAILABLE.

    start(settings)    within this process, for a test or a notebook
    processes.launch.run(settings)      as a process of its own, or as several, until a signal ends it
"""

import os
import time
from contextlib import suppress
from functools import partial
from os import PathLike, fspath
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

import grpc
from grpc_health.v1.health import HealthServicer

from kanserve.serve import sockets
from kanserve.serve.auth import grants as access
from kanserve.serve.auth import tls
from kanserve.serve.models.catalog import Catalog
from kanserve.serve.models.loader import Models
from kanserve.serve.observability.metrics import Metrics
from kanserve.serve.rpc import routes as calls
from kanserve.serve.scheduling.thread_pool import MAX_INFLIGHT_BYTES, ThreadPool
from kanserve.serve.settings import Settings
from kanserve.serve.state import Control, LocalControl, ServerState

if TYPE_CHECKING:
    from kanserve.serve.observability.http_server import Http

_FAREWELL = 1.0  # seconds in which the last answers are sent and idle streams are closed
_LOOK = 0.005  # seconds between checks for unsent answers
_STREAMS = 512  # least concurrent calls per connection; more would wait in the client, where they are never refused
_HANDSHAKE_SECONDS = 10.0
_PING_SECONDS = 10.0  # a client that sends keepalive pings more often is disconnected
_PING_ANSWER_SECONDS = 20.0


class ServingRuntime:
    """The thread pool and the metrics. They are created before the models, whose loading is counted too."""

    def __init__(self, settings: Settings, worker: int = 0) -> None:
        self.threads = ThreadPool(settings.threads, held=max(MAX_INFLIGHT_BYTES, 4 * settings.max_message_bytes))
        self.meters = Metrics(worker)
        self.meters.computing = self.threads.requests_computing


class Server:
    """A running server of loaded models; `stop` drains it.

    ConflictError when the port is in use, InputError for a host of another machine or unusable TLS files.
    `shared`: other processes listen on the same port.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        models: Models | None = None,
        control: Control | None = None,
        counted: ServingRuntime | None = None,
        shared: bool = False,
    ) -> None:
        self.settings = settings
        counted = counted or ServingRuntime(settings)
        self.models = models or loaded(settings, counted)
        counted.meters.gauges = partial(_gauges, counted.threads, self.models)
        self._observers = _observers(settings)
        self.state = ServerState(
            settings,
            self.models,
            control or LocalControl(self.models, counted.meters),
            counted.meters,
            access.table(settings),
            counted.threads,
            self._observers,
        )
        self._server = grpc.server(
            cast(Any, counted.threads),  # grpc only calls its `submit`, but its stubs demand a ThreadPoolExecutor
            options=_options(settings, shared),
            maximum_concurrent_rpcs=calls.most_calls(settings),
        )
        self._health = HealthServicer()
        self._server.add_generic_rpc_handlers(calls.handlers(self.state, self._health))
        self._http: Http | None = None
        self._listens = False
        try:
            if settings.http_port >= 0:  # first, since grpc cannot release a port before the server has started
                from kanserve.serve.observability import http_server

                self._http = http_server.serve(settings, self.state, self._takes_calls, reuse_port=shared)
            self.host, self.port = settings.host, self._listen(shared)
            self._server.start()
        except BaseException:
            counted.threads.shutdown(wait=False)
            self._close()
            raise
        self._listens = True

    @property
    def catalog(self) -> Catalog:
        return self.models.catalog

    @property
    def address(self) -> str:
        """What a client connects to."""
        if self.settings.unix_socket:
            return f"unix:{self.settings.unix_socket}"
        return sockets.address(self.host, self.port)

    @property
    def http_address(self) -> str:
        """The address of the metrics; empty without an HTTP port."""
        return sockets.address(self.settings.host_of_http(), self._http.port) if self._http is not None else ""

    def reopen(self) -> None:
        """Reopen log files after a rotation."""
        for observer in self._observers:
            if hasattr(observer, "reopen"):
                observer.reopen()

    def stop(self, grace: float | None = None, *, last: bool = False) -> bool:
        """Finish accepted calls and stop; whether all were finished within `grace` seconds.

        `last`: the process ends next, and its end closes the port. If grpc closed it, new calls would get CANCELLED;
        when the connection breaks, they get UNAVAILABLE, after which a client tries another server.
        """
        self.state.threads.close()  # before health changes, so that what it reports is true
        self._health.enter_graceful_shutdown()
        done: bool = self.state.threads.drain(self.settings.grace_seconds if grace is None else grace)
        self._hang_up(last)
        self.state.threads.shutdown(wait=done)
        self._close()
        return done

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def _close(self) -> None:
        self.models.close()
        if self._http is not None:
            self._http.close()
        for observer in self._observers:
            observer.close()

    def _hang_up(self, last: bool) -> None:
        """Send the last answers and end the connections."""
        unsent, deadline = self._open_calls(), time.monotonic() + _FAREWELL
        while unsent and time.monotonic() < deadline:
            time.sleep(_LOOK)
            unsent &= self._open_calls()
        sockets.hang_up(self.port, self.settings.unix_socket)
        if not last:
            stopped = self._server.stop(_FAREWELL)
            sockets.hang_up(self.port, self.settings.unix_socket)  # clients that reconnected at once
            stopped.wait()
        elif self.settings.unix_socket:
            with suppress(OSError):
                os.unlink(self.settings.unix_socket)

    def _open_calls(self) -> set[Any]:
        """Calls whose answer is not fully sent; from grpc's private state, since it has no public API for that."""
        return set(getattr(getattr(self._server, "_state", None), "rpc_states", ()))

    def _takes_calls(self) -> bool:
        return self._listens and not self.state.threads.draining

    def _listen(self, shared: bool) -> int:
        settings, credentials = self.settings, tls.credentials(self.settings)
        if settings.unix_socket:
            sockets.listen_on_file(self._server, settings.unix_socket, credentials)
            return 0
        if not shared:
            sockets.check_free(settings.host, settings.port)
        return sockets.listen(self._server, settings.host, settings.port, credentials)


def loaded(settings: Settings, counted: ServingRuntime) -> Models:
    """The models that the settings ask for; returns once all that can be loaded are."""
    models = Models(settings, counted.meters)
    models.subscribe(counted.meters.changed)
    models.refresh()
    return models


def start(
    repository: Settings | str | PathLike[str],
    host: str = "127.0.0.1",
    port: int = 8001,
    threads: int = Settings.threads,
    backend: str | None = None,
) -> Server:
    """Load every model of a repository and serve them on a port (0: a free one) until `stop`; or as Settings say.

    NotFoundError without a repository, ConflictError when the port is in use, InputError for a host of another machine.
    """
    settings = settings_of(repository, host, port, threads, backend)
    check_free(settings)  # to fail before a large repository is loaded
    return Server(settings)


def check_free(settings: Settings) -> None:
    """ConflictError or InputError if the server could not listen."""
    if settings.unix_socket:
        sockets.check_file(settings.unix_socket)
    else:
        sockets.check_free(settings.host, settings.port)


def settings_of(
    repository: Settings | str | PathLike[str], host: str, port: int, threads: int, backend: str | None
) -> Settings:
    if isinstance(repository, Settings):
        return repository
    return Settings(repository=fspath(repository), host=host, port=port, threads=threads, backend=backend or "")


def _observers(settings: Settings) -> tuple[Any, ...]:
    """The callbacks for ended calls: the access log, and traces."""
    observers: list[Any] = []
    if settings.access_log:
        from kanserve.serve.observability import logs

        observers.append(logs.access_log(settings))
    if settings.traces:
        from kanserve.serve.observability import tracing

        observers.append(tracing.traces(settings))
    return tuple(observers)


def _gauges(*parts: ThreadPool | Models) -> dict[str, float]:
    return {name: value for part in parts for name, value in part.gauges().items()}


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
        ("grpc.max_concurrent_streams", max(_STREAMS, 2 * settings.queue)),
        ("grpc.http2.bdp_probe", 0),  # otherwise the flow-control window grows, and a waiting call holds up to 15 MiB
        ("grpc.http2.max_ping_strikes", 2),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.max_metadata_size", calls.METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", calls.METADATA_BYTES),
        *((name, round(1000 * seconds)) for name, seconds in milliseconds.items()),
    ]
