"""Messages between a supervisor and its workers: JSON, one message per line, both ways over a socket pair.

    {"tell": "ready", ...}                  has no answer
    {"ask": "load", "id": 7, ...}           is answered by
    {"answer": 7, "value": ...}             or by
    {"answer": 7, "error": ["NotFoundError", "There is no model 'fox'."]}

Either side may tell and ask. The supervisor has one thread and never blocks (`SupervisorEnd`); a worker has a thread
that reads, and others that ask and wait (`WorkerEnd`).
"""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

from kanserve import errors
from kanserve.errors import DeadlineError, DrainingError, KanserveError

MAX_BYTES = 2**25  # of one message, and of the unsent messages
_PIECE = 2**16

Message = dict[str, Any]


class ProtocolError(Exception):
    """The other side has ended, or sent an invalid message."""


def pair() -> tuple[socket.socket, socket.socket]:
    """Create a channel: the supervisor's end, which never blocks, and the worker's end."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    return ours, theirs


def encode_error(error: Exception) -> list[str]:
    """Encode an error as a message. The text of an unexpected error is not sent."""
    if isinstance(error, KanserveError):
        return [type(error).__name__, str(error)]
    return [KanserveError.__name__, "internal error"]


def decode_error(error: list[str]) -> KanserveError:
    """The error that `encode_error` encoded."""
    name, text = error
    kind = getattr(errors, name, KanserveError)
    # MissingDependencyError composes its own text, so it cannot be made from one.
    return KanserveError(text) if kind is errors.MissingDependencyError else kind(text)


class SupervisorEnd:
    """The supervisor's end of a channel."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end
        self._frames = _Frames()
        self._unsent = bytearray()

    def fileno(self) -> int:
        return self.end.fileno()

    @property
    def unsent(self) -> int:
        """The number of bytes not yet accepted by the other side."""
        return len(self._unsent)

    def send(self, message: Message) -> None:
        """Send as much as possible now; `flush` sends the rest. Nothing is sent to a worker that has ended."""
        self._unsent += _encode(message)
        self.flush()

    def flush(self) -> None:
        try:
            while self._unsent:
                del self._unsent[: self.end.send(self._unsent[:_PIECE])]
        except BlockingIOError:
            if len(self._unsent) > MAX_BYTES:
                self._unsent.clear()  # the worker does not read; the supervisor will notice that it hangs
        except OSError:
            self._unsent.clear()

    def receive(self) -> Iterator[Message]:
        """The messages that have arrived, or some of them. Raises ProtocolError after the last message."""
        try:
            data = self.end.recv(_PIECE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            raise ProtocolError
        yield from self._frames.add(data)

    def close(self) -> None:
        self.end.close()


class WorkerEnd:
    """A worker's end of a channel; thread-safe. `heard` is called for each message on the reading thread, `ended` when
    the supervisor is gone."""

    def __init__(self, end: socket.socket, heard: Callable[[Message], None], ended: Callable[[], None]) -> None:
        self._end = end
        self._heard, self._ended = heard, ended
        self._numbers = count(1)
        self._sending = threading.Lock()
        self._waiting: dict[int, _Answer] = {}
        self._gone = False

    def start(self) -> None:
        threading.Thread(target=self._read, name="kanserve-channel", daemon=True).start()

    def tell(self, what: str, **fields: Any) -> None:
        """Send a notification. Raises DrainingError if the supervisor is gone."""
        self._send({"tell": what, **fields})

    def answer(self, question: Message, value: Any) -> None:
        self._send({"answer": question["id"], "value": value})

    def ask(self, what: str, timeout: float, **fields: Any) -> Any:
        """Send a request to the other process and wait for its reply. Returns the reply's value and re-raises its
        error; DeadlineError after `timeout` seconds."""
        number = next(self._numbers)
        answer = self._waiting[number] = _Answer()
        try:
            self._send({"ask": what, "id": number, **fields})
            if not answer.there.wait(timeout):
                raise DeadlineError(f"The other processes of this server have not answered within {timeout:g} seconds.")
        finally:
            del self._waiting[number]
        if self._gone and not answer.message:
            raise _gone_error()
        if "error" in answer.message:
            raise decode_error(answer.message["error"])
        return answer.message["value"]

    def _send(self, message: Message) -> None:
        data = _encode(message)
        try:
            with self._sending:
                self._end.sendall(data)
        except OSError:
            raise _gone_error() from None

    def _read(self) -> None:
        frames = _Frames()
        try:
            while data := self._end.recv(_PIECE):
                for message in frames.add(data):
                    if "answer" not in message:
                        self._heard(message)
                    elif waiting := self._waiting.get(message["answer"]):  # else the asking thread has timed out
                        waiting.message = message
                        waiting.there.set()
        except (OSError, ProtocolError):
            pass  # as the end
        self._gone = True
        self._end.close()
        for answer in list(self._waiting.values()):
            answer.there.set()
        self._ended()


class _Answer:
    def __init__(self) -> None:
        self.there = threading.Event()
        self.message: Message = {}


class _Frames:
    """Reassembles messages from received pieces."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def add(self, data: bytes) -> Iterator[Message]:
        self._rest += data
        if len(self._rest) > MAX_BYTES:
            raise ProtocolError
        if b"\n" not in data:
            return
        *lines, self._rest = self._rest.split(b"\n")
        for line in lines:
            try:
                message = json.loads(line)
            except ValueError:
                raise ProtocolError from None
            if not isinstance(message, dict):
                raise ProtocolError
            yield message


def _encode(message: Message) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def _gone_error() -> DrainingError:
    return DrainingError("The server is stopping: its supervisor is gone.")
