"""The way of every call, from bytes to bytes, around the plain function that answers it:

    whether the caller may -> whether there is time -> the message -> its weight -> parse -> logic -> bytes -> count

A message is read (`receive_timeout`) when it is known that its caller may send one. grpc is given neither a parser nor
a serializer: what it does with the errors of those is not what a client should see.
"""

import logging
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from time import perf_counter_ns
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote

import grpc
from google.protobuf.message import Message

from kanserve.errors import AccessError, DeadlineError, DrainingError, InputError, KanserveError
from kanserve.inference import grpc_service_pb2 as pb
from kanserve.inference import wire
from kanserve.serve import status
from kanserve.serve.observability import logs
from kanserve.serve.rpc import inference_service
from kanserve.serve.rpc.message_limits import ARRAYS, read
from kanserve.serve.scheduling.executors import on_threads_of_its_own
from kanserve.serve.scheduling.jobs import Arrival
from kanserve.serve.scheduling.receive_timeout import BRIEF, PATIENCE
from kanserve.serve.state import Call, ServerState

REQUEST_ID = "x-request-id"
_RESPONSE = b"\x12"  # the tag of ModelStreamInferResponse's infer_response
_LOGGED_AGAIN = 1_000_000_000  # nanoseconds
_ID = re.compile(r"[!-~]{1,128}")  # of a client: one word that breaks no line of a log

_logger = logging.getLogger(__name__)

Allowed = Callable[[str], None]
Logic = Callable[[ServerState, Any, Call], Any]  # Any: of the method's own types
Work = Callable[[bytes, Call, Allowed | None], bytes]
Behavior = Callable[[Any, grpc.ServicerContext], Any]


@dataclass(frozen=True)
class Method:
    """One call of one of our two services."""

    service: str
    name: str
    parse: Callable[[bytes], Message]
    kind: str  # as grpc says it: "unary_unary" and so on

    @property
    def path(self) -> str:
        return f"/{self.service}/{self.name}"


_CHANGES = 16  # of the repository, that may be waited for at once

# What a caller that may not see all models is not told: the entries of other models, by what names them.
_LISTS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "RepositoryIndex": ("models", "name"),
        "ModelStatistics": ("model_stats", "name"),
        "Watch": ("versions", "model_name"),
    }
)


