"""ctypes bindings of the native transport's C library (kanserve/native/server/server_api.h)."""

import ctypes
import logging
import os
import struct
import sys
from collections.abc import Iterable, Iterator
from ctypes import POINTER, Structure, c_char_p, c_double, c_int, c_int32, c_int64, c_size_t, c_void_p
from functools import cache
from typing import Any

from kanserve import native

BUCKETS, STAGES = 16, 5
COUNT_ROWS, COUNT_LAST, COUNT_NANOSECONDS = 0, 1, 2
COUNT_BUCKETS = COUNT_NANOSECONDS + STAGES
COUNT_BLOCK = COUNT_BUCKETS + STAGES * BUCKETS
COUNT_OUTSIDE = 3 * COUNT_BLOCK  # after a block for each call that the loop answers
PATH_UNARY, PATH_STREAM = range(2)
EVENT_NONE, EVENT_CALL, EVENT_ROWS, EVENT_GONE, EVENT_POSTED, EVENT_END, EVENT_HTTP, EVENT_HTTP_EARLY = range(8)
QUEUE_MAIN, QUEUE_ASIDE = range(2)
REFUSED_QUEUE, REFUSED_DRAINING, REFUSED_DEADLINE, REFUSED_MEMORY = range(4)
CLOSED_CROWDED, CLOSED_FLOODING, CLOSED_SLOW = range(3)
NO_MORE, GONE = -1, -2  # of `kanserve_receive`


class RowTime(Structure):
    """How long a row takes: an initial guess, which the loop corrects."""

    _fields_ = (
        ("nanoseconds", c_double),
        ("shortest", c_double),
        ("longer", c_int32),
        ("next_trial", c_int64),
    )


class ServedModel(Structure):
    _fields_ = (
        ("name", c_char_p),
        ("version", c_int64),
        ("draws_below", c_int64),
        ("aliases", c_char_p),
        ("alias_count", c_int32),
        ("number", c_int32),
        ("predict", c_void_p),
        ("chain", c_void_p),
        ("kernels", c_void_p),
        ("chained", c_int64),
        ("kernel_count", c_int32),
        ("gradient", c_void_p),
        ("formula", c_char_p),
        ("formula_length", c_int64),
        ("formula_gzip", c_char_p),
        ("formula_gzip_length", c_int64),
        ("inputs", c_int32),
        ("outputs", c_int32),
        ("single", c_int32),
        ("classes", c_int32),
        ("max_rows", c_int64),
        ("max_gradient_rows", c_int64),
        ("labels", c_char_p),
        ("low", c_void_p * 2),
        ("high", c_void_p * 2),
        ("encodings", c_char_p),
        ("counters", c_void_p),
        ("edges", c_void_p),
        ("input_blocks", c_void_p),
        ("block_rows", c_int64),
        ("computing", c_void_p),
        ("concurrency", c_int64),
        ("cost", RowTime),
        ("gradient_cost", RowTime),
    )


class Config(Structure):
    _fields_ = (
        ("max_message", c_int64),
        ("max_held", c_int64),
        ("inline_budget", c_int64),
        ("keepalive", c_int64),
        ("greeting_time", c_int64),
        ("write_time", c_int64),
        ("ping_time", c_int64),
        ("linger_time", c_int64),
        ("max_streams", c_int32),
        ("max_metadata", c_int32),
        ("queue", c_int32),
        ("hand_out_rows", c_int32),
        ("max_connections", c_int32),
        ("route_header", c_char_p),
        ("bounds", c_int64 * (BUCKETS - 1)),
    )


class Path(Structure):
    _fields_ = (
        ("kind", c_int32),
        ("answers", c_int32),
        ("refusable", c_int32),
        ("aside", c_int32),
        ("patience", c_int64),
    )


class Event(Structure):
    _fields_ = (
        ("kind", c_int32),
        ("path", c_int32),
        ("late", c_int32),
        ("model", c_int32),
        ("single", c_int32),
        ("cheap", c_int32),
        ("rows", c_int64),
        ("arrived", c_int64),
        ("deadline", c_int64),
        ("call", c_void_p),
        ("message", c_void_p),
        ("length", c_int64),
        ("metadata", c_void_p),
        ("metadata_length", c_int64),
        ("identity", c_void_p),
        ("identity_length", c_int64),
        ("peer", c_char_p),
    )


_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "library_versions": (c_char_p, ()),
    "new": (c_void_p, (POINTER(Config), POINTER(c_char_p), POINTER(Path), c_int)),
    "listen": (c_int, (c_void_p, c_int)),
    "use_tls": (c_int, (c_void_p, c_void_p, c_char_p, c_char_p, c_char_p, c_char_p, c_size_t)),
    "start": (c_int, (c_void_p,)),
    "publish": (c_int, (c_void_p, POINTER(ServedModel), c_size_t)),
    "next": (c_int, (c_void_p, c_int, POINTER(Event))),
    "more_rows": (c_int, (c_void_p, c_void_p, c_void_p, c_int)),
    "taken": (None, (c_void_p,)),
    "post": (None, (c_void_p,)),
    "end_threads": (None, (c_void_p,)),
    "queued": (c_int, (c_void_p,)),
    "refused": (c_int64, (c_void_p, c_int)),
    "closed": (c_int64, (c_void_p, c_int)),
    "held": (c_int64, (c_void_p,)),
    "connections": (c_int64, (c_void_p,)),
    "computed": (c_int64, (c_void_p,)),
    "answer": (None, (c_void_p, c_char_p, c_size_t)),
    "answer_rows": (None, (c_void_p, c_void_p, c_size_t, c_int64)),
    "finish": (None, (c_void_p, c_int, c_char_p, c_size_t, c_char_p, c_size_t)),
    "send": (c_int, (c_void_p, c_char_p, c_size_t)),
    "receive": (c_int64, (c_void_p, POINTER(c_void_p))),
    "received": (None, (c_void_p, c_void_p)),
    "cancel": (None, (c_void_p,)),
    "gone": (c_int, (c_void_p,)),
    "retain": (None, (c_void_p,)),
    "release": (None, (c_void_p,)),
    "notify": (c_int, (c_void_p,)),
    "drain": (None, (c_void_p, c_int64)),
    "hang_up": (c_int, (c_void_p, c_int64)),
    "stop": (c_int, (c_void_p,)),
    "turns": (c_int64, (c_void_p,)),
    "free": (None, (c_void_p,)),
}

