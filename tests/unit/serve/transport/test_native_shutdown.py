"""How the native transport ends a connection of HTTP/2 so that no call is lost: notice, acknowledgement, last call."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import numpy as np
import pytest

from kanserve import repository
from kanserve.serve import server as serving_runtime
from kanserve.serve.settings import Settings
from tests.support.peers.http2_peer import ACK, GOAWAY, PING, REFUSED_STREAM, Frame, Peer
from tests.support.servers import serving
from tests.support.servers.loop_server import ECHO, SECOND, STREAM, LoopServer, needs_native
from tests.support.servers.server_load import INFER, request

ALL = 2**31 - 1  # the stream in the notice


@contextmanager
def draining(server: LoopServer, seconds: float = 60) -> Iterator[threading.Thread]:
    thread = threading.Thread(target=server.library.drain, args=(server.server, round(seconds * SECOND)))
    thread.start()
    yield thread
    thread.join()


def came(peer: Peer, kind: int) -> Frame:
    return next(got for got in peer.frames() if got.kind == kind and not got.flags & ACK)


def test_calls_that_come_before_the_notice_is_acknowledged_are_answered():
    with LoopServer() as server, Peer(server.address) as peer:
        peer.acknowledges = False
        assert peer.ask(ECHO, b"before").messages == [b"before"]
        with draining(server):
            assert came(peer, GOAWAY).last_stream == ALL
            ping = came(peer, PING)
            assert peer.ask(ECHO, b"on its way").messages == [b"on its way"]
            stream = peer.call(ECHO)
            peer.message(stream, b"also")
            peer.frame(PING, ACK, 0, ping.body)
            assert peer.answer(stream).messages == [b"also"]
            assert peer.end() == [0, 0]
        assert [goaway.last_stream for goaway in peer.goaways] == [ALL, stream]


def test_a_call_after_the_last_one_is_reset_so_that_clients_repeat_it_and_others_go_on():
    seen: list[bytes] = []

    def note(message, context):
        seen.append(message)
        context.answer(message)

    with LoopServer(note) as server, Peer(server.address) as peer:
        open_before = peer.call(STREAM)
        peer.message(open_before, b"1", end=False)
        with draining(server) as thread:
            while came(peer, GOAWAY).last_stream != open_before:
                pass
            thread.join()
            late = [peer.call(ECHO) for _ in range(3)]
            for stream in late:
                peer.message(stream, b"late")
            assert [peer.answer(stream).reset for stream in late] == [REFUSED_STREAM] * 3
            peer.message(open_before, b"2")
            assert peer.answer(open_before).messages == [b"1", b"2"]
            assert peer.end() == [0, 0]
        assert not seen


def test_headers_of_a_late_call_may_come_in_pieces():
    with LoopServer() as server, Peer(server.address) as peer:
        open_before = peer.call(STREAM)
        peer.round_trip()
        with draining(server) as thread:
            while came(peer, GOAWAY).last_stream != open_before:
                pass
            thread.join()
            late = peer.call(ECHO, x_long="a" * 7000, x_longer="b" * 7000, x_longest="c" * 7000)  # with CONTINUATION
            assert peer.answer(late).reset == REFUSED_STREAM
            peer.frame(PING, 0, 0, b"12345678")
            assert next(got for got in peer.frames() if got.kind == PING).flags & ACK


def test_a_peer_that_acknowledges_nothing_holds_up_a_stop_for_no_longer_than_it_is_given():
    with LoopServer() as server, Peer(server.address) as peer:
        peer.acknowledges = False
        peer.round_trip()
        with draining(server, 0.01):
            assert peer.end() == [0, 0]


def test_a_server_that_drains_takes_no_new_connection():
    with LoopServer() as server:
        host, port = server.address.split(":")
        with draining(server):
            pass
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, int(port)), timeout=60)


def test_a_second_drain_changes_nothing():
    with LoopServer() as server, Peer(server.address) as peer:
        peer.round_trip()
        with draining(server), draining(server):
            assert peer.end() == [0, 0]


@pytest.mark.extended
@pytest.mark.slow
def test_clients_that_repeat_nothing_lose_no_call_when_servers_stop(tmp_path):
    needs_native()
    repository.publish(tmp_path, "iris", serving.artifact("iris"))
    body = request("iris", np.zeros((1, len(serving.kan("iris").inputs))))
    config = '{"loadBalancingConfig": [{"round_robin": {}}]}'
    settings = Settings(str(tmp_path), port=0, transport="native")
    lost: list[str] = []

    def hammer(addresses: str, over: threading.Event, answered: threading.Semaphore) -> None:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.service_config", config)]
        with grpc.insecure_channel(f"ipv4:{addresses}", options) as channel:
            grpc.channel_ready_future(channel).result(60)
            method = channel.unary_unary(INFER, request_serializer=None, response_deserializer=None)
            while not over.is_set():
                try:
                    method(body, timeout=60)
                except grpc.RpcError as error:
                    lost.append(f"{error.code()}: {error.details()}")
                answered.release()

    for _ in range(20):
        with serving_runtime.start(settings) as stays:
            goes = serving_runtime.start(settings)
            over, answered = threading.Event(), threading.Semaphore(0)
            arguments = (f"{goes.address},{stays.address}", over, answered)
            callers = [threading.Thread(target=hammer, args=arguments) for _ in range(4)]
            for caller in callers:
                caller.start()
            for _ in range(200):
                assert answered.acquire(timeout=60)
            goes.stop()
            for _ in range(100):
                assert answered.acquire(timeout=60)
            over.set()
            for caller in callers:
                caller.join()
    assert not lost
