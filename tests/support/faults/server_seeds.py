"""Inputs that the fuzzer of a whole server begins with."""

import gzip
import itertools
from collections.abc import Iterable, Iterator

# What the steps of fuzz_server.c begin with. The client is in bits 4 and 5; with LATER the loop has no turn afterwards.
_COME, _CALL, _WRITE, _PIPELINE, _CONTROL, _READ, _LEAVE, _TAKE, _WORK, _TURNS, _CHANGE = (
    0,
    1,
    3,
    5,
    7,
    8,
    9,
    10,
    12,
    14,
    15,
)
_LATER = 128
_BOTH = 0x2F  # clients 0 and 2 speak HTTP/2, the others HTTP/1.1
# What `server_changes` does.
_DRAIN, _HANG_UP, _FAIL, _TABLE, _SHORT_TURNS, _SLOW, _LONGER = 0, 16, 32, 64, 81, 83, 96
_MOMENT, _SECOND, _MINUTE, _HOUR = 1, 4, 6, 7
_ALL_READ = bytes(step for client in range(4) for step in (_READ | client << 4, 1))


def servers(messages: Iterable[bytes]) -> Iterator[bytes]:
    """Two clients of HTTP/2 and two of HTTP/1.1, or four of one kind; what each asks; what happens meanwhile.

    `messages` are those of ModelInfer.
    """
    changes = (_DRAIN + _MOMENT, _HANG_UP, _TABLE, _SHORT_TURNS, _LONGER + _SECOND, _LONGER + _MINUTE, _LONGER + _HOUR)
    fails = tuple(_FAIL + after for after in range(1, 32))
    asked = [bytes([_PIPELINE, what]) for what in (0, 7, 8 + 7, 16, 32, 48)]
    asked += [
        bytes([_CALL, what, _WRITE, 4, 3]) + b"abc" + bytes([_WRITE, 5, 3]) + b"abc" for what in (0, 1, 2, 3, 4, 5, 6)
    ]
    for kinds, asking in itertools.product((0x4F, 0x1F, _BOTH, 0x7F, 0x8F), asked):
        for change in changes + (fails if kinds == _BOTH else ()):
            happening = bytes([_CHANGE, change])
            yield bytes([kinds]) + _by_all(asking) + happening + _threads() + _ALL_READ + happening + _by_all(asking)
    for message in messages:
        asking = bytes([_CALL, 1, _WRITE, 5, len(message)]) + message
        rows = bytes([_TAKE, 0, _TAKE, 0, _WORK, 0, _WORK, 0, _TURNS, 3])
        yield bytes([0x0F]) + _by_all(asking) + rows + _ALL_READ
        packed = gzip.compress(message)
        asking = bytes([_CALL, 17, 0, _WRITE, 13, len(packed)]) + packed
        yield bytes([0x0F, _CHANGE, _SHORT_TURNS]) + _by_all(asking) + rows + _ALL_READ
        yield (
            bytes([0x0F, _CHANGE, _DRAIN]) + asking + bytes([_CHANGE, _HANG_UP, _CHANGE, _LONGER + _SECOND, _TURNS, 7])
        )
    packed = gzip.compress(bytes(100_000))
    asking = bytes([_CALL, 17, 0, _WRITE, 12, len(packed)]) + packed
    for last in (bytes([_WRITE, 5, 3]) + b"abc", bytes([_CONTROL, 0]), bytes([_LEAVE, 1]), bytes([_CHANGE, _HANG_UP])):
        yield bytes([0x0F, _CHANGE, _SLOW]) + asking + bytes([_WRITE, 4, 3]) + b"abc" + last + bytes([_TURNS, 7])
    for what in range(64):
        controls = b"".join(bytes([_CONTROL | client << 4, what]) for client in range(4))
        yield (
            bytes([0x0F])
            + _by_all(bytes([_CALL, 2]))
            + controls
            + _threads()
            + bytes([_LEAVE | 16, what & 1])
            + _ALL_READ
        )


def _by_all(steps: bytes) -> bytes:
    """The same steps by each client, the loop's turn after the last one's."""
    made = bytearray()
    for client in range(4):
        part = bytearray(steps)
        part[0] |= client << 4 | (0 if client == 3 else _LATER)
        made += part
    return bytes(made)


def _threads() -> bytes:
    return bytes([_TAKE, 0, _TAKE, 0, _TAKE, 1, _WORK, 0, 9, _WORK, 4, 0, _WORK, 12, 3, _WORK, 20, _TURNS, 3])
