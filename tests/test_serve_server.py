"""The server as a process: what it listens on, what it loads, how it ends."""

import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from kanserve import repository
from kanserve.artifact.format import assemble
from kanserve.client import Client
from kanserve.errors import BusyError, ConflictError, DeadlineError, InputError, NotFoundError
from kanserve.inference import grpc_service_pb2 as pb
from kanserve.inference import wire
from kanserve.ranges import sample
from kanserve.reference import evaluate
from kanserve.serve import models
from kanserve.serve.answers import STREAMS
from kanserve.serve.server import REFLECTIONS, Server, start
from tests import kans, serving
from tests.serving import BREAK, WAIT

ROOT = Path(__file__).parents[1]
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A repository with the model that waits for the FIFO, and the FIFO."""
    root = tmp_path_factory.mktemp("slow")
    fifo = root / "fifo"
    os.mkfifo(fifo)
    repository.publish(root / "models", "slow", serving.waiting(fifo))
    return root / "models", fifo


@contextmanager
def process(code: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A Python process and the last word that it says first on standard error; killed if it has not ended."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'exporters'}"}
    running = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        assert running.stderr is not None
        line = running.stderr.readline()
        if "serving" not in line:
            pytest.fail(line + running.stderr.read())
        yield running, line.split()[-1]
    finally:
        running.kill()
        running.communicate()


@contextmanager
def connected(server: Server) -> Iterator[Any]:
    """A stub, typed as Any because the stubs of a stream are those of either kind of channel."""
    with grpc.insecure_channel(server.address) as channel:
        yield wire.stub(channel)


def test_health_is_told_for_the_whole_and_for_each_service():
    with start(serving.folder(), port=0) as server, grpc.insecure_channel(server.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", *wire.SERVICE_NAMES):
            assert stub.Check(health_pb2.HealthCheckRequest(service=service)).status == SERVING
        with pytest.raises(grpc.RpcError) as unknown:
            stub.Check(health_pb2.HealthCheckRequest(service="fox"))
        assert unknown.value.code() is grpc.StatusCode.NOT_FOUND


def test_reflection_shows_every_service_under_the_name_by_which_it_is_called():
    with start(serving.folder(), port=0) as server, grpc.insecure_channel(server.address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert set(database.get_services()) == set(wire.SERVICE_NAMES)
        file = database.FindFileContainingSymbol("inference.GRPCInferenceService")
        assert "ModelInfer" in [method.name for method in file.service[0].method]


def test_sigterm_finishes_what_was_accepted_refuses_what_comes_and_exits_with_0(slow):
    root, fifo = slow
    code = f"from kanserve.serve.server import run; run({str(root)!r}, port=0, threads=2)"
    with process(code) as (running, address), Client(address) as client, ThreadPoolExecutor() as pool:
        channel, other = grpc.insecure_channel(address), grpc.insecure_channel(address)
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=30)
        assert next(watch).status == SERVING
        answer = pool.submit(client.predict, "slow", [[WAIT], [0.5]])
        with open(fifo, "w") as gate:  # opens when the model reads it: the call is in flight
            running.send_signal(signal.SIGTERM)
            assert next(watch).status == NOT_SERVING
            late = wire.stub(other)  # a new connection: the port still answers, to say so
            assert not late.ServerReady(pb.ServerReadyRequest()).ready
            assert not late.ModelReady(pb.ModelReadyRequest(name="slow")).ready
            with pytest.raises(grpc.RpcError) as refused:
                late.ModelInfer(pb.ModelInferRequest(model_name="slow"))
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
            assert "stopping" in str(refused.value.details())
            assert not answer.done()
            gate.write("go")
        np.testing.assert_allclose(answer.result(30), evaluate(kans.one_edge(), [[WAIT], [0.5]]), rtol=1e-12)
        assert running.wait(30) == 0
        channel.close()
        other.close()


def test_sigint_ends_it_too_and_sighup_finds_new_versions(tmp_path):
    repository.publish(tmp_path, "mixed", serving.artifact("mixed"))
    code = f"from kanserve.serve.server import run; run({str(tmp_path)!r}, port=0)"
    with process(code) as (running, address), Client(address) as client:
        assert running.stderr is not None
        assert client.metadata("mixed").versions == (1,)
        repository.publish(tmp_path, "mixed", serving.artifact("mixed"))
        repository.publish(tmp_path, "more", serving.artifact("mixed"))
        running.send_signal(signal.SIGHUP)
        assert running.stderr.readline() == f"kanserve: serving 2 models on {address}\n"
        assert client.metadata("mixed").versions == (1, 2)
        assert client.metadata("mixed").version == 2
        running.send_signal(signal.SIGINT)
        assert running.wait(30) == 0
        assert running.stderr.read() == ""


@pytest.mark.parametrize("stopping", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_while_it_looks_for_new_versions(tmp_path, stopping):
    os.mkfifo(tmp_path / "fifo")
    repository.publish(tmp_path / "models", "mixed", serving.artifact("mixed"))
    with process(f"from kanserve.serve.server import run; run({str(tmp_path / 'models')!r}, port=0)") as (running, _):
        assert running.stderr is not None
        repository.publish(tmp_path / "models", "late", serving.loading(tmp_path / "fifo"))
        running.send_signal(signal.SIGHUP)
        with open(tmp_path / "fifo", "w"):  # opens when the model is being loaded
            running.send_signal(stopping)
            assert running.wait(20) == 0
        assert running.stderr.read() == ""


def test_a_signal_ends_the_server_before_it_has_loaded_its_first_model(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    repository.publish(tmp_path / "models", "late", serving.loading(tmp_path / "fifo"))
    code = f"from kanserve.serve.server import run; run({str(tmp_path / 'models')!r}, port=0)"
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'exporters'}"}
    command = [sys.executable, "-W", "error", "-c", code]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as running:
        with open(tmp_path / "fifo", "w"):
            running.send_signal(signal.SIGTERM)
            assert running.wait(20) == 0
        assert running.stderr is not None and running.stderr.read() == ""


def test_a_repository_that_is_gone_changes_nothing_that_is_served(tmp_path):
    root = tmp_path / "models"
    repository.publish(root, "mixed", serving.artifact("mixed"))
    with process(f"from kanserve.serve.server import run; run({str(root)!r}, port=0)") as (running, address):
        assert running.stderr is not None
        root.rename(tmp_path / "away")
        running.send_signal(signal.SIGHUP)
        assert "cannot be read, nothing changed" in running.stderr.readline()
        with Client(address) as client:
            assert client.ready("mixed")


def test_c_and_onnx_are_served_without_torch_sympy_onnx_or_matplotlib():
    code = f"""
