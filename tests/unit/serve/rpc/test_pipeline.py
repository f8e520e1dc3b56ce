"""The way of a call: what is remembered of a message, who is told what goes wrong, and what a model's limits refuse."""

import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from tritonclient.utils import InferenceServerException

from kanserve import repository
from kanserve.inference import grpc_service_pb2 as pb
from kanserve.inference import wire
from kanserve.network.evaluate import evaluate
from kanserve.serve.methods import METHODS, Turn
from kanserve.serve.rpc import routes as calls
from kanserve.serve.rpc.request_cache import RequestCache, decode_request
from kanserve.serve.rpc.standard_services import Health
from kanserve.serve.scheduling import thread_pool
from kanserve.serve.server import start
from kanserve.serve.settings import Grant, ModelSettings, Settings
from kanserve.serve.state import Call
from kanserve.v1 import formula_pb2
from tests.support.networks import kans
from tests.support.servers import serving
from tests.support.servers.server_load import INFER
from tests.support.servers.server_process import until
from tests.support.servers.serving import BREAK, WAIT

CODE = grpc.StatusCode
TENSOR = pb.ModelInferRequest.InferInputTensor


def asked(x: np.ndarray, model: str = "mixed", **more: Any) -> pb.ModelInferRequest:
    tensor = TENSOR(name="x", datatype="FP64", shape=x.shape)
    return pb.ModelInferRequest(model_name=model, inputs=[tensor], raw_input_contents=[x.tobytes()], **more)


@pytest.fixture(scope="module")
def settings(repository: Path) -> Settings:
    return Settings(str(repository), port=0, anonymous=("predict", "read", "manage"))


def refused(call: Any, *arguments: Any, **more: Any) -> Any:
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, **more)
    return caught.value


# What is remembered


def test_a_message_seen_before_is_understood_as_it_was_and_its_numbers_are_its_own(server):
    kan = serving.kan("mixed")
    rng = np.random.default_rng(0)
    for _ in range(3):
        for rows in 1, 5:
            x = rng.normal(size=(rows, len(kan.inputs)))
            for request in asked(x), asked(x, outputs=[{"name": "y"}]), asked(x, model_version="1"), asked(x, id="7"):
                found, got = decode_request(server.catalog, request.SerializeToString(), Call("", "", 0), None)
                np.testing.assert_array_equal(got, x)
                assert (found.model.name, found.rows, found.id) == ("mixed", rows, request.id)
                assert list(found.outputs) == ["y"] and got.flags.aligned


def test_a_message_of_the_same_beginning_gives_the_same_bytes_as_the_first(stub):
    x = np.random.default_rng(1).normal(size=(4, len(serving.kan("iris").inputs)))
    first, *others = (stub.ModelInfer(asked(x, "iris")) for _ in range(3))
    assert all(response == first for response in others)
    parsed = stub.ModelInfer(asked(x, "iris", id="a"))
    assert parsed.id == "a"
    parsed.ClearField("id")
    assert parsed == first


def test_only_a_message_whose_numbers_come_last_is_remembered(server):
    model = server.catalog.find("mixed")
    x = np.ones((1, len(model.kan.inputs)))
    request = asked(x)
    plain = request.SerializeToString()
    described, _ = decode_request(server.catalog, plain, Call("", "", 0), None)
    numbers = request.raw_input_contents[0]
    inside = b"\x3a" + wire.varint(len(numbers)) + numbers
    # An unknown field that ends as the numbers do: its end says nothing.
    hidden = plain + b"\x9a\x06" + wire.varint(len(inside)) + inside
    for data, kept in ((plain, True), (hidden, False), (numbers, False)):
        memory = RequestCache()
        memory.keep(data, described, asked(x))
        assert (memory.find(data) is not None) == kept, data


def test_what_is_remembered_goes_with_its_catalog(tmp_path):
    repository.publish(tmp_path, "mixed", serving.artifact("mixed"))
    x = np.zeros((1, len(serving.kan("mixed").inputs)))
    with start(tmp_path, port=0) as server, grpc.insecure_channel(server.address) as channel:
        infer = wire.stub(channel).ModelInfer
        assert [infer(asked(x)).model_version for _ in range(2)] == ["1", "1"]
        repository.publish(tmp_path, "mixed", serving.artifact("mixed"))
        server.models.refresh()
        assert [infer(asked(x)).model_version for _ in range(2)] == ["2", "2"]


