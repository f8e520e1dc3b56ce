"""Where models compute that keep a processor busy for long: a thread of low priority for each core, and no more.

More at once would answer nothing sooner, and each of them would make all others wait for a core: who only has to hear
that a queue is full, and the models that are fast. On Linux a thread has a priority of its own, which it may lower but
never raise again; so these threads do nothing else.
"""

import threading
from collections.abc import Callable
from queue import SimpleQueue
from time import perf_counter_ns, thread_time_ns
from typing import Any, TypeVar

from kanserve.serve.scheduling import cpus
from kanserve.serve.scheduling.cost import Cost

T = TypeVar("T")

NICE = 10  # a tenth of the processor's time where others want it; what else runs on the machine may, for long


class LowPriorityPool:
    """The threads, started as they are needed. Calls are computed in their order."""

    def __init__(self) -> None:
        self._cores = 0  # known once the process is where it stays
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads = self._free = 0

    @property
    def cores(self) -> int:
        self._cores = self._cores or cpus.available()
        return self._cores

    def run(self, cost: Cost, work: Callable[..., T], *arguments: Any) -> T:
        """What the work returns or raises, and note what it cost."""
        job = _Job(work, arguments)
        with self._lock:
            if self._free > 0:
                self._free -= 1
            elif self._threads < self.cores:
                self._threads += 1
                threading.Thread(target=self._compute, name="kanserve-heavy", daemon=True).start()
            else:
                self._free -= 1  # it waits for the first that is
        self._jobs.put(job)
        job.ended.acquire()
        cost.note(job.wall, job.processor, 1.0)
        if job.error is not None:
            try:
                raise job.error
            finally:
                job.error = None  # whose frames hold the job
        made: T = job.result
        return made

    def close(self) -> None:
        """The threads end once nothing waits for them."""
        with self._lock:
            for _ in range(self._threads):
                self._jobs.put(None)

    def _compute(self) -> None:
        cpus.lower_priority(NICE)
        while (job := self._jobs.get()) is not None:
            queued, begun, processor = cpus.queued(), perf_counter_ns(), thread_time_ns()
            try:
                job.result = job.work(*job.arguments)
            except BaseException as error:
                job.error = error
            # What other work on the machine takes from the thread is not what the model waits for.
            job.processor, job.wall = thread_time_ns() - processor, perf_counter_ns() - begun
            job.wall -= cpus.queued() - queued
            with self._lock:
                self._free += 1
            job.ended.release()
            del job  # and with it its rows


class _Job:
    """Work for another thread, and what came of it."""

    __slots__ = ("arguments", "ended", "error", "processor", "result", "wall", "work")

    def __init__(self, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self.work, self.arguments = work, arguments
        self.result: Any = None
        self.error: BaseException | None = None
        self.wall = self.processor = 0
        self.ended = threading.Lock()
        self.ended.acquire()
