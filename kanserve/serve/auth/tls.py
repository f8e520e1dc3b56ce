"""TLS: the server's certificate, and whose client certificates it demands; files that change are taken up meanwhile.

At each handshake the files' times are looked at, which costs microseconds. New ones are used once they fit together;
until then, as when they are half written, the old ones serve on. Connections keep what they were made with.
"""

import logging
import time
from threading import Lock

import grpc

from kanserve.errors import InputError
from kanserve.serve.auth import rotation
from kanserve.serve.settings import Settings

_AGAIN = 1.0  # seconds until files that do not fit are tried again although nothing says that they changed

# Seconds for which new files wait. grpc frees the old ones when it is given new ones, and a handshake that has just
# looked may be about to use them: without the pause, one rotation in some thousands under load ended the process.
_HANDOVER = 0.05

_logger = logging.getLogger(__name__)


def credentials(settings: Settings) -> grpc.ServerCredentials | None:
    """What a secure port takes; None without TLS. InputError for files that cannot be used."""
    certificate, key, authorities = settings.tls_certificate, settings.tls_key, settings.tls_client_ca
    if not (certificate or key or authorities):
        return None
    if not (certificate and key):
        raise InputError("TLS needs both tls_certificate and tls_key; tls_client_ca comes on top of them.")
    files = _Files(certificate, key, authorities)
    return grpc.dynamic_ssl_server_credentials(
        files.current,
        files.changed,  # type: ignore[arg-type]  # None says that nothing is new, which the stubs do not know
        bool(authorities),
    )


class _Files:
    """The configuration that the files gave when they last fitted together."""

    def __init__(self, certificate: str, key: str, authorities: str) -> None:
        self._paths = (certificate, key, *((authorities,) if authorities else ()))
        self._lock = Lock()
        self._failed = ""
        self._again = 0.0
        self._stamps = self._now()
        self.current = _configuration(*self._paths)

    def changed(self) -> grpc.ServerCertificateConfiguration | None:
        """What to use from now on; None: nothing new. grpc asks at each handshake, on any of its threads."""
        if not self._lock.acquire(blocking=False):  # another handshake reads them; this one goes with the old
            return None
        try:
            return self._changed()
        except Exception:  # grpc would refuse the handshake
            _logger.exception("The certificates could not be looked at; the old ones serve on.")
            return None
        finally:
            self._lock.release()

    def _changed(self) -> grpc.ServerCertificateConfiguration | None:
        stamps = self._now()
        if stamps == self._stamps and not (self._failed and time.monotonic() >= self._again):
            return None
        self._stamps = stamps
        try:
            self.current = _configuration(*self._paths)
        except InputError as error:
            if str(error) != self._failed:
                _logger.error("%s The old certificate serves on.", error)
            self._failed, self._again = str(error), time.monotonic() + _AGAIN
            return None
        self._failed = ""
        time.sleep(_HANDOVER)  # no other handshake begins meanwhile: grpc asks them one by one
        _logger.info("The certificates were read again.")
        return self.current

    def _now(self) -> tuple[rotation.Stamp | None, ...]:
        return tuple(rotation.stamp(path) for path in self._paths)


def _configuration(certificate: str, key: str, authorities: str = "") -> grpc.ServerCertificateConfiguration:
    """The files' contents, checked; InputError when they do not fit together."""
    import ssl  # with its libraries a few MB, which a server without TLS does not need

    chain, secret = rotation.read(certificate, "The certificate"), rotation.read(key, "The key")
    roots = rotation.read(authorities, "The file of authorities") if authorities else None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # A password of nothing, so that nobody is asked for one on the terminal.
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
    # ssl reads files only, so that what it checked is what we read unless they changed in between.
    if (chain, secret) != (rotation.read(certificate, "The certificate"), rotation.read(key, "The key")):
        raise InputError(f"The certificate {certificate!r} or the key {key!r} is being written.")
    return grpc.ssl_server_certificate_configuration([(secret, chain)], roots)


def _why(error: Exception) -> str:
    return str(getattr(error, "reason", None) or getattr(error, "strerror", None) or error)[:100]
