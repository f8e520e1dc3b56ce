"""The thread pool for CPU-heavy models: one low-priority thread per core.

More threads would answer nothing sooner, and would make everything else wait for a core: fast models, and calls that
only need to be refused. On Linux each thread has its own priority, which it may lower but never raise again; so these
threads do nothing else.
"""

import threading
from collections.abc import Callable
from queue import SimpleQueue
from time import perf_counter_ns, thread_time_ns
from typing import Any, TypeVar

from kanserve.serve.scheduling import cpus

T = TypeVar("T")

NICE = 10  # a tenth of the CPU time under contention, which other work on the machine may cause for long
HEAVY = 2_000_000  # nanoseconds of CPU time: moving to another thread costs at most a twentieth of that
FELT = 400_000  # nanoseconds of CPU time: moving costs up to a fifth of that, but callers of other models notice it
MEASURED = 200_000  # nanoseconds of wall time: below it, CPU time is not measured
_WEIGHT = 1 / 8  # of a new call in the means
_WAITS = 4  # a call whose wall time is more than this many times its CPU time waits for something else


class Cost:
    """The cost of one kind of call: moving averages of wall and CPU time in nanoseconds. `heavy`: costs enough CPU
    time to be moved to the low-priority pool. `felt`: costs enough that callers of other models would notice it;
    moved only while there are such calls."""

    __slots__ = ("felt", "heavy", "most", "processor", "wall")

    def __init__(self) -> None:
        self.wall = self.processor = 0.0
        self.most = 0.0  # the CPU time that it could have had at most
        self.heavy = self.felt = False

    def note(self, wall: int, processor: int, share: float) -> None:
        """Record a call. `wall` excludes time in the run queue; `share`: the share of a core that it could have had."""
        self.wall += _WEIGHT * (wall - self.wall)
        self.processor += _WEIGHT * (processor - self.processor)
        self.most += _WEIGHT * (wall * share - self.most)
        self.heavy = self._beyond(HEAVY, self.heavy)
        self.felt = self._beyond(FELT, self.felt)

    def _beyond(self, limit: int, before: bool) -> bool:
        """Whether the call costs more CPU time than the limit and does not mostly wait. With hysteresis: once it does,
        half of the limit suffices."""
        times = 2 if before else 1
        return self.processor * times > limit and self.processor * _WAITS * times >= self.most


class LowPriorityPool:
    """Low-priority threads, started when needed, that compute calls in order of arrival."""

    def __init__(self) -> None:
        self._cores = 0  # determined late, since the process may be pinned after its start
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads = self._free = 0

    @property
    def cores(self) -> int:
        self._cores = self._cores or cpus.available()
        return self._cores

    def run(self, cost: Cost, work: Callable[..., T], *arguments: Any) -> T:
        """Run the work on the pool, return or raise its result, and record its cost."""
        job = _Job(work, arguments)
        with self._lock:
            if self._free > 0:
                self._free -= 1
            elif self._threads < self.cores:
                self._threads += 1
                threading.Thread(target=self._compute, name="kanserve-heavy", daemon=True).start()
            else:
                self._free -= 1  # negative: the number of waiting jobs
        self._jobs.put(job)
        job.ended.acquire()
        cost.note(job.wall, job.processor, 1.0)
        if job.error is not None:
            try:
                raise job.error
            finally:
                job.error = None  # breaks a reference cycle: the error's frames hold the job
        made: T = job.result
        return made

    def close(self) -> None:
        """End the threads after all queued jobs."""
        with self._lock:
            for _ in range(self._threads):
                self._jobs.put(None)

    def _compute(self) -> None:
        cpus.lower_priority(NICE)
        while (job := self._jobs.get()) is not None:
            queued, begun, processor = cpus.read_queued_time(), perf_counter_ns(), thread_time_ns()
            try:
                job.result = job.work(*job.arguments)
            except BaseException as error:
                job.error = error
            # Time in the run queue is not time for which the model waits.
            job.processor, job.wall = thread_time_ns() - processor, perf_counter_ns() - begun
            job.wall -= cpus.read_queued_time() - queued
            with self._lock:
                self._free += 1
            job.ended.release()
            del job  # and with it its rows


class _Job:
    """Work for another thread, and its result."""

    __slots__ = ("arguments", "ended", "error", "processor", "result", "wall", "work")

    def __init__(self, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self.work, self.arguments = work, arguments
        self.result: Any = None
        self.error: BaseException | None = None
        self.wall = self.processor = 0
        self.ended = threading.Lock()
        self.ended.acquire()
