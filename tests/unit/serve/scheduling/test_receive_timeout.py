"""Callers who begin calls and send nothing, or may send nothing: they cost the others next to nothing."""

import hashlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kanserve.client import Client
from kanserve.network.training_range import sample
from kanserve.serve.auth.grants import NEEDS
from kanserve.serve.rpc.standard_services import CHECKS, WATCHES
from kanserve.serve.scheduling.thread_pool import SPARE
from kanserve.serve.server import Server, start
from kanserve.serve.settings import Grant, Settings
from tests.support.faults import http2_flood
from tests.support.faults.hostile_requests import KINDS
from tests.support.networks.kans import raw_features
from tests.support.servers import callers

INFER, LOAD = "/inference.GRPCInferenceService/ModelInfer", "/inference.GRPCInferenceService/RepositoryModelLoad"
CHECK, EXPORT = "/grpc.health.v1.Health/Check", "/kanserve.v1.FormulaService/ExportSource"
SERVING = health_pb2.HealthCheckResponse.SERVING
TOKEN = "a token of the tests"


@contextmanager
def silent(server: Server, path: str, count: int, metadata: Any = ()) -> Iterator[list[Any]]:
    """So many calls that have begun, and whose message does not come."""
    end = threading.Event()

    def nothing() -> Iterator[bytes]:
        end.wait()
        yield from ()

    with grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        begin = channel.stream_stream(path, None, None)
        try:
            yield [begin(nothing(), timeout=60, metadata=metadata) for _ in range(count)]
        finally:
            end.set()


def code(call: Any) -> grpc.StatusCode:
    """With which a call ended that was never asked anything."""
    with pytest.raises(grpc.RpcError) as raised:
        next(call)
    found: grpc.StatusCode = raised.value.code()
    return found


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    callers.models(folder)
    return folder


@pytest.fixture(scope="module")
def settings(repository: Path) -> Settings:
    """The native transport holds no thread for a caller who sends nothing; test_native_protocol.py has its timeouts."""
    return Settings(str(repository), port=0, anonymous=("predict", "read", "manage"), transport="grpcio")


@pytest.mark.slow
@pytest.mark.extended
def test_callers_who_send_nothing_lose_their_threads_to_those_who_do(server):
    x, many = sample(raw_features(), 3), 20  # more than there are threads for
    with silent(server, INFER, server.settings.threads + SPARE + many) as calls, Client(server.address) as client:
        ended: list[Any] = []
        for _ in range(600):
            client.predict("plain", x)
            ended = [call for call in calls if not call.is_active()]
            if len(ended) >= many:
                break
            threading.Event().wait(0.1)
        assert len(ended) >= many and {code(future) for future in ended} == {grpc.StatusCode.CANCELLED}


@pytest.mark.slow
@pytest.mark.extended
def test_a_caller_who_is_slow_is_left_alone_while_there_are_threads(server):
    with silent(server, INFER, 5) as calls, Client(server.address) as client:
        assert not threading.Event().wait(1.5)
        client.predict("plain", sample(raw_features(), 3))
        assert all(call.is_active() for call in calls)


def test_health_is_told_beside_checks_that_ask_nothing(server):
    with silent(server, CHECK, 2 * CHECKS), grpc.insecure_channel(server.address) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        assert check(health_pb2.HealthCheckRequest(), timeout=60).status == SERVING


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("path", [LOAD, EXPORT])
def test_a_silent_caller_leaves_the_few_threads_of_rare_calls_to_the_next(server, path):
    with silent(server, path, 2) as calls:
        assert [code(call) for call in calls] == 2 * [grpc.StatusCode.CANCELLED]
    with Client(server.address) as client:
        client.load("plain")
        assert client.export_source("plain", format="numpy_source")


def test_a_call_that_ends_without_its_message_is_told_so(server):
    with grpc.insecure_channel(server.address) as channel:
        call = channel.stream_stream(INFER, None, None)(iter(()), timeout=60)
        assert code(call) is grpc.StatusCode.INVALID_ARGUMENT


def test_who_may_not_call_is_refused_before_a_message_is_read(repository):
    grants = [Grant(("read",), name="reader", token_sha256=hashlib.sha256(TOKEN.encode()).hexdigest())]
    shown = (("authorization", f"Bearer {TOKEN}"),)
    with start(Settings(repository=str(repository), port=0, access=tuple(grants))) as server:
        for path, needs in NEEDS.items():
            if needs and KINDS[path] != "stream_stream":
                with silent(server, path, 1) as calls:
                    assert code(calls[0]) is grpc.StatusCode.UNAUTHENTICATED, path
            if needs and "read" not in needs:
                with silent(server, path, 1, shown) as calls:
                    assert code(calls[0]) is grpc.StatusCode.PERMISSION_DENIED, path


@pytest.mark.slow
def test_metadata_that_repeats_itself_in_a_byte_each_is_refused_before_it_is_held(repository):
    """Of HTTP/2 frames by hand: one text of 4000 bytes, which later headers name by its place in the table."""
    path = INFER.encode()
    fixed = [b"\x83\x86\x01\x01x\x04", bytes([len(path)]), path, b"\x00\x02te\x08trailers"]
    kind = b"\x0f\x10\x10application/grpc"
    text = b"\x40\x01x\x7f\xa1\x1e" + b"a" * 4000
    with http2_flood.process(Settings(repository=str(repository), port=0)) as server:
        before = server.memory()
        host, port = server.address.split(":")
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(4, 0, 0, b""))
            for number in range(100):
                headers = b"".join((*fixed, kind, text if number == 0 else b"\xbe", b"\xbe" * 500 * (number > 0)))
                connection.sendall(_frame(1, 4, 2 * number + 1, headers))
            with Client(server.address) as client:
                for _ in range(5):
                    client.predict("plain", sample(raw_features(), 3))
            grown = server.memory() - before
    print(f"{grown / 2**20:.0f} MB")
    assert grown < 64 * 2**20  # held, they would be 200 MB


def _frame(kind: int, flags: int, stream: int, data: bytes) -> bytes:
    return len(data).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + data


def test_watches_of_health_are_bounded_and_there_is_room_again_when_they_end(server):
    with grpc.insecure_channel(server.address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch
        watches = [watch(health_pb2.HealthCheckRequest(), timeout=60) for _ in range(WATCHES)]
        assert all(next(health_watch).status == SERVING for health_watch in watches)
        assert code(watch(health_pb2.HealthCheckRequest(), timeout=60)) is grpc.StatusCode.RESOURCE_EXHAUSTED
        for health_watch in watches:
            health_watch.cancel()
        for _ in range(1200):  # the server hears of it a little later
            last = watch(health_pb2.HealthCheckRequest(), timeout=60)
            with suppress(grpc.RpcError):
                assert next(last).status == SERVING
                return
            threading.Event().wait(0.05)
    raise AssertionError("Nobody may watch any more.")
