"""Runs the C source of an artifact: builds it as a shared library, and loads a library that was built for this machine.

A library is named by its system and processor, as in `linux-x86_64.so`, and lies beside its source. It is loaded from
the verified bytes, never from a path that could have changed since. It is code: it may do whatever this process may.
"""

import _ctypes
import ctypes
import itertools
import json
import os
import platform
import re
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import DataError, ExportError, FormatError, NotFoundError

FLAGS = ("-std=c99", "-O3", "-ffp-contract=off", "-shared", "-fPIC")
# On x86-64 the loops over outputs are compiled three times and the processor chooses. The bits are the same, because
# nothing is reassociated or contracted.
CLONES = 'target_clones("arch=x86-64-v4","arch=x86-64-v3","default")'

LONGEST = 120.0  # seconds for a compiler; 3,000 symbolic edges take 12

_loaded = itertools.count()


def library_name() -> str:
    """The file name of a library for this machine."""
    return f"{sys.platform}-{platform.machine().lower()}.so"


def build(files: Mapping[str, bytes], compiler: str | None = None) -> Mapping[str, bytes]:
    """The shared library for this machine, by its file name.

    The compiler is the one given, else $CC, else cc, gcc or clang, whichever is found first; NotFoundError without
    any, ExportError with its words when it fails, or when it takes longer than two minutes.
    """
    prefix = _prefix(files)
    command = _compiler(compiler)
    with tempfile.TemporaryDirectory(prefix="kanserve-") as folder:
        for ending in (".h", ".c"):
            Path(folder, prefix + ending).write_bytes(files[prefix + ending])
        library = Path(folder, library_name())
        fixed = [*FLAGS, f"{prefix}.c", "-o", library.name, "-lm"]
        clones = [f"-D{prefix}_HOT=__attribute__(({CLONES}))"] if platform.machine() == "x86_64" else []
        # A compiler, or a C library, that knows no clones gets the plain source.
        for arguments in ([*clones, *fixed], fixed) if clones else (fixed,):
            code, words = _run([*command, *arguments], folder)
            if code == 0:
                return {library.name: library.read_bytes()}
    raise ExportError(f"{command[0]} cannot build {prefix}.c: {words.strip()[:1000]}")


class CLibrary:
    """A loaded library as a backend. It is unloaded when the last reference to this object goes."""

    def __init__(self, library: ctypes.CDLL, prefix: str) -> None:
        # Before anything that may fail, so that a library that is not ours goes as well.
        weakref.finalize(self, _ctypes.dlclose, library._handle).atexit = False
        describe = getattr(library, f"{prefix}_info")
        describe.restype = ctypes.c_char_p
        information = json.loads(describe())
        self.inputs = len(information["inputs"])
        self.outputs = len(information["outputs"])
        self.dtype: np.dtype[Any] = np.dtype({"float": np.float32, "double": np.float64}[information["precision"]])
        self._predict = getattr(library, f"{prefix}_predict_batch")
        sizes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t)
        self._predict.argtypes = (*sizes, *sizes[:2])
        self._predict.restype = ctypes.c_int

    def predict(self, x: NDArray[Any]) -> NDArray[Any]:
        """The outputs (N, outputs) at raw feature rows (N, inputs); the GIL is free meanwhile."""
        if x.ndim != 2 or x.shape[1] != self.inputs:
            raise DataError(f"Rows must have shape (N, {self.inputs}), got {x.shape}.")
        rows = x
        if x.dtype != self.dtype or not x.flags.c_contiguous:
            with np.errstate(all="ignore"):  # a double that float cannot hold is infinite, and its row NaN
                rows = np.ascontiguousarray(x, self.dtype)
        y = np.empty((len(rows), self.outputs), self.dtype)
        # Codes of bad rows say no more than their NaN does; null pointers and sizes cannot be wrong here.
        self._predict(rows.ctypes.data, len(rows), self.inputs, y.ctypes.data, self.outputs)
        return y


