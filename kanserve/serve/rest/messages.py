"""An HTTP request and its response, as a framing hands them to `api.RestApi` and gets them back."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter_ns
from types import MappingProxyType


def _alive() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class RestRequest:
    """A request that has arrived completely. The framing has taken the transfer coding off its body."""

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
        """The first value of a header, whose name is given in lower case; empty without it."""
        for key, value in self.headers:
            if key == name:
                return value
        return ""


@dataclass(frozen=True, slots=True)
class RestResponse:
    """A response. The framing adds Content-Length, Connection and what else is its own; to HEAD it sends the head of
    this response without the body."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
