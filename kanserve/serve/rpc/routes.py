"""All calls of the four services, in one table from path to grpc handler, and back-pressure: which calls are refused.

When the queue is full, calls of our two services are refused at once; so are inferences while every model is at its
concurrency limit. That happens before their messages are read, since under overload refusing is most of the work.
Health, reflection, loads and unloads are not refused, so that a busy server does not look dead.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from importlib import import_module
from threading import BoundedSemaphore
from typing import Any

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import HealthServicer
from grpc_health.v1.health_pb2 import HealthCheckResponse
from grpc_reflection.v1alpha import reflection_pb2_grpc
from grpc_reflection.v1alpha.reflection import ReflectionServicer

from kanserve.errors import BusyError, InputError, KanserveError
from kanserve.inference import wire
from kanserve.serve import status
from kanserve.serve.methods import FORMULA, INFERENCE, METHODS, Method, Turn
from kanserve.serve.rpc import inference_service
from kanserve.serve.rpc.message_limits import read
from kanserve.serve.rpc.pipeline import Behavior, Logic, Pipeline
from kanserve.serve.scheduling.executors import InlineExecutor, on_threads_of_its_own
from kanserve.serve.scheduling.receive_timeout import BRIEF
from kanserve.serve.settings import Settings
from kanserve.serve.state import Call, ServerState

REFLECTIONS = 16  # reflection streams that may be open; each holds a thread of its own
CHECKS = 32  # concurrent health checks: some may be of callers that never send their message
WATCHES = 256  # open health watches: they hold no thread, and grpc does not count them
STREAMS = 512  # least concurrent calls per connection; more would wait in the client, where they are never refused
METADATA_BYTES = 2**13  # of one call, and of its answer
# grpc limits a large text by itself; but HPACK can repeat one in a single byte, and each time we would get all of it.
_FEW = 8
_ASIDE = 32  # calls outside the queue: health checks, loads and unloads, and calls that are being refused

_MODULES = {INFERENCE: "kanserve.serve.rpc.inference_service", FORMULA: "kanserve.serve.rpc.formula_service"}

Handler = Any  # grpc.RpcMethodHandler, which is generic only in its stubs


def most_calls(settings: Settings) -> int:
    """The most open calls, for `grpc.server(maximum_concurrent_rpcs=)`."""
    return settings.threads + settings.queue + settings.streams + REFLECTIONS + _ASIDE


class Handlers(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic only in its stubs
    """Every call of every service."""

    def __init__(self, state: ServerState, health: HealthServicer) -> None:
        self._state, self._threads, self._most = state, state.threads, state.settings.threads + state.settings.queue
        pipeline = self.pipeline = Pipeline(state)
        ours = [method for method in METHODS if method.is_ours]
        theirs = [_health(health)]
        if state.settings.reflection:
            theirs.append(_reflection())
        self._handlers: dict[str, Handler] = {method.path: _handler(method, pipeline) for method in ours}
        for service in theirs:
            self._handlers |= {path: _checked(path, handler, state) for path, handler in service.items()}
        # Observers may block on a disk, so with observers refusals get a thread.
        refusing = ThreadPoolExecutor(1, thread_name_prefix="kanserve-refusal") if state.observers else InlineExecutor()
        busy = BusyError("The queue is full. Try again later.")
        full = BusyError("Every model is at its concurrency limit. Try again later.")
        large = InputError(f"A call may have {METADATA_BYTES} bytes of metadata, and this one has more.")

        def refusal(method: Method, error: KanserveError) -> Handler:
            return grpc.stream_unary_rpc_method_handler(
                on_threads_of_its_own(pipeline.refusal(method, error), refusing)
            )

        self._large = {method.path: refusal(method, large) for method in ours}
        self._refusals = {method.path: refusal(method, busy) for method in ours if method.turn is not Turn.CHANGES}
        self._full = {
            method.path: refusal(method, full)
            for method in ours
            if method.turn is Turn.PREDICTS and not method.reads_stream
        }

    def service(self, handler_call_details: Any) -> Handler | None:
        path, metadata = handler_call_details.method, handler_call_details.invocation_metadata
        if len(metadata) > _FEW and sum(len(key) + len(value) for key, value in metadata) > METADATA_BYTES:
            return self._large.get(path)
        if self._threads.accepted >= self._most and path in self._refusals:
            return self._refusals[path]
        if path in self._full and self._threads.refuse(self._state.catalog.models) and not self._threads.draining:
            return self._full[path]
        return self._handlers.get(path)


def _handler(method: Method, pipeline: Pipeline) -> Handler:
    """A handler of bytes, without parser or serializer; the behavior also receives a single message itself
    (`receive_timeout`)."""
    if method.turn is Turn.PREDICTS:
        behavior = pipeline.infer_stream(method) if method.reads_stream else pipeline.unary(method, pipeline.infer)
    elif method.turn is Turn.CHANGES:
        behavior = pipeline.change(method, _logic(method))
    elif method.streams:
        behavior = pipeline.stream(method, _logic(method))
    else:
        behavior = pipeline.unary(method, pipeline.work(method, _logic(method)))
    return _made(behavior, method.streams)


def _made(behavior: Behavior, streams: bool, **more: Any) -> Handler:
    make: Callable[..., Handler] = (
        grpc.stream_stream_rpc_method_handler if streams else grpc.stream_unary_rpc_method_handler
    )
    return make(behavior, **more)


@cache
def function(method: Method) -> Logic:
    """The function that answers a call; its module is imported with the first call, since most need few of them."""
    made: Logic = getattr(import_module(_MODULES[method.service]), method.function)
    return made


def _logic(method: Method) -> Logic:
    """What answers a call, within the concurrency limit of its model if it computes."""
    if method.turn is not Turn.COMPUTES:
        return lambda state, request, call: function(method)(state, request, call)

    def answer(state: ServerState, request: Any, call: Call) -> Any:
        logic, model = function(method), request.model_name
        if model not in state.catalog.models:
            return logic(state, request, call)
        most = inference_service.at_once(state.settings, model)
        with state.threads.computing(model, most, method.name) as aside:
            return logic(state, request, call) if aside is None else aside(logic, state, request, call)

    return answer


class _Captured:
    """Stands in for a server, to capture the handlers of a third-party servicer."""

    def __init__(self) -> None:
        self.handlers: dict[str, Handler] = {}

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """Ignored: the registered handlers are the same, with their names."""

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Handler]) -> None:
        self.handlers |= {f"/{service}/{name}": handler for name, handler in handlers.items()}


def _health(servicer: HealthServicer) -> dict[str, Handler]:
    check = on_threads_of_its_own(servicer.Check, CHECKS)
    servicer.Check = check  # type: ignore[method-assign]  # grpc takes any callable
    servicer.Watch = _bounded(servicer.Watch, WATCHES)  # type: ignore[method-assign]
    for service in ("", *wire.SERVICE_NAMES):
        servicer.set(service, HealthCheckResponse.SERVING)
    captured: Any = _Captured()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, captured)
    return dict(captured.handlers)


def _bounded(watch: Any, most: int) -> Any:
    """Health's Watch, which returns at once and stays open until the caller leaves; BusyError beyond `most`."""
    free = BoundedSemaphore(most)

    def answer(request: Any, context: grpc.ServicerContext, send: Callable[[Any], None]) -> None:
        if not free.acquire(blocking=False):
            raise BusyError(f"{most} health watches are open. Try again later.")
        if not context.add_callback(free.release):  # the caller has left already
            free.release()
        watch(request, context, send)

    answer.experimental_non_blocking = True  # type: ignore[attr-defined]  # grpc looks for it
    return answer