def test_any_message_is_answered_the_same_whether_it_was_seen_before_or_not(server):
    """Bytes of a message, changed one at a time, are understood as by a parser that remembers nothing."""
    x = np.ones((1, len(serving.kan("mixed").inputs)))
    plain = asked(x).SerializeToString()
    decode_request(server.catalog, plain, Call("", "", 0), None)

    def outcome(catalog: Any, data: bytes) -> Any:
        try:
            found, got = decode_request(catalog, data, Call("", "", 0), None)
        except Exception as error:
            return type(error), str(error)
        return found.model.name, found.rows, found.id, tuple(found.outputs), got.tobytes()

    fresh = type(server.catalog)
    for place in range(len(plain)):
        changed = plain[:place] + bytes([plain[place] ^ 1 << place % 8]) + plain[place + 1 :]
        forgetful = fresh(server.catalog.models, server.catalog.reasons)
        assert outcome(server.catalog, changed) == outcome(forgetful, changed)


def test_what_follows_the_numbers_of_a_message_is_not_taken_for_more_of_them(server):
    """Messages of one length, whose numbers begin at the same place, of which one has fewer numbers and a name."""
    kan = serving.kan("mixed")
    fewer, more = (asked(np.ones((rows, len(kan.inputs)))).SerializeToString() for rows in (1, 2))
    name = b"x" * (len(more) - len(fewer) - 2)
    named = fewer + b"\x1a" + wire.varint(len(name)) + name
    assert len(named) == len(more) and named.index(b"\x3a") == more.index(b"\x3a")
    for data in fewer, more:
        decode_request(server.catalog, data, Call("", "", 0), None)
    found, got = decode_request(server.catalog, named, Call("", "", 0), None)
    assert (found.id, found.rows, got.tolist()) == (name.decode(), 1, np.ones((1, len(kan.inputs))).tolist())


def test_a_message_that_other_numbers_would_break_is_answered_and_not_remembered(server):
    """Its end looks like numbers and is none: with others there it is no message."""
    x = np.ones((1, len(serving.kan("mixed").inputs)))
    numbers = b"\x3a" + wire.varint(x.nbytes) + bytes(x.nbytes - 2)
    request = asked(np.frombuffer(numbers).reshape(x.shape))
    data = request.SerializeToString() + b"\x78\x01"  # a field that the protocol does not have
    found, got = decode_request(server.catalog, data, Call("", "", 0), None)
    assert got.tobytes() == numbers
    memory = RequestCache()
    memory.keep(data, found, request)
    assert memory.find(data) is None


# Loading and unloading


def test_both_spellings_of_a_model_load_and_unload_it(tmp_path):
    repository.publish(tmp_path, "mixed", serving.artifact("mixed"))
    settings = Settings(repository=str(tmp_path), port=0, anonymous=("predict", "manage"))
    with start(settings) as server, triton.InferenceServerClient(server.address) as client:
        client.unload_model("mixed")  # Triton's field
        assert not client.is_model_ready("mixed") and client.is_server_ready()
        until(lambda: client.get_model_repository_index().models[0].state == "UNAVAILABLE")  # UNLOADING before
        (entry,) = client.get_model_repository_index().models
        assert entry.reason
        with grpc.insecure_channel(server.address) as channel:
            own = wire.stub(channel)
            own.RepositoryModelLoad(pb.RepositoryModelLoadRequest(repository_name="mixed"))  # KServe's
            assert client.is_model_ready("mixed")
            own.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(repository_name="mixed"))
        client.load_model("mixed")
        assert [model.state for model in client.get_model_repository_index(as_json=False).models] == ["READY"]
        for change in client.load_model, client.unload_model:
            with pytest.raises(InferenceServerException, match="NOT_FOUND"):
                change("fox")
        with pytest.raises(InferenceServerException, match=r"INVALID_ARGUMENT.*without parameters"):
            client.load_model("mixed", config="{}")


def test_who_may_not_manage_loads_and_unloads_nothing():
    with start(serving.folder(), port=0) as server, triton.InferenceServerClient(server.address) as client:
        for change in client.load_model, client.unload_model:
            with pytest.raises(InferenceServerException, match="PERMISSION_DENIED"):
                change("raw")
        assert client.is_model_ready("raw")


