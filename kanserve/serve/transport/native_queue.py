"""The work queue of the native transport, and the calls that its loop answers itself."""

import ctypes
import resource
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from kanserve.errors import InputError
from kanserve.serve.auth.grants import anonymous_roles
from kanserve.serve.methods import BY_PATH, HEALTH, METHODS, Method, Turn
from kanserve.serve.observability.metrics import BOUNDS, Metrics
from kanserve.serve.rpc import routes
from kanserve.serve.scheduling.thread_pool import PATIENCE, Job
from kanserve.serve.settings import Settings
from kanserve.serve.transport import native_library as native

INLINE_BUDGET = 200_000  # nanoseconds that a request may compute on the loop's thread
GREETING_SECONDS = 10.0  # until TLS is agreed on and the client's first frame is there
WRITE_SECONDS = 60.0  # in which a client must take some of what it is sent
PING_ANSWER_SECONDS = 20.0
LINGER_SECONDS = 1.0  # in which a connection that the server closes is still read, so that the client gets the reason
# The calls that the loop answers, in the order of the library's numbers.
ANSWERED = tuple(sorted((method for method in METHODS if method.native), key=lambda method: method.native))
INFER = ANSWERED[0]

KEPT_DESCRIPTORS = 48  # of the process: for its files, libraries, listeners and reloads
FEWEST = 8  # connections


class NativeQueue:
    """The queue from which the thread pool takes its work: calls handed over by the loop, and Python jobs."""

    def __init__(self, library: Any, settings: Settings, held: int) -> None:
        self.library = library
        self.paths = tuple(BY_PATH)
        config = native.Config(
            max_message=settings.max_message_bytes,
            max_held=held,
            inline_budget=INLINE_BUDGET,
            keepalive=round(settings.keepalive_seconds * 1e9),
            greeting_time=round(GREETING_SECONDS * 1e9),
            write_time=round(WRITE_SECONDS * 1e9),
            ping_time=round(PING_ANSWER_SECONDS * 1e9),
            linger_time=round(LINGER_SECONDS * 1e9),
            max_streams=max(routes.STREAMS, 2 * settings.queue),
            max_metadata=routes.METADATA_BYTES,
            queue=settings.queue,
            hand_out_rows=1,
            max_connections=most_connections(settings.max_connections),
            route_header=settings.route_header.encode() or None,
            bounds=(ctypes.c_int64 * len(BOUNDS))(*BOUNDS),
        )
        names = (ctypes.c_char_p * len(self.paths))(*(path.encode() for path in self.paths))
        paths = (native.Path * len(self.paths))(*(_path(method, settings) for method in METHODS))
        self.early = [path.kind == native.PATH_STREAM for path in paths]
        self.server = library.new(ctypes.byref(config), names, paths, len(paths))
        if not self.server:
            raise MemoryError
        self.dispatch: Callable[[native.Event], Job | None] = _drop
        self._posted: SimpleQueue[Job | None] = SimpleQueue()
        self._here = threading.local()

    def get(self) -> Job | None:
        """Wait for the next job; None tells the thread to end."""
        try:
            event, reference = self._here.event
        except AttributeError:
            event = native.Event()
            reference = ctypes.byref(event)
            self._here.event = event, reference
        while True:
            kind = self.library.next(self.server, native.QUEUE_MAIN, reference)
            if kind == native.EVENT_POSTED:
                return self._posted.get()
            if kind == native.EVENT_END:
                return None
            try:
                job = self.dispatch(event)
            finally:
                self.library.taken(self.server)
            if job is not None:
                return job

    def put(self, job: Job | None) -> None:
        self._posted.put(job)
        self.library.post(self.server)

    def qsize(self) -> int:
        return self._posted.qsize() + self.count_uncounted()

    def count_uncounted(self) -> int:
        """The calls that the thread pool has not counted yet."""
        return int(self.library.queued(self.server))

    def gauges(self) -> dict[str, float]:
        """Current values, keyed by metric name."""
        return {
            "connections": int(self.library.connections(self.server)),
            "connections_crowded_out_total": self._count_closed(native.CLOSED_CROWDED),
            "connections_flooding_total": self._count_closed(native.CLOSED_FLOODING),
            "connections_slow_total": self._count_closed(native.CLOSED_SLOW),
            "calls_without_memory_total": int(self.library.refused(self.server, native.REFUSED_MEMORY)),
        }

    def _count_closed(self, why: int) -> int:
        return int(self.library.closed(self.server, why))

    def computed(self) -> int:
        """When a model last computed on the loop's thread, as of `perf_counter_ns`."""
        return int(self.library.computed(self.server))


def most_connections(wanted: int) -> int:
    """The connections that the process has descriptors for, at most `wanted`; some descriptors are left for files."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return wanted if most == resource.RLIM_INFINITY else max(FEWEST, min(wanted, most - KEPT_DESCRIPTORS))


def native_queue(settings: Settings, held: int) -> NativeQueue | None:
    """The queue of the native transport, or None if grpcio serves. Raises InputError if required but not built."""
    if reason := native.why_not_native(settings.transport):
        if settings.transport == "native":
            raise InputError(
                f"--transport native is not possible here: {reason}. Or serve with grpcio, by --transport auto."
            )
        return None
    return NativeQueue(native.library(), settings, held)


def http_paths(settings: Settings) -> Any:
    """How the loop treats HTTP/1.1 requests: those that compute, and those answered while all threads compute."""
    early = bool(settings.access or settings.tls_certificate)  # some are refused before their body comes
    kind = native.PATH_STREAM if early else native.PATH_UNARY
    infers = INFER.native if is_open(INFER, settings) else 0
    return (native.Path * 2)(
        native.Path(native.PATH_STREAM if settings.access else native.PATH_UNARY, infers, 1, 0, PATIENCE),
        native.Path(kind, 0, 0, 1, PATIENCE),
    )


def count_refusals(queue: NativeQueue, meters: Metrics) -> None:
    """Report the calls that the loop refuses as metrics."""
    meters.refusals = lambda: {
        code: sum(int(queue.library.refused(queue.server, why)) for why in reasons)
        for code, *reasons in (
            ("RESOURCE_EXHAUSTED", native.REFUSED_QUEUE, native.REFUSED_MEMORY),
            ("UNAVAILABLE", native.REFUSED_DRAINING),
            ("DEADLINE_EXCEEDED", native.REFUSED_DEADLINE),
        )
    }


def is_open(method: Method, settings: Settings) -> bool:
    """Whether anybody may make this call without Python having to see it: no grants, no log, no traces."""
    watched = settings.access or settings.access_log or settings.traces
    return not watched and not {*method.roles}.isdisjoint(anonymous_roles(settings))


def _path(method: Method, settings: Settings) -> native.Path:
    """The record that tells the event loop how to handle a call. With grants, all but public calls are handed over
    before their message arrives, so that nothing is received from callers without access."""
    return native.Path(
        kind=native.PATH_STREAM if method.reads_stream or (settings.access and method.roles) else native.PATH_UNARY,
        answers=method.native if is_open(method, settings) else 0,
        refusable=method.turn not in (Turn.CHANGES, Turn.STANDARD),
        aside=method.streams or method.turn is Turn.CHANGES or method.service == HEALTH,
        patience=method.patience,
    )


def _drop(event: native.Event) -> Job | None:
    raise AssertionError("a call came before the server had started")
