"""Access control: who may make a call, by the roles in its row of `methods`; a path without a row is refused.

A caller presents a bearer token (`authorization: Bearer ...`), a client certificate, both or neither. Its rights are
those of all matching grants plus those of anonymous callers. A token that matches no grant is always refused.
"""

import hmac
import logging
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from threading import Lock
from types import MappingProxyType
from typing import TYPE_CHECKING

from kanserve.artifact.naming_rules import check_name
from kanserve.errors import AccessError, InputError, UnauthenticatedError
from kanserve.serve.auth import rotation
from kanserve.serve.methods import METHODS
from kanserve.serve.request import Request
from kanserve.serve.settings import ROLES, Grant, Role, Settings

if TYPE_CHECKING:
    from kanserve.serve.state import Access

NEEDS: Mapping[str, tuple[Role, ...]] = MappingProxyType({method.path: method.roles for method in METHODS})

_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_NAMES = ("x509_common_name", "peer_dns", "peer_uri")  # grpc's keys; IP and e-mail addresses do not identify a client

_logger = logging.getLogger(__name__)


LOOK = 1.0  # seconds between checks of the files; a removed token stays valid for up to this long
_GUESSED = 16  # characters; a shorter token can be guessed by brute force


class Tokens:
    """The bearer tokens of grants, given as SHA-256 or in files that are reloaded when they change. Grants without a
    token are skipped. Raises InputError if a file cannot be used."""

    def __init__(self, grants: Sequence[Grant]) -> None:
        self._fixed = [(grant, bytes.fromhex(grant.token_sha256)) for grant in grants if grant.token_sha256]
        self._filed = [(grant, grant.token_file) for grant in grants if grant.token_file]
        self._stamps: dict[str, rotation.Stamp | None] = {}
        self._digests: dict[str, bytes] = {}
        self._lock = Lock()
        for _, path in self._filed:
            self._stamps[path] = rotation.stamp(path)  # before reading, so that a write in between is noticed later
            self._digests[path] = _read(path)
        self._next = time.monotonic() + LOOK

    def matching(self, token: str) -> list[Grant]:
        """The grants of a token. All are compared, in constant time, so that timing reveals nothing."""
        if self._filed and time.monotonic() >= self._next:
            self._look()
        shown = sha256(token.encode(errors="surrogateescape")).digest()
        digests = self._digests
        known = [*self._fixed, *((grant, digests.get(path, b"")) for grant, path in self._filed)]
        same = [hmac.compare_digest(shown, digest) for _, digest in known]
        return [grant for (grant, _), equal in zip(known, same, strict=True) if equal]

    def _look(self) -> None:
        """Reload changed files. A file that cannot be read grants no access, so removing it revokes the token."""
        with self._lock:
            self._next = time.monotonic() + LOOK
            digests = dict(self._digests)
            for path in {path for _, path in self._filed}:
                if (now := rotation.stamp(path)) == self._stamps[path]:
                    continue
                self._stamps[path] = now
                digests.pop(path, None)
                try:
                    digests[path] = _read(path)
                    _logger.info("A token file was reloaded.")
                except InputError as error:
                    _logger.error("%s Until it can be, its token is refused.", error)
            self._digests = digests  # replaced, not mutated: other threads read it


def _read(path: str) -> bytes:
    """Read a token file, and return the token's digest."""
    token = rotation.read(path, "The token file").split(b"\n", 1)[0].strip()
    if not token:
        raise InputError(f"The token file {path!r} must have a token in its first line.")
    if len(token) < _GUESSED:
        _logger.warning("The token in %r has %d characters; fewer than %d can be guessed.", path, len(token), _GUESSED)
    return sha256(token).digest()


@dataclass(frozen=True)
class Allowed:
    """A caller who may make the call. Call the object with a model's name to check access to that model."""

    identity: str
    models: frozenset[str] | None  # None: all

    def __call__(self, model: str) -> None:
        """Raise AccessError for a model outside the grant, whether or not it exists: that must not be revealed."""
        if self.models is not None and model.partition("@")[0] not in self.models:
            raise AccessError("The caller may not use this model.")


def table(settings: Settings) -> "Access":
    """The access rules of a server. Raises InputError for a grant that cannot work; warns of risky settings."""
    for grant in settings.access:
        _check(grant, settings)
    anonymous = anonymous_roles(settings)
    _warn(settings, anonymous)
    return _Rules(anonymous, settings.access) if settings.access else _Anonymous(anonymous)


