"""Logging: lines on standard error as text or JSON, and optionally an access log with one JSON line per call.

Logging never blocks or fails a call: when standard error is closed or the disk is full, lines are lost.
"""

import json
import logging
import os
import select
import stat
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final, TextIO

from kanserve.errors import InputError
from kanserve.serve.settings import Settings

if TYPE_CHECKING:  # so that a supervisor can log without importing numpy, grpc and protobuf
    from kanserve.serve.state import Call

LONGEST_LINE: Final = 4096  # bytes of the access log: a pipe writes up to this much atomically
FIELDS = {  # of the access log, and what each means
    "time": "When the call ended, as 2026-01-31T12:00:00.000Z.",
    "request_id": "The call's x-request-id, or one that was made for it; the log of errors has it too.",
    "peer": "The address of the client.",
    "identity": "The name of the grant that allowed the call; empty for an anonymous caller.",
    "service": "inference.GRPCInferenceService or kanserve.v1.FormulaService.",
    "method": "ModelInfer and so on; each request of a ModelStreamInfer has a line.",
    "model": "The model if it was found; else empty.",
    "version": "Its version; else 0.",
    "rows": "Rows of the request.",
    "outside": "By the index of a feature, the number of rows outside its training range; at most twenty features.",
    "code": "The status code.",
    "error": "The error message sent to the client; cut after 500 characters.",
    "seconds": "In total.",
    "queue": "Of these seconds, those in the queue;",
    "decode": "to read and check the message;",
    "compute": "in the model;",
    "encode": "to write the answer.",
}
_LONGEST: Final = 500  # characters of a text in the access log
_MOST_FEATURES: Final = 20

_logger = logging.getLogger(__name__)


def configure(settings: Settings) -> None:
    """Send log records to standard error, one line each, in the format of the settings."""
    lines = StandardError()
    lines.setFormatter(_Json() if settings.log_format == "json" else _Text())
    logging.root.handlers[:] = [lines]
    logging.root.setLevel(logging.WARNING)
    logging.getLogger("kanserve").setLevel(settings.log_level.upper())
    logging.captureWarnings(True)


def of(call: "Call") -> dict[str, Any]:
    """The `extra` fields of a log record about a call, by which its line can be found."""
    return {"request_id": call.request_id, "model": call.model}


def access_log(settings: Settings) -> "AccessLog | None":
    """The access log of the settings, or None. Raises InputError if it cannot be opened."""
    return AccessLog(settings.access_log) if settings.access_log else None


_PART = 1024  # characters: a pipe that is writable takes 4096 bytes


class StandardError(logging.Handler):
    """A log handler that writes at once to standard error, and never raises or blocks. If nobody reads, lines are lost:
    calls that waited for the reader would soon occupy all threads."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record) + "\n"
            for start in range(0, len(line), _PART):
                if not _is_read(sys.stderr):
                    return
                sys.stderr.write(line[start : start + _PART])
                sys.stderr.flush()
        except (OSError, ValueError, AttributeError, TypeError):
            # Standard error is closed, full or None, or a library's arguments do not fit its message. There is nowhere
            # left to report it.
            return


class _Text(logging.Formatter):
    """2026-01-31T12:00:00.000Z kanserve: error: what happened [request_id=7f3a]"""

    def format(self, record: logging.LogRecord) -> str:
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        known = [f"{name}={value}" for name, value in _read_fields(record).items()]
        said = f"{record.getMessage()} [{' '.join(known)}]" if known else record.getMessage()
        line = f"{_time(record.created)} {record.name.partition('.')[0]}: {level}{said.translate(_ESCAPED)}"
        return f"{line}\n{self.formatException(record.exc_info)}" if _has_error(record) and record.exc_info else line


class _Json(logging.Formatter):
    """Formats a record as one line of JSON; an exception becomes a field with the traceback."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _time(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_read_fields(record),
        }
        if _has_error(record) and record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


# Characters that would forge a new line or control the reader's terminal.
_ESCAPED = {number: repr(chr(number))[1:-1] for number in (*range(32), *range(127, 160), 0x2028, 0x2029)}


def _read_fields(record: logging.LogRecord) -> dict[str, str]:
    found = {name: getattr(record, name, "") for name in ("request_id", "model")}
    return {name: str(value) for name, value in found.items() if value}


