"""Reading JSON bodies: strictly, and in little more memory than the body takes.

Parsed, `[[],[]]` takes 20 times as much memory as its text, and numbers 9 times as much. So a body may have
MAX_DESCRIPTION_BYTES apart from its arrays of numbers, as a message of gRPC may; in a larger one, each long array is
cut out before the rest is parsed, and is read piece by piece.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import InputError, TensorError
from kanserve.network.kan import Variable
from kanserve.serve.models.catalog import Catalog
from kanserve.serve.rpc.message_limits import MAX_DESCRIPTION_BYTES

Array = NDArray[np.float64]

_PIECE = 2**16  # bytes of an array that are parsed at once
_LONG = re.compile(rb"[-+0-9.eE,nul\[\]\x20\t\r\n]{256,}")  # what may be an array of numbers, and what surrounds it
_ROW_END = re.compile(rb"\][\x20\t\r\n]*,")
_NESTED = re.compile(rb"\[[\x20\t\r\n]*\[")
_NUMBERS = frozenset((int, float, type(None)))


Coded = Callable[[list[Any], str], list[Any]]  # values in the order of their rows, with codes for the texts among them

_SHOWN = 30  # categories: more are not read


def coder(catalog: Catalog, name: str, version: str) -> Coded:
    """A function that replaces category names of a model by codes; the model is looked up only if there are texts."""
    return partial(_encode_categories, lambda: catalog.find(name, version).kan.inputs)


def _encode_categories(inputs: Callable[[], Sequence[Variable]], values: list[Any], what: str) -> list[Any]:
    known = inputs()
    return [
        _code(value, known[place % len(known)], place // len(known), what) if type(value) is str else value
        for place, value in enumerate(values)
    ]


def _code(text: str, variable: Variable, row: int, what: str) -> float:
    if text in variable.categories:
        return float(variable.categories.index(text))
    if not variable.categories:
        raise TensorError(
            f"{what}: row {row + 1} has the string {text!r:.80} for {variable.name!r:.80}, which is a number. "
            "Leave the quotes out."
        )
    shown = ", ".join(variable.categories[:_SHOWN])
    more = len(variable.categories) - _SHOWN
    raise TensorError(
        f"{what}: row {row + 1} has {text!r:.80} for {variable.name!r:.80}, whose categories are {shown}"
        f"{f' and {more} more' if more > 0 else ''}. Send one of them, or null where it is missing."
    )


class Body:
    """A JSON object. Long arrays are cut out first; a placeholder text in `fields` stands for each."""

    __slots__ = ("_arrays", "fields")

    def __init__(self, data: bytes | memoryview) -> None:
        """Raises InputError if `data` is not a JSON object."""
        self._arrays: dict[str, bytes | memoryview] = {}
        if len(data) > MAX_DESCRIPTION_BYTES:
            data = self._cut(data)
        try:
            fields = _DECODER.decode(str(data, "utf-8"))
        except UnicodeDecodeError:
            raise InputError("The body is not UTF-8. Send JSON in UTF-8.") from None
        except json.JSONDecodeError as error:
            raise InputError(f"The body is not JSON: {error.msg} at character {error.pos}.") from None
        except RecursionError:
            raise InputError("The body is nested too deeply.") from None
        except ValueError as error:  # of an integer of thousands of digits
            raise InputError(f"The body has a number that JSON lacks: {str(error).partition(';')[0]}.") from None
        if type(fields) is not dict:
            raise InputError(f'The body must be a JSON object, as {{"inputs": [...]}}; got {_kind(fields)}.')
        self.fields: dict[str, Any] = fields

    def numbers(self, value: Any, what: str, coded: Coded | None = None) -> tuple[Array, int | None]:
        """Read an array of numbers, flat or as rows of equal length. Returns its numbers in order, NaN for null, and
        the row length (None: flat). `coded` replaces texts by numbers. Raises TensorError if it is not valid."""
        if type(value) is str and value in self._arrays:
            text = self._arrays[value]
            pieces = [_flat(values, what) for values in _pieces(text, what)]
        elif type(value) is list:
            pieces = [_flat(value, what, coded)]
        else:
            raise TensorError(f"{what} must be an array of numbers, got {_kind(value)}.")
        lengths = {length for _, length in pieces}
        if len(lengths) > 1:
            raise TensorError(f"{what} must have rows of equal length.")
        arrays = [numbers for numbers, _ in pieces]
        made = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
        if np.isinf(made).any():  # 1e999
            raise TensorError(f"{what} has a number beyond the range of float64.")
        return made, lengths.pop()

    def _cut(self, data: bytes | memoryview) -> bytes:
        """Replace each long array of numbers in the body by a placeholder text."""
        rest: list[bytes | memoryview] = []
        view, kept = memoryview(data), 0
        for found in _LONG.finditer(view):
            run = found.group()
            begin, end = run.find(b"["), run.rfind(b"]") + 1
            if begin < 0 or end <= begin or run.count(b"[", begin, end) != run.count(b"]", begin, end):
                continue
            name = f"\0{len(self._arrays)}"
            start = found.start() + begin
            self._arrays[name] = view[start : start + end - begin]
            rest += (view[kept:start], json.dumps(name).encode())
            kept = start + end - begin
        rest.append(view[kept:])
        if sum(map(len, rest)) > MAX_DESCRIPTION_BYTES:
            raise InputError(
                f"A body may have {MAX_DESCRIPTION_BYTES} bytes apart from its arrays of numbers; this one has more. "
                "Strings and NaN are no numbers; a missing value is null."
            )
        return b"".join(rest)


def _pieces(text: bytes | memoryview, what: str) -> Iterator[list[Any]]:
    """The elements of an array, in pieces. Raises TensorError if it is not valid."""
    data = bytes(text)
    nested, start, end = _NESTED.match(data) is not None, 1, len(data) - 1
    while True:
        if nested:
            found = _ROW_END.search(data, min(start + _PIECE, end))
            stop, after = (found.start() + 1, found.end()) if found else (end, end)
        else:
            comma = data.find(b",", start + _PIECE, end)
            stop, after = (comma, comma + 1) if comma >= 0 else (end, end)
        try:
            values: list[Any] = _DECODER.decode(f"[{data[start:stop].decode('ascii')}]")
        except (ValueError, RecursionError):
            raise TensorError(f"{what} is not a JSON array of numbers.") from None
        if not values:  # as after ",,": that no array is empty here is known by its length
            raise TensorError(f"{what} is not a JSON array of numbers.")
        yield values
        if stop == end:
            return
        start = after


def _flat(values: list[Any], what: str, coded: Coded | None = None) -> tuple[Array, int | None]:
    """Numbers, or rows of numbers, and the length of a row."""
    length = None
    if values and type(values[0]) is list:
        length = len(values[0])
        for row in values:
            if type(row) is not list or len(row) != length:
                raise TensorError(f"{what} must have rows of equal length.")
        values = list(chain.from_iterable(values))
    kinds = set(map(type, values))
    if coded is not None and kinds <= _NUMBERS | {str} and str in kinds:
        values = coded(values, what)
    elif not kinds <= _NUMBERS:
        allowed = _NUMBERS | {str} if coded is not None and kinds - _NUMBERS != {str} else _NUMBERS
        wrong = next(value for value in values if type(value) not in allowed)
        raise TensorError(f"{what} must have numbers only, got {_kind(wrong)}.{_HINTS.get(type(wrong), '')}")
    try:
        return np.array(values, np.float64), length
    except OverflowError:
        raise TensorError(f"{what} has a number beyond the range of float64.") from None


_HINTS: dict[type, str] = {
    str: " Leave the quotes out.",
    list: " Nest it once, as rows, or not at all.",
}


def _kind(value: Any) -> str:
    names = {type(None): "null", bool: "a boolean", str: "a string", list: "an array", dict: "an object"}
    return names.get(type(value), "a number")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        again = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise InputError(f"The body has the key {again!r:.80} twice in one object.")
    return made


def _no_number(word: str) -> NoReturn:
    raise InputError(f"The body has {word}, which JSON has not. Send such numbers by the binary extension.")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_no_number)


def field(fields: dict[str, Any], name: str, kind: type, where: str, missing: Any = None) -> Any:
    """A field of a JSON object, or `missing` if it is absent. Raises InputError if it has another type."""
    value = fields.get(name, missing)
    if type(value) is not kind and value is not missing:
        wanted = {str: "a string", list: "an array", dict: "an object", bool: "true or false", int: "a whole number"}
        raise InputError(f"{where}{name!r} must be {wanted[kind]}, got {_kind(value)}.")
    return value
