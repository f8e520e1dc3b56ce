"""Requests of HTTP/1.1 that two servers in a row could read differently, and what a server must do with each.

Each is sent with a request behind it. A server may refuse what it got, and then must end the connection, so that what
comes behind is no request; or it reads the request as RFC 9112 does, and then the one behind it is the next.
"""

import socket
from typing import NamedTuple

from tests.support.peers.http1_peer import Http1Peer

BEHIND = b"GET /v2/health/ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
LIVE, ROWS = "/v2/health/live", "/v2/models/iris/infer"
_BODY = b'{"inputs":[{"name":"x","datatype":"FP64","shape":[1,2],"data":[0,0]}]}'


REFUSALS = {400, 405, 413, 414, 417, 431, 501, 505}


class Case(NamedTuple):
    name: str
    sent: bytes
    answers: int = 0  # with that of BEHIND; 0: it must be refused
    last: int = 200  # the status of the last one
    refusable: bool = False  # may be refused, too


def _get(line: bytes = b"GET /v2/health/live HTTP/1.1", headers: bytes = b"Host: x\r\n", body: bytes = b"") -> bytes:
    return line + b"\r\n" + headers + b"\r\n" + body


def _post(headers: bytes, body: bytes) -> bytes:
    head = b"POST /v2/models/iris/infer HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    return head + headers + b"\r\n" + body


def _chunk(body: bytes = _BODY, size: bytes = b"", after: bytes = b"\r\n", end: bytes = b"0\r\n\r\n") -> bytes:
    return (size or b"%x" % len(body)) + b"\r\n" + body + after + end


_CHUNKED, _LENGTH = b"Transfer-Encoding: chunked\r\n", b"Content-Length: %d\r\n" % len(_BODY)
_SIZE = b"%x" % len(_BODY)

