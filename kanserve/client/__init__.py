"""Clients of a kanserve server: arrays or tables in, the same out, and the errors of kanserve.errors.

    with Client("localhost:8001") as client:
        y = client.predict("houses", x)                       # (N, outputs), float64; of a DataFrame a DataFrame
        print(client.formula("houses")[0].text)
        y, jacobian = client.differentiate("houses", x)       # exact, (N, outputs, inputs)
        client.export_source("houses", "houses_c")            # the C source, checked
        for event in client.watch("houses"): ...              # as versions come and go

`AsyncClient` has the same calls, to be awaited. Where a version is not given the newest is meant. What a server refuses
is raised as the error that it had; a server that is stopping is a DrainingError, one that cannot be reached an
UnreachableError, one that has too much to do a BusyError, and one that does not answer in time a DeadlineError; the
notes of an error name the request, as the server's log does. Rows that are too many for one request travel in parts.
"""

from kanserve.errors import MissingDependencyError

try:
    import grpc as _grpc  # noqa: F401  # to say which extra has it
except ModuleNotFoundError:
    raise MissingDependencyError("grpcio", "serve") from None

from kanserve.client.asynchronous import AsyncClient
from kanserve.client.responses import (
    Counted,
    Edge,
    ModelInfo,
    ModelStatistics,
    ModelStatus,
    Network,
    NetworkLayer,
    Node,
    Prediction,
    ServedAlternative,
    ServedFormula,
)
from kanserve.client.synchronous import Client
from kanserve.client.watch_events import ModelEvent

__all__ = [
    "AsyncClient",
    "Client",
    "Counted",
    "Edge",
    "ModelEvent",
    "ModelInfo",
    "ModelStatistics",
    "ModelStatus",
    "Network",
    "NetworkLayer",
    "Node",
    "Prediction",
    "ServedAlternative",
    "ServedFormula",
]
