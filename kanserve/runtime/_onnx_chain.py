"""Run the compiled operators of an ONNX file directly, without onnxruntime, if it has no other nodes. Between rare
calls onnxruntime's code leaves the processor's caches, and a call then takes ten times as long as the computation of
a small network. The kernels are those that onnxruntime prepared for a session, so the results are equal to the last
bit."""

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from kanserve import native

T = TypeVar("T")

SHARE = 256  # rows per thread if threads share the work: KANSERVE_SHARE of spline_layer.h
_MOST = 64  # layers, as in chain.c
_SMALL = 4096  # bytes of rows: copying fewer is faster than getting their address from NumPy

Kernel = int  # its address


@dataclass(frozen=True)
class _Library:
    """The operators' library loaded twice: with functions that keep the GIL, and with functions that release it."""

    keeping: Any  # ctypes has no types
    giving: Any


def listening(make: Callable[[], T]) -> tuple[T, list[Kernel]]:
    """Call `make`, which creates a session on this thread. Returns its result, and the kernels (none if unknown)."""
    library = _library()
    if library is None:
        return make(), []
    library.keeping.kanserve_listen()
    heard = (ctypes.c_void_p * _MOST)()
    try:
        made = make()
    finally:
        count = library.keeping.kanserve_heard(heard)
    return made, [kernel for kernel in heard[: max(count, 0)] if kernel is not None]


class Chain:
    """The kernels of a session in the order of their operators; thread-safe. Raises ValueError if they do not match the
    operators, or their shapes do not fit."""

    def __init__(
        self, session: Any, kernels: Sequence[Kernel], operators: Sequence[bytes], dtype: np.dtype[Any]
    ) -> None:
        library = _library()
        if library is None or not kernels:
            raise ValueError("there are no kernels")
        names, shapes = [], []
        for kernel in kernels:
            shape = (ctypes.c_int64 * 3)()
            names.append(library.keeping.kanserve_kernel_shape(kernel, shape))
            shapes.append(tuple(shape))
        fits = all(before[1] == after[0] for before, after in pairwise(shapes))
        if names != list(operators) or not fits or any(shape[2] != (dtype.itemsize == 8) for shape in shapes):
            raise ValueError("they are not what the file says")
        self._session = session  # owns the kernels
        self._inputs, self._outputs, self._dtype = shapes[0][0], shapes[-1][1], dtype
        self._kernels, self._count = (ctypes.c_void_p * len(kernels))(*kernels), ctypes.c_int(len(kernels))
        # A single row keeps the GIL: releasing and reacquiring it takes longer than the row.
        self._run_one, self._run = library.keeping.kanserve_chain_run, library.giving.kanserve_chain_run
        self._single, self._answers = ctypes.c_int64(1), [self._answer()]

    @property
    def addresses(self) -> tuple[int, int, int]:
        """The address of kanserve_chain_run, that of the array of kernels, and their number, for callers in C; valid
        while this object exists."""
        function = ctypes.cast(self._run, ctypes.c_void_p).value
        assert function is not None
        return function, ctypes.addressof(self._kernels), len(self._kernels)

    def run(self, x: NDArray[Any]) -> NDArray[Any]:
        """The outputs (N, outputs) at contiguous rows (N, inputs) of the file's own type."""
        count = len(x)
        if count == 1:
            # As in `c_backend`: NumPy's and ctypes' overhead for each array dominates.
            try:
                answer = self._answers.pop()
            except IndexError:
                answer = self._answer()
            failed = self._run_one(self._kernels, self._count, self._single, x.tobytes(), answer[0])
            y = answer[1]()
            self._answers.append(answer)
        else:
            y = np.empty((count, self._outputs), self._dtype)
            if count == 0:
                return y
            rows: Any = x.tobytes() if x.nbytes <= _SMALL else ctypes.c_void_p(x.ctypes.data)
            buffer: Any = y  # not so typed before Python 3.12
            to = ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(buffer)))
            failed = self._run(self._kernels, self._count, ctypes.c_int64(count), rows, to)
        if failed:
            raise MemoryError("There is not enough memory for the rows of a layer.")
        return y

    def _answer(self) -> tuple[ctypes.c_void_p, Callable[[], NDArray[Any]]]:
        """Allocate an output buffer for one row. Returns its address, and a function that copies its contents."""
        y = np.empty((1, self._outputs), self._dtype)
        return ctypes.c_void_p(y.ctypes.data), y.copy


@cache
def _open(path: str) -> _Library | None:
    try:
        made = _Library(ctypes.PyDLL(path), ctypes.CDLL(path))
        for library in (made.keeping, made.giving):
            library.kanserve_listen.restype = None
            library.kanserve_heard.argtypes = (ctypes.c_void_p,)
            library.kanserve_kernel_shape.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
            library.kanserve_kernel_shape.restype = ctypes.c_char_p
            library.kanserve_chain_run.restype = ctypes.c_int
    except (OSError, AttributeError):  # an older build without the chain
        return None
    return made


def _library() -> _Library | None:
    path = native.operators()
    return None if path is None else _open(str(path))
