"""The C source called from C in a loop, timed from Python, so that it can be interleaved with the other forms."""

import ctypes
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanserve.runtime import c_backend

Array = NDArray[Any]

REPEATS = 200  # C calls per call from Python, so that the latter's overhead is negligible
PRODUCTS = 8 * 3_000_000  # vectors that are multiplied and added to measure the peak

_LOOPS = """
#include <stddef.h>
#if defined(__AVX512F__)
typedef float vector __attribute__((vector_size(64)));
#elif defined(__AVX__)
typedef float vector __attribute__((vector_size(32)));
#else
typedef float vector __attribute__((vector_size(16)));
#endif
typedef int batch(const float *, size_t, size_t, float *, size_t);
typedef int one(const float *, float *);
void repeat_batch(batch *f, int n, const float *x, size_t rows, size_t inputs, float *y, size_t outputs) {
    while (n--) f(x, rows, inputs, y, outputs);
}
void repeat_row(one *f, int n, float *x, float *y) {
    /* A result of one call is the input of the next, so that none is waited for less than its whole time. */
    while (n--) { f(x, y); x[0] += y[0]*1e-30f; }
}
int lanes(void) { return sizeof(vector)/sizeof(float); }
float products(int n) {
    /* Eight that differ, or the compiler would compute one for all. */
    vector a = {0}, b = {0}, p = a, q = a + 1, r = a + 2, s = a + 3, t = a + 4, u = a + 5, v = a + 6, w = a + 7;
    a += 0.5f; b += 1.0f;
    while (n--) { /* eight at a time hide the latency of each */
        p = p*a + b; q = q*a + b; r = r*a + b; s = s*a + b;
        t = t*a + b; u = u*a + b; v = v*a + b; w = w*a + b;
    }
    p += q + r + s + t + u + v + w;
    return p[0];
}
"""


class InC:
    """A compiled C export, `kan`, called by a loop in C. Its libraries stay loaded until the process ends."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._loops = loops()
        with tempfile.NamedTemporaryFile(suffix=".so") as file:
            file.write(files[c_backend.library_name()])
            file.flush()
            self._library = ctypes.CDLL(file.name)

    def repeated(self, x: Array, outputs: int, times: int = REPEATS) -> Callable[[], Array]:
        """A function that computes the rows x (N, inputs) `times` times; a single row by the function for one row."""
        rows = np.array(x, np.float32)
        y = np.empty((len(rows), outputs), np.float32)
        from_x, to_y = (array.ctypes.data_as(ctypes.c_void_p) for array in (rows, y))  # keep the arrays alive
        count, stride, wide = (ctypes.c_size_t(size) for size in (*rows.shape, outputs))

        def batch() -> Array:
            self._loops.repeat_batch(self._library.kan_predict_batch, times, from_x, count, stride, to_y, wide)
            return y

        def one() -> Array:
            self._loops.repeat_row(self._library.kan_predict, times, from_x, to_y)
            return y

        return one if len(rows) == 1 else batch

    def answers(self, x: Array, outputs: int) -> Array:
        """The outputs (N, outputs) of the rows, computed once."""
        return self.repeated(x, outputs, 1)()


def loops() -> ctypes.CDLL:
    """The loops of this module, compiled for this processor."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "loops.c").write_text(_LOOPS)
        command = ["cc", "-O3", "-march=native", "-shared", "-fPIC", "loops.c", "-o", "loops.so"]
        subprocess.run(command, cwd=folder, check=True)
        return ctypes.CDLL(str(Path(folder, "loops.so")))


def peak(seconds: Callable[[Callable[[], object]], float]) -> float:
    """The peak float32 multiply-adds per second of this core; `seconds` measures a call."""
    library = loops()
    library.products.restype = ctypes.c_float
    return PRODUCTS * int(library.lanes()) / seconds(lambda: library.products(PRODUCTS // 8))
