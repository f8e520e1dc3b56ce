"""Differentiate: the outputs of a model and their exact derivatives at given rows. They come from the model's C library
if it has them (microseconds per row), else from the reference evaluation."""

import math
from functools import lru_cache
from time import perf_counter_ns
from typing import cast

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import DeadlineError, TensorError
from kanserve.inference.wire import varint
from kanserve.network.derivatives import derivatives
from kanserve.network.evaluate import evaluate, jacobian
from kanserve.runtime.backend import Differentiating, TwiceDifferentiating
from kanserve.serve.models.catalog import Model
from kanserve.serve.rpc.range_violations import bounds
from kanserve.serve.rpc.tensors import decode_rows
from kanserve.serve.state import Call
from kanserve.v1 import formula_pb2 as pb

Array = NDArray[np.float64]

_SHAPE, _VALUES = b"\x0a", b"\x12"  # the tags of Float64Array's fields
_OUTPUTS, _JACOBIAN, _HESSIAN = b"\x1a", b"\x22", b"\x32"  # of DifferentiateResponse's


def differentiate_answer(model: Model, message: pb.Float64Array, call: Call, *, hessian: bool = False) -> bytes:
    """A DifferentiateResponse: outputs, Jacobian and, if asked, Hessian at each row, in float64. Raises TensorError for
    invalid rows, DeadlineError if the caller leaves before all rows are done."""
    inputs, outputs = len(model.kan.inputs), len(model.kan.outputs)
    if hessian and model.max_hessian_rows == 0:
        raise TensorError(
            f"The second derivatives of a row of {model.name!r}, by {inputs} inputs, take more than a message holds: "
            "ask without hessian."
        )
    rows = decode_rows(message, model.kan.inputs, model.max_hessian_rows if hessian else model.max_differentiated_rows)
    count = len(rows)
    call.rows, begun = count, perf_counter_ns()
    values, slopes = _differentiate(model, rows, message.values, call)
    second = _second(model, rows, call) if hessian else b""
    call.computed = perf_counter_ns() - begun
    beyond = bounds(model, "FP64").find_violations(rows)
    head, between = _frame(model.name, model.version, count, outputs, inputs)
    outside = b"" if beyond is None else _numbers(b"\x2a", beyond.rows.tolist())
    return b"".join((head, values, between, slopes, outside, second))


def _second(model: Model, rows: Array, call: Call) -> bytes:
    """Encode the field of the second derivatives."""
    inputs = len(model.kan.inputs)
    at_once = max(1, model.rows_at_a_time // inputs**2)
    in_c = getattr(model.backend, "differentiates_twice", False)
    backend = cast(TwiceDifferentiating, model.backend) if in_c else None
    made = [_array(_HESSIAN, (len(rows), len(model.kan.outputs), inputs, inputs))]
    for start in range(0, len(rows), at_once):
        _check_alive(call)
        part = rows[start : start + at_once]
        found = derivatives(model.kan, part, order=2) if backend is None else _second_in_c(model, backend, part)
        made.append(found.astype("<f8", copy=False).tobytes())
    return b"".join(made)


def _second_in_c(model: Model, backend: TwiceDifferentiating, rows: Array) -> Array:
    """The second derivatives (N, outputs, inputs, inputs), from the compiled backend."""
    inputs, outputs = len(model.kan.inputs), len(model.kan.outputs)
    whole, data = backend.differentiate_twice(rows.astype("<f8", copy=False).tobytes(), len(rows))
    second: Array = np.frombuffer(data, "<f8").reshape(len(rows), outputs, inputs, inputs)
    if not whole:  # as for the first ones: the reference says which are not finite
        some = np.isnan(second).any(axis=(1, 2, 3))
        second = second.copy()
        second[some] = derivatives(model.kan, rows[some], order=2)
    return second


def _check_alive(call: Call) -> None:
    if not call.alive():
        raise DeadlineError("The deadline passed, or the caller left, before all rows were differentiated.")


def _differentiate(model: Model, rows: Array, data: bytes, call: Call) -> tuple[bytes, bytes]:
    """Outputs and derivatives of the rows, as bytes; `data` are the same rows as received."""
    at_once = model.rows_at_a_time
    # The type is not looked at: that takes longer than a row.
    backend = cast(Differentiating, model.backend) if getattr(model.backend, "differentiates", False) else None
    if backend is not None and len(rows) <= at_once:
        return _in_c(model, backend, rows, data)
    made = []
    for start in range(0, len(rows), at_once):
        _check_alive(call)
        part = rows[start : start + at_once]
        if backend is not None:
            made.append(_in_c(model, backend, part, part.tobytes()))
        else:
            values, slopes = evaluate(model.kan, part), jacobian(model.kan, part)
            made.append((values.astype("<f8", copy=False).tobytes(), slopes.astype("<f8", copy=False).tobytes()))
    return b"".join(values for values, _ in made), b"".join(slopes for _, slopes in made)


def _in_c(model: Model, backend: Differentiating, rows: Array, data: bytes) -> tuple[bytes, bytes]:
    whole, values, first = backend.differentiate(data, len(rows))
    if whole:
        return values, first
    # C says NaN for all of a row's derivatives if one is not finite, as that of a root at 0; the reference which.
    y = np.frombuffer(values, "<f8").reshape(len(rows), -1)
    slopes = np.frombuffer(first, "<f8").reshape(*y.shape, -1).copy()
    some = np.isnan(slopes).any(axis=(1, 2)) & np.isfinite(y).all(axis=1)
    if some.any():
        slopes[some] = jacobian(model.kan, rows[some])
    return values, slopes.tobytes()


@lru_cache(1024)
def _frame(name: str, version: int, count: int, outputs: int, inputs: int) -> tuple[bytes, bytes]:
    """The bytes of the message before the outputs, and between the outputs and the derivatives."""
    head = b"\x0a%b\x12%b" % (_text(name), _text(str(version)))
    between = _array(_JACOBIAN, (count, outputs, inputs))
    return head + _array(_OUTPUTS, (count, outputs)), between


def _array(tag: bytes, shape: tuple[int, ...]) -> bytes:
    """A field of type Float64Array, up to its numbers."""
    size = 8 * math.prod(shape)
    head = _numbers(_SHAPE, shape) + (_VALUES + varint(size) if size else b"")
    return tag + varint(len(head) + size) + head


def _numbers(tag: bytes, numbers: list[int] | tuple[int, ...]) -> bytes:
    """A field of packed integers."""
    packed = b"".join(map(varint, numbers))
    return tag + varint(len(packed)) + packed


def _text(text: str) -> bytes:
    data = text.encode()
    return varint(len(data)) + data
