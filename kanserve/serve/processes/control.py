"""Loading, unloading and metrics over all processes of a server, by its supervisor."""

from kanserve.serve.processes.ipc import WorkerEnd
from kanserve.serve.state import Snapshot

CHANGE_SECONDS = 600.0  # how long all workers may take to load a model
_COUNT_SECONDS = 5.0


class WorkerControl:
    """The control in a worker: the supervisor tells all workers, this one too, and answers when the last is done."""

    def __init__(self, line: WorkerEnd) -> None:
        self._line = line

    def load(self, name: str) -> None:
        self._line.ask("load", CHANGE_SECONDS, name=name)

    def unload(self, name: str) -> None:
        self._line.ask("unload", CHANGE_SECONDS, name=name)

    def snapshot(self) -> Snapshot:
        counts: Snapshot = self._line.ask("snapshot", _COUNT_SECONDS)
        return counts
