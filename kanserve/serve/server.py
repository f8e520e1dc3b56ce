"""The server: one port with the inference protocol, the formula service, health and reflection.

Only wiring: what a call answers is a plain function of `inference` or `formulas`. A small pool of threads answers; what
has been accepted waits in a bounded queue, and beyond that is refused at once. A call that waits holds 64 KiB of its
message, the window of HTTP/2, and the rest stays with the client until a thread reads it: QUEUE calls hold 16 MiB, and
each thread or open stream a message, of MAX_MESSAGE_BYTES at most. Stopping drains: health says NOT_SERVING, what was
accepted is answered, what comes later is told UNAVAILABLE.
"""

import errno
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from threading import Event, Thread
from types import FrameType, TracebackType
from typing import Self

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckResponse
from grpc_reflection.v1alpha import reflection_pb2_grpc
from grpc_reflection.v1alpha.reflection import ReflectionServicer

from kanserve.errors import ConflictError, InputError, KanserveError
from kanserve.inference import wire
from kanserve.serve import models
from kanserve.serve.admission import Admission, limited
from kanserve.serve.answers import STREAMS, FormulaAnswers, InferenceAnswers
from kanserve.serve.models import Catalog, Path
from kanserve.serve.statistics import Statistics
from kanserve.serve.tensors import MAX_MESSAGE_BYTES
from kanserve.serve.workers import Workers, on_threads_of_its_own
from kanserve.v1 import formula_pb2_grpc

QUEUE = 256  # calls that wait for a thread; at a tenth of a millisecond each the last one waits 26 ms
REFLECTIONS = 16  # reflection streams that may be open; each holds a thread of its own
_ASIDE = 32  # calls that need no room in the queue: of health, and those that are being refused
GRACE = 25.0  # seconds in which a stopping server finishes what it has accepted; most who stop one wait for 30
_FAREWELL = 1.0  # seconds in which the last answers are sent, and idle streams hear that it is over

_OPTIONS = (
    ("grpc.so_reuseport", 0),  # otherwise a second server takes the same port and half of the calls
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_concurrent_streams", 2 * QUEUE),
    ("grpc.http2.bdp_probe", 0),  # otherwise the window grows, and a call that waits holds up to 15 MiB
)

_logger = logging.getLogger(__name__)