_HTTP_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "listen_http": (c_int, (c_void_p, c_int, POINTER(Path))),
    "respond": (None, (c_void_p, c_int, c_char_p, c_size_t, c_char_p, c_size_t)),
    "http_versions": (c_char_p, ()),
}

# These never block, and take less time than releasing the GIL and taking it again.
_KEEP_GIL = (
    *("taken", "more_rows", "post", "queued", "refused", "closed", "held", "connections"),
    *("computed", "gone", "notify", "retain"),
)

_logger = logging.getLogger(__name__)


@cache
def library() -> Any:
    """The library's functions by name, without their prefix; None if it was not built."""
    loaded, error = _load()
    if error:
        _logger.warning("The native transport cannot be loaded, grpcio serves: %s", error)
    return loaded


@cache
def _load() -> tuple[Any, str]:
    """The library, and the reason if it exists but cannot be loaded."""
    path = native.FOLDER / "libkanserve-server.so"
    if not path.exists():
        return None, ""
    try:
        return _Library(str(path)), ""
    except (OSError, AttributeError) as error:  # one of its libraries is gone, or it is of another version
        return None, str(error)


def running(transport: str = "auto", *, rest: bool = False) -> str:
    """Which transport serves under a setting: "native", or "grpcio" with the reason. With `rest`, "native" has a reason
    too if Python answers REST because libraries were missing at the install."""
    if reason := why_not_native(transport):
        return f"grpcio; {reason}"
    if rest and not library().serves_http:
        return f"native; Python serves REST, {_not_built('native REST', rest=True)}"
    return "native"


def why_not_native(transport: str = "auto") -> str:
    """Why grpcio serves under this setting, as the end of a sentence; "" if the native transport does."""
    if transport == "grpcio":
        return "the setting 'transport' chose it"
    if transport == "auto" and os.environ.get("KANSERVE_NATIVE") == "0":
        return "KANSERVE_NATIVE=0 turns the native transport off"
    if library() is not None:
        return ""
    if not sys.platform.startswith("linux"):
        return "the native transport is for Linux"
    if error := _load()[1]:
        return f"the native transport cannot be loaded: {error}"
    return _not_built("the native transport")


def _not_built(what: str, rest: bool = False) -> str:
    """Which packages the installation needs to build it, or that all are here now; with `rest`, only those of REST."""
    from kanserve.native import build  # not in servers that have all

    packages = [name for name in build.missing() if not rest or name.split()[0] not in build.SERVER_PACKAGES]
    if packages:
        return f"{what} needs {', '.join(packages)} at the install"
    return f"{what} was not built, and all that it needs is here now: install kanserve again from a clone"


def versions() -> str:
    """The names and versions of the libraries in the transport; "" if it was not built."""
    if (loaded := library()) is None:
        return ""
    tls = _tls_library().kanserve_tls_version
    tls.restype = c_char_p
    known = [loaded.library_versions(), *([loaded.http_versions()] if loaded.serves_http else []), tls()]
    return ", ".join(text.decode() for text in known)


def _tls_library() -> ctypes.CDLL:
    return ctypes.CDLL(str(native.FOLDER / "libkanserve-server-tls.so"))


def tls_functions() -> int:
    """The address of the functions that `use_tls` needs. They are in a separate library, since OpenSSL takes memory."""
    function = _tls_library().kanserve_tls
    function.restype = c_void_p
    found: int = function()
    return found


class _Library:
    def __init__(self, path: str) -> None:
        loaded, holding = ctypes.CDLL(path), ctypes.PyDLL(path)
        self.serves_http = hasattr(loaded, "kanserve_listen_http")  # it was built with llhttp and yyjson
        signatures = _SIGNATURES | (_HTTP_SIGNATURES if self.serves_http else {})
        for name, (result, arguments) in signatures.items():
            function = getattr(holding if name in _KEEP_GIL else loaded, f"kanserve_{name}")
            function.restype, function.argtypes = result, arguments
            setattr(self, name, function)


def pairs(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Decode the key-value pairs of the library."""
    at = 0
    while at < len(data):
        key, value = struct.unpack_from("=II", data, at)
        at += 8
        yield data[at : at + key], data[at + key : at + key + value]
        at += key + value


def as_pairs(given: Iterable[tuple[str, str | bytes]]) -> bytes:
    """Encode metadata for the library."""
    made = []
    for key, value in given:
        name, content = key.encode(), value.encode() if isinstance(value, str) else value
        made.append(struct.pack("=II", len(name), len(content)) + name + content)
    return b"".join(made)
