"""The server: one port with the inference protocol, the formula service, health and reflection.

Only wiring: plain functions in `rpc.inference_service` and `rpc.formula_service` compute the answers, and `rpc.routes`
maps calls to them. Stopping drains: health is NOT_SERVING, clients are told to go, and accepted calls are answered.

    start(settings)               within this process, for a test or a notebook
    python -m kanserve.serve N    as a process of its own, or as several, until a signal ends it
"""

from functools import partial
from os import PathLike, fspath
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from kanserve.serve import sockets
from kanserve.serve.auth import grants as access
from kanserve.serve.models.catalog import Catalog
from kanserve.serve.models.loader import Models
from kanserve.serve.observability.metrics import Metrics
from kanserve.serve.rpc import routes as calls
from kanserve.serve.rpc.standard_services import Health
from kanserve.serve.scheduling.thread_pool import MAX_INFLIGHT_BYTES, ThreadPool
from kanserve.serve.settings import Settings
from kanserve.serve.state import Control, LocalControl, ServerState
from kanserve.serve.transport.grpcio import GrpcioTransport
from kanserve.serve.transport.native import NativeTransport
from kanserve.serve.transport.native_library import running
from kanserve.serve.transport.native_queue import NativeQueue, count_refusals, native_queue

if TYPE_CHECKING:
    from kanserve.serve.rest.http_server import Http
    from kanserve.serve.transport.native_http import NativeHttp

_FAREWELL = 1.0  # seconds in which the last answers are sent


class Transport(Protocol):
    """How calls reach the handlers of `rpc.routes`."""

    def listen(self) -> int: ...
    def start(self) -> None: ...
    def announce_end(self) -> None: ...
    def drain(self, grace: float) -> bool: ...
    def hang_up(self, seconds: float, last: bool) -> None: ...
    def close(self) -> None: ...


class ServingRuntime:
    """The thread pool and the metrics, created before the models so that their loading is counted. Raises InputError if
    the settings require the native transport and it was not built."""

    def __init__(self, settings: Settings, worker: int = 0, spare: int | None = None) -> None:
        held = max(MAX_INFLIGHT_BYTES, 4 * settings.max_message_bytes)
        self.queue = native_queue(settings, held)
        self.threads = ThreadPool(settings.threads, spare, held, self.queue)
        self.meters = Metrics(worker)
        self.meters.computing = self.threads.requests_computing
        if self.queue is not None:
            count_refusals(self.queue, self.meters)


class Server:
    """A running server; `stop` drains it. `shared`: other processes listen on the same port. Raises ConflictError if
    the port is in use, InputError for another machine's host or unusable TLS files."""

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
        self.models = models or load_models(settings, counted)
        counted.meters.gauges = partial(_gauges, counted.threads, self.models, *filter(None, [counted.queue]))
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
        self._health = Health()
        handlers = calls.Handlers(self.state, self._health)
        self._transport: Transport
        if counted.queue is not None:
            self._transport = NativeTransport(counted.queue, self.state, counted.meters, handlers, shared)
        else:
            self._transport = GrpcioTransport(self.state, handlers, shared)
        self._http: Http | NativeHttp | None = None
        self._listens = False
        try:
            if settings.http_port >= 0:  # first, since grpc cannot release a port before the server has started
                from kanserve.serve.rest.api import RestApi

                api = RestApi(self.state, handlers, self._takes_calls)
                if isinstance(self._transport, NativeTransport):
                    self._http = self._transport.serve_http(api)
                if self._http is None:
                    from kanserve.serve.rest import http_server

                    self._http = http_server.serve(settings, api, self.state.threads.submit, reuse_port=shared)
            self.host, self.port = settings.host, self._transport.listen()
            self._transport.start()
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
        """The address that clients connect to."""
        if self.settings.unix_socket:
            return f"unix:{self.settings.unix_socket}"
        return sockets.address(self.host, self.port)

    @property
    def http_address(self) -> str:
        """The address of REST, metrics and health; "" without an HTTP port."""
        return sockets.address(self.settings.host_of_http(), self._http.port) if self._http is not None else ""

    @property
    def urls(self) -> dict[str, str]:
        """The services of the HTTP port with their URLs; empty without an HTTP port."""
        if self._http is None:
            return {}
        metrics = {"metrics": f"http://{self.http_address}/metrics"}  # with TLS too, for Prometheus
        if not self.settings.tls_certificate:
            return {"REST": f"http://{self.http_address}/v2"} | metrics
        return ({"REST": f"https://{self.http_address}/v2"} if self._http.takes_tls else {}) | metrics

    @property
    def transport(self) -> str:
        """The transport that serves, and what is missing if it is grpcio: see `native_library.running`."""
        return running(self.settings.transport, rest=self._http is not None)

    def turns(self) -> int | None:
        """How many times the native transport's loop has run; None for grpcio, which has none."""
        return self._transport.turns() if isinstance(self._transport, NativeTransport) else None

    @property
    def stuck(self) -> bool:
        """Whether it could not be stopped, because a model computes without end: only ending the process helps."""
        return isinstance(self._transport, NativeTransport) and self._transport.stuck

    def reopen(self) -> None:
        """Reopen log files after a rotation."""
        for observer in self._observers:
            if hasattr(observer, "reopen"):
                observer.reopen()

    def stop(self, grace: float | None = None, *, last: bool = False) -> bool:
        """Finish accepted calls and stop. Returns whether all ended in `grace` seconds. `last`: the process ends."""
        self._transport.announce_end()  # before health changes, so that what it reports is true
        self._health.stop()
        done = self._transport.drain(self.settings.grace_seconds if grace is None else grace)
        self._transport.hang_up(_FAREWELL, last)
        self.state.threads.shutdown(wait=done)
        self._close()
        return done

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def _close(self) -> None:
        self._transport.close()
        self.models.close()
        if self._http is not None:
            self._http.close()
        for observer in self._observers:
            observer.close()

    def _takes_calls(self) -> bool:
        return self._listens and self.state.threads.ready


def load_models(settings: Settings, counted: ServingRuntime) -> Models:
    """Load the models of the settings; returns once all that can be loaded are."""
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
    """Load every model of a repository and serve them on a port (0: a free one) until `stop`; or as the Settings say.
    Raises NotFoundError without a repository, ConflictError if the port is in use, InputError for another machine's
    host."""
    settings = settings_of(repository, host, port, threads, backend)
    check_free(settings)  # to fail before a large repository is loaded
    return Server(settings)


def check_free(settings: Settings) -> None:
    """Raise ConflictError or InputError if the server could not listen."""
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
    """The observers of finished calls: the access log, and traces."""
    observers: list[Any] = []
    if settings.access_log:
        from kanserve.serve.observability import logs

        observers.append(logs.access_log(settings))
    if settings.traces:
        from kanserve.serve.observability import tracing

        observers.append(tracing.traces(settings))
    return tuple(observers)


def _gauges(*parts: ThreadPool | Models | NativeQueue) -> dict[str, float]:
    return {name: value for part in parts for name, value in part.gauges().items()}
