"""Loading, unloading and counting over all processes of a server: over this one alone, or by its supervisor."""

from typing import Protocol

from kanserve.serve.processes.channel import Line
from kanserve.serve.state import Meters, Snapshot

CHANGE_SECONDS = 600.0  # how long all workers may take to load a model
_COUNT_SECONDS = 5.0


class Changing(Protocol):
    """The table of loaded models, as `loading.Models` is."""

    def load(self, name: str) -> object: ...
    def unload(self, name: str) -> object: ...


class LocalControl:
    """Of a server that is one process."""

    def __init__(self, models: Changing, meters: Meters) -> None:
        self._models, self._meters = models, meters

    def load(self, name: str) -> None:
        self._models.load(name)

    def unload(self, name: str) -> None:
        self._models.unload(name)

    def snapshot(self) -> Snapshot:
        return self._meters.snapshot()


class WorkerControl:
    """Of one worker: its supervisor tells all of them, this one too, and answers when the last has done it."""

    def __init__(self, line: Line) -> None:
        self._line = line

    def load(self, name: str) -> None:
        self._line.ask("load", CHANGE_SECONDS, name=name)

    def unload(self, name: str) -> None:
        self._line.ask("unload", CHANGE_SECONDS, name=name)

    def snapshot(self) -> Snapshot:
        counts: Snapshot = self._line.ask("snapshot", _COUNT_SECONDS)
        return counts
