"""HTTP/1.1 requests, from bytes: the head, and where the body ends.

What is ambiguous is refused, since a proxy in front of the server might read it in another way.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from kanserve.serve.rest.messages import HttpError

_REQUEST = re.compile(rb"([A-Z-]{1,32}) (/[!-~]*|[Hh][Tt][Tt][Pp][Ss]?://[!-~]+) HTTP/(\d)\.(\d)")
_HEADER = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\t -~\x80-\xff]*?)[ \t]*")
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\0\r\n]*)?")
_HOST = re.compile(r"[0-9A-Za-z\-._~%!$&'()*+,;=\[\]:]*")
_DIGITS = re.compile(r"[0-9]{1,18}")
MOST_HEADERS = 100
END = b"\r\n\r\n"  # of a head
_LONGEST_LINE = 1024  # bytes of a chunk's size line, and of its trailers


@dataclass(frozen=True)
class Head:
    """The head of a request: `length` is None for a chunked body, and 0 without a body."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    keep_alive: bool
    length: int | None
    waits: bool  # for 100 Continue


def parse_head(data: bytes) -> Head:
    """Parse the bytes up to the empty line. Raises HttpError if they are not a valid head."""
    first, *lines = data.split(b"\r\n")
    line = _REQUEST.fullmatch(first)
    if line is None:
        raise HttpError(400, "This is not an HTTP request.")
    if line[3] != b"1":
        raise HttpError(505, "The server speaks HTTP/1.1.")
    if len(lines) > MOST_HEADERS:
        raise HttpError(431, f"A request may have {MOST_HEADERS} headers.")
    headers = [_header(text) for text in lines]
    newest, hosts = line[4] != b"0", _values(headers, "host")
    if len(hosts) not in ((1,) if newest else (0, 1)) or not all(map(_HOST.fullmatch, hosts)):
        raise HttpError(400, "A request has one header Host, which is a host.")
    words = {word.strip().lower() for word in ",".join(_values(headers, "connection")).split(",")}
    keep = "close" not in words and (newest or "keep-alive" in words)
    waits = newest and any(value.lower() == "100-continue" for value in _values(headers, "expect"))
    length = _length(headers)
    if length is None and not newest:
        raise HttpError(400, "HTTP/1.0 has no chunked bodies.")
    return Head(line[1].decode(), line[2].decode(), tuple(headers), keep, length, waits)


def _header(line: bytes) -> tuple[str, str]:
    found = _HEADER.fullmatch(line)
    if found is None:
        raise HttpError(400, "A header of the request is not valid.")
    return found[1].decode("ascii").lower(), found[2].decode("latin-1")


def _values(headers: Sequence[tuple[str, str]], name: str) -> list[str]:
    return [value for other, value in headers if other == name]


def _length(headers: list[tuple[str, str]]) -> int | None:
    lengths, codings = _values(headers, "content-length"), _values(headers, "transfer-encoding")
    if codings:
        if lengths or len(codings) > 1 or codings[0].lower() != "chunked":
            raise HttpError(400, "A body must have a Content-Length or be chunked, and nothing else.")
        return None
    if not lengths:
        return 0
    if len(lengths) > 1 or not _DIGITS.fullmatch(lengths[0]):
        raise HttpError(400, "The Content-Length is not valid.")
    return int(lengths[0])


class Chunks:
    """A decoder of a chunked body, as it arrives."""

    def __init__(self, most: int) -> None:
        self._most, self._left, self._ends = most, -1, False  # what is left of a chunk; -1: its size line is next
        self.body = bytearray()

    def take(self, received: bytearray) -> bool:
        """Move the received part of the body out of `received`. Returns whether the body is complete. Raises HttpError
        if it is invalid or too large."""
        while True:
            if self._left > 0:
                part = received[: self._left]
                self.body += part
                del received[: len(part)]
                self._left -= len(part)
                if self._left:
                    return False
            if self._left == 0:
                if len(received) < 2:
                    return False
                if received[:2] != b"\r\n":
                    raise HttpError(400, "A chunk of the body is longer than its size.")
                del received[:2]
                self._left = -1
            end = received.find(b"\r\n", 0, _LONGEST_LINE)
            if end < 0:
                if len(received) >= _LONGEST_LINE:
                    raise HttpError(400, "A chunk of the body has no valid size.")
                return False
            line = bytes(received[:end])
            del received[: end + 2]
            if self._ends:  # trailers, which are ignored, up to an empty line
                if not line:
                    return True
                if not _HEADER.fullmatch(line):
                    raise HttpError(400, "A trailer of the request is not valid.")
                continue
            size = _SIZE_LINE.fullmatch(line)
            if size is None:
                raise HttpError(400, "A chunk of the body has no valid size.")
            self._left = int(size[1], 16)
            if len(self.body) + self._left > self._most:
                raise HttpError(413, f"A request may have {self._most} bytes, and this one has more.")
            if self._left == 0:
                self._left, self._ends = -1, True
