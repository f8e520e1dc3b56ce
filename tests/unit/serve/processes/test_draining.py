"""The end of a server under load: what is accepted is answered, and what comes later is told to go elsewhere."""

import os
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import Any

import grpc
import pytest

from kanserve import repository
from kanserve.client import Client
from kanserve.errors import InputError
from kanserve.inference import grpc_service_pb2 as pb
from kanserve.inference import wire
from kanserve.network.training_range import sample
from kanserve.serve import sockets
from kanserve.serve.processes import lifecycle
from kanserve.serve.settings import Settings
from tests.support.servers import server_process, serving
from tests.support.servers.server_load import INFER, request
from tests.support.servers.serving import WAIT


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("place", ["port", "file", "workers"])
def test_calls_that_come_while_a_server_ends_are_told_unavailable_and_nothing_else(tmp_path, place):
    repository.publish(tmp_path / "models", "mixed", serving.artifact("mixed"))
    body = request("mixed", sample(serving.kan("mixed"), 1))
    places: dict[str, dict[str, Any]] = {"file": {"unix_socket": str(tmp_path / "socket")}, "workers": {"workers": 2}}
    more = places.get(place, {})
    codes: set[grpc.StatusCode] = set()

    def hammer(address: str, answered: threading.Barrier) -> None:
        with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            method = channel.unary_unary(INFER, request_serializer=None, response_deserializer=None)
            method(body, timeout=60)
            answered.wait(60)
            while True:
                try:
                    method(body, timeout=60)
                except grpc.RpcError as error:
                    codes.add(error.code())
                    if "stopping" not in str(error.details()):
                        return

    for _ in range(3):
        with server_process.served(Settings(str(tmp_path / "models"), port=0, **more)) as (process, address):
            answered = threading.Barrier(13)
            with ThreadPoolExecutor(12) as pool:
                ended = [pool.submit(hammer, address, answered) for _ in range(12)]
                answered.wait(60)
                process.send_signal(signal.SIGTERM)
                assert process.wait(60) == 0
                for future in ended:
                    future.result(60)
            assert server_process.errors_of(process).read() == ""
    assert codes == {grpc.StatusCode.UNAVAILABLE}


@pytest.mark.slow
@pytest.mark.extended
def test_a_stream_that_says_nothing_is_told_unavailable_when_the_server_ends(tmp_path):
    repository.publish(tmp_path, "mixed", serving.artifact("mixed"))
    with (
        server_process.served(Settings(str(tmp_path), port=0)) as (process, address),
        grpc.insecure_channel(address) as channel,
    ):
        silent = threading.Event()

        def nothing() -> Iterator[pb.ModelInferRequest]:
            silent.wait(60)
            yield from ()

        answers = wire.stub(channel).ModelStreamInfer(nothing(), timeout=60)
        grpc.channel_ready_future(channel).result(60)
        process.send_signal(signal.SIGTERM)
        with pytest.raises(grpc.RpcError) as ended:
            list(answers)
        silent.set()
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
        assert process.wait(60) == 0


@pytest.mark.slow
def test_sighup_does_not_end_a_server_that_drains(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    repository.publish(tmp_path / "models", "slow", serving.waiting(tmp_path / "fifo"))
    with (
        server_process.served(Settings(str(tmp_path / "models"), port=0)) as (process, address),
        Client(address) as client,
        ThreadPoolExecutor() as pool,
    ):
        answer = pool.submit(client.predict, "slow", [[WAIT]])
        with open(tmp_path / "fifo", "w"):  # opens when the model reads it: the call is in flight
            process.send_signal(signal.SIGTERM)
            server_process.until(lambda: not client.ready())
            for _ in range(20):
                process.send_signal(signal.SIGHUP)
        assert answer.result(60).shape == (1, 1)
        assert process.wait(60) == 0
        assert server_process.errors_of(process).read() == ""


@pytest.mark.slow
@pytest.mark.extended
def test_a_signal_that_the_system_gives_to_another_thread_is_heard():
    came: SimpleQueue[int] = SimpleQueue()
    with lifecycle.heard(came.put, signal.SIGUSR1):
        threading.Timer(0.2, signal.raise_signal, [signal.SIGUSR1]).start()
        assert lifecycle.wait(came, 20) == signal.SIGUSR1
        with pytest.raises(Empty):
            lifecycle.wait(came, 0.01)


def test_why_a_port_is_not_to_be_had_is_said_in_words():
    with pytest.raises(InputError, match=r"Cannot listen on port 0 of 192\.0\.2\.1: [A-Z][a-z ]+\."):
        sockets.check_free("192.0.2.1", 0)  # of nobody, by RFC 5737


def test_only_connections_that_came_in_at_the_port_are_hung_up():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as other:
        port = server.getsockname()[1]
        client, stranger = (socket.create_connection(listener.getsockname()) for listener in (server, other))
        ours, theirs = server.accept()[0], other.accept()[0]
        with client, stranger, ours, theirs:
            ours.send(b"the last answer")
            sockets.hang_up(port)
            assert client.recv(100) == b"the last answer"
            assert client.recv(100) == b""
            theirs.send(b"still here")
            assert stranger.recv(100) == b"still here"
            socket.create_connection(("127.0.0.1", port)).close()


def test_hanging_up_leaves_no_descriptor_behind():
    with open(os.devnull):
        before = len(os.listdir("/dev/fd"))
        sockets.hang_up(1)
        assert len(os.listdir("/dev/fd")) <= before  # fewer, where those of earlier tests are collected meanwhile
