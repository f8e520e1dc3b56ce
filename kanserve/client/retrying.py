"""Which calls are retried, and when (exponential back-off); and the exceptions for failed calls."""

import random
import re
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import grpc

from kanserve import errors
from kanserve.errors import KanserveError, MissingDependencyError

ONCE = frozenset(
    {"RepositoryModelLoad", "RepositoryModelUnload", "ServerLive", "ServerReady", "ModelReady", "Feedback"}
)
_FIRST, _LONGEST = 0.1, 5.0  # seconds
# What to do, by words of gRPC's reason for a missing connection.
_HINTS = {
    "Socket closed": "A server with TLS closes connections without it: give tls= (--tls or --tls-ca in a command).",
    "CERTIFICATE_VERIFY_FAILED": "The authority of its certificate is not trusted: give that as tls= (--tls-ca).",
    "Hostname Verification": "Its certificate has another name than the address: give server_name= (--server-name).",
    "WRONG_VERSION_NUMBER": "The server has no TLS: leave out tls= (--tls and --tls-ca).",
    "http1.x server": "That port is for HTTP, as REST and metrics are: give gRPC's.",
    "security handshaker": "The certificates or the key cannot be used: they must be PEM, and belong together.",
}


def delay(failures: int) -> float:
    """Seconds to wait after this many failures: exponential back-off with jitter, so that clients that failed at the
    same time do not retry at the same time."""
    return min(_LONGEST, _FIRST * 2.0 ** min(failures - 1, 10)) * random.uniform(0.5, 1.0)


class Attempts:
    """The attempts of one request within its timeout: `failures` so far, and the seconds that are `left`."""

    def __init__(self, call: str, timeout: float, retries: int) -> None:
        self._timeout, self._retries, self._begun = timeout, 0 if call in ONCE else retries, time.monotonic()
        self.left, self.failures = timeout, 0

    def failed(self, error: Any) -> float | None:
        """Record a failure. Returns the seconds until the next attempt, or None if there is none."""
        self.failures += 1
        pause = delay(self.failures)
        self.left = self._timeout - (time.monotonic() - self._begun) - pause
        return pause if is_passing(error) and self.failures <= self._retries and self.left > 0 else None


def is_passing(error: Any) -> bool:
    """Whether a retry may succeed, on another server or a moment later. Busy servers are not retried. CANCELLED is the
    status of calls cut off by an ending server; this client cancels none."""
    return error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


def error_for(error: Any, address: str, timeout: float, request: str = "", attempts: int = 1) -> KanserveError:
    """The exception for a failed call: of the class that the server names, else by the status code."""
    failed = _to_exception(error, address, timeout, request)
    tried = f", tried {attempts} times" if attempts > 1 else ""
    failed.add_note(f"Request {request or 'without a name'} to {address}{tried}.")
    return failed


def _to_exception(error: Any, address: str, timeout: float, request: str) -> KanserveError:
    code, text = error.code(), error.details() or ""
    named = getattr(errors, str(dict(error.trailing_metadata() or ()).get("kanserve-error", "")), None)
    if isinstance(named, type) and issubclass(named, KanserveError) and named is not MissingDependencyError:
        return named(text)
    if code.name in _FAILURES:
        return _FAILURES[code.name](text, address, timeout)
    named_there = "" if request and request in text else f" (request {request})"  # our server includes it
    return KanserveError(f"The server at {address} failed: {code.name}: {text}{named_there}.")


def _too_much(text: str, address: str, _: float) -> KanserveError:
    if "larger than max" in text:
        return errors.InputError(f"The message is too large for the server at {address}: {text}. Send it in parts.")
    return errors.BusyError(f"The server at {address} is busy: {text} Try again later.")


def _no_answer(text: str, address: str, _: float) -> KanserveError:
    return errors.UnreachableError(f"No server answers at {address}: {_readable(text)}.{_hint(text)}")


# What a status means, from its text, the address and the timeout.
_FAILURES: dict[str, Callable[[str, str, float], KanserveError]] = {
    "INVALID_ARGUMENT": lambda text, *_: errors.InputError(text),
    "NOT_FOUND": lambda text, *_: errors.NotFoundError(text),
    "UNAUTHENTICATED": lambda text, *_: errors.UnauthenticatedError(text),
    "PERMISSION_DENIED": lambda text, *_: errors.AccessError(text),
    "DEADLINE_EXCEEDED": lambda _, address, timeout: errors.DeadlineError(
        f"The server at {address} did not answer within {timeout:g} seconds."
    ),
    "RESOURCE_EXHAUSTED": _too_much,
    "CANCELLED": lambda _, address, __: errors.UnreachableError(f"The server at {address} ended before it answered."),
    "UNAVAILABLE": _no_answer,
}


def hint(error: Any) -> str:
    """What to do about a connection that could not be made; "" if unknown."""
    return _hint(error.details() or "")


def _hint(text: str) -> str:
    return next((f" {hint}" for words, hint in _HINTS.items() if words in text), "")


def _readable(text: str) -> str:
    """gRPC's text without its full stop and with readable addresses: [::1]:8001 for ipv6:%5B::1%5D:8001."""
    return re.sub(r"\bipv[46]:(?=[\[\d])", "", unquote(text)).rstrip(".")