def _reflection() -> dict[str, Handler]:
    servicer = ReflectionServicer(wire.SERVICE_NAMES, wire.reflection_pool())
    reflect: Any = servicer.ServerReflectionInfo  # typed as if it returned nothing
    free = BoundedSemaphore(REFLECTIONS)

    def answer(requests: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        if not free.acquire(blocking=False):
            status.abort(context, status.failure(BusyError(f"{REFLECTIONS} streams are open. Try again later.")))
        try:
            yield from reflect(requests, context)
        finally:
            free.release()

    # One thread more than the limit of open streams, to refuse those beyond it.
    stream: Any = on_threads_of_its_own(answer, REFLECTIONS + 1)
    servicer.ServerReflectionInfo = stream  # type: ignore[method-assign]  # grpc takes any callable
    captured: Any = _Captured()
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, captured)
    return dict(captured.handlers)


def _checked(path: str, handler: Handler, state: ServerState) -> Handler:
    """The handler after an access check, with its parser inside: grpc would report parse errors as internal."""
    access, threads = state.access, state.threads
    kind = "_".join(
        "stream" if streams else "unary" for streams in (handler.request_streaming, handler.response_streaming)
    )
    behavior, parse = getattr(handler, kind), partial(read, handler.request_deserializer, {})

    def unary(requests: Iterator[bytes], context: grpc.ServicerContext, *more: Any) -> Any:
        try:
            access.check(path, context)
            return behavior(parse(threads.message(requests, context, BRIEF)), context, *more)
        except KanserveError as error:
            failed = status.failure(error)
        status.abort(context, failed)

    def stream(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[Any]:
        try:
            access.check(path, context)
            yield from behavior(map(parse, requests), context)
        except KanserveError as error:
            failed = status.failure(error)
        else:
            return
        status.abort(context, failed)

    answer: Behavior = stream if handler.request_streaming else unary

    for mark in ("experimental_non_blocking", "experimental_thread_pool"):  # grpc looks for them
        if hasattr(behavior, mark):
            setattr(answer, mark, getattr(behavior, mark))
    return _made(answer, handler.response_streaming, response_serializer=handler.response_serializer)
