"""Changes of models on their way through all workers, each by one worker and then by the rest: one after the other, but
one that is slow keeps no change of another model waiting.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from kanserve.errors import ArtifactError, DeadlineError, NotFoundError
from kanserve.serve.models.loading_queue import SLOW
from kanserve.serve.processes.control import CHANGE_SECONDS
from kanserve.serve.processes.ipc import SupervisorEnd, encode_error

What = Literal["load", "unload", "refresh"]


class Worker(Protocol):
    """A process that is ready."""

    pid: int
    ears: SupervisorEnd


@dataclass(eq=False)
class Change:
    """What is to be done by all, and what came of it; `asker` is who waits for that, and the number of its question."""

    what: What
    name: str = ""
    asker: tuple[Any, int] | None = None  # Any: a worker of the supervisor's
    quiet: bool = False
    error: list[str] | None = None  # of the first worker that failed
    changed: bool = False


@dataclass(eq=False)
class Counting:
    """A question for the counts of all."""

    asker: Any  # a worker of the supervisor's
    question: int
    waiting: set[int]
    deadline: float


@dataclass(eq=False)
class _Stage:
    """How far the change is that is being made."""

    change: Change
    number: int  # of the question that the workers answer
    left: list[Worker]  # who have not been told
    since: float
    before: frozenset[tuple[str, int]]  # the versions that were refused then
    first: int | None = None  # the process that is to show whether it can be done
    empty: int | None = None  # its place, once it ended over that: the next one there does it at its start, or cannot
    waiting: set[int] = field(default_factory=set)  # the processes that have been told

    @property
    def deadline(self) -> float:
        return self.since + CHANGE_SECONDS


class Changing:
    """The changes, and what they amount to: which models were loaded and unloaded by hand."""

    def __init__(self, refused: Mapping[tuple[str, int], str]) -> None:
        self.loaded: set[str] = set()
        self.unloaded: set[str] = set()
        self._refused = refused
        self._queue: deque[Change] = deque()
        self._now: dict[str, _Stage] = {}  # by model; "" is to look for new versions of all
        self._finished: list[Change] = []

    @property
    def idle(self) -> bool:
        return not self._now and not self._queue

    @property
    def deadline(self) -> float:
        """When it is to `go_on` although nobody has said anything."""
        times = [one.deadline for one in self._now.values()]
        if times and self._next() is not None:
            times.append(self._slow_at)
        return min(times, default=float("inf"))

    def add(self, change: Change) -> None:
        """To be made after those that were added before; to look for new versions once more is enough."""
        waiting = (one for one in self._queue if one.what == "refresh")
        if change.what == "refresh" and (same := next(waiting, None)):
            same.quiet &= change.quiet
        else:
            self._queue.append(change)

    def go_on(self, ready: Sequence[Worker], numbers: Iterator[int], now: float) -> None:
        """Tell the next workers, or the next change, where nothing is waited for."""
        if ready and now >= self._slow_at and (change := self._next()) is not None:
            self._queue.remove(change)
            self._begin(change, ready, next(numbers), now)
        here = {one.pid for one in ready}
        for stage in list(self._now.values()):
            if stage.deadline <= now:
                late = DeadlineError(f"Some processes have not done it within {CHANGE_SECONDS:g} seconds.")
                stage.change.error = stage.change.error or encode_error(late)
                self._end(stage)
            elif not stage.waiting and stage.empty is None:
                self._tell(stage, [one for one in stage.left if one.pid in here])
                stage.left = []
                if not stage.waiting:
                    self._end(stage)

    @property
    def _slow_at(self) -> float:
        """When all changes that are being made are slow."""
        return max((one.since + SLOW for one in self._now.values()), default=float("-inf"))

    def _next(self) -> Change | None:
        """What has waited longest, but for changes of models that are being changed."""
        return next((one for one in self._queue if one.name not in self._now), None)

    def answered(self, pid: int, number: int, error: list[str] | None, changed: bool) -> None:
        stage = next((one for one in self._now.values() if one.number == number), None)
        if stage is None or pid not in stage.waiting:
            return  # too late
        stage.waiting.discard(pid)
        stage.first = None
        stage.change.error = stage.change.error or error
        stage.change.changed |= changed

    def lost(self, pid: int, place: int) -> None:
        """A worker has ended."""
        for stage in self._now.values():
            stage.waiting.discard(pid)
            if stage.first == pid:
                stage.first, stage.empty = None, place

    def born(self, one: Worker, place: int) -> None:
        """A worker is ready. It may have begun before the change did, so it is told of that too."""
        for stage in self._now.values():
            stage.left.append(one)
        self.gave_up(place)

    def gave_up(self, place: int) -> None:
        """There will be no worker at a place for some time."""
        for stage in self._now.values():
            if stage.empty == place:
                stage.empty = None

    def finished(self) -> list[Change]:
        """Those that have come to their end since it was asked."""
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
        said = {"ask": stage.change.what, "name": stage.change.name, "reopen": not stage.change.quiet}
        for worker in workers:
            stage.waiting.add(worker.pid)
            worker.ears.send({**said, "id": stage.number, "refused": refused})

    def _end(self, stage: _Stage) -> None:
        change = stage.change
        new = [reason for key, reason in self._refused.items() if key not in stage.before and key[0] == change.name]
        if change.what == "load" and change.error is None and new:
            change.error = encode_error(ArtifactError(new[-1]))
        if change.error is not None and change.error[0] == NotFoundError.__name__:  # it was a name of nothing
            self.loaded.discard(change.name)
            self.unloaded.discard(change.name)
        del self._now[change.name]
        self._finished.append(change)
