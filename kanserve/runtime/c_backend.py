"""Runs the C source of an artifact: builds it as a shared library, or loads one that was built for this machine. A
library is named by system and processor, as in `linux-x86_64.so`, and loaded from the verified bytes, never from a path
whose content could have changed. It has all rights of this process."""

import _ctypes
import ctypes
import itertools
import json
import os
import struct
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import DataError, FormatError, NotFoundError
from kanserve.runtime._c_building import build, prefix_of
from kanserve.runtime._c_targets import library_name
from kanserve.runtime.backend import Portable, keep_files

__all__ = ["CLibrary", "build", "library_name", "load"]

SMALL = 4096  # bytes of rows: copying fewer is faster than getting their address from NumPy

_loaded = itertools.count()


class CLibrary(Portable):
    """A loaded library as a backend; it is unloaded when this object is garbage-collected."""

    def __init__(self, library: ctypes.CDLL, prefix: str) -> None:
        # Before anything that may fail, so that a library that is not ours is unloaded too.
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
        # A single row keeps the GIL: releasing and reacquiring it takes longer than the row.
        self._predict_one = getattr(ctypes.PyDLL(None, handle=library._handle), f"{prefix}_predict")
        self._predict_one.restype = None
        self._one = (1, self.inputs)
        self._answers = [self._answer()]
        self._gradient: Any = getattr(library, f"{prefix}_gradient_batch", None)
        self.differentiates = self._gradient is not None and self.dtype == np.dtype("<f8")
        if self._gradient is not None:
            self._gradient.argtypes = (*sizes, *sizes[:2], *sizes[:2])
            self._gradient_one = getattr(ctypes.PyDLL(None, handle=library._handle), f"{prefix}_gradient_batch")
            self._gradient_one.argtypes = self._gradient.argtypes
        self._hessian: Any = getattr(library, f"{prefix}_hessian_batch", None)
        self.differentiates_twice = self._hessian is not None and self.differentiates
        if self._hessian is not None:
            self._hessian.argtypes = (*sizes, *sizes[:2] * 3)

    @property
    def predict_address(self) -> int | None:
        """The address of the library's P_predict_batch, for callers in C; valid while this object exists."""
        return ctypes.cast(self._predict, ctypes.c_void_p).value

    @property
    def gradient_address(self) -> int | None:
        """The address of the library's P_gradient_batch, like `predict_address`; only if `differentiates`."""
        return ctypes.cast(self._gradient, ctypes.c_void_p).value

    def predict(self, x: NDArray[Any]) -> NDArray[Any]:
        """The outputs (N, outputs) at raw feature rows (N, inputs); releases the GIL except for a single row."""
        # The return codes are not needed: rows that are not finite are NaN, and pointers and sizes are right here.
        if x.shape == self._one and x.dtype is self.dtype:
            # NumPy's and ctypes' overhead for each array dominates: the row is passed as bytes, and the outputs are
            # written to a buffer with a known address. Taking one from a list and putting it back is thread-safe.
            try:
                answer = self._answers.pop()
            except IndexError:
                answer = self._answer()
            self._predict_one(x.tobytes(), answer[0])
            y = answer[1]()
            self._answers.append(answer)
            return y
        if x.ndim != 2 or x.shape[1] != self.inputs:
            raise DataError(f"Rows must have shape (N, {self.inputs}), got {x.shape}.")
        if x.dtype != self.dtype or not x.flags.c_contiguous:
            with np.errstate(all="ignore"):  # a double beyond the range of float becomes infinite, and its row NaN
                x = np.ascontiguousarray(x, self.dtype)
        count = len(x)
        y = np.empty((count, self.outputs), self.dtype)
        if count > 0:
            rows = x.tobytes() if x.nbytes <= SMALL else x.ctypes.data
            buffer: Any = y  # not so typed before Python 3.12
            to = ctypes.addressof(ctypes.c_char.from_buffer(buffer))
            self._predict(rows, count, self.inputs, to, self.outputs)
        return y

    def differentiate(self, x: bytes, rows: int) -> tuple[bool, bytes, bytes]:
        """Whether all are finite, then outputs (rows, outputs) and derivatives (rows, outputs, inputs) of raw rows as
        float64 bytes. Only if `differentiates`; releases the GIL except for a short row. A row with anything not finite
        has NaN derivatives, and outputs as from `predict`."""
        self._check_size(x, rows)
        each, split = self.outputs * self.inputs, 8 * rows * self.outputs
        room = bytearray(split + 8 * rows * each)
        if rows == 0:
            return True, b"", b""
        place = ctypes.addressof(ctypes.c_char.from_buffer(room))
        run = self._gradient_one if rows == 1 and len(x) <= SMALL else self._gradient
        code = run(x, rows, self.inputs, place, self.outputs, place + split, each)
        return code == 0, bytes(room[:split]), bytes(room[split:])

    def differentiate_twice(self, x: bytes, rows: int) -> tuple[bool, bytes]:
        """Whether all are finite, then second derivatives (rows, outputs, inputs, inputs) of raw rows as float64 bytes.
        Only if `differentiates_twice`; releases the GIL. A row with anything not finite is all NaN."""
        self._check_size(x, rows)
        each = self.outputs * self.inputs**2
        if rows == 0:
            return True, b""
        room = bytearray(8 * rows * each)
        place = ctypes.addressof(ctypes.c_char.from_buffer(room))
        code = self._hessian(x, rows, self.inputs, None, 0, None, 0, place, each)
        return code == 0, bytes(room)

    def _check_size(self, x: bytes, rows: int) -> None:
        if len(x) != 8 * rows * self.inputs:
            raise DataError(f"{rows} rows of {self.inputs} float64 have {8 * rows * self.inputs} bytes, got {len(x)}.")

    def _answer(self) -> tuple[ctypes.c_void_p, Callable[[], NDArray[Any]]]:
        """Allocate an output buffer for one row. Returns its address and a function that copies its contents."""
        y = np.empty((1, self.outputs), self.dtype)
        return ctypes.c_void_p(y.ctypes.data), y.copy