def load(files: Mapping[str, bytes], *, threads: int = 1) -> CLibrary:
    """The backend of verified files: NotFoundError without a library for this machine, FormatError for a broken one.

    It computes on the caller's thread, whatever `threads` says: calls of several threads run at the same time.
    """
    prefix = _prefix(files)
    name = library_name()
    if name not in files:
        there = ", ".join(sorted(path for path in files if path.endswith(".so"))) or "none"
        raise NotFoundError(f"The artifact has no library {name} for this machine; it has {there}. Build its C source.")
    if not _whole(files[name]):
        raise FormatError(f"{name} is not a library, or is cut short.")
    try:
        with _path(files[name]) as path:
            library = ctypes.CDLL(path)
    except OSError as error:  # of another processor, or it needs a newer C library
        reason = str(error).split(": ", 1)[-1]  # without the path, which is gone by now
        raise FormatError(f"{name} cannot be loaded on this machine: {reason}. Build its C source here.") from None
    try:
        return CLibrary(library, prefix)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{name} is not a library that kanserve made: {error}") from None


def _whole(data: bytes) -> bool:
    """Whether a library is as long as it says. The loader does not ask, and the process dies of what is missing."""
    if sys.platform != "linux":
        return bool(data)
    if len(data) < 64 or data[:4] != b"\x7fELF":
        return False
    # The table of sections ends the file: its offset, and the size and number of its entries, for 64 and 32 bits.
    where, at = ("<Q", 0x28) if data[4] == 2 else ("<I", 0x20)
    (offset,) = struct.unpack_from(where, data, at)
    size, count = struct.unpack_from("<HH", data, 0x3A if data[4] == 2 else 0x2E)
    return bool(0 < offset + size * count <= len(data))


@contextmanager
def _path(data: bytes) -> Iterator[str]:
    """A path of these bytes that nobody else can write, until the block ends."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("kanserve", os.MFD_CLOEXEC)
        try:
            with open(descriptor, "wb", closefd=False) as file:
                file.write(data)
            # The loader takes two libraries of one path for the same, and descriptors are used again. So each load
            # spells the path differently: a bit of its number is "/" or "/.".
            number = f"{next(_loaded):b}".translate({ord("0"): "/", ord("1"): "/."})
            yield f"/proc/self/fd{number}/{descriptor}"
        finally:
            os.close(descriptor)
        return
    with tempfile.TemporaryDirectory(prefix="kanserve-") as folder:  # readable by its owner only
        path = Path(folder, "library.so")
        path.write_bytes(data)
        yield str(path)


def _prefix(files: Mapping[str, bytes]) -> str:
    """The prefix of the source's identifiers, which is the name of its header."""
    headers = [path.removesuffix(".h") for path in files if path.endswith(".h")]
    if len(headers) != 1 or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", headers[0]) or f"{headers[0]}.c" not in files:
        raise FormatError(f"A C artifact has P.h and P.c with P an identifier, got {', '.join(sorted(files))[:200]}.")
    return headers[0]


def _run(command: list[str], folder: str) -> tuple[int, str]:
    """The exit code of a compiler and what it said; ExportError when it takes too long."""
    # A session of its own: a compiler starts others, and what outlives it would hold the pipe open.
    with subprocess.Popen(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            _, words = process.communicate(timeout=LONGEST)
        except BaseException as error:  # Ctrl-C as well: it does not reach another session by itself
            os.killpg(process.pid, signal.SIGKILL)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            raise ExportError(
                f"{command[0]} was stopped after {LONGEST:g} s. Export a smaller network, or another format."
            ) from None
    return process.returncode, words


def _compiler(given: str | None) -> list[str]:
    wanted = given or os.environ.get("CC")
    candidates = [shlex.split(wanted)] if wanted else [["cc"], ["gcc"], ["clang"]]
    for command in candidates:
        if command and shutil.which(command[0]):
            return command
    tried = " ".join(wanted.split()) if wanted else "cc, gcc, clang"
    raise NotFoundError(f"Building C source needs a C compiler; tried {tried}. Install one, or name one by $CC.")
