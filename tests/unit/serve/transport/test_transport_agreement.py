"""Both transports give the same answers, count the same, and stay right while models are replaced."""

import itertools
import threading
from typing import Any

import grpc
import numpy as np
import pytest

from kanserve import repository
from kanserve.inference import grpc_service_pb2 as pb
from kanserve.inference import wire
from kanserve.network.evaluate import evaluate
from kanserve.network.training_range import sample
from kanserve.serve.server import start
from kanserve.serve.settings import Settings
from tests.support.networks.kans import with_codes
from tests.support.servers import serving
from tests.support.servers.loop_server import needs_native

TYPES = {"FP64": np.float64, "FP32": np.float32}
OUTPUTS = ("y", "probabilities", "label")
SOFTMAX = 1e-15  # relative: exp of C and of NumPy may differ in the last bit


@pytest.fixture(scope="module")
def stubs(repository):
    """The inference services of both transports: native, grpcio."""
    needs_native()
    with (
        start(Settings(str(repository), port=0, transport="native")) as native,
        start(Settings(str(repository), port=0, transport="grpcio")) as grpcio,
        grpc.insecure_channel(native.address) as one,
        grpc.insecure_channel(grpcio.address) as other,
    ):
        yield wire.stub(one), wire.stub(other)


def rows(name: str) -> np.ndarray:
    """Usual rows, and one each of NaN, of infinity, far outside, and too large for float."""
    network = serving.kan(name)
    x = sample(network, 9, seed=3)
    x[1, 0], x[3, -1], x[5], x[6, 0] = np.nan, np.inf, 1e6, 1e300
    return with_codes(network, x)


def request(name: str, x: np.ndarray, datatype: str, raw: bool, outputs=(), **more) -> pb.ModelInferRequest:
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype=datatype, shape=x.shape)
    with np.errstate(over="ignore"):
        x = x.astype(TYPES[datatype])
    made = pb.ModelInferRequest(model_name=name, inputs=[tensor], **more)
    if raw:
        made.raw_input_contents.append(x.tobytes())
    else:
        contents = made.inputs[0].contents
        (contents.fp64_contents if datatype == "FP64" else contents.fp32_contents).extend(x.ravel())
    for output in outputs:
        made.outputs.add(name=output)
    return made


def numbers(response: pb.ModelInferResponse, raw: bool) -> list[tuple[str, np.ndarray | bytes | list[bytes]]]:
    """Each output, taken out of the response."""
    made: list[tuple[str, np.ndarray | bytes | list[bytes]]] = []
    for place, output in enumerate(response.outputs):
        if output.datatype == "BYTES":
            made.append(
                (output.name, response.raw_output_contents[place] if raw else list(output.contents.bytes_contents))
            )
        elif raw:
            made.append((output.name, np.frombuffer(response.raw_output_contents[place], TYPES[output.datatype])))
        else:
            contents = output.contents
            values = contents.fp64_contents if output.datatype == "FP64" else contents.fp32_contents
            made.append((output.name, np.array(values, TYPES[output.datatype])))
        output.ClearField("contents")
    del response.raw_output_contents[:]
    return made


def agree(stubs, asked: pb.ModelInferRequest) -> None:
    raw = bool(asked.raw_input_contents)
    one, other = (stub.ModelInfer(asked, timeout=60) for stub in stubs)
    mine, theirs = numbers(one, raw), numbers(other, raw)
    assert one == other  # all that is left
    for (name, values), (_, expected) in zip(mine, theirs, strict=True):
        if isinstance(values, np.ndarray) and isinstance(expected, np.ndarray):
            relative = (SOFTMAX if values.dtype == np.float64 else 1e-7) if name == "probabilities" else 0
            np.testing.assert_allclose(values, expected, rtol=relative, atol=0)
        else:
            assert values == expected


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("datatype", TYPES)
@pytest.mark.parametrize("name", serving.KANS)
def test_every_model_answers_alike(stubs, name, datatype, raw):
    x = rows(name)
    agree(stubs, request(name, x, datatype, raw))
    agree(stubs, request(name, x[:1], datatype, raw, model_version="1", id="Größe"))
    agree(stubs, request(name, x, datatype, raw, ["y"]))


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("datatype", TYPES)
def test_every_choice_of_outputs_of_a_classifier_is_answered_alike(stubs, datatype, raw):
    for count in range(1, 4):
        for outputs in itertools.permutations(OUTPUTS, count):
            agree(stubs, request("iris", rows("iris"), datatype, raw, outputs))


