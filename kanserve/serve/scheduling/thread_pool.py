"""The thread pool that answers calls: few threads for fast models, more while some calls are slow.

`threads` calls have a place and run at once. A call that still runs after a few ticks of a monitor, or whose model is
known to be slow, is displaced: it gives its place to another thread, which takes the next call. So a model that sleeps,
or a client that is slow to send its message, blocks nobody. The number of displaced calls is bounded (`SPARE`), and no
model may have more of them than are still free, so that some are always left for others.
"""

import logging
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from functools import partial
from queue import SimpleQueue
from time import perf_counter_ns, thread_time_ns
from types import TracebackType
from typing import Any, ParamSpec, Protocol, TypeVar

from kanserve.errors import BusyError, DeadlineError, InputError
from kanserve.serve.request import GoneError, Request, Unpacked
from kanserve.serve.scheduling import cpus, switch_interval
from kanserve.serve.scheduling.low_priority_pool import MEASURED, Cost, LowPriorityPool


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
    """A queue of jobs for threads; None tells a thread to end."""

    def get(self) -> Job | None: ...
    def put(self, job: Job | None, /) -> None: ...
    def qsize(self) -> int: ...


P = ParamSpec("P")
T = TypeVar("T")

SPARE = 128  # extra threads, for displaced calls
MAX_INFLIGHT_BYTES = 2**28  # total bytes of large messages in flight
_LARGE = 2**16  # bytes of a message; smaller ones are not counted
TICK = 0.01  # seconds
SLOW_TICKS = 2  # of the monitor during one call; ticks, not time, so that a suspended machine makes no call slow
SLOW = 20_000_000  # nanoseconds of a model's mean
_QUIET_TICKS = 10  # ticks without a call after which the monitor sleeps until the next one
_BESIDE = 1_000_000_000  # nanoseconds since the last change of model in which models count as used concurrently
_WEIGHT = 1 / 8  # of a new value in the moving average

_logger = logging.getLogger(__name__)


PATIENCE = 60_000_000_000  # nanoseconds; 16 MiB need 2.3 Mbit/s
BRIEF = 1_000_000_000  # nanoseconds, while no other thread is free, and for messages that only name something


class MessageWaits:
    """The calls that wait for their message; thread-safe. Without a timeout, clients that open calls and send nothing
    would soon occupy all threads."""

    def __init__(self) -> None:
        self._waits: dict[int, _Wait] = {}

    def __len__(self) -> int:
        return len(self._waits)

    def message(self, wait: "_Wait") -> bytes | Unpacked:
        """Wait for the first message. Raises DeadlineError if it comes too late, InputError if there is none."""
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
        """Cancel the calls whose timeout has passed; with `hurried`, all have the timeout BRIEF."""
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


