"""Each call over REST: what it answers is what gRPC answers."""

import gzip
import json
import zlib
from typing import Any

import numpy as np
import pytest

from kanserve.inference import grpc_service_pb2 as pb
from kanserve.network.evaluate import evaluate
from kanserve.network.training_range import sample
from kanserve.serve.rest.infer import InferCodec
from kanserve.serve.rest.messages import RestRequest
from kanserve.serve.rest.strict_json import Body
from kanserve.serve.rpc.request_cache import decode_request
from kanserve.serve.server import start
from kanserve.serve.settings import Settings
from kanserve.serve.state import Call
from tests.support.networks import kans
from tests.support.servers import serving
from tests.support.servers.rest_port import TRANSPORTS, Answer, call, infer, output

TYPES = {"FP64": np.float64, "FP32": np.float32, "FP16": np.float16}


@pytest.fixture(scope="module", params=TRANSPORTS)
def settings(request, repository):
    return Settings(str(repository), port=0, http_port=0, transport=request.param)


@pytest.fixture(scope="module")
def at(server):
    return server.http_address


def binary(x: np.ndarray, datatype: str, outputs: Any = None, **parameters: Any) -> tuple[bytes, dict[str, str]]:
    """The body of an inference by the binary extension, and its headers."""
    data = x.astype(TYPES[datatype]).tobytes()
    tensor = {"name": "x", "datatype": datatype, "shape": list(x.shape), "parameters": {"binary_data_size": len(data)}}
    head: dict[str, Any] = {"inputs": [tensor], "parameters": parameters}
    if outputs is not None:
        head["outputs"] = outputs
    text = json.dumps(head).encode()
    headers = {"Inference_Header_Content_Length": str(len(text)), "Content_Type": "application/octet-stream"}
    return text + data, headers


def parts(answer: Answer) -> dict[str, bytes]:
    """The outputs that came in binary."""
    assert answer.status == 200, answer.body
    at = int(answer.headers["Inference-Header-Content-Length"])
    made = {}
    for tensor in answer.json["outputs"]:
        if size := tensor.get("parameters", {}).get("binary_data_size"):
            made[tensor["name"]] = answer.body[at : at + size]
            at += size
    assert at == len(answer.body)
    return made


def grpc_outputs(stub: Any, model: str, x: np.ndarray, datatype: str) -> dict[str, bytes]:
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype=datatype, shape=x.shape)
    raw = x.astype(TYPES[datatype]).tobytes()
    response = stub.ModelInfer(
        pb.ModelInferRequest(model_name=model, inputs=[tensor], raw_input_contents=[raw]), timeout=60
    )
    names = [tensor.name for tensor in response.outputs]
    return dict(zip(names, response.raw_output_contents, strict=True))


@pytest.mark.parametrize("model", ["raw", "single", "iris", "graph", "mixed", "wide"])
@pytest.mark.parametrize("datatype", ["FP64", "FP32"])
def test_json_numbers_read_back_to_the_bits_of_grpc(at, stub, model, datatype):
    x = sample(serving.kan(model), 50, seed=4)
    answer = call(at, f"/v2/models/{model}/infer", infer(x, datatype))
    for name, wanted in grpc_outputs(stub, model, x, datatype).items():
        found = output(answer, name)
        if name == "label":
            assert b"".join(len(text).to_bytes(4, "little") + text.encode() for text in found) == wanted
        elif name == "probabilities":  # exp of C and of NumPy may differ in the last bit
            relative = 1e-15 if datatype == "FP64" else 1e-7
            np.testing.assert_allclose(found, np.frombuffer(wanted, TYPES[datatype]), rtol=relative, atol=0)
        else:
            assert np.array(found, TYPES[datatype]).tobytes() == wanted


def test_large_bodies_read_back_to_the_bits_of_grpc(at, stub):
    x = sample(serving.kan("raw"), 20_000, seed=5)
    wanted = grpc_outputs(stub, "raw", x, "FP64")["y"]
    flat = infer(x)
    flat["inputs"][0]["data"] = x.ravel().tolist()
    for body in (
        infer(x),
        flat,
        json.dumps(infer(x), indent=1).encode(),
        json.dumps(flat, separators=(",", ":")).encode(),
    ):
        assert np.array(output(call(at, "/v2/models/raw/infer", body))).tobytes() == wanted


@pytest.mark.parametrize("datatype", TYPES)
def test_the_binary_extension_has_the_bytes_of_grpc(at, stub, datatype):
    x = sample(serving.kan("iris"), 7, seed=6)
    body, headers = binary(x, datatype, binary_data_output=True)
    answer = call(at, "/v2/models/iris/infer", body, **headers)
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert parts(answer) == grpc_outputs(stub, "iris", x, datatype)


