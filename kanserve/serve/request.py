"""A call as its transport hands it over: a transport turns its wire into a `Request`, and the answer back."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

Pairs = Sequence[tuple[str, str | bytes]]


class GoneError(Exception):
    """The caller left, or the call was cancelled, while its messages were read."""


@dataclass(frozen=True, eq=False, slots=True)
class Unpacked:
    """A message that REST made of JSON, and beside it the numbers that would be its raw_input_contents: they are an
    array already."""

    message: Any  # of the call's own type
    buffers: Sequence[bytes | memoryview] = ()

    def __len__(self) -> int:
        return int(self.message.ByteSize()) + sum(map(len, self.buffers))


class Request:
    """What a call came with, and whether its caller still waits; each transport has a class of its own.

    `messages` arrive as they are read, and end with GoneError if the call is over.
    """

    metadata: Pairs
    messages: Iterator[bytes | Unpacked]

    @property
    def peer(self) -> str:
        """The caller's address as grpc writes it: "ipv4:127.0.0.1:40000", "ipv6:[::1]:40000", "unix:"."""
        return ""

    @property
    def identity(self) -> Mapping[str, Sequence[bytes]]:
        """The names in the client's certificate, by x509_common_name, peer_dns and peer_uri, which grpc calls them."""
        return MappingProxyType({})

    def alive(self) -> bool:
        """Whether the caller still waits; called from any thread."""
        return True

    def time_left(self) -> float | None:
        """Seconds until the deadline, 0 after it; None without one."""
        return None

    def cancel(self) -> None:
        """End the call, whose messages come no more; called from any thread."""

    def when_left(self, callback: Callable[[], None]) -> bool:
        """Call `callback` when the caller leaves; False if it has left."""
        return True