def anonymous_roles(settings: Settings) -> tuple[Role, ...]:
    """The roles of a caller without credentials."""
    if settings.anonymous is not None:
        return settings.anonymous
    return () if settings.access else ("predict", "read")


class _Anonymous:
    """The access rules without any grants: credentials are ignored."""

    def __init__(self, roles: Sequence[Role]) -> None:
        self._open = frozenset(path for path, needs in NEEDS.items() if not needs or set(needs) & set(roles))

    def check(self, method: str, request: Request) -> None:
        if method not in self._open:
            raise _refusal(method)


class _Rules:
    """The access rules with grants, by token and by certificate."""

    def __init__(self, anonymous: Sequence[Role], grants: Sequence[Grant]) -> None:
        self._public = frozenset(path for path, needs in NEEDS.items() if not needs)
        self._anonymous = frozenset(anonymous)
        self._tokens = Tokens(grants)
        self._certificates: dict[bytes, list[Grant]] = {}
        for grant in grants:
            if grant.certificate:
                self._certificates.setdefault(grant.certificate.encode(), []).append(grant)

    def check(self, method: str, request: Request) -> Allowed | None:
        if method in self._public:
            return None
        needs = NEEDS.get(method)
        if needs is None:
            raise _refusal(method)
        grants = [*self._by_token(request), *self._by_certificate(request)]
        if not self._anonymous.isdisjoint(needs):
            return Allowed(grants[0].name, None) if grants else None
        if not grants:
            raise UnauthenticatedError("This call needs a bearer token or a client certificate that the server knows.")
        able = [grant for grant in grants if not set(needs).isdisjoint(grant.roles)]
        if not able:
            raise _refusal(method)
        everything = not all(grant.models for grant in able)
        return Allowed(able[0].name, None if everything else frozenset(name for grant in able for name in grant.models))

    def _by_token(self, request: Request) -> list[Grant]:
        shown = [str(value) for key, value in request.metadata if key == "authorization"]
        if not shown:
            return []
        scheme, _, token = shown[0].partition(" ")
        # With several headers it is ambiguous which one a proxy would have used.
        matching = self._tokens.matching(token.strip()) if len(shown) == 1 and scheme.lower() == "bearer" else []
        if not matching:
            raise UnauthenticatedError("The authorization is not valid. Send exactly one bearer token.")
        return matching

    def _by_certificate(self, request: Request) -> list[Grant]:
        if not self._certificates:
            return []
        shown = request.identity
        # A certificate often repeats its common name among its DNS names.
        names = dict.fromkeys(name for key in _NAMES for name in shown.get(key, ()))
        return [grant for name in names for grant in self._certificates.get(name, ())]


def _refusal(method: str) -> AccessError:
    needs = NEEDS.get(method)
    return AccessError(f"This call needs the role {' or '.join(needs)}." if needs else "The server has no such call.")


def _check(grant: Grant, settings: Settings) -> None:
    who = f"The grant {grant.name!r}" if grant.name else "A grant without a name"
    if not (grant.token_sha256 or grant.token_file or grant.certificate):
        raise InputError(f"{who} matches no caller: give it token_sha256, token_file or certificate.")
    if grant.token_sha256 and not _SHA256.fullmatch(grant.token_sha256):
        raise InputError(f"{who} needs 64 hexadecimal digits as token_sha256: printf %s TOKEN | sha256sum.")
    if grant.certificate and not settings.tls_client_ca:
        raise InputError(f"{who} is for a client certificate, which needs tls_client_ca.")
    if not grant.roles or not set(grant.roles) <= set(ROLES):
        raise InputError(f"{who} needs roles out of {', '.join(ROLES)}, got {', '.join(grant.roles) or 'none'}.")
    for name in grant.models:
        check_name(name)


def _warn(settings: Settings, anonymous: Sequence[Role]) -> None:
    reached_at = " and ".join(settings.reached_at())
    if not reached_at:
        return
    if not settings.tls_certificate and any(grant.token_sha256 or grant.token_file for grant in settings.access):
        _logger.warning(
            "Bearer tokens reach %s unencrypted: whoever sees the traffic can use them. Set tls_certificate and "
            "tls_key, or listen on 127.0.0.1 behind a proxy that speaks TLS.",
            reached_at,
        )
    if "manage" in anonymous:
        _logger.warning("Anyone reaching %s may load and unload models: anonymous has the role manage.", reached_at)
