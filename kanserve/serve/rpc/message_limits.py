"""Limits on messages that would take much more memory parsed than received; checked before parsing.

Parsed, an empty tensor of 2 bytes takes 50 times as much memory, and a message may hold millions. So apart from its
numbers, which take no more memory parsed, a message may have `MAX_DESCRIPTION_BYTES`, or it is refused unparsed.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from google.protobuf.message import DecodeError

from kanserve.errors import InputError
from kanserve.inference import wire
from kanserve.serve.methods import Arrays

MAX_DESCRIPTION_BYTES = 2**16  # of a message without its numbers
_LONGEST_VARINT = 10
_BYTES = 2  # the wire type of a length-delimited field

T = TypeVar("T")


def read(parse: Callable[[bytes], T], arrays: Arrays, data: bytes) -> T:
    """Parse a request. Raises InputError if it is invalid, or too large apart from its arrays."""
    return _read(parse, arrays, data, whole=True)[0]


def read_apart(parse: Callable[[bytes], T], arrays: Arrays, data: bytes) -> tuple[T, list[memoryview]]:
    """Like `read`, but returns the top-level arrays as views and leaves them empty in the message: the parser would
    copy each while holding the GIL."""
    return _read(parse, arrays, data, whole=False)


def _read(parse: Callable[[bytes], T], arrays: Arrays, data: bytes, whole: bool) -> tuple[T, list[memoryview]]:
    try:
        # A message this small is within the limit whatever its arrays are.
        if (
            len(data) <= MAX_DESCRIPTION_BYTES
            or _subtract_bytes(data, 0, len(data), arrays, MAX_DESCRIPTION_BYTES) >= 0
        ):
            rest, apart = (data, []) if whole else _split(data, [key for key, inside in arrays.items() if not inside])
            return parse(rest), apart
    except (DecodeError, IndexError, ValueError):
        raise InputError("The message is not of the type that this call takes.") from None
    raise InputError(
        f"A message may have {MAX_DESCRIPTION_BYTES} bytes apart from its numbers, which must be raw or packed; "
        "this one has more."
    )


def _split(data: bytes, numbers: Sequence[int]) -> tuple[bytes, list[memoryview]]:
    """Empty the fields of these numbers, and return their contents. Raises ValueError for an invalid message."""
    view, kept = memoryview(data), 0
    rest: list[memoryview | bytes] = []
    apart = []
    for number, begun, start, end in _fields(data, 0, len(data)):
        if number in numbers:
            if end > len(data):
                raise ValueError("a field that ends after its message")
            rest += (view[kept:begun], wire.varint(number << 3 | _BYTES), b"\0")
            apart.append(view[start:end])
            kept = end
    return b"".join((*rest, view[kept:])), apart


def _subtract_bytes(data: bytes, at: int, end: int, arrays: Arrays, left: int) -> int:
    """What is left of a budget of `left` bytes after all bytes from `at` to `end` outside arrays; negative means too
    many. Stops at the first field beyond it. Raises ValueError or IndexError for invalid protobuf."""
    for number, begun, start, after in _fields(data, at, end):
        inside = arrays.get(number)
        left -= (after if inside is None else start) - begun
        if inside:
            left = _subtract_bytes(data, start, min(after, end), inside, left)
        if left < 0:
            break
    return left


def _fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """For each field between `at` and `end`: its number (0 unless it is length-delimited), and where the field, its
    content and the next field begin. Raises ValueError or IndexError for invalid protobuf."""
    while at < end:
        begun, number = at, 0
        tag, at = _varint(data, at)
        start = at
        match tag & 7:
            case 0:
                _, at = _varint(data, at)
            case 1:
                at += 8
            case 5:
                at += 4
            case 2:
                size, start = _varint(data, at)
                number, at = tag >> 3, start + size
            case _:
                raise ValueError("a group, which no message here uses")
        yield number, begun, start, at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The varint at a position, and the position after it."""
    value = 0
    for position in range(_LONGEST_VARINT):
        byte = data[at + position]
        value |= (byte & 0x7F) << 7 * position
        if byte < 0x80:
            return value, at + position + 1
    raise ValueError("a number of more than 64 bits")
