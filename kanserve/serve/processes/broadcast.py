"""Changes of models on their way through all workers: one after the other, each by one worker and then by the rest."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from kanserve.errors import ArtifactError, DeadlineError, NotFoundError
from kanserve.serve.processes.channel import Ears, written
from kanserve.serve.processes.control import CHANGE_SECONDS

What = Literal["load", "unload", "refresh"]


class Worker(Protocol):
    """A process that is ready."""

    pid: int
    ears: Ears


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
    deadline: float
    before: frozenset[tuple[str, int]]  # the versions that were refused then
    first: int | None = None  # the process that is to show whether it can be done
    empty: int | None = None  # its place, once it ended over that: the next one there does it at its start, or cannot
    waiting: set[int] = field(default_factory=set)  # the processes that have been told


class Changing:
    """The changes, and what they amount to: which models were loaded and unloaded by hand."""

    def __init__(self, refused: Mapping[tuple[str, int], str]) -> None:
        self.loaded: set[str] = set()
        self.unloaded: set[str] = set()
        self._refused = refused
        self._queue: deque[Change] = deque()
        self._now: _Stage | None = None
        self._finished: list[Change] = []

    @property
    def idle(self) -> bool:
        return self._now is None and not self._queue

    @property
    def deadline(self) -> float:
        return self._now.deadline if self._now is not None else float("inf")

    def add(self, change: Change) -> None:
        """To be made after those that were added before; to look for new versions once more is enough."""
        waiting = (one for one in self._queue if one.what == "refresh")
        if change.what == "refresh" and (same := next(waiting, None)):
            same.quiet &= change.quiet
        else:
            self._queue.append(change)

    def go_on(self, ready: Sequence[Worker], numbers: Iterator[int], now: float) -> None:
        """Tell the next workers, or the next change, where nothing is waited for."""
        if self._now is None and self._queue and ready:
            self._begin(self._queue.popleft(), ready, next(numbers), now)
        stage = self._now
        if stage is None:
            return
        if stage.deadline <= now:
            late = DeadlineError(f"Some processes have not done it within {CHANGE_SECONDS:g} seconds.")
            stage.change.error = stage.change.error or written(late)
            self._end(stage)
        elif not stage.waiting and stage.empty is None:
            here = {one.pid for one in ready}
            self._tell(stage, [one for one in stage.left if one.pid in here])
            stage.left = []
            if not stage.waiting:
                self._end(stage)

    def answered(self, pid: int, number: int, error: list[str] | None, changed: bool) -> None:
        stage = self._now
        if stage is None or stage.number != number or pid not in stage.waiting:
            return  # too late
        stage.waiting.discard(pid)
        stage.first = None
        stage.change.error = stage.change.error or error
        stage.change.changed |= changed

    def lost(self, pid: int, place: int) -> None:
        """A worker has ended."""
        if self._now is not None:
            self._now.waiting.discard(pid)
            if self._now.first == pid:
                self._now.first, self._now.empty = None, place

    def born(self, one: Worker, place: int) -> None:
        """A worker is ready. It may have begun before the change did, so it is told of that too."""
        if self._now is not None:
            self._now.left.append(one)
        self.gave_up(place)

    def gave_up(self, place: int) -> None:
        """There will be no worker at a place for some time."""
        if self._now is not None and self._now.empty == place:
            self._now.empty = None

    def finished(self) -> list[Change]:
        """Those that have come to their end since it was asked."""
        finished, self._finished = self._finished, []
        return finished

    def _begin(self, change: Change, ready: Sequence[Worker], number: int, now: float) -> None:
        self._remember(change)
        first, *rest = ready
        self._now = _Stage(change, number, rest, now + CHANGE_SECONDS, frozenset(self._refused), first.pid)
        self._tell(self._now, [first])

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
        for one in workers:
            stage.waiting.add(one.pid)
            one.ears.send({**said, "id": stage.number, "refused": refused})

    def _end(self, stage: _Stage) -> None:
        change = stage.change
        new = [reason for key, reason in self._refused.items() if key not in stage.before and key[0] == change.name]
        if change.what == "load" and change.error is None and new:
            change.error = written(ArtifactError(new[-1]))
        if change.error is not None and change.error[0] == NotFoundError.__name__:  # it was a name of nothing
            self.loaded.discard(change.name)
            self.unloaded.discard(change.name)
        self._now = None
        self._finished.append(change)
