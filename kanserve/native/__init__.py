"""The compiled kernels: a plain C library that the package's build makes if there is a compiler.

It is optional: every caller of `library()` has a fallback in NumPy or torch that gives the same numbers, more slowly.
The environment variable KANSERVE_NATIVE=0 turns the kernels off.

If onnxruntime's C header was found too, there are operators for onnxruntime: `operators()`, see onnxruntime/.
"""

import ctypes
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent
LEVELS = {4: "x86-64-v4", 3: "x86-64-v3"}

_enabled: ContextVar[bool] = ContextVar("enabled", default=True)


def library() -> ctypes.CDLL | None:
    """The kernels for this processor, or None if there are none or they are turned off."""
    return _load() if _enabled.get() else None


def operators() -> Path | None:
    """The path of the onnxruntime operators for this processor, or None if they are missing or turned off."""
    return None if library() is None else _best("onnx-")


@contextmanager
def disable_kernels() -> Iterator[None]:
    """Turn the kernels off in this context, for comparisons."""
    token = _enabled.set(False)
    try:
        yield
    finally:
        _enabled.reset(token)


def file(build: str) -> Path:
    """The path of this build's library, whether it exists or not."""
    return FOLDER / f"libkanserve-{build}.so"


@cache
def _load() -> ctypes.CDLL | None:
    log = logging.getLogger("kanserve")
    if os.environ.get("KANSERVE_NATIVE") == "0":
        log.info("Compiled kernels are turned off by KANSERVE_NATIVE=0; using NumPy and torch.")
        return None
    try:
        path = _best()
        if path is None:
            raise OSError("none for this processor: run python kanserve/native/build.py")
        found = ctypes.CDLL(str(path))
    except (OSError, AttributeError) as error:
        log.info("No compiled kernels (%s); NumPy, torch and onnxruntime compute alone, which is slower.", error)
        return None
    log.info("Using the compiled kernels for %s.", path.stem.removeprefix(file("").stem))
    return found


def _best(kind: str = "") -> Path | None:
    """The best existing library that this processor can run. Raises OSError if none was built."""
    level = int(ctypes.CDLL(str(file("processor"))).kanserve_x86_level())
    builds = [*(name for needed, name in LEVELS.items() if needed <= level), "generic"]
    return next((path for name in builds if (path := file(kind + name)).exists()), None)