def test_shared_memory_traces_and_logs_are_not_implemented(server):
    with grpc.insecure_channel(server.address) as plain:
        channel: Any = plain  # typed as if it needed a serializer
        for name in "SystemSharedMemoryRegister", "CudaSharedMemoryStatus", "TraceSetting", "LogSettings":
            call = channel.unary_unary(f"/{wire.SERVICE_NAME}/{name}")
            assert refused(call, b"", timeout=60).code() is CODE.UNIMPLEMENTED


def test_every_call_of_the_protocols_has_what_answers_it(server):
    handlers = calls.Handlers(server.state, Health())

    def answered(path: str) -> bool:
        return handlers.find(path, ()) is not None

    ours = {f"/{wire.SERVICE_NAME}/{name}" for name in wire.METHODS}
    services = [
        service
        for file in (formula_pb2, health_pb2, reflection_pb2)
        for service in file.DESCRIPTOR.services_by_name.values()
    ]
    ours |= {f"/{service.full_name}/{method.name}" for service in services for method in service.methods}
    assert {path.split("/")[1] for path in ours} == set(wire.SERVICE_NAMES)
    assert [path for path in sorted(ours) if not answered(path)] == []
    assert not answered("/kanserve.v1.FormulaService/GetWord") and not answered("/kanserve.v1.WordService/GetFormula")


def test_every_call_of_ours_has_a_function_by_its_name():
    for method in METHODS:
        if method.is_ours and method.turn is not Turn.PREDICTS:
            assert callable(calls.function(method)), method.name


def test_the_configuration_says_which_versions_are_served(tmp_path):
    for _ in range(2):
        repository.publish(tmp_path, "mixed", serving.artifact("mixed"))
    for versions, told in (("latest:3", "latest"), ("1,2", "specific"), ("all", "all")):
        settings = Settings(repository=str(tmp_path), port=0, versions=versions)
        with start(settings) as server, triton.InferenceServerClient(server.address) as client:
            policy = client.get_model_config("mixed").config.version_policy
            assert policy.WhichOneof("policy_choice") == told
    assert list(policy.specific.versions) == []


# What goes wrong


def test_an_error_of_ours_is_told_by_the_id_of_the_request_and_logged_with_it(slow, caplog):
    root, _ = slow
    with start(root, port=0) as server, grpc.insecure_channel(server.address) as channel:
        stub: Any = wire.stub(channel)
        request = asked(np.array([[BREAK]]), "slow")
        error = refused(stub.ModelInfer, request, metadata=(("x-request-id", "of-the-client"),))
        assert error.code() is CODE.INTERNAL
        assert error.details() == "internal error (request of-the-client)"
        assert "request of-the-client failed: ModelInfer slow" in caplog.text
        assert "a secret of /the/host" in caplog.text
        (streamed,) = stub.ModelStreamInfer(iter([request]))
        for said in streamed.error_message, refused(stub.ModelInfer, request).details():
            found = re.fullmatch(r"internal error \(request ([0-9a-f]{16})\)", said)
            assert found and f"request {found[1]} failed" in caplog.text
        forged = refused(stub.ModelInfer, request, metadata=(("x-request-id", "a b"),))
        assert "a b" not in str(forged.details())


def test_a_request_beyond_what_a_model_may_compute_at_once_is_refused(tmp_path):
    root, fifo = serving.slow(tmp_path)
    repository.publish(root, "other", serving.artifact("iris"))
    settings = Settings(repository=str(root), port=0, threads=1, models={"slow": ModelSettings(concurrency=2)})
    with start(settings) as server, grpc.insecure_channel(server.address) as channel:
        infer: Any = wire.stub(channel).ModelInfer
        running = [infer.future(asked(np.array([[WAIT]]), "slow"), timeout=60) for _ in range(2)]
        with open(fifo, "w"):  # opens once the first of them waits
            computing = [{"of": ["other"], "requests": 0}, {"of": ["slow"], "requests": 2}]
            until(lambda: server.state.control.snapshot()["computing"] == computing)
            error = refused(infer, asked(np.array([[0.5]]), "slow"), timeout=60)
            assert error.code() is CODE.RESOURCE_EXHAUSTED and "limit: 2 requests" in error.details()
        for future in running:
            assert future.result(60).model_name == "slow"
        assert infer(asked(np.array([[0.5]]), "slow"), timeout=60).model_name == "slow"


