"""What is refused and what waits when many call at once: the queue, deadlines, streams, the memory of what waits."""

import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from kanserve.client import Client
from kanserve.errors import BusyError, DeadlineError
from kanserve.inference import grpc_service_pb2 as pb
from kanserve.inference import wire
from kanserve.serve.rpc.standard_services import REFLECTIONS
from kanserve.serve.server import Server, ServingRuntime, start
from kanserve.serve.settings import Settings, Transport
from tests.support.paths import ROOT
from tests.support.servers import server_process
from tests.support.servers.serving import BREAK, WAIT

SERVING = health_pb2.HealthCheckResponse.SERVING


@contextmanager
def connected(server: Server) -> Iterator[Any]:
    """A stub with a connection of its own, typed as Any: the stubs of a stream are those of either kind of channel."""
    with grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield wire.stub(channel)


def one_thread(root: Path, queue: int = 256, transport: Transport = "auto") -> Server:
    """A server that has one thread for calls, and gets no other while that waits."""
    settings = Settings(repository=str(root), port=0, threads=1, queue=queue, transport=transport)
    return Server(settings, counted=ServingRuntime(settings, spare=0))


def request(value: float) -> pb.ModelInferRequest:
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP64", shape=[1, 1])
    return pb.ModelInferRequest(
        model_name="slow", inputs=[tensor], raw_input_contents=[np.array([value], "<f8").tobytes()]
    )


def test_an_unknown_error_is_logged_and_its_text_kept_from_the_client(slow, caplog):
    root, _ = slow
    with start(root, port=0) as server, connected(server) as stub:
        for call in (stub.ModelInfer, lambda asked: next(stub.ModelStreamInfer(iter([asked])))):
            caplog.clear()
            try:
                said, code = call(request(BREAK)).error_message, None
            except grpc.RpcError as error:
                said, code = error.details(), error.code()
            assert said.startswith("internal error (request ") and code in (None, grpc.StatusCode.INTERNAL)
            assert "a secret of /the/host" in caplog.text


def test_beyond_the_queue_a_call_is_refused_at_once_and_what_waits_is_answered(slow):
    root, fifo = slow
    with one_thread(root, queue=1) as server, connected(server) as stub:
        running = stub.ModelInfer.future(request(WAIT), timeout=60)
        ended: queue.Queue[Any] = queue.Queue()
        with open(fifo, "w"):
            for _ in range(3):
                stub.ModelInfer.future(request(0.5), timeout=60).add_done_callback(ended.put)
            refused = [ended.get(timeout=60) for _ in range(2)]
            assert [future.code() for future in refused] == 2 * [grpc.StatusCode.RESOURCE_EXHAUSTED]
            with Client(server.address) as client, pytest.raises(BusyError, match="The queue is full"):
                client.predict("slow", [[0.5]])
            with grpc.insecure_channel(server.address) as channel:  # busy is not gone
                check = health_pb2_grpc.HealthStub(channel).Check
                assert check(health_pb2.HealthCheckRequest(), timeout=60).status == SERVING
            assert not running.done() and ended.empty()
        assert running.result(60).model_name == "slow"
        assert ended.get(timeout=60).result().model_name == "slow"


def test_a_call_whose_deadline_passed_while_it_waited_is_not_computed(slow):
    root, fifo = slow
    with one_thread(root) as server, connected(server) as stub:
        running = stub.ModelInfer.future(request(WAIT), timeout=60)
        with open(fifo, "w"), Client(server.address, timeout=0.2) as hasty, pytest.raises(DeadlineError):
            hasty.predict("slow", [[0.5]])
        assert running.result(60).model_name == "slow"
        stub.ModelInfer(request(0.5), timeout=60)
        (counted,) = stub.ModelStatistics(pb.ModelStatisticsRequest(name="slow")).model_stats
        assert (counted.execution_count, counted.inference_stats.fail.count) == (2, 0)


