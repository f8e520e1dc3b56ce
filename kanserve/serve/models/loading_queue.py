"""Low-priority threads for slow changes of the table of models, such as loading, so that calls do not wait for them.
Jobs run one at a time, those of one model in the order of their requests; while a job takes longer than SLOW, another
may run beside it."""

import ctypes
import gc
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

from kanserve.errors import DrainingError
from kanserve.serve.scheduling import switch_interval
from kanserve.serve.scheduling.cpus import lower_priority

NICE = 5  # a third of the CPU time under contention; not less, since a loading thread holds the GIL now and then
AT_ONCE = 2
SLOW = 1.0  # seconds
_CLOSING = 1.0  # seconds; the interpreter should not end while a thread is in a C++ library

Job = Callable[[], object]


@dataclass(eq=False)
class _Turn:
    """A job for a model, or for none (""). Without a job, the calling thread does the work itself."""

    model: str
    job: Job | None = None
    shared: str = ""
    future: Future[Any] = field(default_factory=Future)


class LoadingQueue:
    """Background threads for loading, started when needed. Any thread may add jobs, including these."""

    def __init__(self) -> None:
        self.closing = False
        self._changed = threading.Condition()  # guards what follows
        self._waiting: dict[str, deque[_Turn]] = {}  # by model; the longest waiting first
        self._busy: dict[str, float] = {}  # the models whose jobs are running, and since when
        self._taken: set[str] = set()  # models that are being changed on other threads
        self._threads: list[threading.Thread] = []
        self._alone = True
        self._short: SimpleQueue[Job | None] = SimpleQueue()  # reentrant, so a finalizer may put into it anywhere
        self._attends: threading.Thread | None = None

    def begin(self, job: Job, model: str = "", shared: str = "") -> Future[Any]:
        """Queue a job and return its future. If the last job queued for that model has the same `shared` text and has
        not begun, its future is returned instead. Raises DrainingError after `close`."""
        with self._changed:
            if self.closing:
                raise _stopping()
            before = self._waiting.setdefault(model, deque())
            if before and shared and before[-1].shared == shared:
                return before[-1].future
            turn = _Turn(model, job, shared)
            before.append(turn)
            if len(self._threads) < min(1 if self._alone else AT_ONCE, len(self._busy) + len(self._waiting)):
                self._threads.append(threading.Thread(target=self._work, name="kanserve-loading", daemon=True))
                self._threads[-1].start()
            self._changed.notify_all()
        return turn.future

    @contextmanager
    def turn(self, model: str) -> Iterator[None]:
        """Wait for earlier jobs of a model, then hold its turn on the calling thread, for quick changes."""
        turn = _Turn(model)
        with self._changed:
            if self.closing:
                raise _stopping()
            self._waiting.setdefault(model, deque()).append(turn)
            self._changed.wait_for(lambda: self.closing or self._next_of(model) is turn)
            if self.closing:
                raise _stopping()
            self._take(turn)
            self._taken.add(model)
        try:
            yield
        finally:
            with self._changed:
                self._taken.discard(model)
                self._changed.notify_all()

    def attend(self) -> None:
        """Start the thread that runs the jobs of `soon`."""
        with self._changed:
            if self._attends is None and not self.closing:
                self._attends = threading.Thread(target=self._attend, name="kanserve-letting-go", daemon=True)
                self._attends.start()

    def soon(self, job: Job) -> None:
        """Queue a short job without blocking. It does not wait for running loads."""
        self._short.put(job)

    def give_way(self) -> None:
        """Called when serving begins: from now on the threads have low priority, and other jobs may run beside a slow
        one. Until then jobs run one by one, so that if the process dies it is known which load did it."""
        self._alone = False

    @property
    def waiting(self) -> int:
        """How many jobs and turns are waiting to start; those of `soon` do not count."""
        with self._changed:
            return sum(map(len, self._waiting.values()))

    @property
    def idle(self) -> bool:
        return not self._waiting and self._short.empty()

    def close(self) -> None:
        """End the threads after their current jobs, and refuse waiting jobs."""
        with self._changed:
            self.closing = True
            refused = [turn for turns in self._waiting.values() for turn in turns]
            self._waiting.clear()
            threads = [*self._threads, *([self._attends] if self._attends else [])]
            self._changed.notify_all()
        self._short.put(None)
        for turn in refused:
            turn.future.set_exception(_stopping())
        deadline = time.monotonic() + _CLOSING
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))

    def _work(self) -> None:
        low = False
        while (turn := self._next()) is not None:
            if not self._alone and not low:
                lower_priority(NICE)
                low = True
            self._do(turn)
            del turn  # frees its result now, and not when the next job comes

    def _next(self) -> _Turn | None:
        """Wait for the next job that may start; None after `close`."""
        with self._changed:
            while not self.closing:
                seconds = self._until_room()
                if seconds == 0:
                    for model in self._waiting:
                        turn = self._next_of(model)
                        if turn is not None and turn.job is not None:
                            self._take(turn)
                            self._mark_busy(model)
                            return turn
                self._changed.wait(seconds or None)
        return None

    def _until_room(self) -> float | None:
        """Seconds until a job may start beside the running ones; None if one of those has to end first."""
        if not self._busy:
            return 0
        if self._alone or len(self._busy) >= AT_ONCE:
            return None
        return max(0.0, max(self._busy.values()) + SLOW - time.monotonic())

    def _next_of(self, model: str) -> _Turn | None:
        """The next job of a model; None while one is running."""
        return None if model in self._busy or model in self._taken else self._waiting[model][0]

    def _take(self, turn: _Turn) -> None:
        turns = self._waiting.pop(turn.model)
        turns.popleft()
        if turns:
            self._waiting[turn.model] = turns  # behind the others

    def _mark_busy(self, model: str) -> None:
        switch_interval.shorten("loading", switch_interval.BESIDE_LOADS)
        self._busy[model] = time.monotonic()

    def _mark_idle(self, model: str) -> None:
        with self._changed:
            del self._busy[model]
            if not self._busy:
                switch_interval.relax("loading")
            self._changed.notify_all()

    def _do(self, turn: _Turn) -> None:
        assert turn.job is not None  # `_next` returns no others
        try:
            result = turn.job()
        except BaseException as error:
            self._mark_idle(turn.model)
            turn.future.set_exception(error)
        else:
            self._mark_idle(turn.model)
            turn.future.set_result(result)

    def _attend(self) -> None:
        lower_priority(NICE)
        while (job := self._short.get()) is not None:
            if not self.closing:
                job()
            del job


def when_done(futures: Iterable[Future[Any]], then: Job) -> None:
    """Call `then` once all futures are done, on the thread that completes the last one."""
    remaining = iter(futures)

    def go_on(_: object) -> None:
        for future in remaining:
            if not future.done():
                future.add_done_callback(go_on)
                return
        then()

    go_on(None)


def return_memory(collect: bool) -> None:
    """Return unused memory to the system. With `collect`, reference cycles are collected first."""
    if collect:
        gc.collect()
    if sys.platform == "linux":
        with suppress(AttributeError):  # another C library than glibc
            ctypes.CDLL(None).malloc_trim(0)


def _stopping() -> DrainingError:
    return DrainingError("The server is stopping.")
