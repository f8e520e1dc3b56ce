"""What a message may weigh, and what is said of one that cannot be read."""

from typing import Any

import grpc
import numpy as np
import pytest

from kanserve.errors import InputError
from kanserve.inference import grpc_service_pb2 as pb
from kanserve.inference import wire
from kanserve.serve.calls.admission import ARRAYS, MAX_DESCRIPTION_BYTES, read
from kanserve.serve.server import start
from kanserve.v1 import formula_pb2

INFER, DIFFERENTIATE = f"/{wire.SERVICE_NAME}/ModelInfer", f"/{wire.FORMULA_SERVICE_NAME}/Differentiate"
TENSOR, TYPED = pb.ModelInferRequest.InferInputTensor, pb.InferTensorContents
MANY = MAX_DESCRIPTION_BYTES // 2 + 1


def infer(data: bytes) -> Any:
    return read(pb.ModelInferRequest.FromString, ARRAYS[INFER], data)


def test_numbers_weigh_nothing_raw_and_typed():
    x = np.zeros(100_000)
    raw = pb.ModelInferRequest(model_name="m", raw_input_contents=[x.tobytes()])
    typed = pb.ModelInferRequest(model_name="m")
    typed.inputs.add(name="x", shape=[50_000, 2]).contents.fp64_contents.extend(x)
    typed.inputs[0].contents.fp32_contents.extend(x)
    for message in (raw, typed):
        assert infer(message.SerializeToString()) == message
    rows = formula_pb2.DifferentiateRequest(rows=formula_pb2.Float64Array(shape=[50_000, 2], values=x.tobytes()))
    assert read(type(rows).FromString, ARRAYS[DIFFERENTIATE], rows.SerializeToString()) == rows


@pytest.mark.parametrize(
    "message",
    [
        b"\x2a\0" * MANY,  # inputs
        b"\x32\0" * MANY,  # outputs
        b"\x3a\0" * MANY,  # raw_input_contents
        b"\x22\0" * MANY,  # parameters
        pb.ModelInferRequest(id="1" * MAX_DESCRIPTION_BYTES).SerializeToString(),
        pb.ModelInferRequest(inputs=[TENSOR(shape=[1] * 2 * MANY)]).SerializeToString(),
        pb.ModelInferRequest(inputs=[TENSOR(contents=TYPED(bytes_contents=[b""] * MANY))]).SerializeToString(),
        pb.ModelInferRequest(inputs=[TENSOR(contents=TYPED(int64_contents=[1] * 2 * MANY))]).SerializeToString(),
        b"\x9a\x06\x02\0\0" * MANY,  # a field that is not known
        b"\x98\x06\0" * MANY,
        b"\x99\x06" + bytes(8) + b"\x9d\x06" + bytes(4) + b"\x2a\0" * MANY,
    ],
)
def test_a_message_of_much_else_than_numbers_is_refused_before_it_is_parsed(message):
    def parse(data: bytes) -> None:
        raise AssertionError("it was parsed")

    with pytest.raises(InputError, match="65536 bytes beside its numbers"):
        read(parse, ARRAYS[INFER], message)


@pytest.mark.parametrize(
    "message",
    [
        b"\xff",
        b"\x2a\x05",
        b"\xff" * 2 * MANY,
        b"\x2b" + bytes(2 * MANY),  # a group
        b"\x3a" + b"\xff\xff\xff\x7f" + bytes(2 * MANY),  # more bytes than there are
        b"\x2a\x03\x2a\xff\x01" + b"\x3a\xff\xff\x07" + bytes(2 * MANY),
    ],
)
def test_bytes_that_are_no_message_are_an_input_error(message):
    with pytest.raises(InputError, match="not of the type"):
        infer(message)


def raw(data):
    """Bytes as they are, in place of messages."""
    return data


def test_what_is_refused_for_its_bytes_is_an_invalid_argument_on_the_wire(tmp_path):
    with start(tmp_path, port=0) as server, grpc.insecure_channel(server.address) as channel:
        for data, text in ((b"\x2a\0" * 2**22, "beside its numbers"), (b"\xff", "not of the type")):
            for path in (INFER, DIFFERENTIATE):
                with pytest.raises(grpc.RpcError) as refused:
                    channel.unary_unary(path, raw, raw)(data, timeout=10)
                assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
                assert text in str(refused.value.details())
            with pytest.raises(grpc.RpcError) as refused:
                list(
                    channel.stream_stream(f"/{wire.SERVICE_NAME}/ModelStreamInfer", raw, raw)(iter([data]), timeout=10)
                )
            assert text in str(refused.value.details())