def load(files: Mapping[str, bytes], *, threads: int = 1) -> CLibrary:
    """Load the backend from verified files. Raises NotFoundError without a library for this machine, FormatError for a
    broken one. It computes on the caller's thread and ignores `threads`; several threads run in parallel."""
    prefix = prefix_of(files)
    name = library_name()
    if name not in files:
        there = ", ".join(sorted(path for path in files if path.endswith((".so", ".dll")))) or "none"
        raise NotFoundError(f"The artifact has no library {name} for this machine; it has {there}. Build its C source.")
    if not _whole(files[name]):
        raise FormatError(f"{name} is not a library, or is cut short.")
    try:
        with _path(files[name]) as path:
            library = ctypes.CDLL(path)
    except OSError as error:  # for another processor, or a newer C library
        reason = str(error).split(": ", 1)[-1]  # without the temporary path
        raise FormatError(f"{name} cannot be loaded on this machine: {reason}. Build its C source here.") from None
    try:
        backend = CLibrary(library, prefix)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{name} is not a library that kanserve made: {error}") from None
    keep_files(backend, "c_source", files, threads)
    return backend


def _whole(data: bytes) -> bool:
    """Whether a library is as long as its header says. The loader does not check, and a short one crashes."""
    if sys.platform != "linux":
        return bool(data)
    if len(data) < 64 or data[:4] != b"\x7fELF":
        return False
    # The section table ends the file: its offset, and the size and number of its entries, for 64 and 32 bits.
    where, at = ("<Q", 0x28) if data[4] == 2 else ("<I", 0x20)
    (offset,) = struct.unpack_from(where, data, at)
    size, count = struct.unpack_from("<HH", data, 0x3A if data[4] == 2 else 0x2E)
    return bool(0 < offset + size * count <= len(data))


@contextmanager
def _path(data: bytes) -> Iterator[str]:
    """A path to these bytes that no other user can write to, until the block ends."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("kanserve", os.MFD_CLOEXEC)
        try:
            with open(descriptor, "wb", closefd=False) as file:
                file.write(data)
            # The loader takes two libraries with the same path for one, and descriptors are reused. So each load gets
            # its own path: each bit of a counter is written as "/" or "/.".
            number = f"{next(_loaded):b}".translate({ord("0"): "/", ord("1"): "/."})
            yield f"/proc/self/fd{number}/{descriptor}"
        finally:
            os.close(descriptor)
        return
    with tempfile.TemporaryDirectory(prefix="kanserve-") as folder:  # readable by its owner only
        path = Path(folder, "library.so")
        path.write_bytes(data)
        yield str(path)
