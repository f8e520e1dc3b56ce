"""Register the compiled operators of `kanserve.native` in onnxruntime, if they were built.

Our ONNX files hold each layer as a function that every runtime can run. If this library is registered, its kernels run
the layers of splines instead, several times faster; they refuse layers that they do not know.
"""

import logging
import re
from collections.abc import Set as AbstractSet
from typing import Any

from kanserve import native

# The names that kanserve/native/onnxruntime/operator.c registers.
_KINDS = rb"Cardinal(?:Linear|Quadratic|Cubic|Quartic|Quintic)|LocalPolynomials|LocalBasis"
_NAMES = re.compile(rb"(?:" + _KINDS + rb")[2-8]?")


def take(functions: AbstractSet[bytes]) -> bool:
    """Whether there are compiled operators for all of a file's functions."""
    return all(_NAMES.fullmatch(function) for function in functions)


def register(options: Any) -> bool:
    """Register the operators in `options`, a SessionOptions of onnxruntime; False if there are none."""
    path = native.operators()
    if path is None:
        return False
    try:
        options.register_custom_ops_library(str(path))
    except Exception as error:  # onnxruntime's exceptions have no other base class
        logging.getLogger("kanserve").info("onnxruntime does not take the compiled operators: %s", error)
        return False
    # The kernels need no memory arena, whose locks cost a small network a tenth of its time.
    options.enable_cpu_mem_arena = False
    return True
