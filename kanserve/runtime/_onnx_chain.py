"""The compiled operators of a file one after the other, without onnxruntime, where it holds nothing but them.

onnxruntime takes a small network ten times as long as its numbers do when it is called now and then, as a server does:
its code and its data are out of the processor's caches by then. The kernels are those that onnxruntime has prepared for
a session, so that the numbers are the same to the last bit.
"""

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

SHARE = 256  # rows, of more of which threads take a part each: KANSERVE_SHARE of spline_layer.h
_MOST = 64  # layers: as chain.c has it
_SMALL = 4096  # bytes of rows: copying so few costs less than asking NumPy where they are

Kernel = int  # where it lies


@dataclass(frozen=True)
class _Library:
    """The library of the operators, with functions that keep Python's lock, and the same that give it away."""

    keeping: Any  # ctypes knows no types
    giving: Any


def listening(make: Callable[[], T]) -> tuple[T, list[Kernel]]:
    """What a function makes that makes a session on this thread, and the kernels of it; none where we cannot know."""
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
    """Kernels of a session in the order of their operators; threads may share it.

    ValueError where these are not the operators, or one does not take what the one before it gives.
    """

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
        self._session = session  # whose kernels they are
        self._inputs, self._outputs, self._dtype = shapes[0][0], shapes[-1][1], dtype
        self._kernels, self._count = (ctypes.c_void_p * len(kernels))(*kernels), ctypes.c_int(len(kernels))
        # One row keeps Python's lock: to give it away and to wait for it costs more than the row.
        self._run_one, self._run = library.keeping.kanserve_chain_run, library.giving.kanserve_chain_run
        self._single, self._answers = ctypes.c_int64(1), [self._answer()]

    def run(self, x: NDArray[Any]) -> NDArray[Any]:
        """The outputs (N, outputs) at rows (N, inputs) of the file's own type, which lie together."""
        count = len(x)
        if count == 1:
            # As `c_source` does it: what costs is the care for each array.
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
        """The address of an answer to one row, and what copies it."""
        y = np.empty((1, self._outputs), self._dtype)
        return ctypes.c_void_p(y.ctypes.data), y.copy


@cache
def _opened(path: str) -> _Library | None:
    try:
        made = _Library(ctypes.PyDLL(path), ctypes.CDLL(path))
        for library in (made.keeping, made.giving):
            library.kanserve_listen.restype = None
            library.kanserve_heard.argtypes = (ctypes.c_void_p,)
            library.kanserve_kernel_shape.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
            library.kanserve_kernel_shape.restype = ctypes.c_char_p
            library.kanserve_chain_run.restype = ctypes.c_int
    except (OSError, AttributeError):  # built before there was a chain
        return None
    return made


def _library() -> _Library | None:
    path = native.operators()
    return None if path is None else _opened(str(path))
