"""The threads that answer calls: few for models that are fast, more where some are slow, and what each has accepted.

`threads` calls run at once. One that is still running after a few ticks of a monitor, or whose model is known to be
slow, gives its place away, so that another thread takes the next call: a model that sleeps, or a client that is slow to
send its message, keeps nobody waiting. What has lost its place is bounded, and no model may take more than half of what
is left of that, so that there is always some left.
"""

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from functools import partial
from queue import SimpleQueue
from time import perf_counter_ns, thread_time_ns
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

import grpc

from kanserve.errors import BusyError
from kanserve.serve.scheduling import cpus, switch_interval
from kanserve.serve.scheduling.cost import MEASURED, Cost
from kanserve.serve.scheduling.jobs import Arrival, Job
from kanserve.serve.scheduling.low_priority_pool import LowPriorityPool
from kanserve.serve.scheduling.receive_timeout import PATIENCE, MessageWaits

P = ParamSpec("P")
T = TypeVar("T")

SPARE = 128  # threads beyond those that have a place
MAX_INFLIGHT_BYTES = 2**28  # bytes of large messages that calls may hold together
_LARGE = 2**16  # bytes of a message; those of smaller ones do not add up to much
TICK = 0.01  # seconds
SLOW_TICKS = 2  # of the monitor, seen in one call; ticks and not time, so that a machine that stands still slows nobody
SLOW = 20_000_000  # nanoseconds of a model's mean
_QUIET_TICKS = 10  # without a call, and the monitor sleeps until there is one
_BESIDE = 1_000_000_000  # nanoseconds for which two models are asked beside each other once one followed the other
_WEIGHT = 1 / 8  # of a new time in the mean

_logger = logging.getLogger(__name__)