def test_each_output_comes_as_it_is_asked_for(at, stub):
    x = sample(serving.kan("iris"), 3, seed=6)
    outputs: list[dict[str, Any]] = [{"name": "label"}, {"name": "y", "parameters": {"binary_data": True}}]
    body, headers = binary(x, "FP64", outputs)
    answer = call(at, "/v2/models/iris/infer", body, **headers)
    wanted = grpc_outputs(stub, "iris", x, "FP64")
    assert parts(answer) == {"y": wanted["y"]}
    assert [tensor["name"] for tensor in answer.json["outputs"]] == ["label", "y"]
    assert len(answer.json["outputs"][0]["data"]) == 3
    outputs[1]["parameters"] = {"binary_data": False}
    body, headers = binary(x, "FP16", outputs, binary_data_output=True)
    answer = call(at, "/v2/models/iris/infer", body, **headers)
    wanted = grpc_outputs(stub, "iris", x, "FP16")
    assert parts(answer) == {"label": wanted["label"]}
    found = np.array(output(answer), np.float16)
    assert found.tobytes() == wanted["y"]


def test_rows_without_a_prediction_are_null_in_json_and_nan_in_binary(at):
    x = sample(serving.kan("raw"), 3, seed=0)
    x[1, 0] = np.inf
    body, headers = binary(x, "FP64")
    found = output(call(at, "/v2/models/raw/infer", body, **headers))
    assert found[2:4] == [None, None] and None not in found[:2] + found[4:]
    body, headers = binary(x, "FP64", binary_data_output=True)
    y = np.frombuffer(parts(call(at, "/v2/models/raw/infer", body, **headers))["y"]).reshape(3, 2)
    assert np.isnan(y[1]).all() and np.isfinite(y[[0, 2]]).all()


@pytest.mark.parametrize("datatype", ["FP64", "FP32"])
@pytest.mark.parametrize("rows", [4, pytest.param(40_000, marks=pytest.mark.extended)])
def test_null_is_a_missing_value(at, rows, datatype):
    x = np.resize(kans.rows(serving.kan("table"), 40), (rows, len(serving.kan("table").inputs)))
    x[0] = np.nan
    x[~np.isfinite(x)] = np.nan
    body = infer(x, datatype)
    body["inputs"][0]["data"] = [[None if np.isnan(value) else value for value in row] for row in x.tolist()]
    found = np.array(output(call(at, "/v2/models/table/infer", body)), np.float64)
    answer = call(at, "/v2/models/table/infer", *binary(x, datatype)[:1], **binary(x, datatype)[1])
    np.testing.assert_array_equal(found, np.array(output(answer), np.float64))
    assert np.isfinite(found).any()


def test_no_rows_have_no_outputs(at):
    answer = call(at, "/v2/models/raw/infer", infer(np.empty((0, 2))))
    assert output(answer) == [] and answer.json["outputs"][0]["shape"] == [0, 2]


def test_the_id_and_the_version_come_back_and_rows_outside_the_range_are_told(at):
    x = sample(serving.kan("raw"), 3, seed=0)
    x[2] = 1e6
    answer = call(at, "/v2/models/raw/versions/1/infer", infer(x, id="é 7"))
    assert answer.json["id"] == "é 7" and answer.json["model_version"] == "1"
    assert answer.json["parameters"] == {"outside_training_range": 1, "outside_rows": "2"}
    assert call(at, "/v2/models/raw/versions/9/infer", infer(x)).status == 404


