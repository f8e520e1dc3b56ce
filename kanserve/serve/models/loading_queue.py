"""Threads of low priority on which everything that takes long is done to the table of models, so that nobody waits.

One thing at a time, since each that loads holds memory and, now and then, Python's lock; but what takes longer than
SLOW lets another begin beside it. What is done to one model is done in the order in which it was asked for.
"""

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

NICE = 5  # a third of the processor's time where others want it: what loads holds Python's lock now and then
AT_ONCE = 2
SLOW = 1.0  # seconds
_CLOSING = 1.0  # seconds; an interpreter should not end under a thread that is in a C++ library

Job = Callable[[], object]


@dataclass(eq=False)
class _Turn:
    """Something to be done to a model, or, where that is the empty text, to none; without a job who asked does it."""

    model: str
    job: Job | None = None
    shared: str = ""
    future: Future[Any] = field(default_factory=Future)


class LoadingQueue:
    """The threads, each started when there is something to do for it. Any thread may ask them, they themselves too."""

    def __init__(self) -> None:
        self.closing = False
        self._changed = threading.Condition()  # guards what follows
        self._waiting: dict[str, deque[_Turn]] = {}  # by model; who has waited longest is first
        self._busy: dict[str, float] = {}  # what is being loaded, and since when
        self._taken: set[str] = set()  # models that somebody changes on a thread of his own
        self._threads: list[threading.Thread] = []
        self._alone = True
        self._short: SimpleQueue[Job | None] = SimpleQueue()  # which a finalizer may put into, wherever it runs
        self._attends: threading.Thread | None = None

    def begin(self, job: Job, model: str = "", shared: str = "") -> Future[Any]:
        """Do it when its turn comes; DrainingError after `close`.

        Of jobs that are `shared` under one text, one that has not begun yet is everybody's who asks for it, as long as
        nothing else was asked of that model since.
        """
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
        """A model's turn on this thread, for what takes no time; it waits for what was asked of that model before."""
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
        """From now on `soon` does what it is told."""
        with self._changed:
            if self._attends is None and not self.closing:
                self._attends = threading.Thread(target=self._attend, name="kanserve-letting-go", daemon=True)
                self._attends.start()

    def soon(self, job: Job) -> None:
        """Do it when there is time, but before what is being loaded is ready, and wait for nothing."""
        self._short.put(job)

    def give_way(self) -> None:
        """From now on others have something to do: the priority of all that is done here is low, and what is slow keeps
        nobody waiting. Before that one follows the other, so that it is known of what a process died.
        """
        self._alone = False

    @property
    def idle(self) -> bool:
        return not self._waiting and self._short.empty()

    def close(self) -> None:
        """End the threads once what they are doing is done, and refuse what waits."""
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
            del turn  # what it holds goes now, and not when the next one comes

    def _next(self) -> _Turn | None:
        """What is to be done next, once it may be begun; None at the end."""
        with self._changed:
            while not self.closing:
                seconds = self._until_room()
                if seconds == 0:
                    for model in self._waiting:
                        turn = self._next_of(model)
                        if turn is not None and turn.job is not None:
                            self._take(turn)
                            self._begun(model)
                            return turn
                self._changed.wait(seconds or None)
        return None

    def _until_room(self) -> float | None:
        """Seconds until something may begin beside what is being done; None: not before some of that has ended."""
        if not self._busy:
            return 0
        if self._alone or len(self._busy) >= AT_ONCE:
            return None
        return max(0.0, max(self._busy.values()) + SLOW - time.monotonic())

    def _next_of(self, model: str) -> _Turn | None:
        """What is to be done next to a model; None while something is done to it."""
        return None if model in self._busy or model in self._taken else self._waiting[model][0]

    def _take(self, turn: _Turn) -> None:
        turns = self._waiting.pop(turn.model)
        turns.popleft()
        if turns:
            self._waiting[turn.model] = turns  # behind the others

    def _begun(self, model: str) -> None:
        switch_interval.shorten("loading", switch_interval.BESIDE_LOADS)
        self._busy[model] = time.monotonic()

    def _ended(self, model: str) -> None:
        with self._changed:
            del self._busy[model]
            if not self._busy:
                switch_interval.relax("loading")
            self._changed.notify_all()

    def _do(self, turn: _Turn) -> None:
        assert turn.job is not None  # `_next` gives no other
        try:
            result = turn.job()
        except BaseException as error:
            self._ended(turn.model)
            turn.future.set_exception(error)
        else:
            self._ended(turn.model)
            turn.future.set_result(result)

    def _attend(self) -> None:
        lower_priority(NICE)
        while (job := self._short.get()) is not None:
            if not self.closing:
                job()
            del job


def when_done(futures: Iterable[Future[Any]], then: Job) -> None:
    """Do it once all are done, on the thread that did the last."""
    left = iter(futures)

    def go_on(_: object) -> None:
        for one in left:
            if not one.done():
                one.add_done_callback(go_on)
                return
        then()

    go_on(None)


def return_memory(collect: bool) -> None:
    """Give what is not used any more back to the system, also, to `collect`, what refers to itself."""
    if collect:
        gc.collect()
    if sys.platform == "linux":
        with suppress(AttributeError):  # another C library than glibc
            ctypes.CDLL(None).malloc_trim(0)


def _stopping() -> DrainingError:
    return DrainingError("The server is stopping.")
