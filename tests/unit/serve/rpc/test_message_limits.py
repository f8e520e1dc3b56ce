"""What a message may weigh, and what is said of one that cannot be read."""

from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from kanserve.errors import InputError
from kanserve.inference import grpc_service_pb2 as pb
from kanserve.inference import wire
from kanserve.network.evaluate import evaluate
from kanserve.serve.methods import BY_PATH
from kanserve.serve.rpc import tensors
from kanserve.serve.rpc.message_limits import MAX_DESCRIPTION_BYTES, read, read_apart
from kanserve.serve.rpc.tensors import FLOATS, floats
from kanserve.serve.server import start
from kanserve.serve.settings import Settings
from kanserve.v1 import formula_pb2
from tests.support.servers import serving

INFER, DIFFERENTIATE = f"/{wire.SERVICE_NAME}/ModelInfer", f"/{wire.FORMULA_SERVICE_NAME}/Differentiate"
TENSOR, TYPED = pb.ModelInferRequest.InferInputTensor, pb.InferTensorContents
MANY = MAX_DESCRIPTION_BYTES // 2 + 1


ROUNDED = {"FP64": 1e-9, "FP32": 1e-4, "FP16": 2e-2, "BF16": 1e-1}  # FP16, BF16: of the answer


@pytest.fixture(scope="module")
def settings(repository: Path) -> Settings:
    return Settings(str(repository), port=0, max_rows=2**18)


def infer(data: bytes) -> Any:
    return read(pb.ModelInferRequest.FromString, BY_PATH[INFER].arrays, data)


def test_numbers_weigh_nothing_raw_and_typed():
    x = np.zeros(100_000)
    raw = pb.ModelInferRequest(model_name="m", raw_input_contents=[x.tobytes()])
    typed = pb.ModelInferRequest(model_name="m")
    typed.inputs.add(name="x", shape=[50_000, 2]).contents.fp64_contents.extend(x)
    typed.inputs[0].contents.fp32_contents.extend(x)
    for message in (raw, typed):
        assert infer(message.SerializeToString()) == message
    rows = formula_pb2.DifferentiateRequest(rows=formula_pb2.Float64Array(shape=[50_000, 2], values=x.tobytes()))
    assert read(type(rows).FromString, BY_PATH[DIFFERENTIATE].arrays, rows.SerializeToString()) == rows


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

    with pytest.raises(InputError, match="65536 bytes apart from its numbers"):
        read(parse, BY_PATH[INFER].arrays, message)


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


@pytest.mark.parametrize("tag", [b"\x3a", b"\xba\0"])  # a number may be written longer than it need be
def test_raw_numbers_are_found_in_the_message_wherever_they_lie(tag):
    rng = np.random.default_rng(0)
    buffers = [rng.bytes(MAX_DESCRIPTION_BYTES), b"", rng.bytes(5)]
    around = [b"\x0a\x01m", b"\x1a\x02id", b"\x9a\x06\x02??", b"\x38\x07"]  # the last: its number, but not its type
    fields = [tag + wire.varint(len(buffer)) + buffer for buffer in buffers]
    for _ in range(50):
        order = [(around + fields)[index] for index in rng.permutation(len(around) + len(fields))]
        data = b"".join(order)
        whole = infer(data)
        found, apart = read_apart(pb.ModelInferRequest.FromString, BY_PATH[INFER].arrays, data)
        assert [bytes(part) for part in apart] == whole.raw_input_contents
        assert list(found.raw_input_contents) == [b""] * len(buffers)
        del found.raw_input_contents[:], whole.raw_input_contents[:]
        assert found.SerializeToString() == whole.SerializeToString()


def test_a_message_cut_short_is_refused_with_its_numbers_apart_as_it_is_whole():
    whole = pb.ModelInferRequest(model_name="m", id="id", raw_input_contents=[bytes(2 * MANY)]).SerializeToString()
    tail = b"\x1a\x02id"
    for data in [(whole + tail)[:-cut] for cut in range(1, len(tail))] + [whole[:-1], whole[: 3 + MANY]]:
        for reading in read, read_apart:
            with pytest.raises(InputError, match="not of the type"):
                reading(pb.ModelInferRequest.FromString, BY_PATH[INFER].arrays, data)


def answered(stub: Any, datatype: str, sent: np.ndarray, name: str) -> bytes:
    tensor = TENSOR(name="x", datatype=datatype, shape=sent.shape)
    output = pb.ModelInferRequest.InferRequestedOutputTensor(name="y")
    request = pb.ModelInferRequest(
        model_name="iris", id=name, inputs=[tensor], outputs=[output], raw_input_contents=[sent.tobytes()]
    )
    (numbers,) = stub.ModelInfer(request, timeout=60).raw_output_contents
    return bytes(numbers)


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("datatype", ["FP64", "FP32", "FP16", "BF16"])
def test_the_numbers_of_a_large_message_are_right_at_whatever_address_they_lie(stub, datatype):
    kan, dtype = serving.kan("iris"), FLOATS[datatype]
    rows = 2**18 // dtype.itemsize // len(kan.inputs) + 1
    x = np.random.default_rng(1).uniform(0, 8, (rows, len(kan.inputs)))
    x[[5, -1], 0] = np.inf, np.nan
    sent = tensors.to_bfloat16(x) if datatype == "BF16" else x.astype(dtype)
    first, *others = [answered(stub, datatype, sent, "i" * length) for length in range(8)]  # of what lies before them
    assert all(first == decoded for decoded in others)
    got = floats(first, datatype, (rows, len(kan.outputs)))
    exact = evaluate(kan, floats(sent.tobytes(), datatype, x.shape).astype(np.float64))
    np.testing.assert_allclose(got, exact, rtol=ROUNDED[datatype], atol=ROUNDED[datatype])


def raw(data):
    """Bytes as they are, in place of messages."""
    return data


def test_what_is_refused_for_its_bytes_is_an_invalid_argument_on_the_wire(tmp_path):
    with start(tmp_path, port=0) as server, grpc.insecure_channel(server.address) as channel:
        for data, text in ((b"\x2a\0" * 2**22, "apart from its numbers"), (b"\xff", "not of the type")):
            for path in (INFER, DIFFERENTIATE):
                with pytest.raises(grpc.RpcError) as refused:
                    channel.unary_unary(path, raw, raw)(data, timeout=60)
                assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
                assert text in str(refused.value.details())
            with pytest.raises(grpc.RpcError) as refused:
                list(
                    channel.stream_stream(f"/{wire.SERVICE_NAME}/ModelStreamInfer", raw, raw)(iter([data]), timeout=60)
                )
            assert text in str(refused.value.details())