def test_a_hundred_rows_outside_are_named_of_more(stubs):
    x = sample(serving.kan("raw"), 300, seed=5)
    x[::2] = 1e6
    agree(stubs, request("raw", x, "FP64", True))


@pytest.mark.parametrize(
    "broken",
    [
        {"model_name": "none"},
        {"model_name": "raw", "model_version": "2"},
        {"model_name": "raw", "model_version": "01"},
        {"model_name": "raw", "datatype": "INT8"},
        {"model_name": "raw", "shape": [2, 1]},
        {"model_name": "raw", "shape": [0, 2]},
        {"model_name": "raw", "shape": [-1, 2]},
        {"model_name": "raw", "shape": [2**62, 2]},
        {"model_name": "raw", "outputs": ["z"]},
        {"model_name": "raw", "outputs": ["y", "y"]},
        {"model_name": "raw", "outputs": ["label"]},
        {"model_name": "raw", "name": "z"},
    ],
)
def test_a_broken_request_is_refused_alike(stubs, broken):
    asked = request("raw", np.zeros((1, 2)), "FP64", True, broken.get("outputs", ()))
    asked.model_name, asked.model_version = broken["model_name"], broken.get("model_version", "")
    asked.inputs[0].datatype = broken.get("datatype", "FP64")
    asked.inputs[0].name = broken.get("name", "x")
    asked.inputs[0].shape[:] = broken.get("shape", [1, 2])
    refusals = []
    for stub in stubs:
        with pytest.raises(grpc.RpcError) as raised:
            stub.ModelInfer(asked, timeout=60)
        error: Any = raised.value
        refusals.append((error.code(), error.details(), dict(error.trailing_metadata())["kanserve-error"]))
    assert refusals[0] == refusals[1]


def counted(stub, name: str) -> dict[str, int]:
    """What ModelStatistics says of the first version, without times."""
    (found,) = stub.ModelStatistics(pb.ModelStatisticsRequest(name=name), timeout=60).model_stats
    stats = found.inference_stats
    return {
        "executions": found.execution_count,
        "rows": found.inference_count,
        "success": stats.success.count,
        "failures": stats.fail.count,
        "queue": stats.queue.count,
        "computed": stats.compute_infer.count,
        "input": stats.compute_input.count,
        "output": stats.compute_output.count,
    }


@pytest.mark.parametrize("name", ["wide", "mixed", "graph"])  # inline, handed out, and either
def test_both_count_alike(stubs, name):
    before = [counted(stub, name) for stub in stubs]
    x = rows(name)
    good = (request(name, x, "FP64", True), request(name, x[:2], "FP32", False), request(name, x[:0], "FP64", True))
    for asked in (*good, request(name, x, "FP64", True, ["z"])):
        for stub in stubs:
            try:
                stub.ModelInfer(asked, timeout=60)
            except grpc.RpcError:
                assert asked not in good
    after = [counted(stub, name) for stub in stubs]
    grown = [{key: now[key] - then[key] for key in now} for then, now in zip(before, after, strict=True)]
    assert grown[0] == grown[1]
    assert (grown[0]["rows"], grown[0]["success"], grown[0]["failures"]) == (len(x) + 2, 3, 1)


@pytest.mark.slow
@pytest.mark.extended
def test_answers_stay_right_while_models_are_replaced(tmp_path):
    """Of C, of NumPy and of onnxruntime: every answer is that of the version it names."""
    needs_native()
    names = ("raw", "mixed", "graph")
    for name in names:
        repository.publish(tmp_path, name, serving.artifact(name))
    settings = Settings(str(tmp_path), port=0, transport="native", versions="latest:1")
    failed: list[object] = []
    over = threading.Event()

    def ask(address: str, name: str) -> None:
        network = serving.kan(name)
        x = sample(network, 3, seed=1)
        expected, asked = evaluate(network, x), request(name, x, "FP64", True)
        with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            stub = wire.stub(channel)
            while not over.is_set():
                try:
                    y = np.frombuffer(stub.ModelInfer(asked, timeout=60).raw_output_contents[0])
                    np.testing.assert_allclose(y.reshape(expected.shape), expected, rtol=1e-9, atol=1e-9)
                except Exception as error:
                    failed.append(error)
                    return

    with start(settings) as server:
        callers = [threading.Thread(target=ask, args=(server.address, name)) for name in names for _ in range(2)]
        for caller in callers:
            caller.start()
        for _ in range(5):
            for name in names:
                repository.publish(tmp_path, name, serving.artifact(name))
            server.models.refresh()
        over.set()
        for caller in callers:
            caller.join()
        versions = {name: list(server.catalog.models[name]) for name in names}
    assert failed == []
    assert versions == {name: [6] for name in names}
