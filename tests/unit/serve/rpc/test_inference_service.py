"""The inference protocol as Triton's unmodified client and our own stub see it."""

import asyncio
import queue
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from google.protobuf import text_format

from kanserve import __version__, repository
from kanserve.artifact_compiler import compile
from kanserve.inference import grpc_service_pb2 as pb
from kanserve.network.evaluate import evaluate, probabilities
from kanserve.network.kan import Variable
from kanserve.network.training_range import sample
from kanserve.serve.models import loader
from kanserve.serve.rpc.range_violations import bounds
from kanserve.serve.rpc.tensors import as_datatype
from kanserve.serve.server import Server
from tests.support.agreement import assert_agrees
from tests.support.networks.kans import one_edge
from tests.support.servers import serving

CODE = grpc.StatusCode


@pytest.fixture(scope="module")
def triton_client(server: Server) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(server.address) as one:
        yield one


def tensor(x: np.ndarray, datatype: str) -> triton.InferInput:
    made = triton.InferInput("x", list(x.shape), datatype)
    made.set_data_from_numpy(x.astype({"FP64": np.float64, "FP32": np.float32}[datatype]))
    return made


def request(text: str) -> pb.ModelInferRequest:
    return text_format.Parse(text, pb.ModelInferRequest())


def refused(call: Any) -> Any:
    """The error of a call that must have one; Any, because its type does not say that it has a code."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value


def test_server_and_models_are_ready(triton_client):
    assert triton_client.is_server_live() and triton_client.is_server_ready() and triton_client.is_model_ready("raw")
    assert triton_client.is_model_ready("raw", "1")
    assert not triton_client.is_model_ready("raw", "2") and not triton_client.is_model_ready("fox")
    metadata = triton_client.get_server_metadata()
    assert (metadata.name, metadata.version) == ("kanserve", __version__)
    assert list(metadata.extensions) == ["model_repository", "model_configuration", "statistics"]


@pytest.mark.parametrize(
    ("name", "platform", "x", "outputs"),
    [
        ("raw", "kanserve_c_source", ("x", "FP64", [-1, 2]), [("y", "FP64", [-1, 2])]),
        ("single", "kanserve_c_source", ("x", "FP32", [-1, 2]), [("y", "FP32", [-1, 2])]),
        ("graph", "kanserve_onnx_graph", ("x", "FP64", [-1, 2]), [("y", "FP64", [-1, 1])]),
        (
            "iris",
            "kanserve_c_source",
            ("x", "FP64", [-1, 2]),
            [("y", "FP64", [-1, 3]), ("probabilities", "FP64", [-1, 3]), ("label", "BYTES", [-1])],
        ),
    ],
)
def test_metadata_and_configuration_say_which_tensors_a_model_takes_and_gives(
    triton_client, name, platform, x, outputs
):
    def told(one):
        return (one.name, one.datatype, list(one.shape))

    metadata = triton_client.get_model_metadata(name)
    assert (metadata.name, list(metadata.versions), metadata.platform) == (name, ["1"], platform)
    assert [told(variable) for variable in metadata.inputs] == [x]
    assert [told(output) for output in metadata.outputs] == outputs
    config = triton_client.get_model_config(name).config
    types = {"FP64": 12, "FP32": 11, "BYTES": 13}
    assert config.max_batch_size == 65536
    assert [(declared.name, declared.data_type, list(declared.dims)) for declared in config.input] == [
        ("x", types[x[1]], x[2][1:])
    ]
    assert [(declared.name, declared.data_type, list(declared.dims)) for declared in config.output] == [
        (output, types[kind], shape[1:] or [1]) for output, kind, shape in outputs
    ]


@pytest.mark.parametrize("name", serving.KANS)
@pytest.mark.parametrize("datatype", ["FP64", "FP32"])
@pytest.mark.parametrize("rows", [1, 50])
def test_a_model_answers_what_its_network_means_in_the_type_that_was_asked_in(triton_client, name, datatype, rows):
    kan = serving.kan(name)
    x = sample(kan, rows, seed=3)
    result = triton_client.infer(name, [tensor(x, datatype)])
    got = result.as_numpy("y")
    assert got.dtype == (np.float64 if datatype == "FP64" else np.float32)
    exact = datatype == "FP64" and name != "single"
    given = x if datatype == "FP64" else x.astype(np.float32).astype(np.float64)
    assert_agrees(got, evaluate(kan, given), tolerance=1e-12 if exact else 2e-5)
    assert result.get_response().model_version == "1"


def test_no_rows_are_answered_with_none(triton_client):
    result = triton_client.infer("iris", [tensor(np.empty((0, 2)), "FP64")])
    assert result.as_numpy("y").shape == (0, 3) and list(result.get_output("label").shape) == [0]


def test_a_classifier_gives_scores_probabilities_and_labels(triton_client):
    kan = serving.kan("iris")
    x = sample(kan, 30)
    result = triton_client.infer("iris", [tensor(x, "FP64")])
    np.testing.assert_allclose(result.as_numpy("probabilities"), probabilities(kan, x), rtol=1e-12)
    wanted = [kan.classes[index].encode() for index in evaluate(kan, x).argmax(axis=1)]
    assert result.as_numpy("label").tolist() == wanted
    assert len(set(wanted)) > 1


def test_the_client_of_asyncio_gets_the_same_answer(server, triton_client):
    x = tensor(sample(serving.kan("raw"), 5), "FP64")

    async def ask() -> Any:
        async with triton_aio.InferenceServerClient(server.address) as one:
            return await one.infer("raw", [x])

    assert np.array_equal(asyncio.run(ask()).as_numpy("y"), triton_client.infer("raw", [x]).as_numpy("y"))


@pytest.mark.parametrize(("datatype", "field"), [("FP64", "fp64_contents"), ("FP32", "fp32_contents")])
def test_typed_is_answered_typed_with_the_same_numbers_as_raw(stub, triton_client, datatype, field):
    x = sample(serving.kan("iris"), 4)
    asked = request(f'model_name: "iris" inputs {{name: "x" datatype: "{datatype}" shape: [4, 2]}}')
    getattr(asked.inputs[0].contents, field).extend(x.ravel().tolist())
    answer = stub.ModelInfer(asked)
    raw = triton_client.infer("iris", [tensor(x, datatype)])
    assert not answer.raw_output_contents
    for output in answer.outputs[:2]:
        assert getattr(output.contents, field) == raw.as_numpy(output.name).ravel().tolist()
    assert list(answer.outputs[2].contents.bytes_contents) == raw.as_numpy("label").tolist()


def test_only_what_is_asked_for_is_given_in_that_order_with_the_id_of_the_request(triton_client):
    outputs = [triton.InferRequestedOutput("label"), triton.InferRequestedOutput("y")]
    x = tensor(sample(serving.kan("iris"), 2), "FP64")
    answer = triton_client.infer("iris", [x], model_version="1", outputs=outputs, request_id="17").get_response()
    assert [output.name for output in answer.outputs] == ["label", "y"]
    assert answer.id == "17"


def test_rows_outside_the_training_range_are_counted_and_the_first_hundred_named(triton_client):
    x = sample(serving.kan("raw"), 300)
    x[[4, 7], 0] = 500.0
    x[9, 1] = np.nan
    inside = triton_client.infer("raw", [tensor(x[:4], "FP64")]).get_response().parameters
    assert inside["outside_training_range"].int64_param == 0 and "outside_rows" not in inside
    some = triton_client.infer("raw", [tensor(x, "FP64")]).get_response().parameters
    assert some["outside_training_range"].int64_param == 3 and some["outside_rows"].string_param == "4,7,9"
    x[:, 0] = 500.0
    most = triton_client.infer("raw", [tensor(x, "FP64")]).get_response().parameters
    assert most["outside_training_range"].int64_param == 300
    assert most["outside_rows"].string_param == ",".join(map(str, range(100)))


def test_the_ends_of_the_training_range_are_inside_it_in_float_too(tmp_path):
    """-0.1 and 0.1 are rounded away from zero in float32: compared in double, both would lie just outside."""
    kan = replace(one_edge(), inputs=(Variable("u", low=-0.1, high=0.1),))
    repository.publish(tmp_path, "ends", compile(kan, ("numpy_source",)))
    model = loader.load(tmp_path).find("ends")
    ends = np.array([[-0.1], [0.1], [0.1000001], [np.nan]])
    for datatype, x in (("FP64", ends), ("FP32", ends.astype(np.float32))):
        found = bounds(model, datatype).find_violations(x)
        assert found is not None and found.rows.tolist() == [2, 3]


def test_a_row_that_is_not_finite_is_nan_and_disturbs_no_other(triton_client):
    x = sample(serving.kan("iris"), 5)
    fine = triton_client.infer("iris", [tensor(x, "FP64")])
    x[1, 0], x[3, 1] = np.nan, np.inf
    result = triton_client.infer("iris", [tensor(x, "FP64")])
    for name in ("y", "probabilities"):
        got, wanted = result.as_numpy(name), fine.as_numpy(name).copy()
        wanted[[1, 3]] = np.nan
        np.testing.assert_array_equal(got, wanted)
    assert [bool(label) for label in result.as_numpy("label")] == [True, False, True, False, True]


def test_a_row_that_float_cannot_hold_is_nan_in_all_outputs():
    values = np.array([[1.0, 1e39], [2.0, 3.0], [np.nan, np.nan]])
    np.testing.assert_array_equal(
        as_datatype(values, "FP32"), np.array([[np.nan, np.nan], [2, 3], [np.nan, np.nan]], np.float32)
    )
    assert as_datatype(values, "FP64") is values


def test_an_answer_never_needs_more_than_a_message_may_hold(server):
    wide = server.catalog.find("wide")
    assert 8 * wide.max_rows * max(len(wide.kan.inputs), len(wide.kan.outputs)) < 2**24


def test_the_index_has_every_version(triton_client):
    index = triton_client.get_model_repository_index()
    assert [(model.name, model.version, model.state) for model in index.models] == [
        (name, "1", "READY") for name in sorted(serving.KANS)
    ]


def test_statistics_count_requests_rows_and_failures(server, triton_client, stub):
    def counted() -> Any:
        (stats,) = triton_client.get_inference_statistics("wide", "1").model_stats
        return stats

    before = counted()
    x = tensor(sample(serving.kan("wide"), 3), "FP64")
    triton_client.infer("wide", [x])
    refused(lambda: stub.ModelInfer(pb.ModelInferRequest(model_name="wide")))
    after = counted()
    assert after.inference_count - before.inference_count == 3
    assert after.execution_count - before.execution_count == 1
    parts = ("success", "queue", "compute_input", "compute_infer", "compute_output", "fail")
    for part in parts:
        now, then = getattr(after.inference_stats, part), getattr(before.inference_stats, part)
        assert now.count - then.count == 1 and now.ns > then.ns, part
    assert after.last_inference > 1.7e12
    everything = triton_client.get_inference_statistics().model_stats
    assert {statistics.name for statistics in everything} == set(serving.KANS)
    assert refused(lambda: stub.ModelStatistics(pb.ModelStatisticsRequest(name="fox"))).code() is CODE.NOT_FOUND


def test_a_stream_answers_in_order_and_goes_on_after_an_error(server):
    answers: queue.Queue[Any] = queue.Queue()
    x = sample(serving.kan("raw"), 3)
    with triton.InferenceServerClient(server.address) as triton_client:
        triton_client.start_stream(lambda result, error: answers.put((result, error)))
        triton_client.async_stream_infer("raw", [tensor(x, "FP64")], request_id="1")
        triton_client.async_stream_infer("fox", [tensor(x, "FP64")], request_id="2")
        triton_client.async_stream_infer("raw", [tensor(x, "FP64")], request_id="3")
        first, second, third = (answers.get(timeout=60) for _ in range(3))
        triton_client.stop_stream()
    assert first[0].get_response().id == "1" and third[0].get_response().id == "3"
    np.testing.assert_array_equal(first[0].as_numpy("y"), third[0].as_numpy("y"))
    assert "There is no model 'fox'" in str(second[1])
