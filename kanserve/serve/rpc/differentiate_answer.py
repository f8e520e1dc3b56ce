"""Differentiate: the outputs of a model and their exact derivatives at given rows.

They come from the C of the model, if it has derivatives (a row then takes microseconds), else from the reference.
"""

import math
from functools import lru_cache
from time import perf_counter_ns
from typing import cast

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import DeadlineError
from kanserve.inference.wire import varint
from kanserve.network.evaluate import evaluate, jacobian
from kanserve.runtime.backend import Differentiating
from kanserve.serve.models.catalog import Model
from kanserve.serve.rpc.range_violations import bounds, find_violations
from kanserve.serve.rpc.tensors import decode_rows
from kanserve.serve.state import Call
from kanserve.v1 import formula_pb2 as pb

Array = NDArray[np.float64]

_SHAPE, _VALUES = b"\x0a", b"\x12"  # the tags of Float64Array's fields
_OUTPUTS, _JACOBIAN = b"\x1a", b"\x22"  # of DifferentiateResponse's


def differentiate_answer(model: Model, message: pb.Float64Array, call: Call) -> bytes:
    """A DifferentiateResponse: the outputs and the Jacobian at each row, in float64.

    TensorError for rows that are none; DeadlineError when the caller has left before all rows are differentiated.
    """
    inputs, outputs = len(model.kan.inputs), len(model.kan.outputs)
    rows = decode_rows(message, inputs, model.max_differentiated_rows)
    count = len(rows)
    call.rows, begun = count, perf_counter_ns()
    values, derivatives = _differentiated(model, rows, message.values, call)
    call.computed = perf_counter_ns() - begun
    beyond = find_violations(bounds(model, "FP64"), rows)
    head, between = _frame(model.name, model.version, count, outputs, inputs)
    outside = b"" if beyond is None else _numbers(b"\x2a", beyond.rows.tolist())
    return b"".join((head, values, between, derivatives, outside))


def _differentiated(model: Model, rows: Array, data: bytes, call: Call) -> tuple[bytes, bytes]:
    """The outputs and the derivatives of rows, which are also given as they came."""
    at_once = model.rows_at_a_time
    # The type is not looked at: that takes longer than a row.
    backend = cast(Differentiating, model.backend) if getattr(model.backend, "differentiates", False) else None
    if backend is not None and len(rows) <= at_once:
        return _in_c(model, backend, rows, data)
    made = []
    for start in range(0, len(rows), at_once):
        if not call.alive():
            raise DeadlineError("The deadline passed, or the caller left, before all rows were differentiated.")
        part = rows[start : start + at_once]
        if backend is not None:
            made.append(_in_c(model, backend, part, part.tobytes()))
        else:
            values, derivatives = evaluate(model.kan, part), jacobian(model.kan, part)
            made.append((values.astype("<f8", copy=False).tobytes(), derivatives.astype("<f8", copy=False).tobytes()))
    return b"".join(values for values, _ in made), b"".join(derivatives for _, derivatives in made)


def _in_c(model: Model, backend: Differentiating, rows: Array, data: bytes) -> tuple[bytes, bytes]:
    whole, values, derivatives = backend.differentiate(data, len(rows))
    if whole:
        return values, derivatives
    # C says NaN for all of a row's derivatives if one is not finite, as that of a root at 0; the reference which.
    y = np.frombuffer(values, "<f8").reshape(len(rows), -1)
    slopes = np.frombuffer(derivatives, "<f8").reshape(*y.shape, -1).copy()
    some = np.isnan(slopes).any(axis=(1, 2)) & np.isfinite(y).all(axis=1)
    if some.any():
        slopes[some] = jacobian(model.kan, rows[some])
    return values, slopes.tobytes()


@lru_cache(1024)
def _frame(name: str, version: int, count: int, outputs: int, inputs: int) -> tuple[bytes, bytes]:
    """What precedes the outputs in the message, and what follows them and precedes the derivatives."""
    head = b"\x0a%b\x12%b" % (_text(name), _text(str(version)))
    between = _array(_JACOBIAN, (count, outputs, inputs))
    return head + _array(_OUTPUTS, (count, outputs)), between


def _array(tag: bytes, shape: tuple[int, ...]) -> bytes:
    """A field of type Float64Array, up to its numbers."""
    size = 8 * math.prod(shape)
    head = _numbers(_SHAPE, shape) + (_VALUES + varint(size) if size else b"")
    return tag + varint(len(head) + size) + head


def _numbers(tag: bytes, numbers: list[int] | tuple[int, ...]) -> bytes:
    """A field of packed whole numbers."""
    packed = b"".join(map(varint, numbers))
    return tag + varint(len(packed)) + packed


def _text(text: str) -> bytes:
    data = text.encode()
    return varint(len(data)) + data
