"""The asyncio client, with the same calls as the synchronous one."""

import asyncio
import inspect
import itertools
import os
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from threading import Event
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, overload

import grpc
import grpc.aio
import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from kanserve.client import describing, predicting, retrying
from kanserve.client.connecting import Calls, Metadata, Names, Pem, calls, target
from kanserve.client.dataframes import Frame, Rows
from kanserve.client.describing import Steps, Version
from kanserve.client.exporting import receive_async, write
from kanserve.client.network_responses import Network
from kanserve.client.predicting import Array, Coverage, Memory, Output
from kanserve.client.responses import ModelInfo, ModelStatistics, ModelStatus, Prediction, ServedFormula
from kanserve.client.synchronous import Client
from kanserve.client.watch_events import Known, ModelEvent
from kanserve.errors import InputError, KanserveError
from kanserve.network.stability_index import InputDrift
from kanserve.v1 import formula_pb2

if TYPE_CHECKING:
    from kanserve.analysis.contributions import Contributions

_CALL = re.compile(r"client\.\w+\([^()]*\)")  # in an example

C = TypeVar("C")
T = TypeVar("T")


def _document(client: type[C]) -> type[C]:
    """Copy missing docstrings of a client's methods from `Client`, with `await` added in the examples."""
    for name, method in vars(client).items():
        if not name.startswith("_") and inspect.isfunction(method) and not method.__doc__:
            text = inspect.getdoc(getattr(Client, name)) or ""
            method.__doc__ = "\n".join(map(_await_answer, text.splitlines()))
    return client


def _await_answer(line: str) -> str:
    def add_await(call: re.Match[str]) -> str:
        return f"await {call[0]}" if call.end() == len(line) else f"(await {call[0]})"

    return _CALL.sub(add_await, line) if line.startswith(">>> ") else line


