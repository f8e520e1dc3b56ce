"""What the inference protocol refuses, and that nothing else comes of a request that is wrong."""

from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf import text_format

from kanserve.inference import grpc_service_pb2 as pb
from tests.support.servers import serving

CODE = grpc.StatusCode


def request(text: str = "", raw: tuple[bytes, ...] = (), name: str = "raw") -> pb.ModelInferRequest:
    made = text_format.Parse(text, pb.ModelInferRequest(model_name=name))
    made.raw_input_contents.extend(raw)
    return made


def refused(call: Any) -> Any:
    """The error of a call that must have one; Any, because its type does not say that it has a code."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value


X = 'name: "x" datatype: "FP64"'
CLASSES = 'parameters {key: "classification" value {int64_param: 3}}'
REGION = 'parameters {key: "shared_memory_region" value {string_param: "a"}}'
BIG = 2**32
RAW = b"\0" * 16
REFUSED = {
    "wrong type": (request('inputs {name: "x" datatype: "INT64" shape: [1, 2]}', (RAW,)), "FP16 or BF16", "INT64"),
    "no type": (request('inputs {name: "x" shape: [1, 2]}', (RAW,)), "FP64, FP32", "''"),
    "rank 1": (request(f"inputs {{{X} shape: [2]}}", (RAW,)), "[rows, 2]", "[2]"),
    "rank 3": (request(f"inputs {{{X} shape: [1, 1, 2]}}", (RAW,)), "[rows, 2]", "[1, 1, 2]"),
    "rank 50": (request(f"inputs {{{X} shape: [{', '.join(['1'] * 50)}]}}", (RAW,)), "[rows, 2]", "1, ...]"),
    "dimension": (request(f"inputs {{{X} shape: [1, 3]}}", (RAW,)), "[rows, 2]", "[1, 3]"),
    "negative rows": (request(f"inputs {{{X} shape: [-1, 2]}}", (RAW,)), "[rows, 2]", "[-1, 2]"),
    "overflowing": (request(f"inputs {{{X} shape: [4611686018427387904, 2]}}", (RAW,)), "65536", "4611686018427387904"),
    "overflowing twice": (
        request(f"inputs {{{X} shape: [{BIG}, {BIG}]}}", (RAW,)),
        "[rows, 2]",
        "4294967296",
    ),
    "too many rows": (request(f"inputs {{{X} shape: [65537, 2]}}", (RAW,)), "65536 rows", "65537"),
    "short buffer": (request(f"inputs {{{X} shape: [2, 2]}}", (RAW,)), "32 bytes", "16"),
    "long buffer": (request(f"inputs {{{X} shape: [1, 2]}}", (RAW + b"\0",)), "16 bytes", "17"),
    "no data": (request(f"inputs {{{X} shape: [1, 2]}}"), "2 numbers in fp64_contents", "0"),
    "too few numbers": (request(f"inputs {{{X} shape: [1, 2] contents {{fp64_contents: 1}}}}"), "2 numbers", "1"),
    "typed halves": (request('inputs {name: "x" datatype: "FP16" shape: [1, 2]}'), "raw_input_contents", "FP16"),
    "short halves": (request('inputs {name: "x" datatype: "BF16" shape: [1, 2]}', (RAW,)), "4 bytes", "16"),
    "other contents": (
        request(f"inputs {{{X} shape: [1, 2] contents {{fp32_contents: [1, 2]}}}}"),
        "fp64_contents",
        "fp32_contents",
    ),
    "raw and typed": (
        request(f"inputs {{{X} shape: [1, 2] contents {{fp64_contents: [1, 2]}}}}", (RAW,)),
        "raw or typed",
        "both",
    ),
    "two buffers": (request(f"inputs {{{X} shape: [1, 2]}}", (RAW, RAW)), "1 raw buffer", "2"),
    "no input": (request("", (RAW,)), "'x'", "none"),
    "unknown input": (request('inputs {name: "z" datatype: "FP64" shape: [1, 2]}', (RAW,)), "'x'", "'z'"),
    "two inputs": (
        request(f"inputs {{{X} shape: [1, 2]}} inputs {{{X} shape: [1, 2]}}", (RAW, RAW)),
        "'x'",
        "'x', 'x'",
    ),
    "unknown output": (request(f'inputs {{{X} shape: [1, 2]}} outputs {{name: "z"}}', (RAW,)), "'y'", "'z'"),
    "output twice": (
        request(f'inputs {{{X} shape: [1, 2]}} outputs {{name: "y"}} outputs {{name: "y"}}', (RAW,)),
        "'y', each once",
        "2",
    ),
    "classification": (
        request(f'inputs {{{X} shape: [1, 2]}} outputs {{name: "y" {CLASSES}}}', (RAW,)),
        "not supported",
        "classification",
    ),
    "shared memory": (
        request(
            f'inputs {{{X} shape: [1, 2] parameters {{key: "shared_memory_region" value {{string_param: "a"}}}}}}',
            (RAW,),
        ),
        "the numbers themselves",
        "shared memory",
    ),
    "a version that is none": (request('model_version: "one"'), "integer", "'one'"),
    "a version of zeros": (request('model_version: "01"'), "integer", "'01'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_wrong_request_is_refused_as_an_invalid_argument_with_what_was_wanted_and_got(stub, case):
    asked, wanted, got = REFUSED[case]
    error = refused(lambda: stub.ModelInfer(asked))
    assert error.code() is CODE.INVALID_ARGUMENT
    assert wanted in error.details() and got in error.details(), error.details()


@pytest.mark.parametrize(("name", "version"), [("fox", ""), ("", ""), ("../raw", ""), ("fox", "1"), ("raw", "2")])
def test_a_model_or_version_that_is_not_there_is_not_found(stub, name, version):
    calls = [
        lambda: stub.ModelInfer(pb.ModelInferRequest(model_name=name, model_version=version)),
        lambda: stub.ModelMetadata(pb.ModelMetadataRequest(name=name, version=version)),
        lambda: stub.ModelConfig(pb.ModelConfigRequest(name=name, version=version)),
    ]
    for error in map(refused, calls):
        assert error.code() is CODE.NOT_FOUND
        assert repr(name) in error.details()
    assert not stub.ModelReady(pb.ModelReadyRequest(name=name, version=version)).ready


@pytest.mark.slow
def test_a_message_over_the_limit_is_refused(stub):
    asked = request(f"inputs {{{X} shape: [1, 2]}}", (b"\0" * (2**24 + 1),))
    assert refused(lambda: stub.ModelInfer(asked)).code() is CODE.RESOURCE_EXHAUSTED


@pytest.mark.extended
@pytest.mark.slow
def test_of_random_requests_each_is_answered_or_an_invalid_argument(stub):
    rng = np.random.default_rng(0)
    codes: dict[grpc.StatusCode, int] = {}
    for _ in range(500):
        asked = random_request(rng)
        try:
            stub.ModelInfer(asked, timeout=60)
            code = CODE.OK
        except grpc.RpcError as error:
            code = error.code()
            assert error.details() != "internal error", asked
        codes[code] = codes.get(code, 0) + 1
    assert set(codes) == {CODE.OK, CODE.INVALID_ARGUMENT}, codes
    assert min(codes.values()) > 50, codes


def random_request(rng: np.random.Generator) -> pb.ModelInferRequest:
    """A request that is right in most of its parts, which are wrong in every way that numbers and types can be."""

    def one_of(*choices: Any, usual: float = 0.8) -> Any:
        return choices[0] if rng.random() < usual else choices[rng.integers(len(choices))]

    huge = (2**62, 2**63 - 1, -1, -(2**63), 0, 7)
    asked = pb.ModelInferRequest(model_name=["raw", "single", "iris", "graph", "mixed"][rng.integers(5)])
    columns = len(serving.kan(asked.model_name).inputs)
    for _ in range(one_of(1, 0, 2, usual=0.95)):
        rows = one_of(int(rng.integers(1, 5)), 0, *huge)
        shape = one_of([rows, columns], [], [rows], [rows, columns, 1], [rows, one_of(columns, *huge, usual=0)])
        datatype = one_of("FP64", "FP32", "FP32", "FP16", "INT64", "BOOL", "BYTES", "", "fp64", usual=0.5)
        made = asked.inputs.add(name=one_of("x", "", "z", usual=0.95), datatype=datatype, shape=shape)
        size = min(int(np.prod([float(length) for length in shape])) if min(shape, default=0) >= 0 else 3, 50)
        values = rng.normal(0, 10.0 ** rng.integers(-3, 300), size)
        values[rng.random(size) < 0.1] = one_of(np.nan, np.inf, -np.inf, -0.0, 5e-324, usual=0.3)
        size += one_of(0, 1, -1)
        if rng.random() < 0.7:
            with np.errstate(over="ignore"):
                numbers = np.resize(values, max(size, 0)).astype("<f4" if datatype == "FP32" else "<f8")
            asked.raw_input_contents.append(numbers.tobytes()[: one_of(None, -1, 3)])
        else:
            field = one_of({"FP32": "fp32_contents"}.get(datatype, "fp64_contents"), "fp32_contents", "fp64_contents")
            getattr(made.contents, field).extend(np.resize(values, max(size, 0)).tolist())
        if rng.random() < 0.05:
            made.contents.int64_contents.append(2**40)
    for _ in range(one_of(0, 1, 2, 9)):
        asked.outputs.add(name=one_of("y", "label", "probabilities", "z", "", usual=0.5))
    if rng.random() < 0.05:
        asked.raw_input_contents.append(b"\0" * int(rng.integers(20)))
    asked.model_version = one_of("", "1", "x", "-1", "1.0", "٣", usual=0.95)
    asked.parameters["timeout"].int64_param = -5
    return asked
