"""A real gRPC server whose answers a test writes: for what a kanserve server does not do, or not when it is told to."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from google.protobuf.message import Message

from kanserve.client.connecting import METHODS

Answer = Callable[[Any, grpc.ServicerContext], Any]  # a message, or for a stream an iterator of messages


@contextmanager
def serving(
    answers: Mapping[str, Answer],
    address: str = "127.0.0.1:0",
    credentials: grpc.ServerCredentials | None = None,
) -> Iterator[str]:
    """The address of a server that has these methods of our two services, each with the request as bytes."""
    with ThreadPoolExecutor(8) as threads:
        server = grpc.server(threads, options=(("grpc.so_reuseport", 0),))
        server.add_generic_rpc_handlers((_Handlers(answers),))
        if credentials is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, credentials)
        server.start()
        try:
            yield address if address.startswith("unix:") else f"{address.rpartition(':')[0]}:{port}"
        finally:
            server.stop(None).wait()


class _Handlers(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic in its stubs alone
    def __init__(self, answers: Mapping[str, Answer]) -> None:
        self._answers = answers

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        name = str(handler_call_details.method).rpartition("/")[2]
        if name not in self._answers:
            return None
        make: Callable[..., Any] = getattr(grpc, f"{METHODS[name].kind}_rpc_method_handler")
        return make(self._answers[name], response_serializer=_written)


def _written(message: Message) -> bytes:
    return message.SerializeToString()


class Failing:
    """Fails so many times with a status code, then answers; `times` and `ids` say when it was asked and by which
    names of requests."""

    def __init__(self, times: int, answer: Message, code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE) -> None:
        self._left, self._answer, self._code = times, answer, code
        self.ids: list[str] = []
        self.left: list[float] = []

    def __call__(self, request: bytes, context: grpc.ServicerContext) -> Message:
        self.ids.append(str(dict(context.invocation_metadata())["x-request-id"]))
        self.left.append(context.time_remaining())
        if self._left:
            self._left -= 1
            context.abort(self._code, "not now")
        return self._answer