@_document
class AsyncClient:
    """As Client, for asyncio: the same calls, to be awaited, with the same errors.

    It may be created anywhere, but is used in one event loop. The examples of its methods can be typed in a
    notebook or in `python -m asyncio`; their `client` is connected to the server below.

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
            address, channels=channels, tls=tls, certificate=certificate, key=key, server_name=server_name, token=token
        )
        self._address, self._timeout, self._retries = address, timeout, retries
        self._channels: list[grpc.aio.Channel] = []
        self._turns: Iterator[Calls] = iter(())
        self._names = Names(token, metadata)
        self._memory = Memory()
        self._closed = Event()
        self.retried = 0  # the number of retries

    async def close(self) -> None:
        """Close the connections. Later calls end with InputError, and `watch` ends.

        `async with` does it at its end.

        Examples
        --------
        >>> await client.close()
        """
        self._closed.set()
        for channel in self._channels:
            await channel.close(None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    @overload
    async def predict(
        self, name: str, x: Frame, version: Version = "", *, output: Output = "y", dtype: DTypeLike = np.float64
    ) -> Any: ...
    @overload
    async def predict(
        self, name: str, x: Rows, version: Version = "", *, output: Output = "y", dtype: DTypeLike = np.float64
    ) -> NDArray[Any]: ...
    async def predict(
        self, name: str, x: Rows | Frame, version: Version = "", *, output: Output = "y", dtype: DTypeLike = np.float64
    ) -> Any:
        return await self._run(predicting.predict(self._memory, name, x, str(version), output, dtype))

    async def predict_interval(
        self, name: str, x: Rows | Frame, version: Version = "", *, level: float = 0.9, dtype: DTypeLike = np.float64
    ) -> tuple[Any, Any]:
        return await self._run(predicting.predict_interval(self._memory, name, x, str(version), level, dtype))

    async def infer(
        self, name: str, x: Rows | Frame, version: Version = "", *, dtype: DTypeLike = np.float64
    ) -> Prediction:
        return await self._run(predicting.infer(self._memory, name, x, str(version), dtype))

    @overload
    async def differentiate(
        self, name: str, x: Rows | Frame, version: Version = "", *, hessian: Literal[False] = False
    ) -> tuple[Array, Array]: ...
    @overload
    async def differentiate(
        self, name: str, x: Rows | Frame, version: Version = "", *, hessian: Literal[True]
    ) -> tuple[Array, Array, Array]: ...
    async def differentiate(
        self, name: str, x: Rows | Frame, version: Version = "", *, hessian: bool = False
    ) -> tuple[Array, ...]:
        return await self._run(predicting.differentiate(self._memory, name, x, str(version), hessian))

    async def explain(self, name: str, x: Rows | Frame, version: Version = "") -> "Contributions":
        return await self._run(predicting.explain(self._memory, name, x, str(version)))

    async def formula(
        self, name: str, version: Version = "", *, formats: Sequence[str] = ()
    ) -> tuple[ServedFormula, ...]:
        return await self._run(describing.formula(name, str(version), formats))

    async def network(self, name: str, version: Version = "", *, curve_points: int | None = None) -> Network:
        return await self._run(describing.network(name, str(version), curve_points))

    async def export_source(
        self,
        name: str,
        folder: str | os.PathLike[str] | None = None,
        version: Version = "",
        *,
        format: str = "c_source",
        include_libraries: bool = False,
    ) -> Mapping[str, bytes]:
        request = formula_pb2.ExportSourceRequest(
            model_name=name, model_version=str(version), format=format, include_libraries=include_libraries
        )
        files: Mapping[str, bytes] = await self._call("ExportSource", request)
        if folder is not None:
            await asyncio.to_thread(write, files, folder)
        return files

    async def watch(self, name: str = "") -> AsyncIterator[ModelEvent]:
        """Yield each version of a model, or of all models, and then each change, without end.

        It is iterated by `async for`. A lost connection is made again, and only changes in between are yielded.

        Parameters
        ----------
        name
            As in `Client.watch`.

        Yields
        ------
        ModelEvent
            What changed.

        Raises
        ------
        UnreachableError
            No server is there at first.

        Examples
        --------
        >>> async for event in client.watch("line"):
        ...     print(event.version, event.state)
        ...     break
        1 ready
        """
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
                    raise (await self._error(error, called, failures + 1)) from None
            except asyncio.CancelledError:
                if not self._closed.is_set():
                    raise
                return
            finally:
                stream.cancel()
            failures += 1
            await asyncio.sleep(retrying.delay(failures))

    async def metadata(self, name: str, version: Version = "") -> ModelInfo:
        return await self._run(describing.metadata(name, str(version)))

    async def models(self) -> tuple[ModelStatus, ...]:
        return await self._run(describing.models())

    async def statistics(self, name: str = "", version: Version = "") -> tuple[ModelStatistics, ...]:
        return await self._run(describing.statistics(name, str(version)))

    async def drift(self, name: str, version: Version = "") -> tuple[InputDrift, ...]:
        return await self._run(describing.drift(name, str(version)))

    async def feedback(self, name: str, x: Rows | Frame, measured: ArrayLike, version: Version = "") -> Coverage:
        return await self._run(predicting.feedback(self._memory, name, x, measured, str(version)))

    async def load(self, name: str) -> None:
        await self._run(describing.load(name))

    async def unload(self, name: str) -> None:
        await self._run(describing.unload(name))

    async def live(self) -> bool:
        return await self._run(describing.live())

    async def ready(self, name: str = "", version: Version = "") -> bool:
        return await self._run(describing.ready(name, str(version)))

    def _turn(self) -> Calls:
        if not self._channels:  # created late: a channel belongs to the event loop that runs at its creation
            self._channels = self._target.open_in_loop()
            self._turns = itertools.cycle([calls(channel) for channel in self._channels])
        return next(self._turns)

    async def _run(self, steps: Steps[T]) -> T:
        return await describing.run_async(steps, self._call)

    async def _call(self, call: str, request: Any) -> Any:
        """Send a request and return the response, after as many attempts as the timeout allows."""
        if self._closed.is_set():
            raise InputError("The client is closed. Make another.")
        name, metadata = self._names.next()
        attempts = retrying.Attempts(call, self._timeout, self._retries)
        while True:
            method = self._turn()[call]
            try:
                if call == "ExportSource":
                    return await receive_async(
                        method(request, timeout=attempts.left, metadata=metadata), request.format
                    )
                return await method(request, timeout=attempts.left, metadata=metadata)
            except grpc.RpcError as error:
                pause = attempts.failed(error)
                if pause is None or self._closed.is_set():
                    raise (await self._error(error, name, attempts.failures)) from None
            await asyncio.sleep(pause)
            self.retried += 1

    async def _error(self, error: Any, request: str, attempts: int) -> KanserveError:
        cause = await asyncio.to_thread(self._target.cause, error)
        return retrying.error_for(cause, self._address, self._timeout, request, attempts)