@pytest.mark.parametrize(("coding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_compressed_bodies_are_taken(at, coding, compress):
    x = sample(serving.kan("raw"), 100, seed=0)
    plain = call(at, "/v2/models/raw/infer", infer(x))
    packed = compress(json.dumps(infer(x)).encode())
    assert call(at, "/v2/models/raw/infer", packed, Content_Encoding=coding).body == plain.body
    body, headers = binary(x, "FP64")
    assert call(at, "/v2/models/raw/infer", compress(body), Content_Encoding=coding, **headers).body == plain.body


def test_metadata_and_configuration_are_those_of_grpc(at, stub):
    assert call(at, "/v2").json["name"] == "kanserve"
    found = call(at, "/v2/models/iris").json
    told = stub.ModelMetadata(pb.ModelMetadataRequest(name="iris"), timeout=60)
    assert found["inputs"] == [{"name": "x", "datatype": "FP64", "shape": [-1, 2]}]
    assert [tensor["name"] for tensor in found["outputs"]] == [tensor.name for tensor in told.outputs]
    assert found["properties"] == dict(told.properties) and found["versions"] == ["1"]
    found = call(at, "/v2/models/iris/config").json
    assert found["name"] == "iris" and found["max_batch_size"] == 65536
    assert found["input"][0]["data_type"] == "TYPE_FP64"


def test_statistics_and_metrics_count_rest_as_grpc(at, stub):
    x = sample(serving.kan("wide"), 3, seed=0)
    asked = "/v2/models/wide/stats"
    before = call(at, asked).json["model_stats"][0]
    for body in (infer(x), infer(x), b"{}"):
        call(at, "/v2/models/wide/infer", body)
    after = call(at, asked).json["model_stats"][0]
    assert after["inference_count"] - before["inference_count"] == 6
    assert after["inference_stats"]["success"]["count"] - before["inference_stats"]["success"]["count"] == 2
    told = stub.ModelStatistics(pb.ModelStatisticsRequest(name="wide"), timeout=60).model_stats[0]
    assert told.inference_count == after["inference_count"]
    assert {entry["name"] for entry in call(at, "/v2/models/stats").json["model_stats"]} == set(serving.KANS)
    assert b'method="ModelInfer",model="wide"' in call(at, "/metrics").body


def test_the_index_lists_what_there_is(at):
    everything = call(at, "/v2/repository/index", b"").json
    assert {entry["name"] for entry in everything} == set(serving.KANS)
    assert call(at, "/v2/repository/index", {"ready": True}).json == everything
    assert everything[0]["state"] == "READY" and everything[0]["version"] == "1"


def test_a_formula_is_that_of_grpc(at, client):
    found = call(at, "/v2/models/graph/formula?formats=text,latex&formats=numpy").json
    formulas = client.formula("graph")
    assert [output["text"] for output in found["outputs"]] == [formula.text for formula in formulas]
    assert set(found["functions"]) == {"numpy"} and found["outputs"][0]["c"] == ""
    assert call(at, "/v2/models/iris/formula?formats=klingon").status == 400
    assert call(at, "/v2/models/iris/formula").json["classes"]
    assert call(at, "/v2/models/iris/formula?formats=numpy").status == 409  # it has splines


def test_a_gradient_is_that_of_grpc_to_the_bit(at, client):
    x = sample(serving.kan("raw"), 3000, seed=2)
    found = call(at, "/v2/models/raw/gradient", {"rows": x.tolist()}).json
    told = client.differentiate("raw", x)
    for name, wanted in zip(("values", "jacobian"), told, strict=False):
        assert np.array(found[name]).tobytes() == np.asarray(wanted).tobytes()
    assert "hessian" not in found
    x[0] = 1e308
    assert call(at, "/v2/models/raw/gradient", {"rows": x[:1].tolist()}).json["outside_rows"] == [0]
    found = call(at, "/v2/models/raw/gradient", {"rows": x[1:4].tolist(), "hessian": True}).json
    assert np.shape(found["hessian"]) == (3, 2, 2, 2)


def test_models_are_loaded_and_unloaded_by_whom_may(repository):
    with start(Settings(str(repository), port=0, http_port=0, anonymous=("predict", "manage"))) as server:
        at = server.http_address
        assert call(at, "/v2/repository/models/iris/unload", b"").status == 200
        assert call(at, "/v2/models/iris/ready").status == 404
        assert call(at, "/v2/repository/models/iris/load", {}).status == 200
        assert call(at, "/v2/models/iris/ready").status == 200
        assert call(at, "/v2/repository/models/fox/load", {}).status == 404
        refused = call(at, "/v2/repository/models/iris/load", {"parameters": {"config": "{}"}})
        assert refused.status == 400 and "without parameters" in refused.error


def test_head_is_get_without_the_body(at):
    for path in ("/v2", "/v2/models/raw", "/v2/models/fox", "/openapi.json"):
        one, other = call(at, path), call(at, path, method="HEAD")
        assert (one.status, one.headers["Content-Length"]) == (other.status, other.headers["Content-Length"])
        assert one.body and not other.body


def test_names_are_percent_decoded(at):
    assert call(at, "/v2/models/%72aw/ready").json == {"name": "raw", "ready": True}
    assert call(at, "/v2/models/..%2f..%2fetc/infer", {}).status == 400
    assert call(at, "/v2/models/raw%2finfer").status == 404


def test_answers_agree_with_the_reference(at):
    network = serving.kan("raw")
    x = sample(network, 20, seed=8)
    y = np.array(output(call(at, "/v2/models/raw/infer", infer(x)))).reshape(20, 2)
    np.testing.assert_allclose(y, evaluate(network, x), rtol=1e-9, atol=1e-12)


def test_rows_of_json_become_an_array_once(server, monkeypatch):
    made, numbers = [], Body.numbers

    def noted(*arguments):
        found = numbers(*arguments)
        made.append(found[0])
        return found

    monkeypatch.setattr(Body, "numbers", noted)
    body = json.dumps(infer(sample(serving.kan("raw"), 5))).encode()
    for _ in range(2):  # the second time, what is not numbers is known
        unpacked = InferCodec("raw", "").decode(RestRequest("POST", "/v2/models/raw/infer", []), body)
        _, x = decode_request(server.catalog, unpacked, Call("", "", 0), None)
        assert np.shares_memory(x, made.pop()) and made == []