_LENGTHS = {
    **{"a plus": b"+70", "a minus": b"-70", "hexadecimal": b"0x46", "a fraction": b"70.0"},
    **{"an exponent": b"7e1", "an underscore": b"7_0", "a list": b"70, 70", "a list of two": b"70, 71"},
    **{"two words": b"70 70", "a semicolon": b"70;", "nothing": b"", "a word": b"x", "a vertical tab": b"\x0b70"},
    **{"2 to the 64th and 70": b"18446744073709551686", "2 to the 63rd": b"9223372036854775808"},
    **{"digits of another alphabet": "٧٠".encode(), "a NUL": b"70\0", "quotes": b'"70"'},
}
_CODINGS = {
    **{"a letter more": b"xchunked", "a letter less": b"chunke", "gzip before": b"gzip, chunked"},
    **{
        "gzip behind": b"chunked, gzip",
        "gzip": b"gzip",
        "identity": b"identity",
        "twice in a list": b"chunked, chunked",
    },
    **{"identity behind": b"chunked, identity", "a parameter": b"chunked;q=1", "quotes": b'"chunked"', "nothing": b""},
    **{"a vertical tab": b"\x0bchunked", "a vertical tab behind": b"chunked\x0b", "a NUL": b"chunked\0"},
    **{"another byte": b"chunked\xff", "a comma": b",chunked", "words": b"cow chunked"},
}
_SIZES = {
    **{"a plus": b"+" + _SIZE, "a minus": b"-" + _SIZE, "0x": b"0x" + _SIZE, "a letter that is no digit": _SIZE + b"g"},
    **{"a space before": b" " + _SIZE, "an underscore": b"4_6", "a NUL": _SIZE + b"\0", "nothing": b";x"},
    **{"2 to the 64th and so many": b"1" + _SIZE.zfill(16), "2 to the 63rd": b"8000000000000000"},
    **{"one less than 2 to the 63rd": b"7fffffffffffffff", "one less than 2 to the 64th": b"ffffffffffffffff"},
    **{"2 to the 32nd": b"100000000", "a line feed in an extension": _SIZE + b";a\nb"},
    **{"a carriage return in an extension": _SIZE + b";a\rb", "a list": _SIZE + b"," + _SIZE},
}
_LINES = {
    **{
        "two spaces before the target": b"GET  /v2/health/live HTTP/1.1",
        "two behind": b"GET /v2/health/live  HTTP/1.1",
    },
    **{"a tab": b"GET\t/v2/health/live HTTP/1.1", "a tab behind": b"GET /v2/health/live\tHTTP/1.1"},
    **{"a space first": b" GET /v2/health/live HTTP/1.1", "a space last": b"GET /v2/health/live HTTP/1.1 "},
    **{"no version": b"GET /v2/health/live", "a version in small letters": b"GET /v2/health/live http/1.1"},
    **{"a version of two digits": b"GET /v2/health/live HTTP/1.10", "with a zero": b"GET /v2/health/live HTTP/01.1"},
    **{"another protocol": b"GET /v2/health/live HTTPS/1.1", "a version of one digit": b"GET /v2/health/live HTTP/1"},
    **{"a space in the target": b"GET /v2/health/live x HTTP/1.1", "a NUL": b"GET /v2/health/live\0 HTTP/1.1"},
    **{"another byte in the target": b"GET /v2/health/live\xff HTTP/1.1", "a bell": b"GET /v2/\x07 HTTP/1.1"},
    **{"no target": b"GET HTTP/1.1", "a host and port": b"GET x:80 HTTP/1.1", "a star": b"GET * HTTP/1.1"},
    **{"a relative target": b"GET v2/health/live HTTP/1.1", "no method": b"/v2/health/live HTTP/1.1"},
    **{"a method in small letters": b"get /v2/health/live HTTP/1.1", "a method with a colon": b"GE:T / HTTP/1.1"},
    **{"the preface of HTTP/2": b"PRI * HTTP/2.0", "a line feed alone": b"GET /v2/health/live HTTP/1.1\nX: y"},
    **{"a carriage return alone": b"GET /v2/health/live HTTP/1.1\rX: y", "CONNECT": b"CONNECT x:443 HTTP/1.1"},
}
_HEADERS = {
    "a folded one": b"Host: x\r\nX: a\r\n b\r\n",
    "a folded one by a tab": b"Host: x\r\nX: a\r\n\tb\r\n",
    "a folded first one": b" Host: x\r\n",
    "a folded length": b"Host: x\r\nContent-Length:\r\n 5\r\n",
    "a folded coding": b"Host: x\r\nTransfer-Encoding:\r\n chunked\r\n",
    "a space before the colon": b"Host : x\r\n",
    "a tab before the colon": b"Host: x\r\nContent-Length\t: 5\r\n",
    "no colon": b"Host: x\r\nnonsense\r\n",
    "no name": b"Host: x\r\n: y\r\n",
    "a space in the name": b"Host: x\r\nX Y: z\r\n",
    "a NUL in the name": b"Host: x\r\nX\0: z\r\n",
    "a NUL": b"Host: x\r\nX: a\0b\r\n",
    "a line feed alone": b"Host: x\nX: y\r\n",
    "a carriage return alone": b"Host: x\r\nX: a\rTransfer-Encoding: chunked\r\n",
    "a control character": b"Host: x\r\nX: a\x01b\r\n",
    "another byte in the name": b"Host: x\r\nX\xe9: y\r\n",
    "a name in brackets": b"Host: x\r\n(X): y\r\n",
    "no host": b"X: y\r\n",
    "two hosts": b"Host: x\r\nHost: y\r\n",
    "the same host twice": b"Host: x\r\nHost: x\r\n",
    "a host with a path": b"Host: a/b@c\r\n",
    "a host with a user": b"Host: a@b\r\n",
    "a host with a space": b"Host: a b\r\n",
    "a host with a question": b"Host: a?b\r\n",
    "a host with a fragment": b"Host: a#b\r\n",
    "a host with a backslash": b"Host: a\\b\r\n",
    "two different lengths": b"Host: x\r\nContent-Length: 0\r\nContent-Length: 5\r\n",
    "the same length twice": b"Host: x\r\nContent-Length: 0\r\nContent-Length: 0\r\n",
}