class Server:
    """A running server; `stop` drains it. Its `catalog` can be replaced at any time: calls under way keep theirs."""

    def __init__(
        self, catalog: Catalog, host: str = "127.0.0.1", port: int = 0, threads: int = 4, queue: int = QUEUE
    ) -> None:
        self.catalog = catalog
        self.statistics = Statistics()
        self.workers = Workers(threads)
        self._health = health.HealthServicer()
        check = on_threads_of_its_own(self._health.Check, 1)
        self._health.Check = check  # type: ignore[method-assign]  # grpc takes any callable
        self._server = grpc.server(
            self.workers,
            interceptors=[Admission(self.workers, threads + queue)],
            options=_OPTIONS,
            maximum_concurrent_rpcs=threads + queue + STREAMS + REFLECTIONS + _ASIDE,
        )
        wire.add_to_server(InferenceAnswers(self), self._server)
        formula_pb2_grpc.add_FormulaServiceServicer_to_server(FormulaAnswers(self), self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        _add_reflection(self._server)
        self.host = host
        self.port = _listen(self._server, host, port)
        for service in ("", *wire.SERVICE_NAMES):
            self._health.set(service, HealthCheckResponse.SERVING)
        self._server.start()

    @property
    def address(self) -> str:
        """What a client connects to."""
        return _address(self.host, self.port)

    def stop(self, grace: float = GRACE) -> bool:
        """Finish what was accepted and end; whether all of it was done within `grace` seconds."""
        self.workers.close()  # before health says so: who hears it must find it true
        self._health.enter_graceful_shutdown()
        done = self.workers.drain(grace)
        self._server.stop(_FAREWELL).wait()
        self.workers.shutdown(wait=done)
        return done

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


def start(
    repository: Path, host: str = "127.0.0.1", port: int = 8001, threads: int = 4, backend: str | None = None
) -> Server:
    """Load every model of a repository and serve them on a port (0: a free one), until `stop`.

    NotFoundError without a repository, ConflictError when the port is in use, InputError for a host that is not ours.
    """
    _check_free(host, port)  # to say so before a large repository is loaded
    return Server(models.load(repository, backend=backend), host, port, threads)


def run(
    repository: Path, host: str = "127.0.0.1", port: int = 8001, threads: int = 4, backend: str | None = None
) -> None:
    """Serve until SIGTERM or SIGINT, then drain and return; SIGHUP looks for new versions. A second signal kills.

    Says on standard error what is served, once it is, and what cannot be.
    """
    _check_free(host, port)
    events: SimpleQueue[Came] = SimpleQueue()
    with _loader(events, repository, backend) as load:
        with _signals(events, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            server = _serve_until_told(events, load, host, port, threads)
        if server is not None and not server.stop():
            _say(f"some calls took longer than {GRACE:g} seconds and were cut off")


Came = int | Catalog | Exception  # a signal, or what came of loading
Load = Callable[[Catalog | None], None]  # puts what comes of it among what came


def _serve_until_told(events: SimpleQueue[Came], load: Load, host: str, port: int, threads: int) -> Server | None:
    """The server when it is told to end; None when it was before there was one."""
    server: Server | None = None
    loading, again = True, False
    load(None)
    while True:
        match events.get():
            case signal.SIGHUP:
                again = True
            case int():
                return server
            case Catalog() as catalog:
                loading = False
                if server is None:
                    server = Server(catalog, host, port, threads)
                server.catalog = catalog
                _announce(server)
            case KanserveError() | OSError() as error if server is not None:
                loading = False
                _say(f"the repository cannot be read, nothing changed: {error}")
            case error:
                raise error
        if again and not loading:
            loading, again = True, False
            load(server.catalog if server is not None else None)


@contextmanager
def _loader(events: SimpleQueue[Came], repository: Path, backend: str | None) -> Iterator[Load]:
    """Loading on a thread, so that signals are heard meanwhile; at the end what is not loaded yet is given up."""
    given_up = Event()
    threads: list[Thread] = []

    def load(previous: Catalog | None) -> None:
        try:
            events.put(models.load(repository, backend=backend, previous=previous, given_up=given_up))
        except Exception as error:
            events.put(error)

    def start(previous: Catalog | None) -> None:
        threads[:] = [Thread(target=load, args=(previous,), daemon=True)]
        threads[0].start()

    try:
        yield start
    finally:
        given_up.set()
        for one in threads:
            one.join(_FAREWELL)  # an interpreter should not end under a thread that is in a C++ library


@contextmanager
def _signals(came: SimpleQueue[Came], *numbers: signal.Signals) -> Iterator[None]:
    """The signals that come go into a queue; at the end they do again what they did before."""

    def put(number: int, frame: FrameType | None) -> None:
        came.put(number)  # the one queue that a signal handler may put into

    before = {number: signal.signal(number, put) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _announce(server: Server) -> None:
    for (name, version), reason in sorted(server.catalog.reasons.items()):
        _say(f"version {version} of {name!r} is not served: {reason}")
    _say(f"serving {len(server.catalog.models)} models on {server.address}")


def _say(text: str) -> None:
    print(f"kanserve: {text}", file=sys.stderr, flush=True)


def _add_reflection(server: grpc.Server) -> None:
    servicer = ReflectionServicer(wire.SERVICE_NAMES, wire.reflection_pool())
    stream = limited(servicer.ServerReflectionInfo, REFLECTIONS)
    servicer.ServerReflectionInfo = stream  # type: ignore[method-assign]  # grpc takes any callable
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, server)


def _listen(server: grpc.Server, host: str, port: int) -> int:
    _check_free(host, port)
    address = _address(host, port)
    try:
        bound = server.add_insecure_port(address)
    except RuntimeError:  # taken just now, or a host that only grpc cannot bind
        bound = 0
    if bound == 0:
        raise ConflictError(f"Cannot listen on {address}. Choose another port, or stop what listens there.")
    return bound


def _check_free(host: str, port: int) -> None:
    """ConflictError when the port is in use, InputError when it or the host is not to be had: grpc says neither."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, OverflowError, UnicodeError):
        raise InputError(f"The host {host!r:.80} has no address. Give one of this machine, as 127.0.0.1.") from None
    reasons = [_why_not(family, address) for family, _, _, _, address in found]
    if errno.EADDRINUSE in reasons:
        raise ConflictError(f"Port {port} of {host} is in use. Choose another port, or stop what listens there.")
    if 0 not in reasons:
        raise InputError(f"Cannot listen on port {port} of {host}: {errno.errorcode.get(reasons[0], 'unknown')}.")


def _why_not(family: int, address: object) -> int:
    """The errno that keeps an address from being bound, 0 when nothing does."""
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # As grpc does: an address whose last connections are still closing is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)  # type: ignore[arg-type]  # as getaddrinfo gave it
    except OSError as error:
        return error.errno or errno.EINVAL
    return 0


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
