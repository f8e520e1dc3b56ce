"""The pipeline of every call, from bytes to bytes, around the plain function that answers it:

    access -> deadline -> receive the message -> size limits -> parse -> logic -> serialize -> metrics

A message is only received (`thread_pool.MessageWaits`) once access is granted.
"""

import itertools
import logging
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from time import perf_counter_ns
from typing import Any, ParamSpec
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import AccessError, DeadlineError, DrainingError, InputError, KanserveError, NotFoundError
from kanserve.inference import grpc_service_pb2 as pb
from kanserve.inference import wire
from kanserve.serve import status
from kanserve.serve.methods import Method, Turn
from kanserve.serve.models.catalog import Model
from kanserve.serve.observability import logs
from kanserve.serve.request import Request, Unpacked
from kanserve.serve.rpc import inference_service
from kanserve.serve.rpc.message_limits import read
from kanserve.serve.rpc.range_violations import bounds
from kanserve.serve.scheduling.thread_pool import Arrival
from kanserve.serve.state import Call, ServerState
from kanserve.serve.status import AbortedError, Code

P = ParamSpec("P")

REQUEST_ID = "x-request-id"
_RESPONSE = b"\x12"  # the tag of ModelStreamInferResponse's infer_response
_LOGGED_AGAIN = 1_000_000_000  # nanoseconds between tracebacks of the same kind
_ID = re.compile(r"[!-~]{1,128}")  # a client's request id: one word that cannot break a log line

_logger = logging.getLogger(__name__)

Allowed = Callable[[str], None]
Logic = Callable[[ServerState, Any, Call], Any]  # Any: of the method's own types
Work = Callable[[bytes | Unpacked, Call, Allowed | None], bytes]


@dataclass(frozen=True, eq=False)
class Handler:
    """How a call is answered: with a message, or with messages if it `streams`. A failure raises AbortedError."""

    answer: Callable[..., Any]  # of a Request; of one that is held, also of a function that sends a message or None
    streams: bool = False
    threads: Executor | None = None  # None: those of the server's pool
    held: bool = False  # `answer` returns at once, and the stream stays open until None is sent


_CHANGES = 16  # concurrent loads and unloads


