"""A call in the thread pool: its arrival, its work, and its done callbacks."""

from collections.abc import Callable
from typing import Any, Protocol


class Arrival:
    """When a call was accepted (perf_counter_ns), and whether that was after `ThreadPool.close`."""

    __slots__ = ("at", "late")

    def __init__(self, at: int, late: bool) -> None:
        self.at, self.late = at, late


class Job(Arrival):
    """A call to be answered, with the part of the future interface that grpc needs."""

    __slots__ = ("_callbacks", "_done", "args", "call", "kwargs")

    def __init__(
        self, at: int, late: bool, call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self.at, self.late, self.call, self.args, self.kwargs = at, late, call, args, kwargs
        self._callbacks: list[Callable[[Any], object]] = []
        self._done = False

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        self._callbacks.append(callback)
        if self._done:
            self.done()

    def done(self) -> None:
        """Call each callback once; two threads may be here at the same time."""
        self._done = True
        while self._callbacks:
            try:
                callback = self._callbacks.pop()
            except IndexError:  # the other thread has just taken it
                return
            callback(self)


class JobQueue(Protocol):
    """Where threads wait for jobs; None ends one of them."""

    def get(self) -> Job | None: ...
    def put(self, job: Job | None, /) -> None: ...
    def qsize(self) -> int: ...
