"""gRPC's standard services: health, and reflection, which lists the services."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import BoundedSemaphore, RLock
from typing import Any

from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_reflection.v1alpha.reflection import ReflectionServicer
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest

from kanserve.errors import BusyError, KanserveError
from kanserve.inference import wire
from kanserve.serve import status
from kanserve.serve.methods import HEALTH, REFLECTION
from kanserve.serve.request import Request
from kanserve.serve.rpc.message_limits import read
from kanserve.serve.rpc.pipeline import Handler
from kanserve.serve.scheduling.thread_pool import BRIEF
from kanserve.serve.state import ServerState
from kanserve.serve.status import AbortedError, Code, Failure

REFLECTIONS = 16  # reflection streams that may be open; each holds a thread of its own
CHECKS = 32  # concurrent health checks: some may be of callers that never send their message
WATCHES = 256  # open health watches: they hold no thread, and no transport counts them

_SERVICES = ("", *wire.SERVICE_NAMES)  # whose health is known; "" is the server
Send = Callable[[bytes | None], object]  # a message of a stream, or None to end it


class Health:
    """The health of the server and of each of its services: SERVING until `stop`."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._serving = True
        self._watching: set[tuple[str, Send]] = set()
        self._free = BoundedSemaphore(WATCHES)

    def stop(self) -> None:
        """Report all services as not serving, also to those who watch."""
        with self._lock:
            self._serving = False
            for service, send in [*self._watching]:
                if service in _SERVICES:
                    send(self._answer(service))

    def handlers(self, state: ServerState) -> dict[str, Handler]:
        check, watch = f"/{HEALTH}/Check", f"/{HEALTH}/Watch"
        return {
            check: Handler(_check_access(check, state, self._check), threads=ThreadPoolExecutor(CHECKS)),
            watch: Handler(_check_access(watch, state, self._watch), streams=True, held=True),
        }

    def _answer(self, service: str) -> bytes:
        known = HealthCheckResponse.SERVING if self._serving else HealthCheckResponse.NOT_SERVING
        state = known if service in _SERVICES else HealthCheckResponse.SERVICE_UNKNOWN
        made: bytes = HealthCheckResponse(status=state).SerializeToString()
        return made

    def _check(self, asked: HealthCheckRequest, request: Request) -> bytes:
        if asked.service not in _SERVICES:
            raise AbortedError(Failure(Code.NOT_FOUND, ""))
        return self._answer(asked.service)

    def _watch(self, asked: HealthCheckRequest, request: Request, send: Send) -> None:
        """Send the state now, and each change until the caller leaves. Returns at once: a watch holds no thread."""
        if not self._free.acquire(blocking=False):
            raise BusyError(f"{WATCHES} health watches are open. Try again later.")

        def leave() -> None:
            with self._lock:
                self._watching.discard((asked.service, send))
            self._free.release()
            send(None)

        with self._lock:
            send(self._answer(asked.service))
            self._watching.add((asked.service, send))
        if not request.when_left(leave):  # the caller has left already
            leave()


def _check_access(path: str, state: ServerState, answer: Callable[..., Any]) -> Callable[..., Any]:
    """Check access and read the message, then answer."""

    def check_and_answer(request: Request, *more: Any) -> Any:
        try:
            state.access.check(path, request)
            asked = read(HealthCheckRequest.FromString, {}, state.threads.message(request, BRIEF))
            return answer(asked, request, *more)
        except KanserveError as error:
            failed = status.failure(error)
        raise AbortedError(failed)

    return check_and_answer


def reflection(state: ServerState) -> dict[str, Handler]:
    """The handler of reflection; an open stream occupies a thread."""
    path, free = f"/{REFLECTION}/ServerReflectionInfo", BoundedSemaphore(REFLECTIONS)
    servicer: Any = ReflectionServicer(wire.SERVICE_NAMES, wire.reflection_pool())
    parse = partial(read, ServerReflectionRequest.FromString, {})

    def answer(request: Request) -> Iterator[bytes]:
        try:
            state.access.check(path, request)
            if not free.acquire(blocking=False):
                raise BusyError(f"{REFLECTIONS} streams are open. Try again later.")
            try:
                for answered in servicer.ServerReflectionInfo(map(parse, request.messages), None):
                    yield answered.SerializeToString()
            finally:
                free.release()
        except KanserveError as error:
            failed = status.failure(error)
        else:
            return
        raise AbortedError(failed)

    # One thread more than the limit of open streams, to refuse those beyond it.
    return {path: Handler(answer, streams=True, threads=ThreadPoolExecutor(REFLECTIONS + 1))}