class InlineExecutor(ThreadPoolExecutor):
    """Runs calls at once on the transport's own thread, for calls that do not block and cost less than a thread switch.
    It starts no thread; it is a ThreadPoolExecutor only because grpc ignores anything else."""

    # Of a future, grpc only uses `add_done_callback`.
    def submit(self, call: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> "_Done":  # type: ignore[override]
        call(*args, **kwargs)
        return _DONE


class _Done:
    """The future of a finished call."""

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        callback(self)


_DONE = _Done()


class Pipeline:
    """Makes handlers from methods and their logic."""

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._logged: dict[tuple[str, str], int] = {}  # by method and model, the time of the last logged traceback
        # One thread more than the limit of open streams, to refuse those beyond it.
        self._stream_threads = ThreadPoolExecutor(state.settings.streams + 1, thread_name_prefix="kanserve-stream")

    def unary(self, method: Method, work: Work) -> Handler:
        path, threads, check = method.path, self._state.threads, self._state.access.check
        service, name, always, patience = method.service, method.name, method.turn is Turn.ALWAYS, method.patience

        def answer(request: Request) -> bytes:
            arrival = threads.arrival
            call = Call(service, name, arrival.at)
            try:
                allowed = self._enter(call, request, check(path, request))
                if not always:
                    _admit(arrival, request)
                data = threads.message(request, patience)
                call.queued = perf_counter_ns() - arrival.at
                made = work(data, call, allowed)
            except BaseException as error:  # the code of an artifact may raise anything
                failed = self._record_failure(call, error, request.metadata)
            else:
                self._end(call, encoded=True)
                return made
            self._end(call)
            raise AbortedError(failed)

        return Handler(answer)

    def work(self, method: Method, logic: Logic) -> Work:
        """Wrap a function of messages into one from bytes to bytes."""
        state, parse, arrays = self._state, method.request.FromString, method.arrays

        def answer(data: bytes | Unpacked, call: Call, allowed: Allowed | None) -> bytes:
            begun = perf_counter_ns()
            request = data.message if isinstance(data, Unpacked) else read(parse, arrays, data)
            if allowed is not None:
                _check_model(allowed, request)
            parsed = perf_counter_ns()
            response = logic(state, request, call)
            if allowed is not None:
                _hide(method, response, allowed)
            call.decoded = parsed - begun
            call.computed = call.computed or perf_counter_ns() - parsed
            made: bytes = response.SerializeToString()
            return made

        return answer

    def infer(self, data: bytes | Unpacked, call: Call, allowed: Allowed | None) -> bytes:
        return inference_service.infer(self._state, data, call, allowed)

    def predict(
        self, model: Model | None, data: Any, dtype: np.dtype[Any], rows: int, requests: int = 1
    ) -> tuple[NDArray[Any], int]:
        """Predict rows that the native transport has decoded (of `requests` requests, in the model's type). Returns the
        predictions and the nanoseconds they took."""
        arrival, threads, settings = self._state.threads.arrival, self._state.threads, self._state.settings
        if arrival.late:
            raise _stopping()
        if model is None:
            raise NotFoundError("The model was unloaded.")
        most = inference_service.at_once(settings, model.name)
        x = np.ndarray((rows, len(model.kan.inputs)), dtype, data)
        with threads.computing(model.name, most, rows=rows, requests=requests) as aside:
            begun = perf_counter_ns()
            y = model.backend.predict(x) if aside is None else aside(model.backend.predict, x)
            computed = perf_counter_ns() - begun
        limits = bounds(model, "FP32" if dtype.itemsize == 4 else "FP64")
        for request in range(requests):  # one row of each; the loop counts those that it predicts itself
            row = rows * request // requests
            model.inputs.add(x[row : row + max(1, rows // requests)], limits)
        return np.ascontiguousarray(y, model.backend.dtype), computed

    def record_failed_rows(
        self, error: BaseException, model: Model | None, event: Any, metadata: Sequence[tuple[str, str | bytes]]
    ) -> status.Failure:
        """Record that such rows could not be predicted."""
        call = Call(wire.SERVICE_NAME, "ModelInfer", event.arrived)
        call.rows = event.rows
        if model is not None:
            call.model, call.version = model.name, model.version
        failed = self._record_failure(call, error, metadata)
        self._end(call)
        return failed

    def change(self, method: Method, logic: Logic) -> Handler:
        """A handler for loads and unloads, on threads of their own: a slow one delays neither inferences nor others."""
        threads, unary = self._state.threads, self.unary(method, self.work(method, logic))

        def answer(request: Request) -> Any:
            with threads.counted():
                return unary.answer(request)

        return Handler(answer, threads=ThreadPoolExecutor(_CHANGES))

    def infer_stream(self, method: Method) -> Handler:
        """A handler that answers each request of a stream in order, like ModelInfer. A failed request is answered with
        its error and the stream continues; it ends on an invalid message, or when the server stops."""
        threads = self._state.threads

        def stream(request: Request) -> Iterator[bytes]:
            arrival = Arrival(perf_counter_ns(), threads.draining)
            call, opened = Call(method.service, method.name, arrival.at), False
            try:
                allowed = self._enter(call, request, self._state.access.check(method.path, request))
                _admit(arrival, request)
                threads.open_stream(self._state.settings.streams, request.peer)
                opened = True
                first = threads.first_message(request)
            except BaseException as error:
                if opened:
                    threads.close_stream(request.peer)
                failed = self._record_failure(call, error, request.metadata)
                self._end(call)
                raise AbortedError(failed) from None
            try:
                for data in itertools.chain(first, request.messages):
                    with threads.counted() as arrival:
                        yield self._stream(method, data, arrival, allowed, request)
            finally:
                threads.close_stream(request.peer)

        return Handler(stream, streams=True, threads=self._stream_threads)

    def _stream(
        self, method: Method, data: bytes, arrival: Arrival, allowed: Allowed | None, request: Request
    ) -> bytes:
        """Answer one request of a stream. Raises AbortedError for a failure that ends the stream."""
        call = Call(method.service, method.name, arrival.at)
        try:
            self._enter(call, request, allowed)
            if arrival.late:
                raise _stopping()
            made = self.infer(data, call, allowed)
        except BaseException as error:
            failed = self._record_failure(call, error, request.metadata)
            self._end(call)
            if isinstance(error, DrainingError):
                raise AbortedError(failed) from None
            try:
                asked = read(pb.ModelInferRequest.FromString, method.arrays, data)
            except InputError:
                raise AbortedError(failed) from None
            empty = pb.ModelInferResponse(model_name=asked.model_name, id=asked.id)
            return pb.ModelStreamInferResponse(error_message=failed.text, infer_response=empty).SerializeToString()
        self._end(call, encoded=True)
        return b"".join((_RESPONSE, wire.varint(len(made)), made))

    def stream(self, method: Method, logic: Logic) -> Handler:
        path, state = method.path, self._state

        def answer(request: Request) -> Iterator[bytes]:
            if method.turn is not Turn.COUNTED:
                yield from within(request, Arrival(perf_counter_ns(), state.threads.draining))
                return
            with state.threads.counted() as arrival:
                yield from within(request, arrival)

        def within(request: Request, arrival: Arrival) -> Iterator[bytes]:
            call = Call(method.service, method.name, arrival.at)
            taken = False
            try:
                allowed = self._enter(call, request, state.access.check(path, request))
                _admit(arrival, request)
                state.threads.open_stream(state.settings.streams, request.peer)
                taken = True
                data = state.threads.message(request, method.patience)
                asked: Any = read(method.request.FromString, method.arrays, data)
                if allowed is not None:
                    _check_model(allowed, asked)
                for response in logic(state, asked, call):
                    if allowed is None or _hide(method, response, allowed):
                        yield response.SerializeToString()
            except GeneratorExit:
                call.code = Code.CANCELLED.name
                raise
            except BaseException as error:
                failed = self._record_failure(call, error, request.metadata)
            else:
                return
            finally:
                if taken:
                    state.threads.close_stream(request.peer)
                self._end(call)
            raise AbortedError(failed)

        return Handler(answer, streams=True, threads=self._stream_threads)

    def refusal(self, method: Method, error: KanserveError, threads: Executor) -> Handler:
        """A handler that refuses a call without reading its message."""

        def refuse(request: Request) -> Any:
            call = Call(method.service, method.name, perf_counter_ns())
            failed = self._record_failure(call, error, request.metadata)
            self._end(call)
            raise AbortedError(failed)

        return Handler(refuse, threads=threads)

    def _enter(self, call: Call, request: Request, allowed: Any) -> Allowed | None:
        """Record the caller, the metadata if a version is chosen by it, and for observers also peer and request id."""
        call.alive = request.alive
        if self._state.settings.route_header:
            call.metadata = request.metadata
        if allowed is not None:
            call.identity = allowed.identity
        if self._state.observers:
            call.metadata = request.metadata
            call.peer = unquote(request.peer)  # gRPC writes ipv6:%5B::1%5D:8001
            call.request_id = _request_id(call.metadata)
        made: Allowed | None = allowed
        return made

    def _record_failure(
        self, call: Call, error: BaseException, metadata: Sequence[tuple[str, str | bytes]]
    ) -> status.Failure:
        failed = status.failure(error)
        if failed is status.INTERNAL:
            call.request_id = call.request_id or _request_id(metadata)
            self._log(call, error)
            failed = replace(failed, text=f"{failed.text} (request {call.request_id})")
        call.code, call.error = failed.code.name, failed.text
        return failed

    def _log(self, call: Call, error: BaseException) -> None:
        """Log an error, with a traceback at most once per _LOGGED_AGAIN: a model that always fails must not cost more
        than one that works."""
        now, cause = perf_counter_ns(), (call.method, call.model)
        whole = now - self._logged.get(cause, -_LOGGED_AGAIN) >= _LOGGED_AGAIN
        if whole:
            self._logged[cause] = now
        _logger.error(
            "request %s failed: %s %s: %s",
            *(call.request_id, call.method, call.model, type(error).__name__),
            exc_info=error if whole else None,
            extra=logs.of(call),
        )

    def _end(self, call: Call, *, encoded: bool = False) -> None:
        call.ended = perf_counter_ns()
        if encoded:  # the rest of the time
            call.encoded = call.ended - call.arrived - call.queued - call.decoded - call.computed
        self._state.meters.ended(call)
        for observe in self._state.observers:
            try:
                observe(call)
            except Exception:  # an observer must not fail the call
                _logger.exception("an observer failed")


def _admit(arrival: Arrival, request: Request) -> None:
    """Refuse a call if the server is stopping, or its caller no longer waits."""
    if arrival.late:
        raise _stopping()
    if not request.alive() or request.time_left() == 0:
        raise DeadlineError("The deadline passed, or the caller left, before the call could begin.")


def _stopping() -> DrainingError:
    return DrainingError("The server is stopping and takes no new work. Try again, or another server.")


def _check_model(allowed: Allowed, request: Any) -> None:
    """Raise AccessError if the request names a model that the caller may not use."""
    if isinstance(request, pb.RepositoryModelLoadRequest | pb.RepositoryModelUnloadRequest):
        name = wire.get_requested_model(request)
    else:
        name = getattr(request, "model_name", "") or getattr(request, "name", "")
    if name:
        allowed(name)


def _hide(method: Method, response: Any, allowed: Allowed) -> bool:
    """Remove the entries of a list that the caller may not see. Returns False if that leaves nothing."""
    field, name = method.lists
    if not field:
        return True
    entries = getattr(response, field)
    shown = [entry for entry in entries if _may(allowed, getattr(entry, name))]
    if len(shown) == len(entries):
        return True
    kept = [type(entry).FromString(entry.SerializeToString()) for entry in shown]
    del entries[:]
    entries.extend(kept)
    return bool(kept) or getattr(response, "whole", False)


def _may(allowed: Allowed, model: str) -> bool:
    try:
        allowed(model)
    except AccessError:
        return False
    return True


def _request_id(metadata: Sequence[tuple[str, str | bytes]]) -> str:
    for key, value in metadata:
        if key == REQUEST_ID and isinstance(value, str) and _ID.fullmatch(value):
            return value
    return secrets.token_hex(8)