class ThreadPool(Executor):
    """An executor for grpc, which submits every call as soon as it has arrived, and knows of each from then on."""

    def __init__(self, threads: int, spare: int | None = None, held: int = MAX_INFLIGHT_BYTES) -> None:
        self.draining = False
        self._places, self._spare = threads, SPARE if spare is None else spare
        self._left_to_hold = held  # bytes
        self._here = threading.local()
        self._lock = threading.Lock()
        self._accepted = self._streams = 0
        self._idle = threading.Event()  # set when a drain has seen the last of what was accepted
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._models = _Models()  # by name and kind of call
        self._full: set[_Model] = set()  # what computes as often as it may
        self._workers: list[_Worker] = []
        self._parked: list[_Worker] = []  # that have no place and nothing to do
        self._latest: _Model | None = None  # the last that has computed, and when another one was
        self._changed = 0
        self._displaced = 0  # calls that have given their place away
        self._arriving = MessageWaits()
        self._heavy = LowPriorityPool()
        self._ended = False
        self._watching, self._wake = False, threading.Event()
        for _ in range(threads):
            self._start()
        if self._spare:
            threading.Thread(target=self._watch, name="kanserve-monitor", daemon=True).start()

    # grpc asks no more of a future than `add_done_callback`; a real one has a Condition, which costs more than a call.
    def submit(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Job":  # type: ignore[override]
        with self._lock:
            late = self.draining
            self._accepted += not late
        job = Job(perf_counter_ns(), late, call, args, kwargs)
        self._jobs.put(job)
        return job

    @property
    def arrival(self) -> Arrival:
        """That of the call which this thread answers; of any other thread, now."""
        worker: _Worker | None = getattr(self._here, "worker", None)
        if worker is None or worker.job is None:
            return Arrival(perf_counter_ns(), self.draining)
        return worker.job

    @property
    def accepted(self) -> int:
        """Calls that have come and are not answered, late ones apart."""
        return self._accepted

    @contextmanager
    def counted(self) -> Iterator[Arrival]:
        """Counts as one call of these threads, whatever thread it runs on: a request within a stream."""
        with self._lock:
            arrival = Arrival(perf_counter_ns(), self.draining)
            self._accepted += not arrival.late
        try:
            yield arrival
        finally:
            with self._lock:
                self._left(arrival)

    def computing(self, model: str, most: int, kind: str = "", rows: int = 1) -> "_Computing":
        """A context in which a model computes; BusyError where it does so `most` times already, for this kind of call.

        It gives None, or what is to be called with the work, which is then done where it takes nothing from others. Of
        a name that is known to be a model's: each is remembered.
        """
        return _Computing(self, self._models[model, kind], most, rows)

    def refuse(self, models: Iterable[str]) -> bool:
        """Whether an inference of each of these would be refused as soon as it had a thread: where a call that keeps
        its place computes, the next one may be its successor."""
        return bool(self._full) and all(
            (model := self._models[one, ""]) in self._full and model.displaced >= model.running for one in models
        )

    def message(self, requests: Iterator[bytes], context: grpc.ServicerContext, patience: int = PATIENCE) -> bytes:
        """The message of a call that takes one: DeadlineError after so many nanoseconds, or a moment where there is no
        other thread; InputError where none comes; BusyError where the calls together hold too much already."""
        wait = self._arriving.begin(context, patience)
        if not self._watching:
            self._wake.set()
        data = self._arriving.message(wait, requests)
        if len(data) > _LARGE:
            self._hold(len(data))
        return data

    def _hold(self, size: int) -> None:
        """Until the call of this thread ends; of a stream, which are few, nothing."""
        if (worker := getattr(self._here, "worker", None)) is None:
            return
        with self._lock:
            if size > self._left_to_hold:
                raise BusyError("The messages of the calls under way take too much memory. Try again later.")
            self._left_to_hold -= size
            worker.holds += size

    def open_stream(self, most: int) -> None:
        """Note that a stream has begun; BusyError where `most` are open."""
        with self._lock:
            if self._streams >= most:
                raise BusyError(f"{most} streams are open. Try again later.")
            self._streams += 1

    def close_stream(self) -> None:
        with self._lock:
            self._streams -= 1

    def gauges(self) -> dict[str, float]:
        """What is now, by the names that metrics have."""
        workers = list(self._workers)
        return {
            "threads": len(workers),
            "threads_busy": sum(worker.job is not None for worker in workers),
            "queue_length": self._jobs.qsize(),
            "calls_in_flight": self._accepted,
            "streams_open": self._streams,
        }

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

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the threads, and wait for their calls where that is asked for; what waits for a thread is answered."""
        with self._lock:
            if not self._ended:
                self._ended = True
                for one in self._parked:
                    one.gate.release()
                for _ in range(self._places):
                    self._jobs.put(None)
        self._wake.set()
        if wait:
            for worker in list(self._workers):
                worker.thread.join()
        self._heavy.close()

    def _start(self) -> None:
        worker = _Worker()
        worker.thread = threading.Thread(target=self._work, args=(worker,), name="kanserve", daemon=True)
        self._workers.append(worker)
        worker.thread.start()

    def _work(self, me: "_Worker") -> None:
        self._here.worker = me
        try:
            while (job := self._jobs.get()) is not None:
                self._answer(me, job)
                del job  # and with it its message
                if not me.placed and not self._wait_for_a_place(me):
                    return
        finally:
            self._workers.remove(me)

    def _answer(self, me: "_Worker", job: "Job") -> None:
        me.ticks, me.job = 0, job
        if not self._watching:
            self._wake.set()
        try:
            job.call(*job.args, **job.kwargs)
        except BaseException:  # what goes wrong in a call ends in grpc
            _logger.exception("a thread has met what it should not")
        with self._lock:
            me.job = None
            self._left_to_hold += me.holds
            me.holds = 0
            self._left(job)
            if not me.placed:
                self._displaced -= 1
                if self._displaced == 0:
                    switch_interval.relax("calls")
        job.done()

    def _wait_for_a_place(self, me: "_Worker") -> bool:
        """Whether there is one; else this thread is one too many."""
        with self._lock:
            if self._ended or len(self._parked) >= self._places:
                return False
            self._parked.append(me)
        me.gate.acquire()
        return me.placed  # else this is the end

    def _left(self, arrival: Arrival) -> None:
        """With the lock held."""
        self._accepted -= not arrival.late
        if self.draining and self._accepted == 0:
            self._idle.set()

    def _displace(self, worker: "_Worker", job: "Job") -> None:
        """Another thread takes the place of this one until its call has ended, where there is one left."""
        with self._lock:
            if worker.job is not job or not worker.placed or self._ended or self._displaced >= self._spare:
                return
            worker.placed = False
            self._displaced += 1
            switch_interval.shorten("calls", switch_interval.BESIDE_CALLS)
            if worker.model is not None:
                worker.model.displaced += 1
            if self._parked:
                other = self._parked.pop()
                other.placed = True
                other.gate.release()
                return
        self._start()

    def _watch(self) -> None:
        quiet = 0
        self._watching = True
        while not self._ended:
            time.sleep(TICK)
            quiet += 1
            for worker in list(self._workers):
                job = worker.job
                if job is None:
                    continue
                quiet = 0
                worker.ticks += 1
                if worker.placed and worker.ticks > SLOW_TICKS:
                    self._displace(worker, job)
            if self._arriving:
                quiet = 0
                self._arriving.expire(hurried=self._displaced >= self._spare)
            if quiet > _QUIET_TICKS:
                self._watching = False
                # Else one began before it could see that.
                if not self._arriving and all(worker.job is None for worker in list(self._workers)):
                    self._wake.wait()
                self._watching = True
                self._wake.clear()


class _Worker:
    """A thread, the call that it answers and whose model it runs, and whether it has one of the places."""

    __slots__ = ("gate", "holds", "job", "model", "placed", "thread", "ticks")

    def __init__(self) -> None:
        self.thread: threading.Thread
        self.job: Job | None = None
        self.model: _Model | None = None
        self.placed, self.ticks = True, 0
        self.holds = 0  # bytes of a large message
        self.gate = threading.Lock()  # released where a parked thread gets a place, or is to end
        self.gate.acquire()


class _Model:
    """How often a model computes now, how many of these have lost their place, and what it costs by the size of what it
    is given.
    """

    __slots__ = ("costs", "displaced", "key", "running")

    def __init__(self, key: tuple[str, str]) -> None:
        self.key = key
        self.running = self.displaced = 0
        self.costs: defaultdict[int, Cost] = defaultdict(Cost)  # by the length in bits of the count of rows


class _Models(dict[tuple[str, str], _Model]):
    """By name and kind of call, and there as soon as it is asked for."""

    def __missing__(self, key: tuple[str, str]) -> _Model:
        return self.setdefault(key, _Model(key))


class _Computing:
    """What `Threads.computing` gives: a class, because a generator costs more than a small model."""

    __slots__ = ("_begun", "_cost", "_model", "_most", "_processor", "_queued", "_threads", "_worker")

    def __init__(self, threads: ThreadPool, model: _Model, most: int, rows: int) -> None:
        self._threads, self._model, self._most = threads, model, most
        self._worker: _Worker | None = getattr(threads._here, "worker", None)  # none: a stream, on a thread of its own
        self._cost = model.costs[rows.bit_length()]
        self._begun = self._processor = self._queued = 0

    def __enter__(self) -> Callable[..., Any] | None:
        threads, model, worker, cost = self._threads, self._model, self._worker, self._cost
        now = perf_counter_ns()
        with threads._lock:
            if threads._latest is not model:
                threads._latest, threads._changed = model, now
            left = threads._spare - threads._displaced
            if model.running >= self._most or model.displaced > max(left, 0):
                name, running = model.key[0], model.running
                raise BusyError(f"{name!r} computes {running} requests, and takes no more. Try again later.")
            model.running += 1
            if model.running >= self._most:
                threads._full.add(model)
            if worker is not None:
                worker.model = model
                model.displaced += not worker.placed
        if cost.wall > MEASURED:
            heavy = cost.heavy or (cost.felt and now - threads._changed < _BESIDE)
            if (heavy or cost.wall > SLOW) and worker is not None and worker.placed and worker.job is not None:
                threads._displace(worker, worker.job)
            if heavy:
                return partial(threads._heavy.run, cost)
            self._queued, now, self._processor = cpus.queued(), perf_counter_ns(), thread_time_ns()
        self._begun = now
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        threads, model, worker, cost = self._threads, self._model, self._worker, self._cost
        took = perf_counter_ns() - self._begun
        processor = queued = 0
        if self._processor:
            processor, queued = thread_time_ns() - self._processor, cpus.queued() - self._queued
        with threads._lock:
            if self._processor:
                cost.note(took - queued, processor, min(1.0, threads._heavy.cores / model.running))
            elif self._begun:
                cost.wall += _WEIGHT * (took - cost.wall)
            model.running -= 1
            threads._full.discard(model)
            if worker is not None:
                worker.model = None
                model.displaced -= not worker.placed
