"""`python -m kanserve.serve N`: the serving process, with settings that it reads from file descriptor N.

`kanserve serve` replaces itself with this process (exec). It imports only what serving needs: no pydantic, typer, rich,
sympy or torch.
"""

import ctypes
import gc
import os
import sys
from contextlib import suppress

from kanserve.errors import KanserveError
from kanserve.serve import settings
from kanserve.serve.settings import Settings

_M_ARENA_MAX, _ARENAS = -8, 2  # of glibc's malloc.h
_OPENSSL = ("_ssl", "_hashlib")


def main(arguments: list[str]) -> int:
    try:
        with open(int(arguments[0]), encoding="utf-8") as file:
            found = settings.loads(file.read())
        _hold_little()
        gc.disable()  # collections while modules are imported find nothing, and take 10 ms
        _import_little(found)
        from kanserve.serve.processes import lifecycle

        gc.freeze()  # later collections, which stop every thread, do not visit what lives as long as the process
        gc.enable()
        lifecycle.configure(found)
        return _serve(found)
    except KanserveError as error:
        for line in str(error).splitlines():
            print(f"kanserve: {line}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"kanserve: {error.strerror or error}: {error.filename}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _serve(found: Settings) -> int:
    """Serve with one or several processes until SIGTERM or SIGINT, then drain; a second signal kills. Returns the exit
    code. Logs what is served and what cannot be once ready."""
    from kanserve.serve.scheduling import cpus, switch_interval

    if (workers := found.workers or cpus.available()) > 1:
        from kanserve.serve.processes import supervisor

        return supervisor.run(found, workers)
    from kanserve.serve.processes import single

    with switch_interval.own_process():
        return single.run(found)


def _hold_little() -> None:
    """Limit malloc's arenas before threads exist: one arena per thread would keep 2 to 4 MB of freed memory in all."""
    if sys.platform == "linux" and "MALLOC_ARENA_MAX" not in os.environ:
        with suppress(AttributeError):  # another C library than glibc
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _ARENAS)


def _import_little(found: Settings) -> None:
    """Set BLAS threads, and keep unneeded libraries from being imported, before anything large is imported."""
    # A process answers several requests at once: with a BLAS thread per core, they would slow each other down.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    if "://" in found.repository or found.traces or found.tls_certificate:
        return
    # grpc imports asyncio, which is not used here; asyncio and hashlib load OpenSSL: 6 MB. gRPC brings its own TLS, and
    # hashlib and hmac fall back to Python's built-in hashes.
    for name in _OPENSSL:
        sys.modules[name] = None  # type: ignore[assignment]  # makes its import fail
    try:
        import asyncio  # noqa: F401
        import hmac  # noqa: F401
    finally:
        for name in _OPENSSL:
            del sys.modules[name]


if __name__ == "__main__":
    ended = main(sys.argv[1:])
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # closed, or None
            stream.flush()
    os._exit(ended)  # at once: the port stays open until then, but a finalizing interpreter answers no calls