import sys
for name in ("torch", "sympy", "onnx", "matplotlib", "kanserve_exporters"):
    sys.modules[name] = None  # importing it raises
from kanserve.serve import models
from kanserve.serve.answers import STREAMS
from kanserve.serve.server import Server
root = {str(serving.folder())!r}
catalog = models.load(root, backend="c_source")
assert catalog.find("raw").kind == "c_source" and "graph" not in catalog.models, catalog.reasons
assert "onnxruntime" not in sys.modules
server = Server(models.load(root))
assert "onnxruntime" in sys.modules
assert server.catalog.find("graph").kind == "onnx_graph"
print("kanserve: serving on", server.address, file=sys.stderr, flush=True)
sys.stdin.read()
server.stop()
"""
    with process(code) as (_, address), Client(address) as client:
        for name in ("raw", "graph"):
            x = sample(serving.kan(name), 3)
            np.testing.assert_allclose(client.predict(name, x), evaluate(serving.kan(name), x), rtol=1e-9)
            assert client.formula(name)[0].text
            assert client.network(name).edges
            client.differentiate(name, x)


def test_a_port_in_use_is_a_conflict():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConflictError, match=f"Port {port} of 127.0.0.1 is in use"):
            start(serving.folder(), port=port)


def test_two_servers_do_not_share_a_port():
    with start(serving.folder(), port=0) as server, pytest.raises(ConflictError, match="in use"):
        start(serving.folder(), port=server.port)


def test_a_host_that_is_not_ours_is_refused():
    with pytest.raises(InputError, match=r"192\.0\.2\.1"):
        start(serving.folder(), host="192.0.2.1", port=8001)


def test_a_repository_that_is_not_there_is_not_found(tmp_path):
    with pytest.raises(NotFoundError):
        start(tmp_path / "none", port=0)


def test_a_broken_version_stops_no_other_and_says_why(tmp_path):
    good = serving.artifact("mixed")
    repository.publish(tmp_path, "good", good)
    for _ in range(3):
        repository.publish(tmp_path, "half", good)
    repository.publish(tmp_path, "bad", good)
    for damaged in ("half/2", "bad/1"):
        with open(tmp_path / damaged / "kan.safetensors", "r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"!")
    x, y = good.golden()
    parts = {path: data for path, data in good.files.items() if "/" in path}
    lying = assemble(good.kan(), parts, formulas=good.formulas, golden=(x, y + 1.0))
    repository.publish(tmp_path, "half", lying)
    with start(tmp_path, port=0) as server, Client(server.address) as client:
        assert client.metadata("half").versions == (1, 3)
        assert client.metadata("half").version == 3
        assert client.ready("good") and client.ready("half", 1) and not client.ready("half", 2)
        found = {(one.name, one.version): one for one in client.models()}
        assert [key for key, one in found.items() if not one.ready] == [("bad", 1), ("half", 2), ("half", 4)]
        assert "checksum" in found["bad", 1].reason and "golden row" in found["half", 4].reason
        with pytest.raises(NotFoundError, match="checksum"):
            client.predict("bad", [[0.0, 0.0]])
        with pytest.raises(NotFoundError, match="golden row"):
            client.predict("half", [[0.0, 0.0]], 4)
        with connected(server) as stub:
            ready = stub.RepositoryIndex(pb.RepositoryIndexRequest(ready=True))
        assert [(one.name, one.version) for one in ready.models] == [("good", "1"), ("half", "1"), ("half", "3")]


def test_a_backend_whose_files_are_not_in_its_format_is_passed_over(tmp_path):
    good = serving.artifact("raw")
    parts = {path: data for path, data in good.files.items() if "/" in path}
    (library,) = (path for path in parts if path.endswith(".so"))
    parts[library] = parts[library][:18] + b"\xb7" + parts[library][19:]  # of another machine
    damaged = assemble(good.kan(), parts, formulas=good.formulas, golden=good.golden())
    repository.publish(tmp_path, "raw", damaged)
    catalog = models.load(tmp_path)
    assert not catalog.reasons and catalog.find("raw").kind == "onnx_graph"


def test_a_new_catalog_keeps_what_the_last_one_has_loaded(tmp_path):
    repository.publish(tmp_path, "mixed", serving.artifact("mixed"))
    first = models.load(tmp_path)
    repository.publish(tmp_path, "mixed", serving.artifact("mixed"))
    second = models.load(tmp_path, previous=first)
    assert second.find("mixed", "1") is first.find("mixed")
    assert second.find("mixed").version == 2
    shutil.rmtree(tmp_path / "mixed")
    assert models.load(tmp_path, previous=second).models == {}


def test_an_unknown_error_is_logged_and_its_text_kept_from_the_client(slow, caplog):
    root, _ = slow
    with start(root, port=0) as server, connected(server) as stub:
        for call in (stub.ModelInfer, lambda asked: next(stub.ModelStreamInfer(iter([asked])))):
            caplog.clear()
            try:
                said, code = call(request(BREAK)).error_message, None
            except grpc.RpcError as error:
                said, code = error.details(), error.code()
            assert said == "internal error" and code in (None, grpc.StatusCode.INTERNAL)
            assert "a secret of /the/host" in caplog.text


def request(value: float) -> pb.ModelInferRequest:
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP64", shape=[1, 1])
    return pb.ModelInferRequest(
        model_name="slow", inputs=[tensor], raw_input_contents=[np.array([value], "<f8").tobytes()]
    )


def test_beyond_the_queue_a_call_is_refused_at_once_and_what_waits_is_answered(slow):
    root, fifo = slow
    with Server(models.load(root), threads=1, queue=1) as server, connected(server) as stub:
        running = stub.ModelInfer.future(request(WAIT), timeout=30)
        ended: queue.Queue[Any] = queue.Queue()
        with open(fifo, "w"):
            for _ in range(3):
                stub.ModelInfer.future(request(0.5), timeout=30).add_done_callback(ended.put)
            refused = [ended.get(timeout=10) for _ in range(2)]
            assert [one.code() for one in refused] == 2 * [grpc.StatusCode.RESOURCE_EXHAUSTED]
            with Client(server.address) as client, pytest.raises(BusyError, match="The queue is full"):
                client.predict("slow", [[0.5]])
            with grpc.insecure_channel(server.address) as channel:  # busy is not gone
                check = health_pb2_grpc.HealthStub(channel).Check
                assert check(health_pb2.HealthCheckRequest(), timeout=10).status == SERVING
            assert not running.done() and ended.empty()
        assert running.result(10).model_name == "slow"
        assert ended.get(timeout=10).result().model_name == "slow"


def test_a_call_whose_deadline_passed_while_it_waited_is_not_computed(slow):
    root, fifo = slow
    with Server(models.load(root), threads=1) as server, connected(server) as stub:
        running = stub.ModelInfer.future(request(WAIT), timeout=30)
        with open(fifo, "w"), Client(server.address, timeout=0.2) as hasty, pytest.raises(DeadlineError):
            hasty.predict("slow", [[0.5]])
        assert running.result(10).model_name == "slow"
        stub.ModelInfer(request(0.5), timeout=30)
        (counted,) = stub.ModelStatistics(pb.ModelStatisticsRequest(name="slow")).model_stats
        assert (counted.execution_count, counted.inference_stats.fail.count) == (2, 0)


def test_idle_streams_leave_the_threads_to_others(slow):
    root, _ = slow
    answers: queue.Queue[Any] = queue.Queue()
    with Server(models.load(root), threads=1) as server, ExitStack() as stack:
        for _ in range(4):
            client = stack.enter_context(triton.InferenceServerClient(server.address))
            client.start_stream(lambda result, error: answers.put((result, error)))
            x = triton.InferInput("x", [1, 1], "FP64")
            client.async_stream_infer("slow", [x.set_data_from_numpy(np.array([[0.5]]))])
            assert answers.get(timeout=10)[1] is None
        with connected(server) as stub:
            assert stub.ModelInfer(request(0.5), timeout=10).model_name == "slow"


def test_idle_reflection_neither_holds_a_thread_nor_the_end(slow):
    root, _ = slow
    gate = threading.Event()

    def asking() -> Iterator[reflection_pb2.ServerReflectionRequest]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")
        gate.wait(30)

    with Server(models.load(root), threads=1) as server, grpc.insecure_channel(server.address) as channel:
        idle = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(asking())
        assert next(idle).list_services_response.service
        assert wire.stub(channel).ModelInfer(request(0.5), timeout=10).model_name == "slow"
        assert server.stop(grace=5)
        gate.set()


def test_more_streams_than_there_are_threads_for_are_refused(slow):
    root, _ = slow
    with Server(models.load(root)) as server, connected(server) as stub:
        gate = threading.Event()

        def requests() -> Iterator[pb.ModelInferRequest]:
            yield request(0.5)
            gate.wait(30)

        streams = [stub.ModelStreamInfer(requests()) for _ in range(STREAMS)]
        for one in streams:
            assert next(one).infer_response.model_name == "slow"
        with pytest.raises(grpc.RpcError) as refused:
            next(stub.ModelStreamInfer(requests()))
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        gate.set()
        for one in streams:
            assert list(one) == []
        assert next(stub.ModelStreamInfer(requests())).infer_response.model_name == "slow"


def test_reflection_beyond_its_streams_is_refused_and_idle_ones_leave_room_for_calls(slow):
    root, _ = slow
    gate = threading.Event()

    def silent() -> Iterator[reflection_pb2.ServerReflectionRequest]:
        gate.wait(30)
        yield from ()

    with Server(models.load(root), threads=1, queue=1) as server, grpc.insecure_channel(server.address) as channel:
        reflect = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
        ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
        streams = [reflect(silent(), timeout=30) for _ in range(REFLECTIONS + 100)]
        for one in streams:
            if not one.add_callback(lambda: ended.put(None)):
                ended.put(None)  # it had ended before
        for _ in range(100):
            ended.get(timeout=10)
        codes = [one.code() for one in streams if not one.is_active()]
        assert codes == 100 * [grpc.StatusCode.RESOURCE_EXHAUSTED]
        assert wire.stub(channel).ModelInfer(request(0.5), timeout=10).model_name == "slow"
        gate.set()


def test_what_waits_in_the_queue_holds_little_of_its_message(slow, tmp_path):
    """48 calls of 12 MiB: 576 MiB, of which the server may hold only what fits the windows."""
    root, fifo = slow
    code = f"from kanserve.serve.server import run; run({str(root)!r}, port=0, threads=1)"
    with process(code) as (running, address), grpc.insecure_channel(address) as channel:
        infer = wire.stub(channel).ModelInfer
        first = infer.future(request(WAIT), timeout=30)
        with open(fifo, "w"):
            before = resident(running.pid)
            large = request(0.5)
            large.raw_input_contents[0] = bytes(12 * 2**20)
            waiting = [infer.future(large, timeout=2) for _ in range(48)]
            for one in waiting:
                assert one.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            assert resident(running.pid) - before < 64 * 2**20
        assert first.result(10).model_name == "slow"


def resident(process: int) -> int:
    """The most bytes of memory that a process has held."""
    (line,) = (one for one in Path(f"/proc/{process}/status").read_text().splitlines() if one.startswith("VmHWM"))
    return int(line.split()[1]) * 1024