def test_idle_streams_leave_the_threads_to_others(slow):
    root, _ = slow
    answers: queue.Queue[Any] = queue.Queue()
    with one_thread(root) as server, ExitStack() as stack:
        for _ in range(4):
            client = stack.enter_context(triton.InferenceServerClient(server.address))
            client.start_stream(lambda result, error: answers.put((result, error)))
            x = triton.InferInput("x", [1, 1], "FP64")
            client.async_stream_infer("slow", [x.set_data_from_numpy(np.array([[0.5]]))])
            assert answers.get(timeout=60)[1] is None
        with connected(server) as stub:
            assert stub.ModelInfer(request(0.5), timeout=60).model_name == "slow"


@pytest.mark.slow
@pytest.mark.extended
def test_idle_reflection_neither_holds_a_thread_nor_the_end(slow):
    root, _ = slow
    gate = threading.Event()

    def asking() -> Iterator[reflection_pb2.ServerReflectionRequest]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")
        gate.wait(60)

    with one_thread(root) as server, grpc.insecure_channel(server.address) as channel:
        idle = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(asking())
        assert next(idle).list_services_response.service
        assert wire.stub(channel).ModelInfer(request(0.5), timeout=60).model_name == "slow"
        assert server.stop(grace=5)
        gate.set()


def test_more_streams_than_a_connections_share_are_refused_and_others_have_theirs(slow):
    root, _ = slow
    with start(root, port=0) as server, connected(server) as stub, connected(server) as other:
        gate = threading.Event()

        def requests() -> Iterator[pb.ModelInferRequest]:
            yield request(0.5)
            gate.wait(60)

        streams = [stub.ModelStreamInfer(requests()) for _ in range(Settings.streams // 2)]
        for stream in streams:
            assert next(stream).infer_response.model_name == "slow"
        with pytest.raises(grpc.RpcError) as refused:
            next(stub.ModelStreamInfer(requests()))
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert next(other.ModelStreamInfer(requests())).infer_response.model_name == "slow"
        gate.set()
        for stream in streams:
            assert list(stream) == []
        assert next(stub.ModelStreamInfer(requests())).infer_response.model_name == "slow"


def test_reflection_beyond_its_streams_is_refused_and_idle_ones_leave_room_for_calls(slow):
    root, _ = slow
    gate = threading.Event()

    def silent() -> Iterator[reflection_pb2.ServerReflectionRequest]:
        gate.wait(60)
        yield from ()

    with one_thread(root, queue=1) as server, grpc.insecure_channel(server.address) as channel:
        reflect = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
        ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
        streams = [reflect(silent(), timeout=60) for _ in range(REFLECTIONS + 100)]
        for stream in streams:
            if not stream.add_callback(lambda: ended.put(None)):
                ended.put(None)  # it had ended before
        for _ in range(100):
            ended.get(timeout=60)
        codes = [stream.code() for stream in streams if not stream.is_active()]
        assert codes == 100 * [grpc.StatusCode.RESOURCE_EXHAUSTED]
        assert wire.stub(channel).ModelInfer(request(0.5), timeout=60).model_name == "slow"
        gate.set()


@pytest.mark.slow
@pytest.mark.extended
def test_what_waits_in_the_queue_holds_little_of_its_message(slow, tmp_path):
    """48 calls of 12 MiB, of which the server may hold only what fits the windows: a ninth of it."""
    root, fifo = slow
    code = f"""
import sys
from pathlib import Path
from tests.unit.serve.scheduling.test_limits import one_thread
with one_thread(Path({str(root)!r}), transport="grpcio") as server:
    print(server.address, flush=True)
    sys.stdin.read()
"""
    command = [sys.executable, "-c", code]
    with (
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=server_process.ENVIRONMENT, cwd=ROOT
        ) as running,
        ExitStack() as stack,
    ):
        stack.callback(running.terminate)
        assert running.stdout is not None
        channel = stack.enter_context(grpc.insecure_channel(running.stdout.readline().strip()))
        infer = wire.stub(channel).ModelInfer
        first = infer.future(request(WAIT), timeout=60)
        with open(fifo, "w"):
            before = server_process.memory(running.pid, "VmHWM")
            large = request(0.5)
            large.raw_input_contents[0] = bytes(12 * 2**20)
            waiting = [infer.future(large, timeout=2) for _ in range(48)]
            for future in waiting:
                assert future.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            assert server_process.memory(running.pid, "VmHWM") - before < len(waiting) * 12 * 2**20 / 9
        assert first.result(60).model_name == "slow"
