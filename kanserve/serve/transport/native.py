"""The native transport: an event loop in C accepts connections, speaks HTTP/2 and answers inferences of C models.

All other calls are handed to the thread pool of the server, whose threads take them from the loop's queue as they take
other work, and the same handlers answer them as under grpcio. Rows of models that are not C, or that take longer than
`INLINE_BUDGET`, are handed over decoded.
"""

import ctypes
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from kanserve.errors import ConflictError, InputError, KanserveError
from kanserve.serve import sockets
from kanserve.serve.models.catalog import Model
from kanserve.serve.observability.metrics import Metrics
from kanserve.serve.request import GoneError
from kanserve.serve.rpc import routes
from kanserve.serve.rpc.inference_service import at_once
from kanserve.serve.rpc.pipeline import Handler, Pipeline
from kanserve.serve.scheduling.thread_pool import Job, ThreadPool
from kanserve.serve.settings import Settings
from kanserve.serve.state import ServerState
from kanserve.serve.status import AbortedError, Code
from kanserve.serve.transport import native_library as native
from kanserve.serve.transport.native_models import NativeModels, as_series
from kanserve.serve.transport.native_queue import ANSWERED, NativeQueue, is_open
from kanserve.serve.transport.native_request import NativeRequest, message_bytes
from kanserve.v1 import formula_pb2

if TYPE_CHECKING:
    from kanserve.serve.rest.api import RestApi
    from kanserve.serve.transport.native_http import NativeHttp

TOGETHER = 16  # requests of one model that are computed in one call
_SMALL = 2**16  # bytes of rows, which are copied: that takes less time than a view
_TYPES = (np.dtype("<f8"), np.dtype("<f4"))
_FORMULA = next(method for method in ANSWERED if method.name == "GetFormula")
_LOOK = 0.002  # seconds between checks for calls that are being taken from the queue

_logger = logging.getLogger(__name__)


SECONDS = 10.0  # between two looks, so that an attack fills no disk with lines
# By the names of the metrics, which count the same.
MEANINGS = {
    "connections_crowded_out_total": "connections that waited for their clients were closed: others needed the room",
    "connections_flooding_total": "connections were closed, since what they sent cost much and carried nothing",
    "connections_slow_total": "connections were closed, since nothing was asked, or nothing taken of what was sent",
    "calls_without_memory_total": "calls were refused, since those under way take all the memory that they may",
}