_REFUSED = (
    *(
        Case(f"a length with {name}", _post(b"Content-Length: %b\r\n" % value, _BODY))
        for name, value in _LENGTHS.items()
    ),
    *(
        Case(f"a coding with {name}", _post(b"Transfer-Encoding: %b\r\n" % value, _chunk()))
        for name, value in _CODINGS.items()
    ),
    *(Case(f"a chunk's size with {name}", _post(_CHUNKED, _chunk(size=value))) for name, value in _SIZES.items()),
    *(Case(f"a request line with {name}", _get(line=value)) for name, value in _LINES.items()),
    *(Case(f"headers with {name}", _get(headers=value)) for name, value in _HEADERS.items()),
    Case("both lengths", _post(_LENGTH + _CHUNKED, _chunk())),
    Case("both lengths, the coding first", _post(_CHUNKED + _LENGTH, _chunk())),
    Case("a length and an unknown coding", _post(_LENGTH + b"Transfer-Encoding: cow\r\n", _BODY)),
    Case("a coding in two headers", _post(_CHUNKED + _CHUNKED, _chunk())),
    Case("chunks in HTTP/1.0", _post(_CHUNKED, _chunk()).replace(b"HTTP/1.1", b"HTTP/1.0")),
    Case("a chunk that is longer than its size", _post(_CHUNKED, _chunk(size=b"3"))),
    Case("a chunk that is shorter than its size", _post(_CHUNKED, _chunk(size=b"%x" % (len(_BODY) + 1)))),
    Case("a chunk that ends in a line feed", _post(_CHUNKED, _chunk(after=b"\n"))),
    Case("a chunk that ends in a carriage return", _post(_CHUNKED, _chunk(after=b"\r"))),
    Case("a chunk that ends in other bytes", _post(_CHUNKED, _chunk(after=b"xx"))),
    Case("a size that ends in a line feed", _post(_CHUNKED, _SIZE + b"\n" + _BODY + b"\r\n0\r\n\r\n")),
    Case("a last chunk that ends in line feeds", _post(_CHUNKED, _chunk(end=b"0\n\n"))),
    Case("a folded trailer", _post(_CHUNKED, _chunk(end=b"0\r\nX: a\r\n b\r\n\r\n"))),
    Case("a trailer without a colon", _post(_CHUNKED, _chunk(end=b"0\r\nnonsense\r\n\r\n"))),
    Case("a trailer with a line feed", _post(_CHUNKED, _chunk(end=b"0\r\nX: a\nY: b\r\n\r\n"))),
    Case("line feeds alone", b"GET /v2/health/live HTTP/1.1\nHost: x\n\n"),
)