class Pipeline:
    """Makes of a method and its logic what grpc calls."""

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._logged: dict[tuple[str, str], int] = {}  # when an error of a method and a model was last logged whole
        # One thread more than streams may be open, so that there is one to say so.
        self._stream_threads = ThreadPoolExecutor(state.settings.streams + 1, thread_name_prefix="kanserve-stream")

    def unary(self, method: Method, work: Work, *, always: bool = False, patience: int = PATIENCE) -> Behavior:
        """`always`: also while the server stops, and after the deadline; `patience` for its message."""
        path, threads, check = method.path, self._state.threads, self._state.access.check
        service, name = method.service, method.name

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
                failed = self._failed(call, error, context)
            else:
                self._end(call, encoded=True)
                return made
            self._end(call)
            status.abort(context, failed)

        return answer

    def work(self, method: Method, logic: Logic) -> Work:
        """From bytes to bytes around a function of messages."""
        state, parse, arrays = self._state, method.parse, ARRAYS.get(method.path, {})

        def answer(data: bytes, call: Call, allowed: Allowed | None) -> bytes:
            begun = perf_counter_ns()
            request = read(parse, arrays, data)
            if allowed is not None:
                _check_model(allowed, request)
            parsed = perf_counter_ns()
            response = logic(state, request, call)
            if allowed is not None:
                _hide(method.name, response, allowed)
            call.decoded = parsed - begun
            call.computed = call.computed or perf_counter_ns() - parsed
            made: bytes = response.SerializeToString()
            return made

        return answer

    def infer(self, data: bytes, call: Call, allowed: Allowed | None) -> bytes:
        """The `Work` of ModelInfer."""
        return inference_service.infer(self._state, data, call, allowed)

    def change(self, method: Method, logic: Logic) -> Behavior:
        """Of the repository: on threads of their own, so that none takes a place, and one that is slow keeps no other
        waiting."""
        threads, unary = self._state.threads, self.unary(method, self.work(method, logic), patience=BRIEF)

        def answer(requests: Iterator[bytes], context: grpc.ServicerContext) -> Any:
            with threads.counted():
                return unary(requests, context)

        return on_threads_of_its_own(answer, _CHANGES)

    def infer_stream(self, method: Method) -> Behavior:
        """ModelInfer for each request, in order. One that fails is answered with its error, and the stream goes on;
        it ends where the server stops, or what comes is no request at all.
        """
        threads = self._state.threads

        def stream(requests: Iterable[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            arrival = Arrival(perf_counter_ns(), threads.draining)
            call = Call(method.service, method.name, arrival.at)
            try:
                allowed = self._enter(call, context, self._state.access.check(method.path, context))
                _admit(arrival, context)
                threads.open_stream(self._state.settings.streams)
            except BaseException as error:
                failed = self._failed(call, error, context)
                self._end(call)
                status.abort(context, failed)
            try:
                for data in requests:
                    with threads.counted() as arrival:
                        answer = self._streamed(method, data, arrival, allowed, context)
                        if isinstance(answer, status.Failure):
                            status.abort(context, answer)
                        yield answer
            finally:
                threads.close_stream()

        return on_threads_of_its_own(stream, self._stream_threads)

    def _streamed(
        self, method: Method, data: bytes, arrival: Arrival, allowed: Allowed | None, context: grpc.ServicerContext
    ) -> bytes | status.Failure:
        """The answer, or what ends the stream."""
        call = Call(method.service, method.name, arrival.at)
        try:
            self._enter(call, context, allowed)
            if arrival.late:
                raise _stopping()
            made = self.infer(data, call, allowed)
        except BaseException as error:
            failed = self._failed(call, error, context)
            self._end(call)
            if isinstance(error, DrainingError):
                return failed
            try:
                request = read(pb.ModelInferRequest.FromString, ARRAYS[method.path], data)
            except InputError:
                return failed
            empty = pb.ModelInferResponse(model_name=request.model_name, id=request.id)
            return pb.ModelStreamInferResponse(error_message=failed.text, infer_response=empty).SerializeToString()
        self._end(call, encoded=True)
        return b"".join((_RESPONSE, wire.varint(len(made)), made))

    def stream(self, method: Method, logic: Logic, *, counted: bool) -> Behavior:
        """A stream of answers to one request; `counted`: a server that stops waits for its end."""
        path, state = method.path, self._state

        def answer(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            if not counted:
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
                state.threads.open_stream(state.settings.streams)
                taken = True
                request = read(method.parse, {}, state.threads.message(requests, context, BRIEF))
                if allowed is not None:
                    _check_model(allowed, request)
                for response in logic(state, request, call):
                    if allowed is None or _hide(method.name, response, allowed):
                        yield response.SerializeToString()
            except GeneratorExit:
                call.code = grpc.StatusCode.CANCELLED.name
                raise
            except BaseException as error:
                failed = self._failed(call, error, context)
            else:
                return
            finally:
                if taken:
                    state.threads.close_stream()
                self._end(call)
            status.abort(context, failed)

        return on_threads_of_its_own(answer, self._stream_threads)

    def refusal(self, method: Method, error: KanserveError) -> Behavior:
        """Of a call whose message is not read."""

        def refuse(requests: Any, context: grpc.ServicerContext) -> Any:
            call = Call(method.service, method.name, perf_counter_ns())
            failed = self._failed(call, error, context)
            self._end(call)
            status.abort(context, failed)

        return refuse

    def _enter(self, call: Call, context: grpc.ServicerContext, allowed: Any) -> Allowed | None:
        """Note who calls, and where somebody observes, all that there is to know."""
        call.alive = context.is_active
        if allowed is not None:
            call.identity = allowed.identity
        if self._state.observers:
            call.metadata = context.invocation_metadata() or ()
            call.peer = unquote(context.peer())  # gRPC writes ipv6:%5B::1%5D:8001
            call.request_id = _request_id(call.metadata)
        made: Allowed | None = allowed
        return made

    def _failed(self, call: Call, error: BaseException, context: grpc.ServicerContext) -> status.Failure:
        failed = status.failure(error)
        if failed is status.INTERNAL:
            call.request_id = call.request_id or _request_id(context.invocation_metadata() or ())
            self._log(call, error)
            failed = replace(failed, text=f"{failed.text} (request {call.request_id})")
        call.code, call.error = failed.code.name, failed.text
        return failed

    def _log(self, call: Call, error: BaseException) -> None:
        """All of an error once in a while, and else that there was one: a model that always breaks is not to cost more
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
        if encoded:  # what remains
            call.encoded = call.ended - call.arrived - call.queued - call.decoded - call.computed
        self._state.meters.ended(call)
        for observe in self._state.observers:
            try:
                observe(call)
            except Exception:  # what watches a call must not decide how it ends
                _logger.exception("an observer failed")


def _admit(arrival: Arrival, context: grpc.ServicerContext) -> None:
    """Refuse what is too late: for a server that stops, or a caller that no longer waits."""
    if arrival.late:
        raise _stopping()
    if not context.is_active() or context.time_remaining() == 0:
        raise DeadlineError("The deadline passed, or the caller left, before the call could begin.")


def _stopping() -> DrainingError:
    return DrainingError("The server is stopping and takes no new work. Try again, or another server.")


def _check_model(allowed: Allowed, request: Any) -> None:
    """AccessError where the request names a model that the caller may not use."""
    if isinstance(request, pb.RepositoryModelLoadRequest | pb.RepositoryModelUnloadRequest):
        name = wire.requested_model(request)
    else:
        name = getattr(request, "model_name", "") or getattr(request, "name", "")
    if name:
        allowed(name)


def _hide(method: str, response: Any, allowed: Allowed) -> bool:
    """Take what the caller may not see out of a list; whether something is left, or there was nothing to hide."""
    if method not in _LISTS:
        return True
    field, name = _LISTS[method]
    entries = getattr(response, field)
    shown = [entry for entry in entries if _may(allowed, getattr(entry, name))]
    if len(shown) == len(entries):
        return True
    kept = [type(one).FromString(one.SerializeToString()) for one in shown]
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
