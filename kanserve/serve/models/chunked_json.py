"""JSON parsed in pieces: decoding all of a large text at once would hold the GIL for the whole copy."""

import re
from codecs import getincrementaldecoder
from json import JSONDecoder
from typing import Any

PIECE = 2**17  # bytes decoded at a time
_DEEP = 8  # nesting depth to which containers are parsed piecewise; large values below are decoded as a whole
_AFTER = (",", "]", "}", ":", " ", "\t", "\n", "\r")  # one of these follows each value except the outermost
_visible = re.compile(r"[^ \t\n\r]").search


def parse(data: bytes, decoder: JSONDecoder, piece: int = PIECE) -> Any:
    """The value of a JSON text in UTF-8, by the decoder; ValueError for invalid JSON, RecursionError for too deep
    nesting.

    A list or an object that is larger than a piece is parsed piecewise; smaller values are left to the decoder.
    """
    return _Pieces(data, decoder, piece).all()


class _Pieces:
    def __init__(self, data: bytes, decoder: JSONDecoder, piece: int) -> None:
        self._data, self._decoder, self._piece = data, decoder, piece
        self._decode = getincrementaldecoder("utf-8")("surrogatepass").decode  # as json.loads; a piece ends anywhere
        self._taken = 0  # bytes that have been decoded
        self._text, self._at = "", 0  # the current piece, and the position of its first unread character
        self._blank = ""  # the whitespace before that

    def all(self) -> Any:
        value = self._value(_DEEP)
        if self._peek():
            raise ValueError("something follows its end")
        return value

    def _value(self, deep: int) -> Any:
        first = self._peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except ValueError:
                if self._ended:
                    raise
            else:
                if self._ended or self._text[end : end + 1] in _AFTER:  # else a number may continue in the next piece
                    self._at = end
                    return value
            if self._at > 0:
                self._read(self._piece)
            elif deep and first == "[":
                return self._list(deep - 1)
            elif deep and first == "{":
                return self._object(deep - 1)
            else:
                self._read(2 * len(self._text))

    def _list(self, deep: int) -> list[Any]:
        values: list[Any] = []
        alike = True
        self._at += 1
        while self._goes_on("]", bool(values)):
            several = self._several() if alike else []
            alike = bool(several)
            values += several or [self._value(deep)]
        return values

    def _several(self) -> list[Any]:
        """All values of a list up to the last one in the piece that begins with the same whitespace and character as
        the next value; none if that is not the start of a value of this list."""
        self._read(self._piece)
        end = self._text.rfind(f",{self._blank}{self._text[:1]}")
        try:
            values, parsed = self._decoder.raw_decode(text := f"[{self._text[: max(end, 0)]}]")
        except ValueError:
            return []
        if parsed < len(text):
            return []
        self._at = max(end, 0)
        made: list[Any] = values
        return made

    def _object(self, deep: int) -> Any:
        pairs: list[tuple[str, Any]] = []
        self._at += 1
        while self._goes_on("}", bool(pairs)):
            if self._peek() != '"':
                raise ValueError("a name is missing")
            name = self._value(0)
            if self._peek() != ":":
                raise ValueError("a colon is missing")
            self._at += 1
            pairs.append((name, self._value(deep)))
        hook: Any = self._decoder.object_pairs_hook  # typed as if there were always one
        return dict(pairs) if hook is None else hook(pairs)

    def _goes_on(self, last: str, begun: bool) -> bool:
        """Whether another value follows in a list or an object; then moves to its start."""
        if (following := self._peek()) == last:
            self._at += 1
            return False
        if begun:
            if following != ",":
                raise ValueError("a comma is missing")
            self._at += 1
            self._peek()
        return True

    def _peek(self) -> str:
        """Skip whitespace and return the next character, unread; "" at the end."""
        while (found := _visible(self._text, self._at)) is None and not self._ended:
            self._at = len(self._text)
            self._read(self._piece)
        at = len(self._text) if found is None else found.start()
        self._blank, self._at = self._text[self._at : at], at
        return self._text[at : at + 1]

    @property
    def _ended(self) -> bool:
        return self._taken == len(self._data)

    def _read(self, size: int) -> None:
        """Drop what was read, and decode more until the text has this size, or the data ends."""
        kept = self._text[self._at :]
        taken = self._data[self._taken : self._taken + max(1, size - len(kept))]
        self._taken += len(taken)
        self._text, self._at = kept + self._decode(taken, self._ended), 0