class ThreadPool(Executor):
    """Thread pool for the gRPC server. gRPC submits each call as soon as it arrives, so calls that are still queued
    count as accepted. `jobs` is the queue that the threads take work from; the native transport passes its own."""

    def __init__(
        self,
        threads: int,
        spare: int | None = None,
        held: int = MAX_INFLIGHT_BYTES,
        jobs: JobQueue | None = None,
    ) -> None:
        self.draining = False  # what comes is late
        self.ready = True  # whether new work should come here
        self._places, self._spare = threads, SPARE if spare is None else spare
        self._left_to_hold = held  # bytes
        self._here = threading.local()
        self._lock = threading.Lock()
        self._accepted = 0
        self._streams = Counter[str]()  # by connection
        self._idle = threading.Event()  # set once draining and all accepted calls have ended
        self._jobs: JobQueue = SimpleQueue() if jobs is None else jobs
        self._uncounted: Callable[[], int] = getattr(jobs, "count_uncounted", int)  # calls that wait in the queue
        self._computed: Callable[[], int] = getattr(jobs, "computed", int)  # when a model last computed elsewhere
        self._models = _Models()  # by name and kind of call
        self._full: set[_Model] = set()  # the models at their concurrency limit
        self._workers: list[_Worker] = []
        self._parked: list[_Worker] = []  # threads without a place or a call
        self._latest: _Model | None = None  # the model that computed last, and when that last changed
        self._changed = 0
        self._displaced = 0  # calls that have given up their place
        self._arriving = MessageWaits()
        self._heavy = LowPriorityPool()
        self._ended = False
        self._watching, self._wake = False, threading.Event()
        for _ in range(threads):
            self._start()
        if self._spare:
            threading.Thread(target=self._watch, name="kanserve-monitor", daemon=True).start()

    # Of a future, grpc only uses `add_done_callback`; a real one has a Condition, which costs more than a call.
    def submit(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Job":  # type: ignore[override]
        with self._lock:
            late = self.draining
            self._accepted += not late
        job = Job(perf_counter_ns(), late, call, args, kwargs)
        self._jobs.put(job)
        return job

    def accept(self, late: bool) -> None:
        """Count a call that a thread of this pool has taken from its queue."""
        with self._lock:
            self._accepted += not late

    @property
    def arrival(self) -> Arrival:
        """The arrival of the call that this thread answers; on any other thread, now."""
        worker: _Worker | None = getattr(self._here, "worker", None)
        if worker is None or worker.job is None:
            return Arrival(perf_counter_ns(), self.draining)
        return worker.job

    @property
    def accepted(self) -> int:
        """The number of calls that have arrived and are not answered, without late ones."""
        return self._accepted + self._uncounted()

    @contextmanager
    def counted(self) -> Iterator[Arrival]:
        """Count work on another thread, such as a request within a stream, as a call of this pool."""
        with self._lock:
            arrival = Arrival(perf_counter_ns(), self.draining)
            self._accepted += not arrival.late
        try:
            yield arrival
        finally:
            with self._lock:
                self._count_ended(arrival)

    def computing(self, model: str, most: int, kind: str = "", rows: int = 1, requests: int = 1) -> "_Computing":
        """A context in which a model computes; yields None, or a function that runs the work on the low-priority pool.
        Raises BusyError above the concurrency limit `most`. Only for existing models, since each name is remembered."""
        return _Computing(self, self._models[model, kind], most, rows, requests)

    def refuse(self, models: Iterable[str]) -> bool:
        """Whether an inference of any of these models would be refused once it had a thread: all are at their limits,
        and no place will be freed for the next call when one ends."""
        return bool(self._full) and all(
            (model := self._models[name, ""]) in self._full and model.displaced >= model.running for name in models
        )

    def message(self, request: Request, patience: int = PATIENCE) -> bytes | Unpacked:
        """The message of a unary call. Raises DeadlineError after `patience` nanoseconds (after BRIEF if no other
        thread is free), InputError if there is none, BusyError if the messages in flight take too much memory."""
        wait = self._arriving.begin(request, patience)
        if not self._watching:
            self._wake.set()
        data = self._arriving.message(wait)
        if len(data) > _LARGE:
            self._hold(len(data))
        return data

    def first_message(self, request: Request) -> list[bytes | Unpacked]:
        """The first message of a stream in a list, empty if it has ended. Raises DeadlineError after PATIENCE."""
        try:
            return [self.message(request)]
        except InputError:
            return []

    def _hold(self, size: int) -> None:
        """Count a large message against the memory limit until this thread's call ends; streams do not count."""
        if (worker := getattr(self._here, "worker", None)) is None:
            return
        with self._lock:
            if size > self._left_to_hold:
                raise BusyError("The messages of the calls under way take too much memory. Try again later.")
            self._left_to_hold -= size
            worker.holds += size

    def open_stream(self, most: int, peer: str) -> None:
        """Count a new stream. Raises BusyError if `most` are open, or if its connection `peer` has used its share: a
        connection alone may have half. Connections to a socket file have one name, and share all."""
        share = "" if peer.startswith("unix:") else peer
        with self._lock:
            left = most - self._streams.total()
            if left <= 0:
                raise BusyError(f"{most} streams are open. Try again later.")
            if share and self._streams[share] >= left:
                raise BusyError(f"This connection has {self._streams[share]} of {most} streams. Try again later.")
            self._streams[share] += 1

    def close_stream(self, peer: str) -> None:
        with self._lock:
            self._streams -= Counter(["" if peer.startswith("unix:") else peer])

    def gauges(self) -> dict[str, float]:
        """Current values, keyed by metric name."""
        workers = list(self._workers)
        return {
            "threads": len(workers),
            "threads_busy": sum(worker.job is not None for worker in workers),
            "queue_length": self._jobs.qsize(),
            "calls_in_flight": self.accepted,
            "streams_open": self._streams.total(),
            "calls_displaced": self._displaced,
        }

    def requests_computing(self) -> dict[str, int]:
        """How many requests each model computes now, over all kinds of call; models without any are left out."""
        made: dict[str, int] = {}
        for model in list(self._models.values()):
            if running := model.running:
                made[model.key[0]] = made.get(model.key[0], 0) + running
        return made

    def close(self) -> None:
        """Count every call from now on as late."""
        with self._lock:
            self.draining, self.ready = True, False
            if self._accepted == 0:
                self._idle.set()

    def drain(self, timeout: float) -> bool:
        """Close, then wait for the accepted calls. Returns whether they ended in time."""
        self.close()
        return self._idle.wait(timeout)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the threads once all queued calls are answered; with `wait`, return after that."""
        with self._lock:
            if not self._ended:
                self._ended = True
                for parked in self._parked:
                    parked.gate.release()
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
                del job  # frees its message
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
        except BaseException:  # not expected: grpc handles the errors of calls
            _logger.exception("an unexpected error reached a thread of the pool")
        with self._lock:
            me.job = None
            self._left_to_hold += me.holds
            me.holds = 0
            self._count_ended(job)
            if not me.placed:
                self._displaced -= 1
                if self._displaced == 0:
                    switch_interval.relax("calls")
        job.done()

    def _wait_for_a_place(self, me: "_Worker") -> bool:
        """Park until a place is free. Returns False if enough threads are parked, or the pool ends."""
        with self._lock:
            if self._ended or len(self._parked) >= self._places:
                return False
            self._parked.append(me)
        me.gate.acquire()
        return me.placed  # False: the pool ends

    def _count_ended(self, arrival: Arrival) -> None:
        """Count a call as ended; the lock must be held."""
        self._accepted -= not arrival.late
        if self.draining and self._accepted == 0:
            self._idle.set()

    def _displace(self, worker: "_Worker", job: "Job") -> None:
        """Give this thread's place to another one until its call has ended, unless too many are displaced."""
        with self._lock:
            if worker.job is not job or not worker.placed or self._ended or self._displaced >= self._spare:
                return
            worker.placed = False
            self._displaced += 1
            switch_interval.shorten("calls", switch_interval.BESIDE_CALLS)
            if worker.model is not None:
                worker.model.displaced += 1
            if self._parked:
                successor = self._parked.pop()
                successor.placed = True
                successor.gate.release()
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
                # A call may have begun before it saw `_watching` change, and would not set `_wake`.
                if not self._arriving and all(worker.job is None for worker in list(self._workers)):
                    self._wake.wait()
                self._watching = True
                self._wake.clear()


class _Worker:
    """A thread, its current call and model, and whether it has a place."""

    __slots__ = ("gate", "holds", "job", "model", "placed", "thread", "ticks")

    def __init__(self) -> None:
        self.thread: threading.Thread
        self.job: Job | None = None
        self.model: _Model | None = None
        self.placed, self.ticks = True, 0
        self.holds = 0  # bytes of its large message
        self.gate = threading.Lock()  # released when a parked thread gets a place, or is to end
        self.gate.acquire()


class _Model:
    """The running calls of a model, how many of them are displaced, and its costs by request size."""

    __slots__ = ("costs", "displaced", "key", "running")

    def __init__(self, key: tuple[str, str]) -> None:
        self.key = key
        self.running = self.displaced = 0
        self.costs: defaultdict[int, Cost] = defaultdict(Cost)  # by the bit length of the number of rows


class _Models(dict[tuple[str, str], _Model]):
    """Models by name and kind of call, created on first access."""

    def __missing__(self, key: tuple[str, str]) -> _Model:
        return self.setdefault(key, _Model(key))


class _Computing:
    """The context of `ThreadPool.computing`: a class, because a generator would cost more than a small model."""

    __slots__ = ("_begun", "_cost", "_model", "_most", "_processor", "_queued", "_requests", "_threads", "_worker")

    def __init__(self, threads: ThreadPool, model: _Model, most: int, rows: int, requests: int) -> None:
        self._threads, self._model, self._most, self._requests = threads, model, most, requests
        self._worker: _Worker | None = getattr(threads._here, "worker", None)  # None: a stream, on its own thread
        self._cost = model.costs[rows.bit_length()]
        self._begun = self._processor = self._queued = 0

    def __enter__(self) -> Callable[..., Any] | None:
        threads, model, worker, cost = self._threads, self._model, self._worker, self._cost
        now = perf_counter_ns()
        with threads._lock:
            if threads._latest is not model:
                threads._latest, threads._changed = model, now
            left = threads._spare - threads._displaced
            if model.running + self._requests > self._most or model.displaced > max(left, 0):
                name, running = model.key[0], model.running
                raise BusyError(f"{name!r} is at its concurrency limit: {running} requests. Try again later.")
            model.running += self._requests
            if model.running >= self._most:
                threads._full.add(model)
            if worker is not None:
                worker.model = model
                model.displaced += not worker.placed
        if cost.wall > MEASURED:
            heavy = cost.heavy or (cost.felt and now - max(threads._changed, threads._computed()) < _BESIDE)
            if (heavy or cost.wall > SLOW) and worker is not None and worker.placed and worker.job is not None:
                threads._displace(worker, worker.job)
            if heavy:
                return partial(threads._heavy.run, cost)
            self._queued, now, self._processor = cpus.read_queued_time(), perf_counter_ns(), thread_time_ns()
        self._begun = now
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        threads, model, worker, cost = self._threads, self._model, self._worker, self._cost
        took = perf_counter_ns() - self._begun
        processor = queued = 0
        if self._processor:
            processor, queued = thread_time_ns() - self._processor, cpus.read_queued_time() - self._queued
        with threads._lock:
            if self._processor:
                cost.note(took - queued, processor, min(1.0, threads._heavy.cores / model.running))
            elif self._begun:
                cost.wall += _WEIGHT * (took - cost.wall)
            model.running -= self._requests
            threads._full.discard(model)
            if worker is not None:
                worker.model = None
                model.displaced -= not worker.placed