def test_a_server_whose_only_model_is_full_refuses_before_a_message_comes(slow):
    root, fifo = slow
    limits = {"slow": ModelSettings(concurrency=2)}
    settings = Settings(repository=str(root), port=0, threads=2, models=limits, transport="grpcio")
    with start(settings) as server, grpc.insecure_channel(server.address) as channel:
        infer: Any = wire.stub(channel).ModelInfer
        running = [infer.future(asked(np.array([[WAIT]]), "slow"), timeout=60) for _ in range(2)]
        with open(fifo, "w"):
            until(lambda: server.state.control.snapshot()["computing"] == [{"of": ["slow"], "requests": 2}])
            until(lambda: server.state.control.snapshot()["gauges"]["calls_displaced"] == 2)
            end = threading.Event()
            silent = channel.stream_stream(INFER, None, None)(_after(end), timeout=60)
            error = refused(next, silent)
            end.set()
            assert error.code() is CODE.RESOURCE_EXHAUSTED and "Every model is at its" in error.details()
            assert wire.stub(channel).ModelReady(pb.ModelReadyRequest(name="slow"), timeout=60).ready
        for future in running:
            assert future.result(60).model_name == "slow"
        assert infer(asked(np.array([[0.5]]), "slow"), timeout=60).model_name == "slow"


def test_what_waits_for_a_place_is_not_refused_while_its_model_is_full(slow, monkeypatch):
    monkeypatch.setattr(thread_pool, "SPARE", 0)  # nobody gives a place away
    root, fifo = slow
    settings = Settings(repository=str(root), port=0, threads=1, models={"slow": ModelSettings(concurrency=1)})
    with start(settings) as server, grpc.insecure_channel(server.address) as channel:
        infer: Any = wire.stub(channel).ModelInfer
        running = infer.future(asked(np.array([[WAIT]]), "slow"), timeout=60)
        with open(fifo, "w"):
            waiting = infer.future(asked(np.array([[0.5]]), "slow"), timeout=60)
            until(lambda: server.state.threads.accepted == 2)
        assert running.result(60).model_name == waiting.result(60).model_name == "slow"


def _after(end: threading.Event) -> Iterator[bytes]:
    end.wait(60)
    yield from ()


def test_many_requests_of_a_fast_model_at_once_are_all_answered():
    kan = kans.raw_features()
    x = np.random.default_rng(0).normal(size=(64, 1, len(kan.inputs)))
    settings = Settings(repository=str(serving.folder()), port=0, threads=4, concurrency=1)
    with start(settings) as server, grpc.insecure_channel(server.address) as channel, ThreadPoolExecutor(8) as pool:
        infer: Any = wire.stub(channel).ModelInfer
        answers = [future.result(60) for future in list(pool.map(lambda row: infer.future(asked(row, "raw")), x))]
    got = np.array([np.frombuffer(answer.raw_output_contents[0]) for answer in answers])
    np.testing.assert_allclose(got, evaluate(kan, x[:, 0]), rtol=1e-9)


# Who may use which model


def test_a_caller_of_one_model_neither_uses_nor_sees_another_whatever_was_asked_before():
    grants = (
        Grant(("predict", "read"), "all", token_sha256=sha256(b"all").hexdigest()),
        Grant(("predict", "read"), "one", token_sha256=sha256(b"one").hexdigest(), models=("raw",)),
    )
    with (
        start(Settings(repository=str(serving.folder()), port=0, access=grants)) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub: Any = wire.stub(channel)
        every, one = ({"metadata": (("authorization", f"Bearer {name}"),)} for name in ("all", "one"))
        own, other = (asked(np.zeros((1, 2)), name) for name in ("raw", "mixed"))
        for _ in range(2):  # the second time the server knows the message
            for request in own, other:
                assert stub.ModelInfer(request, **every).model_name == request.model_name
            assert stub.ModelInfer(own, **one).model_name == "raw"
            assert refused(stub.ModelInfer, other, **one).code() is CODE.PERMISSION_DENIED
            answers = list(stub.ModelStreamInfer(iter([other, own]), **one))
            assert "may not use this model" in answers[0].error_message
            assert answers[1].infer_response.model_name == "raw"
        index, statistics = pb.RepositoryIndexRequest(), pb.ModelStatisticsRequest()
        for who, seen in ((every, set(serving.KANS)), (one, {"raw"})):
            assert {entry.name for entry in stub.RepositoryIndex(index, **who).models} == seen
            assert {entry.name for entry in stub.ModelStatistics(statistics, **who).model_stats} == seen
        hidden = refused(stub.ModelMetadata, pb.ModelMetadataRequest(name="fox"), **one)
        assert hidden.code() is CODE.PERMISSION_DENIED  # it does not learn whether there is one
