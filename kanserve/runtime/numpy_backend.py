"""Run the NumPy module of an artifact. The module is code and has all rights of this process."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import DataError, FormatError
from kanserve.runtime.backend import Portable, keep_files


@dataclass(frozen=True)
class NumpyModule(Portable):
    """The loaded module as a backend."""

    inputs: int
    outputs: int
    dtype: np.dtype[Any]
    module: ModuleType

    def predict(self, x: NDArray[Any]) -> NDArray[Any]:
        """The outputs (N, outputs) at raw feature rows (N, inputs)."""
        if x.ndim != 2 or x.shape[1] != self.inputs:
            raise DataError(f"Rows must have shape (N, {self.inputs}), got {x.shape}.")
        run: Callable[[NDArray[Any]], NDArray[Any]] = self.module.predict
        return run(x)


def load(files: Mapping[str, bytes], *, threads: int = 1) -> NumpyModule:
    """Load the backend from verified files. Raises FormatError if they are no such module. NumPy rules `threads`."""
    paths = [path for path in files if path.endswith(".py")]
    if len(paths) != 1:
        raise FormatError(f"A NumPy artifact has one Python file, got {len(paths)}.")
    module = ModuleType(paths[0].removesuffix(".py"))
    try:
        exec(compile(files[paths[0]], paths[0], "exec"), module.__dict__)
        backend = NumpyModule(len(module.INPUTS), len(module.OUTPUTS), np.dtype(module.DTYPE), module)
    except (Exception, SystemExit) as error:  # arbitrary code may raise anything
        raise FormatError(f"{paths[0]} is not a module that kanserve wrote: {type(error).__name__:.60}.") from error
    keep_files(backend, "numpy_source", files, threads)
    return backend
