"""HTTP requests and responses as exchanged between a framing and `api.RestApi`, and errors as HTTP."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter_ns
from types import MappingProxyType

from kanserve.serve.status import Code


def _alive() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class RestRequest:
    """A completely received request. The framing has removed the transfer coding from its body."""

    method: str  # as it came: "GET"
    target: str  # as it came, percent-encoded and with its query: "/v2/models/M?x=1"
    headers: Sequence[tuple[str, str]]  # names in lower case; a repeated one comes repeatedly
    body: bytes | memoryview = b""
    peer: str = ""  # as grpc writes it: "ipv4:127.0.0.1:40000", "ipv6:[::1]:40000", "unix:"
    secure: bool = False  # whether it came over TLS
    alive: Callable[[], bool] = _alive  # whether the caller still waits; called from any thread
    # The names in the client's certificate, by grpc's keys: x509_common_name, peer_dns, peer_uri.
    identity: Mapping[str, Sequence[bytes]] = field(default_factory=lambda: MappingProxyType({}))
    arrived: int = field(default_factory=perf_counter_ns)  # when its head was complete

    def header(self, name: str) -> str:
        """The first value of a header, whose name is in lower case; "" without it."""
        for key, value in self.headers:
            if key == name:
                return value
        return ""


@dataclass(frozen=True, slots=True)
class RestResponse:
    """A response. The framing adds Content-Length and Connection; for HEAD it sends only the head."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


JSON = ("Content-Type", "application/json")

STATUSES: Mapping[Code, int] = MappingProxyType(
    {
        Code.OK: 200,
        Code.INVALID_ARGUMENT: 400,
        Code.UNAUTHENTICATED: 401,
        Code.PERMISSION_DENIED: 403,
        Code.NOT_FOUND: 404,
        Code.FAILED_PRECONDITION: 409,
        Code.ALREADY_EXISTS: 409,
        Code.ABORTED: 409,
        Code.CANCELLED: 499,
        Code.RESOURCE_EXHAUSTED: 429,
        Code.INTERNAL: 500,
        Code.UNIMPLEMENTED: 501,
        Code.UNAVAILABLE: 503,
        Code.DEADLINE_EXCEEDED: 504,
    }
)


class HttpError(Exception):
    """A request that is refused before there is a call."""

    def __init__(self, status: int, text: str, *headers: tuple[str, str]) -> None:
        super().__init__(text)
        self.status, self.text, self.headers = status, text, headers

    def response(self) -> RestResponse:
        return refusal(self.status, self.text, *self.headers)


def refusal(status: int, text: str, *headers: tuple[str, str]) -> RestResponse:
    if status == 401:
        headers = (*headers, ("WWW-Authenticate", "Bearer"))
    return RestResponse(status, [JSON, *headers], json.dumps({"error": text}).encode())
