"""The transport-independent form of a call: a transport turns its wire into a `Request`, and sends the answer."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

Pairs = Sequence[tuple[str, str | bytes]]


class GoneError(Exception):
    """The caller left, or the call was cancelled, while its messages were read."""


@dataclass(frozen=True, eq=False, slots=True)
class Unpacked:
    """A message that REST made from JSON, with the numbers of its raw_input_contents kept apart as arrays."""

    message: Any  # of the call's own type
    buffers: Sequence[bytes | memoryview] = ()

    def __len__(self) -> int:
        return int(self.message.ByteSize()) + sum(map(len, self.buffers))


class Request:
    """A call and whether its caller still waits; each transport has its own subclass. `messages` arrive as they are
    read, and raise GoneError if the call is over."""

    metadata: Pairs
    messages: Iterator[bytes | Unpacked]

    @property
    def peer(self) -> str:
        """The caller's address as grpc writes it: "ipv4:127.0.0.1:40000", "ipv6:[::1]:40000", "unix:"."""
        return ""

    @property
    def identity(self) -> Mapping[str, Sequence[bytes]]:
        """The names in the client's certificate, under grpc's keys x509_common_name, peer_dns and peer_uri."""
        return MappingProxyType({})

    def alive(self) -> bool:
        """Whether the caller still waits; may be called from any thread."""
        return True

    def time_left(self) -> float | None:
        """Seconds until the deadline, 0 after it; None without one."""
        return None

    def cancel(self) -> None:
        """End the call, so that no further messages arrive; may be called from any thread."""

    def when_left(self, callback: Callable[[], None]) -> bool:
        """Call `callback` when the caller leaves. Returns False if it already has."""
        return True
