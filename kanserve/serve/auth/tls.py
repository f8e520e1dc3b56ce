"""TLS: the server's certificate and the CAs of client certificates; replaced files are reloaded while the server runs.

Each handshake checks the files' times, which costs microseconds. New files are used once they are consistent; until
then, for instance while they are half written, the old ones stay in use. Open connections keep their certificate.
"""

import logging
import time
from threading import Lock
from typing import NamedTuple

from kanserve.errors import InputError
from kanserve.serve.auth import rotation
from kanserve.serve.settings import Settings

_AGAIN = 1.0  # seconds until inconsistent files are tried again although their times have not changed

# Seconds of pause before new files are handed to grpc. It frees the old configuration then, which a handshake that has
# just begun may be about to use: without the pause, one rotation in some thousands under load crashed the process.
_HANDOVER = 0.05

_logger = logging.getLogger(__name__)


class Pem(NamedTuple):
    """The checked contents of the TLS files."""

    chain: bytes
    key: bytes
    authorities: bytes | None


def files(settings: Settings) -> "Files | None":
    """The TLS files of the settings; None without TLS. Raises InputError if they cannot be used."""
    certificate, key, authorities = settings.tls_certificate, settings.tls_key, settings.tls_client_ca
    if not (certificate or key or authorities):
        return None
    check(settings)
    return Files(certificate, key, authorities)


def check(settings: Settings) -> None:
    """Raise InputError for TLS files that cannot be used."""
    if not (settings.tls_certificate and settings.tls_key):
        raise InputError("TLS needs both tls_certificate and tls_key; tls_client_ca is only used with them.")
    _read(settings.tls_certificate, settings.tls_key, settings.tls_client_ca)


class Files:
    """TLS files that are read again when they change. `current` holds their last consistent contents."""

    def __init__(self, certificate: str, key: str, authorities: str) -> None:
        self._files = certificate, key, authorities
        self._paths = tuple(path for path in self._files if path)
        self._lock = Lock()
        self._failed = ""
        self._again = 0.0
        self._stamps = self._now()
        self.current = _read(*self._files)

    def read_changed(self) -> Pem | None:
        """The new contents, or None if nothing changed. grpc calls this at each handshake, on any of its threads."""
        if not self._lock.acquire(blocking=False):  # another handshake is reading them; this one uses the old ones
            return None
        try:
            return self._read_changed()
        except Exception:  # grpc would refuse the handshake
            _logger.exception("The certificates could not be checked; the old ones stay in use.")
            return None
        finally:
            self._lock.release()

    def _read_changed(self) -> Pem | None:
        stamps = self._now()
        if stamps == self._stamps and not (self._failed and time.monotonic() >= self._again):
            return None
        self._stamps = stamps
        try:
            self.current = _read(*self._files)
        except InputError as error:
            if str(error) != self._failed:
                _logger.error("%s The old certificate stays in use.", error)
            self._failed, self._again = str(error), time.monotonic() + _AGAIN
            return None
        self._failed = ""
        time.sleep(_HANDOVER)  # no other handshake begins meanwhile: grpc calls this for one at a time
        _logger.info("The certificates were reloaded.")
        return self.current

    def _now(self) -> tuple[rotation.Stamp | None, ...]:
        return tuple(rotation.stamp(path) for path in self._paths)


def _read(certificate: str, key: str, authorities: str) -> Pem:
    """Read and check the files. Raises InputError if they do not belong together."""
    import ssl  # a few MB with its libraries, which a server without TLS does not need

    chain, secret = rotation.read(certificate, "The certificate"), rotation.read(key, "The key")
    roots = rotation.read(authorities, "The file of authorities") if authorities else None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # An empty password, so that OpenSSL does not prompt for one on the terminal.
        context.load_cert_chain(certificate, key, password=lambda: "")
    except (ssl.SSLError, OSError, ValueError) as error:
        raise InputError(
            f"The certificate {certificate!r} and the key {key!r} cannot be used: {_why(error)}. Both must be PEM, the "
            "key without a password, and belong together."
        ) from None
    if roots is not None:
        try:
            context.load_verify_locations(cadata=roots.decode("ascii", "replace"))
        except (ssl.SSLError, ValueError) as error:
            raise InputError(f"The authorities in {authorities!r} are not PEM certificates: {_why(error)}.") from None
    # ssl only takes paths, so read the files again: what it checked is what we read unless they changed in between.
    if (chain, secret) != (rotation.read(certificate, "The certificate"), rotation.read(key, "The key")):
        raise InputError(f"The certificate {certificate!r} or the key {key!r} is being written.")
    return Pem(chain, secret, roots)


def _why(error: Exception) -> str:
    return str(getattr(error, "reason", None) or getattr(error, "strerror", None) or error)[:100]
