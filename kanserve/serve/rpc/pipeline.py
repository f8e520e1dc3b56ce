"""The pipeline of every call, from bytes to bytes, around the plain function that answers it:

    access -> deadline -> receive the message -> size limits -> parse -> logic -> serialize -> metrics

A message is only received (`receive_timeout`) once access is granted. grpc gets neither a parser nor a serializer: it
would report their errors in a way that a client should not see.
"""

import itertools
import logging
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from time import perf_counter_ns
from typing import Any
from urllib.parse import unquote

import grpc
import numpy as np
from numpy.typing import NDArray

from kanserve.errors import AccessError, DeadlineError, DrainingError, InputError, KanserveError, NotFoundError
from kanserve.inference import grpc_service_pb2 as pb
from kanserve.inference import wire
from kanserve.serve import status
from kanserve.serve.methods import Method, Turn
from kanserve.serve.models.catalog import Model
from kanserve.serve.observability import logs
from kanserve.serve.rpc import inference_service
from kanserve.serve.rpc.message_limits import read
from kanserve.serve.scheduling.executors import on_threads_of_its_own
from kanserve.serve.scheduling.jobs import Arrival
from kanserve.serve.state import Call, ServerState

REQUEST_ID = "x-request-id"
_RESPONSE = b"\x12"  # the tag of ModelStreamInferResponse's infer_response
_LOGGED_AGAIN = 1_000_000_000  # nanoseconds between tracebacks of the same kind
_ID = re.compile(r"[!-~]{1,128}")  # a client's request id: one word that cannot break a log line

_logger = logging.getLogger(__name__)

Allowed = Callable[[str], None]
Logic = Callable[[ServerState, Any, Call], Any]  # Any: of the method's own types
Work = Callable[[bytes, Call, Allowed | None], bytes]
Behavior = Callable[[Any, grpc.ServicerContext], Any]


_CHANGES = 16  # concurrent loads and unloads


