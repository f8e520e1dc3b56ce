"""The state of a server and of one call, and the interfaces between the modules of this package.

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
from kanserve.serve.request import Request
from kanserve.serve.settings import Settings

Snapshot = Mapping[str, Any]  # the metrics of one process or of several merged, as JSON can hold them


class Call:
    """A call, filled in on its way through the server; times are in nanoseconds of perf_counter_ns."""

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
        self.model = ""  # the model's name once it was found; else empty
        self.version = 0
        self.rows = 0
        self.outside: NDArray[np.intp] | None = (
            None  # per feature, the rows outside its training range; None: no row is
        )
        self.code = "OK"  # the name of the status code
        self.error = ""  # the error message sent to the client
        self.request_id = ""  # x-request-id of the metadata, or a generated one; only if there are observers
        self.identity = ""  # the name of the grant that allowed the call
        self.peer = ""
        self.metadata: Sequence[tuple[str, str | bytes]] = ()  # only for observers and `route_header`
        self.alive: Callable[[], bool] = _alive  # of a stream: whether the client still listens (`Request.alive`)


def _alive() -> bool:
    return True


class Meters(Protocol):
    """Collects metrics; thread-safe."""

    def ended(self, call: Call) -> None:
        """Record a finished call of kanserve's two services, or a finished request within a stream."""

    def loaded(self, model: str, version: int, seconds: float, reason: str) -> None:
        """Record that a version was loaded, or failed to load for this `reason`."""

    def snapshot(self) -> Snapshot:
        """The current metrics of this process."""


class Access(Protocol):
    """Access rules."""

    def check(self, method: str, request: Request) -> Callable[[str], None] | None:
        """Check a call by its full path, such as "/inference.GRPCInferenceService/ModelInfer". Raises
        UnauthenticatedError or AccessError. Returns None, or a function to call with the model's name, which may refuse
        too and whose `identity` is the name of the grant."""


class Control(Protocol):
    """Changes that reach every process of this server."""

    def load(self, name: str) -> None:
        """Load a model as it is now in the repository, with newest versions. Raises NotFoundError or ArtifactError."""

    def unload(self, name: str) -> None:
        """Unload all versions of a model until it is loaded again. Raises NotFoundError."""

    def snapshot(self) -> Snapshot:
        """The merged metrics of all processes, including ended ones."""


class _Changing(Protocol):
    """A table of loaded models, like `loader.Models`."""

    def load(self, name: str) -> object: ...
    def unload(self, name: str) -> object: ...


class LocalControl:
    """The control of a single-process server."""

    def __init__(self, models: _Changing, meters: Meters) -> None:
        self._models, self._meters = models, meters

    def load(self, name: str) -> None:
        self._models.load(name)

    def unload(self, name: str) -> None:
        self._models.unload(name)

    def snapshot(self) -> Snapshot:
        return self._meters.snapshot()


class Source(Protocol):
    """An open repository."""

    def read(self, name: str, version: int) -> Artifact:
        """Read and verify a version."""


class Table(Protocol):
    """The table of loaded models of this process, and how it changes."""

    @property
    def source(self) -> Source:
        """The repository that the models come from."""

    @property
    def catalog(self) -> Catalog:
        """The models loaded now. A call reads it once and uses that until its end."""

    def subscribe(self, changed: Callable[[Catalog], None]) -> Callable[[], None]:
        """Call `changed` after each change, on the thread that made it. Returns a function that unsubscribes."""


@dataclass(frozen=True)
class ServerState:
    """The parts of the server that the handlers of calls use."""

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
