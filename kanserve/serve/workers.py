"""The threads that answer calls, and the line between what was accepted before a drain and what came after."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from time import perf_counter_ns
from typing import Any, NamedTuple, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def on_threads_of_its_own(stream: Callable[P, T], threads: int) -> Callable[P, T]:
    """A streaming call that grpc runs on `threads` of its own, and not on those of the server.

    A stream holds its thread while its client is silent: a few idle ones would keep everybody else waiting.
    """
    marked = partial(stream)
    marked.experimental_thread_pool = ThreadPoolExecutor(threads)  # type: ignore[attr-defined]  # grpc looks for it
    return marked


class Arrival(NamedTuple):
    """When a call was accepted (perf_counter_ns), and whether that was after `Workers.close`."""

    at: int
    late: bool


class Workers(ThreadPoolExecutor):
    """A pool that knows of each call when it was accepted. grpc submits every call as soon as it has arrived."""

    def __init__(self, threads: int) -> None:
        super().__init__(threads, thread_name_prefix="kanserve")
        self.draining = False
        self._here = threading.local()
        self._lock = threading.Lock()
        self._accepted = 0
        self._idle = threading.Event()  # set when a drain has seen the last of what was accepted

    def submit(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        arrival = self._accept()
        try:
            return super().submit(self._run, arrival, call, args, kwargs)
        except BaseException:
            self._finish(arrival)
            raise

    @property
    def arrival(self) -> Arrival:
        """That of the call which this thread answers; of any other thread, now."""
        here: Arrival | None = getattr(self._here, "arrival", None)
        return here or Arrival(perf_counter_ns(), self.draining)

    @property
    def accepted(self) -> int:
        """Calls that have come and are not answered, late ones apart."""
        return self._accepted

    @contextmanager
    def counted(self) -> Iterator[Arrival]:
        """Counts as one call of these workers, whatever thread it runs on: a request within a stream."""
        arrival = self._accept()
        try:
            yield arrival
        finally:
            self._finish(arrival)

    def close(self) -> None:
        """Everything from now on is late."""
        with self._lock:
            self.draining = True
            if self._accepted == 0:
                self._idle.set()

    def drain(self, timeout: float) -> bool:
        """Everything from now on is late; wait for what is not, and say whether it ended in time."""
        self.close()
        return self._idle.wait(timeout)

    def _run(self, arrival: Arrival, call: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
        self._here.arrival = arrival
        try:
            return call(*args, **kwargs)
        finally:
            self._finish(arrival)

    def _accept(self) -> Arrival:
        with self._lock:
            self._accepted += not self.draining
            return Arrival(perf_counter_ns(), self.draining)

    def _finish(self, arrival: Arrival) -> None:
        with self._lock:
            self._accepted -= not arrival.late
            if self.draining and self._accepted == 0:
                self._idle.set()
