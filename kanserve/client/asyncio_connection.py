"""What the asyncio client's calls are sent by: connections, retries, and the end of them."""

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from threading import Event
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
import grpc.aio

from kanserve.client import retrying
from kanserve.client.connecting import Calls, Metadata, Names, Pem, calls, target
from kanserve.client.exporting import Received
from kanserve.client.predicting import Memory, Steps
from kanserve.errors import InputError, KanserveError

T = TypeVar("T")


class AsyncConnection:
    """The connections of an asyncio client, and its calls with their retries; `AsyncClient` has the parameters."""

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
                    raise (await self._error(error, name, failures)) from None
            await asyncio.sleep(pause)
            self.retried += 1

    async def _error(self, error: Any, request: str, attempts: int) -> KanserveError:
        cause = await asyncio.to_thread(self._target.cause, error)
        return retrying.raised(cause, self._address, self._timeout, request, attempts)


async def _received(stream: Any, kind: str) -> Mapping[str, bytes]:
    received = Received(kind)
    try:
        async for part in stream:
            received.add(part)
        return received.files()
    finally:
        stream.cancel()
