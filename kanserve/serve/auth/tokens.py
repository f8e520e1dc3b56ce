"""Bearer tokens: given as a SHA-256, or in a file that is reloaded when it changes."""

import hmac
import logging
import time
from collections.abc import Sequence
from hashlib import sha256
from threading import Lock

from kanserve.errors import InputError
from kanserve.serve.auth import rotation
from kanserve.serve.settings import Grant

LOOK = 1.0  # seconds between checks of the files; a removed token stays valid for up to this long
_GUESSED = 16  # characters; a shorter token can be guessed by brute force

_logger = logging.getLogger(__name__)


class Tokens:
    """The tokens of grants; grants without one are skipped. InputError for an unusable file."""

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
        """The grants of a token. All are compared, in constant time, so that the time reveals nothing about them."""
        if self._filed and time.monotonic() >= self._next:
            self._look()
        shown = sha256(token.encode(errors="surrogateescape")).digest()
        digests = self._digests
        known = [*self._fixed, *((grant, digests.get(path, b"")) for grant, path in self._filed)]
        same = [hmac.compare_digest(shown, digest) for _, digest in known]
        return [grant for (grant, _), equal in zip(known, same, strict=True) if equal]

    def _look(self) -> None:
        """Reload changed files. A file that cannot be read grants no access: removing it revokes the token."""
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
    """The digest of a file's token."""
    token = rotation.read(path, "The token file").split(b"\n", 1)[0].strip()
    if not token:
        raise InputError(f"The token file {path!r} must have a token in its first line.")
    if len(token) < _GUESSED:
        _logger.warning("The token in %r has %d characters; fewer than %d can be guessed.", path, len(token), _GUESSED)
    return sha256(token).digest()