_READ = (
    Case("a request and another", _get(), 2),
    Case("three requests", _get() + _get(), 3),
    Case("a body and another request", _post(_LENGTH, _BODY), 2),
    Case("chunks and another request", _post(_CHUNKED, _chunk()), 2),
    Case("many chunks", _post(_CHUNKED, b"".join(b"1\r\n%c\r\n" % byte for byte in _BODY) + b"0\r\n\r\n"), 2),
    Case("a coding in capitals", _post(b"TRANSFER-ENCODING: CHUNKED\r\n", _chunk()), 2),
    Case("spaces around a coding", _post(b"Transfer-Encoding: \t chunked \t\r\n", _chunk()), 2, refusable=True),
    Case("spaces around a length", _post(b"Content-Length: \t 70 \t\r\n", _BODY), 2, refusable=True),
    Case("no space before a length", _post(b"Content-Length:70\r\n", _BODY), 2),
    Case("zeros before a size", _post(_CHUNKED, _chunk(size=b"000" + _SIZE)), 2, refusable=True),
    Case("a size in capitals", _post(_CHUNKED, _chunk(size=_SIZE.upper())), 2),
    Case("a space behind a size", _post(_CHUNKED, _chunk(size=_SIZE + b" ")), 2, refusable=True),
    Case("an extension of a chunk", _post(_CHUNKED, _chunk(size=_SIZE + b';a="b"')), 2),
    Case("many zeros as the last chunk", _post(_CHUNKED, _chunk(end=b"000\r\n\r\n")), 2, refusable=True),
    Case(
        "a trailer that is a length", _post(_CHUNKED, _chunk(end=b"0\r\nContent-Length: 9\r\n\r\n")), 2, refusable=True
    ),
    Case(
        "a trailer that is a coding",
        _post(_CHUNKED, _chunk(end=b"0\r\nTransfer-Encoding: x\r\n\r\n")),
        2,
        refusable=True,
    ),
    Case("an underscore in place of a dash", _get(headers=b"Host: x\r\nContent_Length: 50\r\n"), 2),
    Case("a body of GET", _get(headers=b"Host: x\r\nContent-Length: 5\r\n", body=b"abcde"), 2, refusable=True),
    Case("a target with a host", _get(line=b"GET http://y/v2/health/live HTTP/1.1"), 2, refusable=True),
    Case("two slashes first", _get(line=b"GET //v2/health/live HTTP/1.1"), 2, refusable=True),
    Case("dots in the path", _get(line=b"GET /v2/../v2/health/live HTTP/1.1"), 2, refusable=True),
    Case("an encoded line break in the path", _get(line=b"GET /v2/%0d%0aX:y HTTP/1.1"), 2, refusable=True),
    Case("bytes beyond ASCII in a value", _get(headers=b"Host: x\r\nX: \xe9\r\n"), 2, refusable=True),
    Case("a host with a port", _get(headers=b"Host: [::1]:8002\r\n"), 2),
    Case("the end of the connection wished", _get(headers=b"Host: x\r\nConnection: close\r\n"), 1),
    Case("HTTP/1.0", _get(line=b"GET /v2/health/live HTTP/1.0"), 1),
    Case("an offer of HTTP/2", _get(headers=b"Host: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n"), 2),
    Case("a later version of HTTP/1", _get(line=b"GET /v2/health/live HTTP/1.9"), 2, refusable=True),
    Case("a length below the body", _post(b"Content-Length: 5\r\n", _BODY), 2, last=400),
    Case("zeros before a length", _post(b"Content-Length: 0070\r\n", _BODY), 2, refusable=True),
    Case("empty lines first", b"\r\n\r\n" + _get(), 2, refusable=True),
)

CASES = (*_REFUSED, *_READ)

# What a client may have sent when it leaves: no answer may say that it was done.
CUT_SHORT = {
    "within the line": b"GET /v2/heal",
    "within the headers": b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n",
    "within a body": _post(_LENGTH, _BODY[:-1]),
    "within a chunk": _post(_CHUNKED, _SIZE + b"\r\n" + _BODY[:-1]),
    "before the last chunk": _post(_CHUNKED, _SIZE + b"\r\n" + _BODY + b"\r\n"),
    "within the last chunk": _post(_CHUNKED, _chunk(end=b"0\r\n")),
}


def statuses(address: str, sent: bytes, end: bool = False) -> list[int]:
    """The status of each answer until the server ends the connection, and 0 where it does not; `end`: after the client
    has sent its end."""
    found: list[int] = []
    with Http1Peer(address, seconds=10) as peer:
        peer.send(sent)
        if end:
            peer.socket.shutdown(socket.SHUT_WR)
        while True:
            try:
                found.append(peer.response().status)
            except ConnectionError:
                return found
            except TimeoutError:
                return [*found, 0]


def is_closed(case: Case, address: str) -> bool:
    """Whether a server refuses a request with its connection, or reads it in the one way that there is."""
    found = statuses(address, case.sent + BEHIND)
    if len(found) == 1 and found[0] in REFUSALS and (case.refusable or not case.answers):
        return True
    return bool(case.answers) and len(found) == case.answers and found[-1] == case.last


def is_not_done(sent: bytes, address: str) -> bool:
    """Whether a server takes what is cut short for no request."""
    return statuses(address, sent, end=True) in ([], [400], [408])
