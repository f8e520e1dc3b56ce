"""16-bit floats: FP16, which NumPy has, and BF16 (bfloat16), which it has not: the upper half of a float32."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_EXPONENT = 0x7F80  # all exponent bits: infinity, or with mantissa bits NaN
_NAN = 0x7FC0


def to_float32(values: NDArray[Any]) -> NDArray[np.float32]:
    """float16, or the bits of BF16 as uint16, converted to float32, exactly."""
    if values.dtype.kind == "f":
        with np.errstate(invalid="ignore"):  # a signaling NaN would warn
            return values.astype(np.float32)
    return (values.astype(np.uint32) << 16).view(np.float32)


def to_bfloat16(values: NDArray[Any]) -> NDArray[np.uint16]:
    """The bits of values (N, n) in BF16, rounded once, half to even; a row with a non-finite value is all NaN."""
    with np.errstate(all="ignore"):
        single = values.astype(np.float32)
        bits = single.view(np.uint32)
        if values.dtype.itemsize > single.dtype.itemsize:
            half = (bits & 0xFFFF) == 0x8000
            if half.any():  # a tie may be an artifact of rounding to float32: undo that, to round only once
                beyond = np.sign(np.abs(values) - np.abs(single.astype(values.dtype)))
                bits = np.where(half, bits + beyond.astype(np.int64), bits).astype(np.uint32)
    rounded = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2")
    # Rounding may carry a NaN into the sign bit, so NaNs are detected before rounding.
    wrong = (rounded & _EXPONENT == _EXPONENT) | np.isnan(single)
    rounded[wrong.any(axis=1)] = _NAN
    return rounded
