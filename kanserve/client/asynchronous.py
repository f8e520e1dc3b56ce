"""The asyncio client, with the same calls as the synchronous one."""

import asyncio
import itertools
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from threading import Event
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, overload

import grpc
import grpc.aio
import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from kanserve.client import describing, predicting, retrying
from kanserve.client.connecting import Calls, Metadata, Names, Pem, calls, target
from kanserve.client.dataframes import Frame
from kanserve.client.exporting import Received, write
from kanserve.client.predicting import Array, Memory, Output, Steps
from kanserve.client.responses import ModelInfo, ModelStatistics, ModelStatus, Network, Prediction, ServedFormula
from kanserve.client.watch_events import Known, ModelEvent
from kanserve.errors import InputError, KanserveError
from kanserve.v1 import formula_pb2

T = TypeVar("T")


class AsyncClient:
    """As Client, for asyncio: the same calls, to be awaited, with the same errors.

    It may be created anywhere, but is used in one event loop.

    Parameters
    ----------
    address, timeout, retries, channels, tls, certificate, key, server_name, token, metadata
        As in `Client`.

    Attributes
    ----------
    retried : int
        The number of retries so far.

    Raises
    ------
    InputError
        As in `Client`.

    Examples
    --------
    >>> import asyncio, kanserve, tempfile
    >>> from kanserve.serve.server import start
    >>> models = tempfile.mkdtemp()
    >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
    >>> kanserve.publish(models, "line", kanserve.compile(kan, ["numpy_source"]))
    1
    >>> async def ask(address):
    ...     async with kanserve.AsyncClient(address) as client:
    ...         return await client.predict("line", [[0.5]])
    >>> with start(models, port=0) as server:
    ...     print(asyncio.run(ask(server.address)).tolist())
    [[2.0]]
    """

    def __init__(
        self,
        address: str,
        *,
        timeout: float = 30.0,
        retries: int = 4,
        channels: int = 1,
        tls: bool | Pem = False,
        certificate: Pem | None = None,
        key: Pem | None = None,
        server_name: str = "",
        token: str | Callable[[], str] | None = None,
        metadata: Metadata = (),
    ) -> None:
        self._target = target(
            address,
            channels=channels,
            tls=tls,
            certificate=certificate,
            key=key,
            server_name=server_name,
            token=token,
        )
        self._address, self._timeout, self._retries = address, timeout, retries
        self._channels: list[grpc.aio.Channel] = []
        self._turns: Iterator[Calls] = iter(())
        self._names = Names(token, metadata)
        self._memory = Memory()
        self._closed = Event()
        self.retried = 0  # the number of retries

    @overload
    async def predict(
        self,
        name: str,
        x: Frame,
        version: int | str = "",
        *,
        output: Output = "y",
        dtype: DTypeLike = np.float64,
    ) -> Any: ...
    @overload
    async def predict(
        self,
        name: str,
        x: ArrayLike,
        version: int | str = "",
        *,
        output: Output = "y",
        dtype: DTypeLike = np.float64,
    ) -> NDArray[Any]: ...
    async def predict(
        self,
        name: str,
        x: ArrayLike | Frame,
        version: int | str = "",
        *,
        output: Output = "y",
        dtype: DTypeLike = np.float64,
    ) -> Any:
        """The outputs (N, outputs) at raw features x (N, inputs), as `Client.predict`."""
        return await self._run(predicting.predict(self._memory, name, x, str(version), output, dtype))

    async def predict_interval(
        self,
        name: str,
        x: ArrayLike | Frame,
        version: int | str = "",
        *,
        level: float = 0.9,
        dtype: DTypeLike = np.float64,
    ) -> tuple[Any, Any]:
        """The ends (low, high) of prediction intervals at raw features x, as `Client.predict_interval`."""
        return await self._run(predicting.predict_interval(self._memory, name, x, str(version), level, dtype))

    async def infer(
        self, name: str, x: ArrayLike | Frame, version: int | str = "", *, dtype: DTypeLike = np.float64
    ) -> Prediction:
        """All outputs, in raw units, and which rows are outside the training range, as `Client.infer`."""
        return await self._run(predicting.infer(self._memory, name, x, str(version), dtype))

    @overload
    async def differentiate(
        self, name: str, x: ArrayLike | Frame, version: int | str = "", *, hessian: Literal[False] = False
    ) -> tuple[Array, Array]: ...

    @overload
    async def differentiate(
        self, name: str, x: ArrayLike | Frame, version: int | str = "", *, hessian: Literal[True]
    ) -> tuple[Array, Array, Array]: ...

    async def differentiate(
        self, name: str, x: ArrayLike | Frame, version: int | str = "", *, hessian: bool = False
    ) -> tuple[Array, ...]:
        """The outputs (N, outputs) and their exact derivatives (N, outputs, inputs), as `Client.differentiate`."""
        return await self._run(predicting.differentiate(self._memory, name, x, str(version), hessian))

    async def formula(
        self, name: str, version: int | str = "", *, formats: Sequence[str] = ()
    ) -> tuple[ServedFormula, ...]:
        """One formula per output, in raw features, as `Client.formula`."""
        return await self._run(describing.formula(name, str(version), formats))

    async def network(self, name: str, version: int | str = "", *, curve_points: int | None = None) -> Network:
        """The nodes and edges, each edge with its curve, as `Client.network`."""
        return await self._run(describing.network(name, str(version), curve_points))

    async def export_source(
        self,
        name: str,
        folder: str | os.PathLike[str] | None = None,
        version: int | str = "",
        *,
        format: str = "c_source",
        include_libraries: bool = False,
    ) -> Mapping[str, bytes]:
        """The verified files of "c_source" or "numpy_source" by path, as `Client.export_source`."""
        request = formula_pb2.ExportSourceRequest(
            model_name=name, model_version=str(version), format=format, include_libraries=include_libraries
        )
        files: Mapping[str, bytes] = await self._call("ExportSource", request)
        if folder is not None:
            await asyncio.to_thread(write, files, folder)
        return files

    async def watch(self, name: str = "") -> AsyncIterator[ModelEvent]:
        """Yield each version of a model, or of all models, and then each change, as `Client.watch`."""
        request, known, failures = formula_pb2.WatchRequest(model_name=name), Known(), 0
        while not self._closed.is_set():
            called, metadata = self._names.next()
            stream = self._turn()["Watch"](request, metadata=metadata)
            try:
                async for response in stream:
                    failures = 0
                    for event in known.events(response):
                        yield event
            except grpc.RpcError as error:
                passing = retrying.is_passing(error) and (known.heard or failures < self._retries)
                if not passing and not self._closed.is_set():
                    raise retrying.raised(error, self._address, self._timeout, called, failures + 1) from None
            except asyncio.CancelledError:
                if not self._closed.is_set():
                    raise
                return
            finally:
                stream.cancel()
            failures += 1
            await asyncio.sleep(retrying.delay(failures))

    async def metadata(self, name: str, version: int | str = "") -> ModelInfo:
        """The names of a model's inputs, outputs and classes, its versions, precision and backend."""
        return await self._run(describing.metadata(name, str(version)))

    async def models(self) -> tuple[ModelStatus, ...]:
        """Every version that the server found, loaded or not."""
        return await self._run(describing.models())

    async def statistics(self, name: str = "", version: int | str = "") -> tuple[ModelStatistics, ...]:
        """The statistics of all versions, or of one model or version, as `Client.statistics`."""
        return await self._run(describing.statistics(name, str(version)))

    async def load(self, name: str) -> None:
        """Make the server load a model's versions from its repository, as `Client.load`."""
        await self._run(describing.load(name))

    async def unload(self, name: str) -> None:
        """Make the server unload a model, as `Client.unload`."""
        await self._run(describing.unload(name))

    async def live(self) -> bool:
        """Whether the server answers."""
        return await self._run(describing.live())

    async def ready(self, name: str = "", version: int | str = "") -> bool:
        """Whether the server, or one of its models, accepts requests, as `Client.ready`."""
        return await self._run(describing.ready(name, str(version)))

    async def close(self) -> None:
        """Close the connections. Later calls raise InputError, and `watch` ends."""
        self._closed.set()
        for channel in self._channels:
            await channel.close(None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    def _turn(self) -> Calls:
        if not self._channels:  # created late: a channel belongs to the event loop that runs at its creation
            self._channels = self._target.open_in_loop()
            self._turns = itertools.cycle([calls(channel) for channel in self._channels])
        return next(self._turns)

    async def _run(self, steps: Steps[T]) -> T:
        try:
            call, request = next(steps)
            while True:
                try:
                    response = await self._call(call, request)
                except KanserveError as failed:
                    call, request = steps.throw(failed)
                else:
                    call, request = steps.send(response)
        except StopIteration as done:
            result: T = done.value
            return result

    async def _call(self, call: str, request: Any) -> Any:
        """The response, after as many attempts as it takes within the timeout."""
        if self._closed.is_set():
            raise InputError("The client is closed. Make another.")
        name, metadata = self._names.next()
        left, begun, failures = self._timeout, time.monotonic(), 0
        while True:
            method = self._turn()[call]
            try:
                if call == "ExportSource":
                    return await _received(method(request, timeout=left, metadata=metadata), request.format)
                return await method(request, timeout=left, metadata=metadata)
            except grpc.RpcError as error:
                failures += 1
                pause = retrying.delay(failures)
                left = self._timeout - (time.monotonic() - begun) - pause
                again = retrying.is_passing(error) and call not in retrying.ONCE and failures <= self._retries
                if not again or left <= 0 or self._closed.is_set():
                    raise retrying.raised(error, self._address, self._timeout, name, failures) from None
            await asyncio.sleep(pause)
            self.retried += 1


async def _received(stream: Any, kind: str) -> Mapping[str, bytes]:
    received = Received(kind)
    try:
        async for part in stream:
            received.add(part)
        return received.files()
    finally:
        stream.cancel()