def _has_error(record: logging.LogRecord) -> bool:
    return record.exc_info is not None and record.exc_info[0] is not None


def _time(seconds: float) -> str:
    """The time in RFC 3339, in UTC with milliseconds."""
    whole, milliseconds = divmod(int(seconds * 1000), 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{milliseconds:03}Z"


class AccessLog:
    """Appends a JSON line per call with one write, so processes may share the file. `reopen` follows a rotation."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._lost = 0  # lines lost since the last successful write
        self._torn = False
        try:
            self._file = _open(path)
        except OSError as error:
            raise InputError(f"The access log {path!r} cannot be opened: {error.strerror}.") from None
        self._may_wait = not stat.S_ISREG(os.fstat(self._file).st_mode)

    def __call__(self, call: "Call") -> None:
        self._write(_line(call))

    def reopen(self) -> None:
        """Continue in the file that now has the path, or in the old one if it cannot be opened."""
        try:
            opened = _open(self._path)
        except OSError as error:
            _logger.warning("the access log cannot be opened again, the old file is kept: %s", error.strerror)
            return
        os.dup2(opened, self._file, inheritable=False)  # atomic, even while other threads write
        os.close(opened)

    def close(self) -> None:
        with self._lock:
            os.close(self._file)
            self._file = -1

    def _write(self, line: bytes) -> None:
        try:
            if self._may_wait and not _takes(self._file):
                raise BlockingIOError(0, "its reader does not read")
            data = b"\n" + line if self._torn else line
            whole = os.write(self._file, data) == len(data)
        except (OSError, ValueError) as error:
            self._say_lost(error)
            return
        if not whole:
            self._torn = True
            self._say_lost(OSError(0, "no space left"))
        elif self._lost:
            self._say_found()

    def _say_lost(self, error: Exception) -> None:
        with self._lock:
            self._lost += 1
            is_first = self._lost == 1 and self._file >= 0
        if is_first:
            reason = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
            _logger.warning("the access log cannot be written, lines are lost: %s", reason)

    def _say_found(self) -> None:
        with self._lock:
            lost, self._lost, self._torn = self._lost, 0, False
        if lost:
            _logger.warning("the access log is written again; %d lines were lost", lost)


def _open(path: str) -> int:
    if path == "-":
        return os.dup(1)
    # O_NONBLOCK matters for pipes only: without it, a missing or slow reader would block us.
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o640)


def _is_read(stream: TextIO) -> bool:
    """Whether a write to the stream would not block. True for a stream without a file descriptor."""
    try:
        file = stream.fileno()
    except (AttributeError, OSError, ValueError):
        return True
    return _takes(file)


def _takes(file: int) -> bool:
    """Whether a pipe, socket or terminal accepts a line without blocking."""
    waiting = select.poll()
    waiting.register(file, select.POLLOUT)
    return bool(waiting.poll(0))


def _line(call: "Call") -> bytes:
    """The access log line of a call. JSON escapes newlines, so a client's request id cannot forge a line."""
    line: dict[str, Any] = {
        "time": _time(time.time()),
        "request_id": call.request_id[:128],
        "peer": call.peer[:128],
        "identity": call.identity[:128],
        "service": call.service,
        "method": call.method,
        "model": call.model,
        "version": call.version,
        "rows": call.rows,
        "outside": {},
        "code": call.code,
        "error": call.error[:_LONGEST],
        "seconds": (call.ended - call.arrived) / 1e9,
        "queue": call.queued / 1e9,
        "decode": call.decoded / 1e9,
        "compute": call.computed / 1e9,
        "encode": call.encoded / 1e9,
    }
    if call.outside is not None:
        features = call.outside.nonzero()[0][:_MOST_FEATURES].tolist()
        line["outside"] = {str(i): int(call.outside[i]) for i in features}
    data = _encode(line)
    if len(data) > LONGEST_LINE:  # escaped characters take six bytes
        for name in ("error", "request_id", "peer", "identity"):
            line[name] = line[name].encode("ascii", "replace").decode()
        data = _encode(line)
    return data


def _encode(line: dict[str, Any]) -> bytes:
    return _encoder.encode(line).encode() + b"\n"


_encoder = json.JSONEncoder(separators=(",", ":"), check_circular=False)
