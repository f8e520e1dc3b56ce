"""All calls of the four services, in one table from path to handler, and back-pressure: which calls are refused.

When the queue is full, calls of our two services are refused at once; so are inferences while every model is at its
concurrency limit. That happens before their messages are read, since under overload refusing is most of the work.
Health, reflection, loads and unloads are not refused, so that a busy server does not look dead.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import import_module
from typing import Any

from kanserve.errors import BusyError, InputError
from kanserve.serve.methods import FORMULA, INFERENCE, METHODS, Method, Turn
from kanserve.serve.request import Pairs
from kanserve.serve.rpc import inference_service
from kanserve.serve.rpc.pipeline import Handler, InlineExecutor, Logic, Pipeline
from kanserve.serve.rpc.standard_services import REFLECTIONS, Health, reflection
from kanserve.serve.settings import Settings
from kanserve.serve.state import Call, ServerState

STREAMS = 512  # least concurrent calls per connection; more would wait in the client, where they are never refused
METADATA_BYTES = 2**13  # of one call, and of its answer
# grpc limits a large text by itself; but HPACK can repeat one in a single byte, and each time we would get all of it.
_FEW = 8
_ASIDE = 32  # calls outside the queue: health checks, loads and unloads, and calls that are being refused

_MODULES = {INFERENCE: "kanserve.serve.rpc.inference_service", FORMULA: "kanserve.serve.rpc.formula_service"}


def most_calls(settings: Settings) -> int:
    """The maximum number of open calls, for `grpc.server(maximum_concurrent_rpcs=)`."""
    return settings.threads + settings.queue + settings.streams + REFLECTIONS + _ASIDE


class Handlers:
    """The handlers of all calls of all services."""

    def __init__(self, state: ServerState, health: Health) -> None:
        self._state, self._threads, self._most = state, state.threads, state.settings.threads + state.settings.queue
        pipeline = self.pipeline = Pipeline(state)
        ours = [method for method in METHODS if method.is_ours]
        self._handlers = {method.path: _handler(method, pipeline) for method in ours} | health.handlers(state)
        if state.settings.reflection:
            self._handlers |= reflection(state)
        # Observers may block on a disk, so with observers refusals get a thread.
        refusing = ThreadPoolExecutor(1, thread_name_prefix="kanserve-refusal") if state.observers else InlineExecutor()
        busy = BusyError("The queue is full. Try again later.")
        full = BusyError("Every model is at its concurrency limit. Try again later.")
        large = InputError(f"A call may have {METADATA_BYTES} bytes of metadata, and this one has more.")
        refuse = pipeline.refusal
        self._large = {method.path: refuse(method, large, refusing) for method in ours}
        self._refusals = {method.path: refuse(method, busy, refusing) for method in ours if method.turn != Turn.CHANGES}
        self._full = {
            method.path: refuse(method, full, refusing)
            for method in ours
            if method.turn is Turn.PREDICTS and not method.reads_stream
        }

    def find(self, path: str, metadata: Pairs) -> Handler | None:
        """The handler that answers or refuses a call now; None for an unknown call."""
        if len(metadata) > _FEW and sum(len(key) + len(value) for key, value in metadata) > METADATA_BYTES:
            return self._large.get(path)
        if self._threads.accepted >= self._most and path in self._refusals:
            return self._refusals[path]
        if path in self._full and self._threads.refuse(self._state.catalog.models) and not self._threads.draining:
            return self._full[path]
        return self._handlers.get(path)


def _handler(method: Method, pipeline: Pipeline) -> Handler:
    if method.turn is Turn.PREDICTS:
        return pipeline.infer_stream(method) if method.reads_stream else pipeline.unary(method, pipeline.infer)
    if method.turn is Turn.CHANGES:
        return pipeline.change(method, _logic(method))
    if method.streams:
        return pipeline.stream(method, _logic(method))
    return pipeline.unary(method, pipeline.work(method, _logic(method)))


@cache
def function(method: Method) -> Logic:
    """The function that answers a call. Its module is imported at the first call: most servers need few of them."""
    made: Logic = getattr(import_module(_MODULES[method.service]), method.function)
    return made


def _logic(method: Method) -> Logic:
    """The function that answers a call, within the concurrency limit of its model if it computes."""
    if method.turn is not Turn.COMPUTES:
        return lambda state, request, call: function(method)(state, request, call)

    def answer(state: ServerState, request: Any, call: Call) -> Any:
        logic, model = function(method), request.model_name.partition("@")[0]  # without an alias
        if model not in state.catalog.models:
            return logic(state, request, call)
        most = inference_service.at_once(state.settings, model)
        with state.threads.computing(model, most, method.name) as aside:
            return logic(state, request, call) if aside is None else aside(logic, state, request, call)

    return answer