class Pipeline:
    """Makes grpc handlers of methods and their logic."""

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._logged: dict[tuple[str, str], int] = {}  # by method and model, the time of the last logged traceback
        # One thread more than the limit of open streams, to refuse those beyond it.
        self._stream_threads = ThreadPoolExecutor(state.settings.streams + 1, thread_name_prefix="kanserve-stream")

    def unary(self, method: Method, work: Work) -> Behavior:
        """A handler of unary calls."""
        path, threads, check = method.path, self._state.threads, self._state.access.check
        service, name, always, patience = method.service, method.name, method.turn is Turn.ALWAYS, method.patience

        def answer(requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
            arrival = threads.arrival
            call = Call(service, name, arrival.at)
            try:
                allowed = self._enter(call, context, check(path, context))
                if not always:
                    _admit(arrival, context)
                data = threads.message(requests, context, patience)
                call.queued = perf_counter_ns() - arrival.at
                made = work(data, call, allowed)
            except BaseException as error:  # the code of an artifact may raise anything
                failed = self._failed(call, error, context.invocation_metadata())
            else:
                self._end(call, encoded=True)
                return made
            self._end(call)
            status.abort(context, failed)

        return answer

    def work(self, method: Method, logic: Logic) -> Work:
        """Wrap a function of messages into one from bytes to bytes."""
        state, parse, arrays = self._state, method.request.FromString, method.arrays

        def answer(data: bytes, call: Call, allowed: Allowed | None) -> bytes:
            begun = perf_counter_ns()
            request = read(parse, arrays, data)
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

    def infer(self, data: bytes, call: Call, allowed: Allowed | None) -> bytes:
        """The `Work` of ModelInfer."""
        return inference_service.infer(self._state, data, call, allowed)

    def predict(
        self, model: Model | None, data: Any, dtype: np.dtype[Any], rows: int, requests: int = 1
    ) -> tuple[NDArray[Any], int]:
        """The predictions of rows that the native transport has decoded, of so many requests, of the model's type, and
        how many nanoseconds they took."""
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
        return np.ascontiguousarray(y, model.backend.dtype), computed

    def failed_rows(
        self, error: BaseException, model: Model | None, event: Any, metadata: Sequence[tuple[str, str | bytes]]
    ) -> status.Failure:
        """Record that such rows could not be predicted."""
        call = Call(wire.SERVICE_NAME, "ModelInfer", event.arrived)
        call.rows = event.rows
        if model is not None:
            call.model, call.version = model.name, model.version
        failed = self._failed(call, error, metadata)
        self._end(call)
        return failed

    def change(self, method: Method, logic: Logic) -> Behavior:
        """A handler of loads and unloads, on threads of their own, so that a slow one delays neither inferences nor
        other changes."""
        threads, unary = self._state.threads, self.unary(method, self.work(method, logic))

        def answer(requests: Iterator[bytes], context: grpc.ServicerContext) -> Any:
            with threads.counted():
                return unary(requests, context)

        return on_threads_of_its_own(answer, _CHANGES)

    def infer_stream(self, method: Method) -> Behavior:
        """A handler that answers each request of a stream in order, as ModelInfer does. A failed request is answered
        with its error, and the stream continues; it ends when the server stops, or on an invalid message.
        """
        threads = self._state.threads

        def stream(requests: Iterable[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            arrival = Arrival(perf_counter_ns(), threads.draining)
            call, opened = Call(method.service, method.name, arrival.at), False
            try:
                allowed = self._enter(call, context, self._state.access.check(method.path, context))
                _admit(arrival, context)
                threads.open_stream(self._state.settings.streams, context.peer())
                opened = True
                first = threads.first_message(requests, context)
            except BaseException as error:
                if opened:
                    threads.close_stream(context.peer())
                failed = self._failed(call, error, context.invocation_metadata())
                self._end(call)
                status.abort(context, failed)
            try:
                for data in itertools.chain(first, requests):
                    with threads.counted() as arrival:
                        answer = self._streamed(method, data, arrival, allowed, context)
                        if isinstance(answer, status.Failure):
                            status.abort(context, answer)
                        yield answer
            finally:
                threads.close_stream(context.peer())

        return on_threads_of_its_own(stream, self._stream_threads)

    def _streamed(
        self, method: Method, data: bytes, arrival: Arrival, allowed: Allowed | None, context: grpc.ServicerContext
    ) -> bytes | status.Failure:
        """The answer, or the failure that ends the stream."""
        call = Call(method.service, method.name, arrival.at)
        try:
            self._enter(call, context, allowed)
            if arrival.late:
                raise _stopping()
            made = self.infer(data, call, allowed)
        except BaseException as error:
            failed = self._failed(call, error, context.invocation_metadata())
            self._end(call)
            if isinstance(error, DrainingError):
                return failed
            try:
                request = read(pb.ModelInferRequest.FromString, method.arrays, data)
            except InputError:
                return failed
            empty = pb.ModelInferResponse(model_name=request.model_name, id=request.id)
            return pb.ModelStreamInferResponse(error_message=failed.text, infer_response=empty).SerializeToString()
        self._end(call, encoded=True)
        return b"".join((_RESPONSE, wire.varint(len(made)), made))

    def stream(self, method: Method, logic: Logic) -> Behavior:
        """A handler that streams answers to one request."""
        path, state = method.path, self._state

        def answer(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            if method.turn is not Turn.COUNTED:
                yield from within(requests, context, Arrival(perf_counter_ns(), state.threads.draining))
                return
            with state.threads.counted() as arrival:
                yield from within(requests, context, arrival)

        def within(requests: Iterator[bytes], context: grpc.ServicerContext, arrival: Arrival) -> Iterator[bytes]:
            call = Call(method.service, method.name, arrival.at)
            taken = False
            try:
                allowed = self._enter(call, context, state.access.check(path, context))
                _admit(arrival, context)
                state.threads.open_stream(state.settings.streams, context.peer())
                taken = True
                request = read(
                    method.request.FromString, method.arrays, state.threads.message(requests, context, method.patience)
                )
                if allowed is not None:
                    _check_model(allowed, request)
                for response in logic(state, request, call):
                    if allowed is None or _hide(method, response, allowed):
                        yield response.SerializeToString()
            except GeneratorExit:
                call.code = grpc.StatusCode.CANCELLED.name
                raise
            except BaseException as error:
                failed = self._failed(call, error, context.invocation_metadata())
            else:
                return
            finally:
                if taken:
                    state.threads.close_stream(context.peer())
                self._end(call)
            status.abort(context, failed)

        return on_threads_of_its_own(answer, self._stream_threads)

    def refusal(self, method: Method, error: KanserveError) -> Behavior:
        """A handler that refuses a call without reading its message."""

        def refuse(requests: Any, context: grpc.ServicerContext) -> Any:
            call = Call(method.service, method.name, perf_counter_ns())
            failed = self._failed(call, error, context.invocation_metadata())
            self._end(call)
            status.abort(context, failed)

        return refuse

    def _enter(self, call: Call, context: grpc.ServicerContext, allowed: Any) -> Allowed | None:
        """Record the caller, and if there are observers, the metadata, peer and request id."""
        call.alive = context.is_active
        if allowed is not None:
            call.identity = allowed.identity
        if self._state.observers:
            call.metadata = context.invocation_metadata() or ()
            call.peer = unquote(context.peer())  # gRPC writes ipv6:%5B::1%5D:8001
            call.request_id = _request_id(call.metadata)
        made: Allowed | None = allowed
        return made

    def _failed(
        self, call: Call, error: BaseException, metadata: Sequence[tuple[str, str | bytes]] | None
    ) -> status.Failure:
        failed = status.failure(error)
        if failed is status.INTERNAL:
            call.request_id = call.request_id or _request_id(metadata or ())
            self._log(call, error)
            failed = replace(failed, text=f"{failed.text} (request {call.request_id})")
        call.code, call.error = failed.code.name, failed.text
        return failed

    def _log(self, call: Call, error: BaseException) -> None:
        """Log an error, with a traceback at most once per _LOGGED_AGAIN: a model that always fails must not cost more
        than one that works.
        """
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


def _admit(arrival: Arrival, context: grpc.ServicerContext) -> None:
    """Refuse a call if the server is stopping, or its caller no longer waits."""
    if arrival.late:
        raise _stopping()
    if not context.is_active() or context.time_remaining() == 0:
        raise DeadlineError("The deadline passed, or the caller left, before the call could begin.")


def _stopping() -> DrainingError:
    return DrainingError("The server is stopping and takes no new work. Try again, or another server.")


def _check_model(allowed: Allowed, request: Any) -> None:
    """AccessError if the request names a model that the caller may not use."""
    if isinstance(request, pb.RepositoryModelLoadRequest | pb.RepositoryModelUnloadRequest):
        name = wire.requested_model(request)
    else:
        name = getattr(request, "model_name", "") or getattr(request, "name", "")
    if name:
        allowed(name)


def _hide(method: Method, response: Any, allowed: Allowed) -> bool:
    """Remove from a list what the caller may not see; whether something is left, or nothing had to be hidden."""
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
