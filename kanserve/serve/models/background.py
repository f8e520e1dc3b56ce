"""One thread of low priority on which everything that changes the table of models is done, one after the other."""

import ctypes
import gc
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from queue import SimpleQueue

from kanserve.errors import DrainingError

NICE = 5  # a third of the processor's time where others want it: what loads holds Python's lock now and then
# Seconds for which a thread that computes may keep Python's lock while others want it. With the usual 5 ms each answer
# of a model that is served meanwhile would take that much longer.
SWITCH = 0.0005
_CLOSING = 1.0  # seconds; an interpreter should not end under a thread that is in a C++ library

_Job = tuple[Callable[[], object], Future[object] | None, str]


class Background:
    """The thread, started when there is something to do. Any thread may ask it for something, it itself too."""

    def __init__(self) -> None:
        self.closing = False
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()  # which a finalizer may put into, wherever it runs
        self._lock = threading.Lock()
        self._waiting: dict[str, Future[object]] = {}
        self._thread: threading.Thread | None = None

    def run(self, job: Callable[[], object], shared: str = "") -> None:
        """Do it and return when it is done, or raise what it raises; DrainingError after `close`.

        Of jobs that are `shared` under one text, one that has not begun yet is everybody's who asks for it.
        """
        if threading.current_thread() is self._thread:
            job()
            return
        with self._lock:
            if self.closing:
                raise DrainingError("The server is stopping.")
            future = self._waiting.get(shared)
            if future is None:
                future = Future()
                if shared:
                    self._waiting[shared] = future
                self._jobs.put((job, future, shared))
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="kanserve-loading", daemon=True)
                self._thread.start()
        future.result()

    def soon(self, job: Callable[[], object]) -> None:
        """Do it when there is time, and wait for nothing."""
        self._jobs.put((job, None, ""))

    @property
    def idle(self) -> bool:
        return self._jobs.empty()

    def close(self) -> None:
        """End the thread once what it is doing is done, and refuse what waits."""
        with self._lock:
            self.closing = True
            thread = self._thread
        self._jobs.put(None)
        if thread is not None and thread is not threading.current_thread():
            thread.join(_CLOSING)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            with _giving_way():
                self._do(*job)
            del job  # what it holds goes now, and not when the next one comes

    def _do(self, job: Callable[[], object], future: Future[object] | None, shared: str) -> None:
        with self._lock:
            self._waiting.pop(shared, None)  # who asks from now on wants to see what is there from now on
        if future is None:
            if not self.closing:
                job()
            return
        if self.closing:
            future.set_exception(DrainingError("The server is stopping."))
            return
        try:
            job()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(None)


@contextmanager
def _giving_way() -> Iterator[None]:
    usual = sys.getswitchinterval()
    sys.setswitchinterval(min(SWITCH, usual))
    try:
        yield
    finally:
        sys.setswitchinterval(usual)


def lower_priority(nice: int = NICE) -> None:
    """Let this thread step back where others want the processor. Elsewhere than on Linux it would be the process."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), nice)


def return_memory(collect: bool) -> None:
    """Give what is not used any more back to the system, also, to `collect`, what refers to itself."""
    if collect:
        gc.collect()
    if sys.platform == "linux":
        with suppress(AttributeError):  # another C library than glibc
            ctypes.CDLL(None).malloc_trim(0)
