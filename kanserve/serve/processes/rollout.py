"""Roll out model changes to all workers: one worker makes each change first, then the others. Changes run one after the
other, but a slow one does not delay changes of other models."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from kanserve.errors import ArtifactError, DeadlineError, NotFoundError
from kanserve.serve.models.loading_queue import SLOW
from kanserve.serve.processes.ipc import SupervisorEnd, WorkerEnd, encode_error
from kanserve.serve.state import Snapshot

CHANGE_SECONDS = 600.0  # how long all workers may take to load a model
_COUNT_SECONDS = 5.0


class WorkerControl:
    """A worker's control: the supervisor tells all workers, including this one, and answers when the last is done."""

    def __init__(self, line: WorkerEnd) -> None:
        self._line = line

    def load(self, name: str) -> None:
        self._line.ask("load", CHANGE_SECONDS, name=name)

    def unload(self, name: str) -> None:
        self._line.ask("unload", CHANGE_SECONDS, name=name)

    def snapshot(self) -> Snapshot:
        counts: Snapshot = self._line.ask("snapshot", _COUNT_SECONDS)
        return counts


What = Literal["load", "unload", "refresh"]


class Worker(Protocol):
    """A ready worker process."""

    pid: int
    ears: SupervisorEnd


@dataclass(eq=False)
class Change:
    """A change for all workers and its outcome; `asker` is the worker waiting for it, with its question number."""

    what: What
    name: str = ""
    asker: tuple[Any, int] | None = None  # Any: a worker of the supervisor
    quiet: bool = False
    error: list[str] | None = None  # of the first worker that failed
    changed: bool = False


@dataclass(eq=False)
class Counting:
    """A request for the metrics of all workers."""

    asker: Any  # a worker of the supervisor
    question: int
    waiting: set[int]
    deadline: float


@dataclass(eq=False)
class _Stage:
    """The progress of a change during rollout."""

    change: Change
    number: int  # of the question that the workers answer
    left: list[Worker]  # those that have not been told
    since: float
    before: frozenset[tuple[str, int]]  # the versions that were refused at its start
    first: int | None = None  # the process that tries the change before the others
    empty: int | None = None  # its slot if it died of the change: the next worker there makes it at its start, or dies
    waiting: set[int] = field(default_factory=set)  # the processes that have been told

    @property
    def deadline(self) -> float:
        return self.since + CHANGE_SECONDS


class Changing:
    """The queue of changes, and their result: which models were loaded and unloaded by hand."""

    def __init__(self, refused: Mapping[tuple[str, int], str]) -> None:
        self.loaded: set[str] = set()
        self.unloaded: set[str] = set()
        self._refused = refused
        self._queue: deque[Change] = deque()
        self._now: dict[str, _Stage] = {}  # by model; "" is a refresh of all models
        self._finished: list[Change] = []

    @property
    def idle(self) -> bool:
        return not self._now and not self._queue

    @property
    def deadline(self) -> float:
        """When to call `go_on` even if no message arrives."""
        times = [stage.deadline for stage in self._now.values()]
        if times and self._next() is not None:
            times.append(self._slow_at)
        return min(times, default=float("inf"))

    def add(self, change: Change) -> None:
        """Queue a change; several queued refreshes become one."""
        waiting = (queued for queued in self._queue if queued.what == "refresh")
        if change.what == "refresh" and (same := next(waiting, None)):
            same.quiet &= change.quiet
        else:
            self._queue.append(change)

    def go_on(self, ready: Sequence[Worker], numbers: Iterator[int], now: float) -> None:
        """Start the next change if possible, and tell the remaining workers of changes whose answers are in."""
        if ready and now >= self._slow_at and (change := self._next()) is not None:
            self._queue.remove(change)
            self._begin(change, ready, next(numbers), now)
        here = {worker.pid for worker in ready}
        for stage in list(self._now.values()):
            if stage.deadline <= now:
                late = DeadlineError(f"Some processes have not done it within {CHANGE_SECONDS:g} seconds.")
                stage.change.error = stage.change.error or encode_error(late)
                self._end(stage)
            elif not stage.waiting and stage.empty is None:
                self._tell(stage, [worker for worker in stage.left if worker.pid in here])
                stage.left = []
                if not stage.waiting:
                    self._end(stage)

    @property
    def _slow_at(self) -> float:
        """The time from which all changes in rollout count as slow."""
        return max((stage.since + SLOW for stage in self._now.values()), default=float("-inf"))

    def _next(self) -> Change | None:
        """The change that has waited longest, among models that are not being changed."""
        return next((change for change in self._queue if change.name not in self._now), None)

    def answered(self, pid: int, number: int, error: list[str] | None, changed: bool) -> None:
        stage = next((running for running in self._now.values() if running.number == number), None)
        if stage is None or pid not in stage.waiting:
            return  # too late
        stage.waiting.discard(pid)
        stage.first = None
        stage.change.error = stage.change.error or error
        stage.change.changed |= changed

    def forget_worker(self, pid: int, place: int) -> None:
        """Called when a worker has ended."""
        for stage in self._now.values():
            stage.waiting.discard(pid)
            if stage.first == pid:
                stage.first, stage.empty = None, place

    def add_worker(self, worker: Worker, place: int) -> None:
        """Called when a worker is ready. It may have started before a change did, so it is told of that too."""
        for stage in self._now.values():
            stage.left.append(worker)
        self.gave_up(place)

    def gave_up(self, place: int) -> None:
        """Called when a slot will stay empty for some time."""
        for stage in self._now.values():
            if stage.empty == place:
                stage.empty = None

    def finished(self) -> list[Change]:
        """The changes that have finished since the last call."""
        finished, self._finished = self._finished, []
        return finished

    def _begin(self, change: Change, ready: Sequence[Worker], number: int, now: float) -> None:
        self._remember(change)
        first, *rest = ready
        stage = _Stage(change, number, rest, now, frozenset(self._refused), first.pid)
        self._now[change.name] = stage
        self._tell(stage, [first])

    def _remember(self, change: Change) -> None:
        if change.what == "load":
            self.loaded.add(change.name)
            self.unloaded.discard(change.name)
        elif change.what == "unload":
            self.unloaded.add(change.name)
            self.loaded.discard(change.name)

    def _tell(self, stage: _Stage, workers: Sequence[Worker]) -> None:
        refused = [[name, version, reason] for (name, version), reason in self._refused.items()]
        said = {"ask": stage.change.what, "name": stage.change.name, "quiet": stage.change.quiet}
        for worker in workers:
            stage.waiting.add(worker.pid)
            worker.ears.send({**said, "id": stage.number, "refused": refused})

    def _end(self, stage: _Stage) -> None:
        change = stage.change
        new = [reason for key, reason in self._refused.items() if key not in stage.before and key[0] == change.name]
        if change.what == "load" and change.error is None and new:
            change.error = encode_error(ArtifactError(new[-1]))
        if change.error is not None and change.error[0] == NotFoundError.__name__:  # an unknown model
            self.loaded.discard(change.name)
            self.unloaded.discard(change.name)
        del self._now[change.name]
        self._finished.append(change)
