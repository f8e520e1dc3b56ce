"""A REST call as the handlers see it: what they use of `grpc.ServicerContext`."""

from collections.abc import Callable
from typing import Any, NoReturn

import grpc

from kanserve.serve.rest.errors import STATUSES, refusal
from kanserve.serve.rest.messages import RestRequest, RestResponse

# Headers that belong to HTTP and not to the call: they are not metadata.
_NOT_METADATA = frozenset(
    (
        "accept",
        "accept-encoding",
        "accept-language",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "cookie",
        "expect",
        "host",
        "inference-header-content-length",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)


class RefusedError(Exception):
    """Raised by `abort`, which ends a handler."""


class RestContext:
    """What handlers use of `grpc.ServicerContext`, for one unary call."""

    def __init__(self, request: RestRequest) -> None:
        self._request = request
        self._metadata = tuple(pair for pair in request.headers if pair[0] not in _NOT_METADATA)
        self._code, self._details = grpc.StatusCode.OK, ""
        self.status = 0  # of the response, if that of the code is not precise enough

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return self._metadata

    def peer(self) -> str:
        return self._request.peer

    def auth_context(self) -> dict[str, list[bytes]]:
        """The names in the client's certificate, by grpc's keys."""
        return {key: list(names) for key, names in self._request.identity.items()}

    def is_active(self) -> bool:
        return self._request.alive()

    def time_remaining(self) -> None:
        """None: there is no deadline."""

    def cancel(self) -> None:
        """Ignored: the message has arrived already."""

    def add_callback(self, callback: Callable[[], object]) -> bool:
        """No handler of a unary call waits for its caller to leave."""
        return True

    def set_trailing_metadata(self, metadata: Any) -> None:
        """Ignored: the text says it all."""

    def abort(self, code: grpc.StatusCode, details: str) -> NoReturn:
        self._code, self._details = code, details
        raise RefusedError

    def refused(self) -> RestResponse:
        """The response after `abort`."""
        return refusal(self.status or STATUSES.get(self._code, 500), self._details)
