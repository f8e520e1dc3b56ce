"""Clients of a kanserve server: arrays in, arrays out, and the errors of kanserve.errors.

    with Client("localhost:8001") as client:
        y = client.predict("houses", x)                       # (N, outputs), float64
        print(client.formula("houses")[0].text)
        y, jacobian = client.differentiate("houses", x)       # exact, (N, outputs, inputs)

`AsyncClient` has the same calls, to be awaited. Where a version is not given the newest is meant. What a server refuses
is raised as the error that it had; a server that is stopping is a DrainingError, one that cannot be reached an
UnreachableError, and one that does not answer in time a DeadlineError. Rows that are too many for one request travel
in parts.
"""

from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kanserve.errors import MissingDependencyError

try:
    import grpc
    import grpc.aio
except ModuleNotFoundError:
    raise MissingDependencyError("grpcio", "serve") from None

from kanserve.client import calls
from kanserve.client.calls import Output, Steps, raised
from kanserve.client.results import (
    Edge,
    ModelInfo,
    ModelStatus,
    Network,
    NetworkLayer,
    Node,
    Prediction,
    ServedAlternative,
    ServedFormula,
)
from kanserve.inference import wire
from kanserve.v1 import formula_pb2_grpc

__all__ = [
    "AsyncClient",
    "Client",
    "Edge",
    "ModelInfo",
    "ModelStatus",
    "Network",
    "NetworkLayer",
    "Node",
    "Prediction",
    "ServedAlternative",
    "ServedFormula",
]

Array = NDArray[np.float64]
T = TypeVar("T")

_OPTIONS = (("grpc.max_receive_message_length", 2**27), ("grpc.max_send_message_length", 2**27))


class Client:
    """A connection to a server, which threads may share; `timeout` is in seconds and for each request."""

    def __init__(self, address: str, *, timeout: float = 30.0) -> None:
        self._address, self._timeout = address, timeout
        self._channel = grpc.insecure_channel(address, options=_OPTIONS)
        self._stubs = (wire.stub(self._channel), formula_pb2_grpc.FormulaServiceStub(self._channel))

    def predict(self, name: str, x: ArrayLike, version: int | str = "", *, output: Output = "y") -> NDArray[Any]:
        """The outputs (N, outputs) at raw features x (N, inputs); of a classifier the scores.

        Its "probabilities" (N, classes) or "label" (N,) are other outputs to ask for.
        """
        return self._run(calls.predict(name, x, str(version), output))

    def infer(self, name: str, x: ArrayLike, version: int | str = "") -> Prediction:
        """All outputs, and which rows lie outside the training range."""
        return self._run(calls.infer(name, x, str(version), ()))

    def formula(self, name: str, version: int | str = "") -> tuple[ServedFormula, ...]:
        """One per output, in raw features."""
        return self._run(calls.formula(name, str(version)))

    def network(self, name: str, version: int | str = "", *, curve_points: int | None = None) -> Network:
        """The nodes and edges, each edge with its curve."""
        return self._run(calls.network(name, str(version), curve_points))

    def differentiate(self, name: str, x: ArrayLike, version: int | str = "") -> tuple[Array, Array]:
        """The outputs (N, outputs) and their exact derivatives (N, outputs, inputs), both in raw units."""
        return self._run(calls.differentiate(name, x, str(version)))

    def metadata(self, name: str, version: int | str = "") -> ModelInfo:
        return self._run(calls.metadata(name, str(version)))

    def models(self) -> tuple[ModelStatus, ...]:
        """Every version that the server found, loaded or not."""
        return self._run(calls.models())

    def live(self) -> bool:
        """Whether the server answers."""
        return self._run(calls.live())

    def ready(self, name: str = "", version: int | str = "") -> bool:
        """Whether the server, or one model of it, takes requests."""
        return self._run(calls.ready(name, str(version)))

    def close(self) -> None:
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _run(self, steps: Steps[T]) -> T:
        try:
            call, request = next(steps)
            while True:
                try:
                    response = _method(self._stubs, call)(request, timeout=self._timeout)
                except grpc.RpcError as error:
                    failed = raised(error, self._address, self._timeout)
                else:
                    call, request = steps.send(response)
                    continue
                call, request = steps.throw(failed)
        except StopIteration as done:
            result: T = done.value
            return result


class AsyncClient:
    """As Client, for asyncio; made anywhere, used in one event loop."""

    def __init__(self, address: str, *, timeout: float = 30.0) -> None:
        self._address, self._timeout = address, timeout
        self._connected: tuple[grpc.aio.Channel, tuple[Any, Any]] | None = None

    async def predict(self, name: str, x: ArrayLike, version: int | str = "", *, output: Output = "y") -> NDArray[Any]:
        return await self._run(calls.predict(name, x, str(version), output))

    async def infer(self, name: str, x: ArrayLike, version: int | str = "") -> Prediction:
        return await self._run(calls.infer(name, x, str(version), ()))

    async def formula(self, name: str, version: int | str = "") -> tuple[ServedFormula, ...]:
        return await self._run(calls.formula(name, str(version)))

    async def network(self, name: str, version: int | str = "", *, curve_points: int | None = None) -> Network:
        return await self._run(calls.network(name, str(version), curve_points))

    async def differentiate(self, name: str, x: ArrayLike, version: int | str = "") -> tuple[Array, Array]:
        return await self._run(calls.differentiate(name, x, str(version)))

    async def metadata(self, name: str, version: int | str = "") -> ModelInfo:
        return await self._run(calls.metadata(name, str(version)))

    async def models(self) -> tuple[ModelStatus, ...]:
        return await self._run(calls.models())

    async def live(self) -> bool:
        return await self._run(calls.live())

    async def ready(self, name: str = "", version: int | str = "") -> bool:
        return await self._run(calls.ready(name, str(version)))

    async def close(self) -> None:
        if self._connected is not None:
            await self._connected[0].close(None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def _run(self, steps: Steps[T]) -> T:
        if self._connected is None:  # not before: the channel belongs to the event loop that runs when it is made
            channel = grpc.aio.insecure_channel(self._address, options=_OPTIONS)
            self._connected = (channel, (wire.stub(channel), formula_pb2_grpc.FormulaServiceStub(channel)))
        try:
            call, request = next(steps)
            while True:
                try:
                    response = await _method(self._connected[1], call)(request, timeout=self._timeout)
                except grpc.RpcError as error:
                    failed = raised(error, self._address, self._timeout)
                else:
                    call, request = steps.send(response)
                    continue
                call, request = steps.throw(failed)
        except StopIteration as done:
            result: T = done.value
            return result


def _method(stubs: tuple[Any, Any], call: str) -> Any:
    return getattr(stubs[0 if call in wire.METHODS else 1], call)
