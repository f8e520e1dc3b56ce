"""The server within a process: what it listens on, what it says of itself, what it refuses to start with."""

import socket
import stat
import threading
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from kanserve.client import Client
from kanserve.errors import ConflictError, InputError, NotFoundError
from kanserve.inference import grpc_service_pb2 as pb
from kanserve.inference import wire
from kanserve.network.evaluate import evaluate
from kanserve.network.training_range import sample
from kanserve.serve.server import start
from kanserve.serve.settings import Settings
from tests.support.servers import serving
from tests.support.servers.reload_checks import eventually

SERVING = health_pb2.HealthCheckResponse.SERVING


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


def test_without_reflection_there_is_none():
    settings = Settings(repository=str(serving.folder()), port=0, reflection=False)
    with start(settings) as server, grpc.insecure_channel(server.address) as channel:
        with pytest.raises(grpc.RpcError) as refused:
            list(ProtoReflectionDescriptorDatabase(channel).get_services())
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


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


def test_a_server_that_cannot_begin_leaves_nothing_behind():
    with socket.socket() as busy, socket.socket() as free:
        for listener in (busy, free):
            listener.bind(("127.0.0.1", 0))
        busy.listen()
        port, http_port = free.getsockname()[1], busy.getsockname()[1]
        free.close()
        before = threading.active_count()
        with pytest.raises(ConflictError, match="HTTP port"):
            start(Settings(str(serving.folder()), port=port, http_port=http_port))
        eventually(lambda: threading.active_count() <= before)
        with start(serving.folder(), port=port) as server:
            assert server.port == port


def test_a_host_that_is_not_ours_is_refused():
    with pytest.raises(InputError, match=r"192\.0\.2\.1"):
        start(serving.folder(), host="192.0.2.1", port=8001)


def test_a_repository_that_is_not_there_is_not_found(tmp_path):
    with pytest.raises(NotFoundError):
        start(tmp_path / "none", port=0)


def test_a_socket_file_is_served_to_this_user_alone_and_goes_with_the_server(tmp_path):
    path = tmp_path / "socket"
    settings = Settings(repository=str(serving.folder()), unix_socket=str(path))
    with start(settings) as server, Client(server.address) as client:
        assert server.address == f"unix:{path}"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        x = sample(serving.kan("raw"), 3)
        np.testing.assert_allclose(client.predict("raw", x), evaluate(serving.kan("raw"), x), rtol=1e-9)
        with pytest.raises(ConflictError, match="A server listens on the socket file"):
            start(settings)
    assert not path.exists()


def test_a_socket_file_that_a_server_left_behind_is_taken_and_anything_else_is_not(tmp_path):
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    settings = Settings(repository=str(serving.folder()), unix_socket=str(path))
    with start(settings) as server, Client(server.address) as client:
        assert client.ready("raw")
    path.write_text("mine")
    with pytest.raises(ConflictError, match="not a socket"):
        start(settings)
    assert path.read_text() == "mine"
    with pytest.raises(InputError, match="bytes"):
        start(Settings(repository=str(serving.folder()), unix_socket=str(Path("/") / ("x" * 120))))
    with pytest.raises(InputError, match="socket file"):
        start(Settings(repository=str(serving.folder()), unix_socket=str(tmp_path / "none" / "socket")))


@pytest.mark.slow
def test_a_call_with_more_metadata_than_there_may_be_is_refused():
    with start(serving.folder(), port=0) as server, grpc.insecure_channel(server.address) as channel:
        live = wire.stub(channel).ServerLive
        assert live(pb.ServerLiveRequest(), metadata=(("authorization", "x" * 4000),)).live
        with pytest.raises(grpc.RpcError) as refused:
            live(pb.ServerLiveRequest(), metadata=(("fox", "x" * 9000),))
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert live(pb.ServerLiveRequest()).live  # the connection goes on


def test_the_http_port_is_told_and_says_ready_until_the_server_stops():
    import urllib.request

    with start(Settings(repository=str(serving.folder()), port=0, http_port=0)) as server:
        at = f"http://{server.http_address}"
        assert server.urls == {"REST": f"{at}/v2", "metrics": f"{at}/metrics"}
        contents = {f"{at}/v2/health/ready": b"", f"{at}/v2": b"extensions", f"{at}/metrics": b"kanserve_model_ready"}
        for url, text in contents.items():
            with urllib.request.urlopen(url, timeout=60) as answer:
                assert answer.status == 200 and text in answer.read()
