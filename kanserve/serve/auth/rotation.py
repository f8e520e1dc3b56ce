"""Watch files that are replaced while a server runs: certificates and tokens."""

import os
from pathlib import Path

from kanserve.errors import InputError

Stamp = tuple[int, int, int]

_MAX_BYTES = 2**20  # of a chain of certificates; a token is smaller


def stamp(path: str) -> Stamp | None:
    """A value that changes when the file, or the link to it, is replaced or written to; None for a missing file."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def read(path: str, what: str) -> bytes:
    """Read a file. Raises InputError if that fails; `what` names the file in its text."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"{what} {path!r} cannot be read: {error.strerror}.") from None
    if not data.strip() or len(data) > _MAX_BYTES:
        raise InputError(f"{what} {path!r} has {len(data)} bytes; it must have some, and at most {_MAX_BYTES}.")
    return data
