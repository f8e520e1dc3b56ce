"""Receiving the message of a unary call, with a timeout.

grpc would wait for a message on a thread of the server without a timeout: clients that open calls and send nothing
would soon occupy all threads. So every call is registered with grpc as one that takes a stream, and its first message
is received here: after the access check, and with a timeout.
"""

from time import perf_counter_ns

from kanserve.errors import DeadlineError, InputError
from kanserve.serve.request import GoneError, Request, Unpacked

PATIENCE = 60_000_000_000  # nanoseconds; 16 MiB need 2.3 Mbit/s
BRIEF = 1_000_000_000  # nanoseconds, while no other thread is free, and for messages that only name something


class MessageWaits:
    """The calls that wait for their message; thread-safe."""

    def __init__(self) -> None:
        self._waits: dict[int, _Wait] = {}

    def __len__(self) -> int:
        return len(self._waits)

    def message(self, wait: "_Wait") -> bytes | Unpacked:
        """The first message: DeadlineError if it does not arrive in time, InputError if there is none."""
        try:
            for data in wait.request.messages:
                return data
            if not wait.over:
                raise InputError("The call takes one message; it ended without one.")
        except GoneError:  # cancelled, by the caller or by `expire`
            pass
        finally:
            del self._waits[id(wait)]
        raise DeadlineError("The message did not come in time, or the caller left.")

    def begin(self, request: Request, patience: int) -> "_Wait":
        wait = _Wait(request, patience)
        self._waits[id(wait)] = wait
        return wait

    def expire(self, hurried: bool) -> None:
        """Cancel the calls whose timeout has passed; `hurried`: a timeout of BRIEF for all."""
        now = perf_counter_ns()
        for wait in list(self._waits.values()):
            if now - wait.begun > (BRIEF if hurried else wait.patience) and not wait.over:
                wait.over = True
                wait.request.cancel()


class _Wait:
    """The wait for the message of one call."""

    __slots__ = ("begun", "over", "patience", "request")

    def __init__(self, request: Request, patience: int) -> None:
        self.begun, self.request, self.patience, self.over = perf_counter_ns(), request, patience, False