class GivingWay:
    """Watches the counts of `gauges` on a thread of its own, and logs increases."""

    def __init__(self, gauges: Callable[[], Mapping[str, float]], seconds: float = SECONDS) -> None:
        self._gauges, self._seconds = gauges, seconds
        self._before = dict.fromkeys(MEANINGS, 0.0)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="kanserve-giving-way", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """Look once more, and stop watching."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
        self.look()

    def look(self) -> None:
        """Log the increases since the last look."""
        now = self._gauges()
        for name, meaning in MEANINGS.items():
            more = now[name] - self._before[name]
            self._before[name] = now[name]
            if more > 0:
                _logger.warning("%d %s (kanserve_%s)", more, meaning, name)

    def _watch(self) -> None:
        while not self._over.wait(self._seconds):
            self.look()


class NativeTransport:
    """Listens, and answers calls with the handlers of `routes`. Raises what `sockets.listen` does."""

    def __init__(
        self, queue: NativeQueue, state: ServerState, meters: Metrics, handlers: routes.Handlers, shared: bool
    ) -> None:
        self._queue, self._library, self._server = queue, queue.library, queue.server
        self._state, self._meters, self._handlers, self._shared = state, meters, handlers, shared
        self._threads: ThreadPool = state.threads
        self._pipeline: Pipeline = handlers.pipeline
        self._models = NativeModels(self._library, self._server, state.settings)
        self._giving_way = GivingWay(queue.gauges)
        self.stuck = False
        self._watched: dict[int, NativeRequest] = {}
        self._unsubscribe: Callable[[], None] = lambda: None
        self._socket_file = ""
        self._http: NativeHttp | None = None
        self._here = threading.local()
        queue.dispatch = self._job

    def listen(self) -> int:
        """Bind the port, or the socket file, of the settings. Returns the port."""
        settings = self._state.settings
        self._use_tls(settings)
        if settings.unix_socket:
            self._hand_over(sockets.bind_file(settings.unix_socket))
            self._socket_file = settings.unix_socket
            return 0
        port = settings.port
        for listener in sockets.bind(settings.host, port, self._shared):
            port = port or listener.getsockname()[1]
            self._hand_over(listener)
        return port

    def serve_http(self, api: "RestApi") -> "NativeHttp | None":
        """Bind the HTTP port, to be served by the loop; None if the library was built without HTTP."""
        if not self._library.serves_http:
            return None
        from kanserve.serve.transport.native_http import NativeHttp

        self._http = NativeHttp(self._library, self._state, api, self._watched)
        self._http.listen(self._server, self._shared)
        return self._http

    def start(self) -> None:
        state = self._state
        if any(is_open(method, state.settings) for method in ANSWERED):
            self._meters.native = self._counts
            self._unsubscribe = state.table.subscribe(self._models.publish)
            self._models.publish(state.catalog)
        threading.Thread(target=self._work_aside, name="kanserve-aside", daemon=True).start()
        if self._library.start(self._server):
            raise ConflictError("The server's thread cannot be started.")
        self._giving_way.start()

    def turns(self) -> int:
        """How many times the loop has run. It keeps growing, unless a model never ends."""
        return int(self._library.turns(self._server))

    def announce_end(self) -> None:
        """Report not ready. Work is still accepted until `drain` has told the clients."""
        self._threads.ready = False

    def drain(self, grace: float) -> bool:
        """Send the clients elsewhere, refuse new work, and wait for accepted calls. Returns whether they ended."""
        until = time.monotonic() + grace
        self._library.drain(self._server, round(grace * 1e9))
        while True:
            done = self._threads.drain(max(0.0, until - time.monotonic()))
            if not done or self._threads.accepted == 0:
                return done
            if time.monotonic() >= until:  # a request came on a connection of HTTP/1.1 that was open before
                return False
            time.sleep(_LOOK)

    def hang_up(self, seconds: float, last: bool) -> None:
        """Send pending data, and end the connections."""
        self._library.hang_up(self._server, round(seconds * 1e9))

    def close(self) -> None:
        """End the loop, after the pool's threads have ended."""
        self._unsubscribe()
        self._models.end()
        self._giving_way.end()
        if self._library.stop(self._server):
            self.stuck = True
            _logger.error("a model computes without end on the loop's thread, which therefore does not end")
        if self._socket_file:
            with suppress(OSError):
                os.unlink(self._socket_file)

    def _use_tls(self, settings: Settings) -> None:
        certificate, key, authorities = settings.tls_certificate, settings.tls_key, settings.tls_client_ca
        if not (certificate or key or authorities):
            return
        from kanserve.serve.auth import tls

        tls.check(settings)  # with better texts than OpenSSL's
        error = ctypes.create_string_buffer(300)
        files = (os.fsencode(certificate), os.fsencode(key), os.fsencode(authorities) if authorities else None)
        if self._library.use_tls(self._server, native.tls_functions(), *files, error, len(error)):
            raise InputError(error.value.decode(errors="replace"))

    def _hand_over(self, listener: socket.socket) -> None:
        listener.listen(socket.SOMAXCONN)
        listener.setblocking(False)
        self._library.listen(self._server, listener.detach())

    def _job(self, event: native.Event) -> Job | None:
        """The job for an event of the main queue, counted by the thread pool; None if the event is handled already."""
        late = bool(event.late)
        if self._http is not None and event.kind in (native.EVENT_HTTP, native.EVENT_HTTP_EARLY):
            self._threads.accept(late)
            return Job(event.arrived, late, self._http.answer, self._http.request(event), {})
        if event.kind == native.EVENT_ROWS:
            self._threads.accept(late)
            return Job(event.arrived, late, self._predict, (event, self._models.find(event.model)), {})
        try:
            found = self._find_handler(event)
            if found is None:
                return None
            handler, _ = found
            if handler.threads is not None:  # a refusal
                handler.threads.submit(_answer, *found)
                return None
        except Exception:
            self._give_up(event)
            return None
        self._threads.accept(late)
        return Job(event.arrived, late, _answer, found, {})

    def _work_aside(self) -> None:
        """Start the calls of the other queue, which run on threads of their own."""
        event = native.Event()
        while self._library.next(self._server, native.QUEUE_ASIDE, ctypes.byref(event)) != native.EVENT_END:
            try:
                if event.kind == native.EVENT_GONE:
                    request = self._watched.pop(event.call)
                    self._library.release(event.call)
                    request.leave()
                elif self._http is not None and event.kind in (native.EVENT_HTTP, native.EVENT_HTTP_EARLY):
                    self._http.answer_aside(event)
                elif (found := self._find_handler(event)) is not None:
                    (found[0].threads or self._threads).submit(_answer, *found)
            except Exception:
                self._give_up(event)

    def _give_up(self, event: native.Event) -> None:
        _logger.exception("a call could not be begun")
        text = b"internal error"
        self._library.finish(event.call, Code.INTERNAL, text, len(text), b"", 0)

    def _find_handler(self, event: native.Event) -> tuple[Handler, NativeRequest] | None:
        """The handler of a call and its request. Without a handler, tells the caller and returns None."""
        request, path = NativeRequest(self._library, event, self._watched), self._queue.paths[event.path]
        handler = self._handlers.find(path, request.metadata)
        if handler is None:
            request.finish(Code.UNIMPLEMENTED, "Method not found!")
            return None
        if self._queue.early[event.path]:
            request.messages = request.received()
            return handler, request
        message = message_bytes(event.message or 0, event.length)
        request.messages = iter((message,))
        if path == _FORMULA.path and is_open(_FORMULA, self._state.settings):
            request.answered = partial(self._keep_formula, message)
        return handler, request

    def _keep_formula(self, message: bytes, answer: bytes) -> None:
        """Let the loop answer this GetFormula request itself from now on."""
        request, catalog = formula_pb2.GetFormulaRequest.FromString(message), self._state.catalog
        with suppress(KanserveError):
            if not request.formats:
                model = catalog.find(request.model_name, request.model_version)
                self._models.keep_formula(catalog, model, answer)

    def _predict(self, event: native.Event, model: Model | None) -> None:
        """Answer rows that the loop has decoded, together with waiting rows for the same model."""
        self._models.forget_replaced()
        # A call of onnxruntime costs about as much for sixteen rows as for one, and no row can hold up another: a graph
        # has no loops. NumPy modules are code, which may take long for one row.
        more: list[native.Event] = []
        if model is not None and model.kind == "onnx_graph" and event.cheap and not event.late:
            more = self._more_rows(event, model)
        if not more or not self._predict_together([event, *more], model):
            for waiting in (event, *more):
                self._predict_alone(waiting, model)
        for _ in more:
            self._library.taken(self._server)

    def _more_rows(self, event: native.Event, model: Model) -> list[native.Event]:
        most = min(TOGETHER, at_once(self._state.settings, model.name)) - 1
        try:
            more = self._here.more
        except AttributeError:
            more = self._here.more = (native.Event * (TOGETHER - 1))()
        found: list[native.Event] = more[: self._library.more_rows(self._server, ctypes.byref(event), more, most)]
        return found

    def _predict_together(self, events: list[native.Event], model: Model | None) -> bool:
        """Answer these requests together. Returns False if one is faulty, or they exceed the concurrency limit."""
        try:
            data = b"".join([ctypes.string_at(event.message, event.length) for event in events])
            rows = sum([event.rows for event in events])
            y, computed = self._pipeline.predict(model, data, _TYPES[events[0].single], rows, len(events))
        except BaseException:  # each alone gets its own error
            return False
        made, end, width = y.tobytes(), 0, y.nbytes // rows
        for event in events:
            begin, end = end, end + event.rows * width
            self._library.answer_rows(event.call, made[begin:end], end - begin, computed * event.rows // rows)
        return True

    def _predict_alone(self, event: native.Event, model: Model | None) -> None:
        library, call = self._library, event.call
        try:
            if event.length <= _SMALL:
                data: Any = ctypes.string_at(event.message, event.length)
            else:  # the call keeps them until it is answered
                data = (ctypes.c_char * event.length).from_address(event.message)
            y, computed = self._pipeline.predict(model, data, _TYPES[event.single], event.rows)
        except BaseException as error:
            request = NativeRequest(library, event, self._watched)
            request.fail(self._pipeline.record_failed_rows(error, model, event, request.metadata))
            return
        size = y.nbytes
        library.answer_rows(call, y.tobytes() if size <= _SMALL else y.ctypes.data, size, computed)

    def _counts(self) -> Iterator[tuple[tuple[str, str, str, int], dict[str, Any], Any]]:
        """What the loop has counted: call and version, series, and the rows outside each input's range, or None."""
        names = {key: 0 for key in self._state.catalog.contents}
        for key, counters, current in self._models.counts(names):
            outside = counters[native.COUNT_OUTSIDE :]
            for number, method in enumerate(ANSWERED):
                block = counters[number * native.COUNT_BLOCK : (number + 1) * native.COUNT_BLOCK]
                seen = outside if number == 0 and current and outside.any() else None
                yield (method.service, method.name, *key), as_series(block), seen


def _answer(handler: Handler, request: NativeRequest) -> None:
    """Answer a call, however its handler ends."""
    try:
        if handler.held:
            handler.answer(request, partial(_send, request))
        elif handler.streams:
            _stream(handler.answer(request), request)
            request.finish()
        else:
            request.answer(handler.answer(request))
    except AbortedError as error:
        request.fail(error.failure)
    except GoneError:
        request.finish(Code.CANCELLED)
    except BaseException:
        _logger.exception("a handler failed")
        request.finish(Code.UNKNOWN, "internal error")


def _send(request: NativeRequest, message: bytes | None) -> None:
    if message is None:
        request.finish()
    else:
        request.send(message)


def _stream(messages: Iterator[bytes], request: NativeRequest) -> None:
    with closing(messages):  # type: ignore[type-var]  # they are generators
        for message in messages:
            if not request.send(message):
                return
