"""What a server holds, and what is known of one call: what the modules of this package hand to each other.

supervisor ── channel ── worker ── server ── calls ── inference, formulas, sources, watching
                           │          │        ├── access, admission, threads
                         control    loading    └── meters, logs, tracing
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from kanserve.artifact.format import Artifact
from kanserve.serve.models.catalog import Catalog
from kanserve.serve.settings import Settings

Snapshot = Mapping[str, Any]  # the counts of one process or of several together, as JSON can hold them


class Call:
    """One call on its way through the server, filled in as it goes; times are in nanoseconds of perf_counter_ns."""

    __slots__ = (
        "alive",
        "arrived",
        "code",
        "computed",
        "decoded",
        "encoded",
        "ended",
        "error",
        "identity",
        "metadata",
        "method",
        "model",
        "outside",
        "peer",
        "queued",
        "request_id",
        "rows",
        "service",
        "version",
    )

    def __init__(self, service: str, method: str, arrived: int) -> None:
        self.service = service  # "inference.GRPCInferenceService"
        self.method = method  # "ModelInfer"
        self.arrived = arrived  # when it was accepted
        self.queued = 0  # how long it waited for a thread
        self.decoded = 0  # how long it took to read and check the message
        self.computed = 0  # how long the model took
        self.encoded = 0  # how long it took to write the answer
        self.ended = 0  # when it ended
        self.model = ""  # the model that was found, or the empty text
        self.version = 0
        self.rows = 0
        self.outside: NDArray[np.intp] | None = (
            None  # for each feature the rows outside its training range; None: no row
        )
        self.code = "OK"  # the name of the status code
        self.error = ""  # what the client was told
        self.request_id = ""  # x-request-id of the metadata, or one of ours; only where somebody observes
        self.identity = ""  # the name of the grant by which it was allowed
        self.peer = ""
        self.metadata: Sequence[tuple[str, str | bytes]] = ()  # only where somebody observes
        self.alive: Callable[[], bool] = _alive  # of a stream: whether the client still listens, as context.is_active


def _alive() -> bool:
    return True


class Meters(Protocol):
    """Counts what happens; threads may share it."""

    def ended(self, call: Call) -> None:
        """A call of our two services has ended, or a request within a stream."""

    def loaded(self, model: str, version: int, seconds: float, reason: str) -> None:
        """A version was loaded; `reason` says why not where it could not be."""

    def snapshot(self) -> Snapshot:
        """What was counted in this process until now."""


class Access(Protocol):
    """Who may do what."""

    def check(self, method: str, context: Any) -> Callable[[str], None] | None:
        """Refuse a call by its full path, "/inference.GRPCInferenceService/ModelInfer": UnauthenticatedError or
        AccessError. What comes back, where there is something, is to be called with the model's name once it is known,
        and may refuse too; its `identity` attribute is the name of the grant.
        """


class Control(Protocol):
    """Changes that reach every process of this server."""

    def load(self, name: str) -> None:
        """Load what is there of a model, newest versions included: NotFoundError, ArtifactError."""

    def unload(self, name: str) -> None:
        """Let go of all versions of a model until it is loaded again: NotFoundError."""

    def snapshot(self) -> Snapshot:
        """What was counted in all processes together, those that are gone included."""


class _Changing(Protocol):
    """The table of loaded models, as `loader.Models` is."""

    def load(self, name: str) -> object: ...
    def unload(self, name: str) -> object: ...


class LocalControl:
    """The control of a server that is one process."""

    def __init__(self, models: _Changing, meters: Meters) -> None:
        self._models, self._meters = models, meters

    def load(self, name: str) -> None:
        self._models.load(name)

    def unload(self, name: str) -> None:
        self._models.unload(name)

    def snapshot(self) -> Snapshot:
        return self._meters.snapshot()


class Source(Protocol):
    """The repository, opened."""

    def read(self, name: str, version: int) -> Artifact:
        """A version, verified."""


class Table(Protocol):
    """The table of loaded models of this process, and how it changes."""

    @property
    def source(self) -> Source:
        """Where the models come from."""

    @property
    def catalog(self) -> Catalog:
        """What is loaded now; a call takes it once and keeps it."""

    def subscribe(self, changed: Callable[[Catalog], None]) -> Callable[[], None]:
        """Call `changed` after each change, on the thread that made it; what comes back ends that."""


@dataclass(frozen=True)
class ServerState:
    """What the logic of a call sees of the server."""

    settings: Settings
    table: Table
    control: Control
    meters: Meters
    access: Access
    threads: Any  # threads.Threads
    observers: tuple[Callable[[Call], None], ...] = ()  # the access log, traces; called once a call has ended

    @property
    def catalog(self) -> Catalog:
        return self.table.catalog
