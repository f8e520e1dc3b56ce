"""That a message is what it weighs: settled before it is parsed.

Parsed, an empty tensor of 2 bytes takes 50 times as much memory, and a message may hold millions. So all of a message
but its numbers, which take what they weigh, may have `MAX_DESCRIPTION_BYTES`; it is refused before it is parsed.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from google.protobuf.message import DecodeError

from kanserve.errors import InputError
from kanserve.inference import wire

MAX_DESCRIPTION_BYTES = 2**16  # of a message without its numbers
_LONGEST_VARINT = 10

T = TypeVar("T")
Fields = Mapping[int, Any]  # of a message: the numbers of fields that are arrays ({}) or have arrays in them (Fields)

TENSORS: Fields = {5: {5: {6: {}, 7: {}}}, 7: {}}  # inputs.contents.fp32_contents, fp64_contents; raw_input_contents
ARRAYS: Mapping[str, Fields] = MappingProxyType(
    {
        f"/{wire.SERVICE_NAME}/ModelInfer": TENSORS,
        f"/{wire.SERVICE_NAME}/ModelStreamInfer": TENSORS,
        f"/{wire.FORMULA_SERVICE_NAME}/Differentiate": {3: {2: {}}},  # rows.values
    }
)


def read(parse: Callable[[bytes], T], arrays: Fields, data: bytes) -> T:
    """A request; InputError where it weighs too much beside its arrays, or is none."""
    try:
        # Of a message that small, the arrays do not matter.
        if len(data) <= MAX_DESCRIPTION_BYTES or _left(data, 0, len(data), arrays, MAX_DESCRIPTION_BYTES) >= 0:
            return parse(data)
    except (DecodeError, IndexError, ValueError):
        raise InputError("The message is not of the type that this call takes.") from None
    raise InputError(
        f"A message may have {MAX_DESCRIPTION_BYTES} bytes beside its numbers, which must be raw or packed; "
        "this has more."
    )


def _left(data: bytes, at: int, end: int, arrays: Fields, left: int) -> int:
    """What is left of so many bytes after everything from `at` to `end` that is not in an array; negative: too much.

    ValueError and IndexError where there is no protobuf. Ends at the first byte too much.
    """
    while at < end and left >= 0:
        begun = at
        tag, at = _varint(data, at)
        match tag & 7:
            case 0:
                _, at = _varint(data, at)
            case 1:
                at += 8
            case 5:
                at += 4
            case 2:
                size, at = _varint(data, at)
                inside = arrays.get(tag >> 3)
                if inside is not None:
                    left -= at - begun
                    begun = at + size
                if inside:
                    left = _left(data, at, min(at + size, end), inside, left)
                at += size
            case _:
                raise ValueError("a group, which no message here has")
        left -= at - begun
    return left


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at a place, and the place after it."""
    value = 0
    for position in range(_LONGEST_VARINT):
        byte = data[at + position]
        value |= (byte & 0x7F) << 7 * position
        if byte < 0x80:
            return value, at + position + 1
    raise ValueError("a number of more than 64 bits")
