"""The message of a call that takes one, waited for within limits.

grpc waits for a message on a thread of the server, for as long as the caller likes: who begins calls and sends nothing
would soon have all threads. So every call is given to grpc as one that takes a stream, of which the first message is
read here: once it is known who calls, and not for ever.
"""

from collections.abc import Iterator
from time import perf_counter_ns
from typing import Any

import grpc

from kanserve.errors import DeadlineError, InputError

PATIENCE = 60_000_000_000  # nanoseconds; 16 MiB need 2.3 Mbit/s
BRIEF = 1_000_000_000  # where nobody else gets a thread meanwhile, and for messages that only name something


class MessageWaits:
    """The messages that are waited for; threads may share it."""

    def __init__(self) -> None:
        self._waits: dict[int, _Wait] = {}

    def __len__(self) -> int:
        return len(self._waits)

    def message(self, wait: "_Wait", requests: Iterator[bytes]) -> bytes:
        """The first of `requests`: DeadlineError where it does not come, InputError where there is none."""
        try:
            for data in requests:
                return data
            if not wait.over:
                raise InputError("The call takes one message; it ended without.")
        except grpc.RpcError:  # cancelled, by the caller or by `expire`
            pass
        finally:
            del self._waits[id(wait)]
        raise DeadlineError("The message did not come in time, or the caller left.")

    def begin(self, context: grpc.ServicerContext, patience: int) -> "_Wait":
        wait = _Wait(context, patience)
        self._waits[id(wait)] = wait
        return wait

    def expire(self, hurried: bool) -> None:
        """Cancel the calls whose messages have been waited for long enough, or `hurried` for more than a moment."""
        now = perf_counter_ns()
        for one in list(self._waits.values()):
            if now - one.begun > (BRIEF if hurried else one.patience) and not one.over:
                one.over = True
                one.context.cancel()


class _Wait:
    """For the message of one call."""

    __slots__ = ("begun", "context", "over", "patience")

    def __init__(self, context: Any, patience: int) -> None:
        self.begun, self.context, self.patience, self.over = perf_counter_ns(), context, patience, False
