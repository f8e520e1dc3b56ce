"""How the synchronous client sends requests: again after failures that pass, and each over the next connection."""

import itertools
from collections.abc import Iterator
from threading import Event
from typing import Any

import grpc

from kanserve.client import retrying
from kanserve.client.connecting import Names, Target, calls
from kanserve.client.exporting import receive
from kanserve.client.watch_events import Known, ModelEvent
from kanserve.errors import InputError, KanserveError
from kanserve.v1 import formula_pb2


class Caller:
    """Sends the requests of a client; thread-safe."""

    def __init__(self, target: Target, names: Names, address: str, timeout: float, retries: int) -> None:
        self._target, self._names, self._address = target, names, address
        self._timeout, self._retries = timeout, retries
        self._channels = target.open()
        self._turns = itertools.cycle([calls(channel) for channel in self._channels])
        self._closed = Event()
        self._retried = itertools.count()
        self.retried = 0

    def close(self) -> None:
        """Close the connections. Later calls end with InputError, and `watch` ends."""
        self._closed.set()
        for channel in self._channels:
            channel.close()

    def call(self, call: str, request: Any) -> Any:
        """Send a request and return the response, after as many attempts as the timeout allows."""
        if self._closed.is_set():
            raise InputError("The client is closed. Make another.")
        name, metadata = self._names.next()
        attempts = retrying.Attempts(call, self._timeout, self._retries)
        while True:
            method = next(self._turns)[call]
            try:
                if call == "ExportSource":
                    return receive(method(request, timeout=attempts.left, metadata=metadata), request.format)
                return method(request, timeout=attempts.left, metadata=metadata)
            except grpc.RpcError as error:
                pause = attempts.failed(error)
                if pause is None or self._closed.is_set():
                    raise self._error(error, name, attempts.failures) from None
            self._closed.wait(pause)
            self.retried = next(self._retried) + 1

    def watch(self, name: str) -> Iterator[ModelEvent]:
        """Yield each version and then each change, over a new connection where one was lost."""
        request, known, failures = formula_pb2.WatchRequest(model_name=name), Known(), 0
        while not self._closed.is_set():
            called, metadata = self._names.next()
            stream = next(self._turns)["Watch"](request, metadata=metadata)
            try:
                for response in stream:
                    failures = 0
                    yield from known.events(response)
            except grpc.RpcError as error:
                passing = retrying.is_passing(error) and (known.heard or failures < self._retries)
                if not passing and not self._closed.is_set():
                    raise self._error(error, called, failures + 1) from None
            finally:
                stream.cancel()
            failures += 1
            self._closed.wait(retrying.delay(failures))

    def _error(self, error: Any, request: str, attempts: int) -> KanserveError:
        return retrying.error_for(self._target.cause(error), self._address, self._timeout, request, attempts)
