"""Clients of a kanserve server: arrays or DataFrames in and out, and the errors of kanserve.errors.

    with Client("localhost:8001") as client:
        y = client.predict("houses", x)                       # (N, outputs), float64; a DataFrame for a DataFrame
        print(client.formula("houses")[0].text)
        y, jacobian = client.differentiate("houses", x)       # exact, (N, outputs, inputs)
        client.export_source("houses", "houses_c")            # the C source, checked
        for event in client.watch("houses"): ...              # as versions come and go

`AsyncClient` has the same calls, to be awaited. The default version is the newest. An error of the server is raised as
the same class here. Others: DrainingError if the server is stopping, UnreachableError if it cannot be reached,
BusyError if it is overloaded, DeadlineError if it does not answer in time. The notes of an error have the request id,
which is also in the server's log. Rows that are too many for one request are sent in several.
"""

from kanserve.errors import MissingDependencyError

try:
    import grpc as _grpc  # noqa: F401  # to name the extra that has it
except ModuleNotFoundError:
    raise MissingDependencyError("grpcio", "serve") from None

from kanserve.client.asynchronous import AsyncClient
from kanserve.client.network_responses import Edge, Network, NetworkLayer, Node
from kanserve.client.responses import (
    Counted,
    ModelInfo,
    ModelStatistics,
    ModelStatus,
    Prediction,
    ServedAlternative,
    ServedFormula,
)
from kanserve.client.synchronous import Client
from kanserve.client.watch_events import ModelEvent
from kanserve.network.stability_index import InputDrift

__all__ = [
    "AsyncClient",
    "Client",
    "Counted",
    "Edge",
    "InputDrift",
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
