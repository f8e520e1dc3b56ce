"""Who may call: every request passes these checks before anything else sees it.

A page of another origin, a name that is made to point to this machine (DNS rebinding) and another user of it must not
reach the studio. So Host is the studio's own, Origin its own or absent, and each call of the API carries a token that
only the address in the terminal has.
"""

import secrets
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any

from starlette.responses import JSONResponse

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

BODY_BYTES = 8 * 2**20  # the largest body of a request
TABLE_BYTES = 128 * 2**20  # of one that brings a table: 200,000 rows of 30 columns have 40 MB
TABLE_PATH = "/api/table"
TOO_LARGE = f"A request has at most {BODY_BYTES} bytes, and a table {TABLE_BYTES}: give its path instead."

TOKEN_HEADER = b"x-kanserve-token"
POLICY = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; font-src 'self'; img-src 'self' data: blob:; "
    "style-src 'self' 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)


@dataclass(frozen=True)
class Guard:
    """The checks around an application. `authority` is "host:port" of the studio's own address."""

    app: App
    authority: str
    scheme: str
    token: str

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # other kinds of calls do not exist
            return

        async def send_with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        refusal = self._refuse(scope)
        if refusal is not None:
            status, text = refusal
            await JSONResponse({"error": text, "code": "refused"}, status)(scope, receive, send_with_headers)
            return
        await self.app(scope, _limit(receive, _most_bytes(scope)), send_with_headers)

    def _refuse(self, scope: Scope) -> tuple[int, str] | None:
        """The status and the reason if a request is not allowed."""
        headers: list[tuple[bytes, bytes]] = list(scope["headers"])
        if _values(headers, b"host") != [self.authority.encode()]:
            return 421, f"This server answers only as {self.authority}; open the address that the terminal shows."
        origins = _values(headers, b"origin")
        if origins and origins != [f"{self.scheme}://{self.authority}".encode()]:
            return 403, "Another page may not call the studio."
        sizes = _values(headers, b"content-length")
        if sizes and not (len(sizes) == 1 and sizes[0].isdigit() and int(sizes[0]) <= _most_bytes(scope)):
            return 413, TOO_LARGE
        if not scope["path"].startswith("/api"):
            return None if scope["method"] in ("GET", "HEAD") else (405, "A page is only read.")
        shown = _values(headers, TOKEN_HEADER)
        if len(shown) != 1 or not secrets.compare_digest(shown[0], self.token.encode()):
            return (
                401,
                "The token is missing or wrong: open the address that the terminal shows, with all behind its #.",
            )
        if scope["method"] not in ("GET", "HEAD"):
            kinds = _values(headers, b"content-type")
            if len(kinds) != 1 or kinds[0].split(b";")[0].strip().lower() != b"application/json":
                return 415, "The body must be JSON, with content-type application/json."
        return None


class TooLargeError(Exception):
    """Raised when a body of undeclared length exceeds the limit; the application answers 413."""


def _most_bytes(scope: Scope) -> int:
    return TABLE_BYTES if scope["path"] == TABLE_PATH else BODY_BYTES


def _limit(receive: Receive, most: int) -> Receive:
    total = 0

    async def receive_limited() -> MutableMapping[str, Any]:
        nonlocal total
        message = await receive()
        total += len(message.get("body", b""))
        if total > most:
            raise TooLargeError
        return message

    return receive_limited


def _values(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    return [value for key, value in headers if key == name]
