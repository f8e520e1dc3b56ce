"""The compiled operators of `kanserve.native` in onnxruntime, where they were built.

A file of ours holds each layer as a function that every runtime can run. Where this library is registered, its kernels
take the layers of splines over, which is several times faster; they refuse a layer that they do not understand.
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
    """Whether there are operators for all of a file's functions."""
    return all(_NAMES.fullmatch(function) for function in functions)


def register(options: Any) -> bool:
    """Give `options`, a SessionOptions of onnxruntime, the operators; False where there are none."""
    path = native.operators()
    if path is None:
        return False
    try:
        options.register_custom_ops_library(str(path))
    except Exception as error:  # onnxruntime's exceptions derive from nothing else
        logging.getLogger("kanserve").info("onnxruntime does not take the compiled operators: %s", error)
        return False
    # The kernels keep nothing between them that is worth an arena, whose locks cost a small network a tenth.
    options.enable_cpu_mem_arena = False
    return True
