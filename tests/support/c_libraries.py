"""Networks as C, compiled into one library, and a call of one of them."""

import ctypes
from pathlib import Path

import numpy as np

from kanserve.network.export_options import ExportOptions, Precision
from kanserve.network.kan import Kan
from kanserve_exporters import c_source as exporter
from tests.support.c_builds import STRICT, run

TYPES: dict[Precision, tuple[type[np.floating], type[ctypes.c_double] | type[ctypes.c_float]]] = {
    "double": (np.float64, ctypes.c_double),
    "float": (np.float32, ctypes.c_float),
}


PRECISIONS = tuple(TYPES)


def compiled(folder: Path, kans: dict[str, Kan], precision: Precision, *flags: str) -> ctypes.CDLL:
    """One library of all these networks, each under its name as prefix, built without a warning."""
    for name, kan in kans.items():
        for path, data in exporter.export(kan, ExportOptions(name, precision)).items():
            (folder / path).write_bytes(data)
    run(
        "gcc",
        *STRICT,
        "-O1",
        "-shared",
        "-fPIC",
        *flags,
        *(f"{name}.c" for name in kans),
        "-o",
        "all.so",
        "-lm",
        at=folder,
    )
    return ctypes.CDLL(str(folder / "all.so"))


def predict(library: ctypes.CDLL, name: str, x: np.ndarray, outputs: int, strides: tuple[int, int] | None = None):
    """The first code and the outputs; with strides, x and y are flat."""
    function = getattr(library, f"{name}_predict_batch")
    size, pointer = ctypes.c_size_t, ctypes.c_void_p
    function.argtypes = [pointer, size, size, pointer, size]
    x = np.ascontiguousarray(x)
    x_stride, y_stride = strides or (x.shape[1], outputs)
    y = np.full((len(x), y_stride), 7, x.dtype)
    return function(x.ctypes.data, len(x), x_stride, y.ctypes.data, y_stride), y
