"""The native transport's times: what silent, slow and stuck clients may cost, and what they may not lose."""

import socket
import struct
import threading
from contextlib import suppress

import pytest

from kanserve.serve.transport.native_library import CLOSED_SLOW
from tests.support.peers.http2_peer import ACK, CANCEL, DATA, INITIAL_WINDOW_SIZE, PING, RST_STREAM, Peer
from tests.support.servers import keys
from tests.support.servers.loop_server import ASIDE, ECHO, SECOND, STREAM, LoopServer

DEADLINE_EXCEEDED = 4
MOMENT = SECOND // 20  # of a time that a test waits for
LARGE = bytes(200_000)


def ended(connection: socket.socket) -> bool:
    """Wait for the end of a connection."""
    connection.settimeout(60)
    try:
        while connection.recv(65_536):
            pass
    except ConnectionError:
        pass
    return True


def test_a_connection_without_a_first_frame_is_closed():
    with LoopServer(greeting_time=MOMENT) as server:
        host, port = server.address.split(":")
        with socket.create_connection((host, int(port))) as silent:
            assert ended(silent)
        server.wait_idle()


def test_a_connection_that_does_not_agree_on_tls_is_closed(tmp_path):
    certificate, key = keys.authority().pair("localhost").write(tmp_path, "server")
    with LoopServer(tls=(certificate, key, None), greeting_time=MOMENT) as server:
        host, port = server.address.split(":")
        with socket.create_connection((host, int(port))) as silent:
            silent.sendall(b"\x16\x03\x01")  # the begin of a record
            assert ended(silent)
        server.wait_idle()


def test_an_idle_connection_is_legal_while_it_answers_pings():
    server = LoopServer(greeting_time=MOMENT, keepalive=MOMENT // 2, ping_time=10 * SECOND)
    with server, Peer(server.address) as peer:
        pings = 0
        for got in peer.frames():
            pings += got.kind == PING and not got.flags & ACK
            if pings == 5:  # each was answered, and the time of greeting is over
                break
        assert peer.ask(ECHO, b"still here").messages == [b"still here"]


def test_a_connection_whose_pings_are_not_answered_is_closed():
    with LoopServer(keepalive=MOMENT, ping_time=MOMENT) as server, Peer(server.address) as peer:
        assert ended(peer.socket)
        server.wait_idle()


@pytest.mark.parametrize("path", [ECHO, STREAM])
def test_the_deadline_ends_a_call_whose_message_never_ends(path):
    with LoopServer() as server, Peer(server.address) as peer:
        stream = peer.call(path, grpc_timeout="50m")
        peer.message(stream, b"the begin", end=False, size=100)
        answer = peer.answer(stream, reset=True)
        assert (answer.status, answer.reset) == (DEADLINE_EXCEEDED, 0)
        server.wait_idle_of(peer)


@pytest.mark.parametrize("path", [ECHO, ASIDE])
def test_patience_counts_from_the_begin_of_a_call_not_from_the_last_byte(path):
    with LoopServer(patience=0.3) as server, Peer(server.address) as peer:
        stream = peer.call(path)
        peer.frame(DATA, 0, stream, struct.pack(">BI", 0, 1000))
        over = threading.Event()

        def drip() -> None:
            while not over.wait(0.02):
                peer.frame(DATA, 0, stream, b"x")

        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            answer = peer.answer(stream, reset=True)
        finally:
            over.set()
            dripping.join()
        assert answer.status == DEADLINE_EXCEEDED
        assert "did not come in time" in answer.text


def test_a_stream_with_a_window_of_0_is_reset_after_the_write_timeout():
    with LoopServer(write_time=MOMENT) as server, Peer(server.address, settings={INITIAL_WINDOW_SIZE: 0}) as peer:
        for path in (ECHO, STREAM):
            stream = peer.call(path)
            peer.message(stream, b"an answer that nobody takes", end=path == ECHO)
            for got in peer.frames():
                if got.kind == RST_STREAM and got.stream == stream:
                    assert got.error == CANCEL
                    break
        assert peer.ask(STREAM).data == b""  # no message: the connection lives
        server.wait_idle_of(peer)


def test_a_thread_that_sends_to_a_stream_with_a_window_of_0_gets_away():
    left = threading.Event()

    def much(messages, context):
        while context.send(LARGE):
            pass
        left.set()

    with (
        LoopServer(stream=much, write_time=MOMENT) as server,
        Peer(server.address, settings={INITIAL_WINDOW_SIZE: 0}) as peer,
    ):
        peer.call(STREAM)
        peer.round_trip()
        assert left.wait(60)
        server.wait_idle_of(peer)


def test_an_unread_socket_is_closed_after_the_write_timeout():
    with LoopServer(write_time=MOMENT) as server, Peer(server.address, receive_buffer=4096) as peer:
        peer.open()
        peer.round_trip()
        with suppress(OSError):  # the server closes it as soon as nothing fits between them
            while True:
                stream = peer.call(ECHO)
                peer.open(stream)
                peer.message(stream, LARGE)
        server.wait_idle()
        assert server.library.closed(server.server, CLOSED_SLOW) == 1


@pytest.mark.slow
def test_a_slow_reader_gets_all_of_a_large_answer():
    """It takes twice the write timeout for the whole, but never that long for the next part."""
    size, part = 12 * 2**14, 2**14
    with (
        LoopServer(write_time=2 * SECOND) as server,
        Peer(server.address, settings={INITIAL_WINDOW_SIZE: part}) as peer,
    ):
        peer.round_trip()
        stream = peer.call(ECHO)
        peer.message(stream, bytes(size))
        taken, pause = 0, threading.Event()
        for got in peer.frames():
            if got.kind == DATA and got.stream == stream:
                taken += len(got.body)
                if taken % part == 0:
                    pause.wait(0.33)
                    peer.open(stream, part)
                    peer.open(0, part)
            if got.stream == stream and got.flags & 1:
                break
        assert (peer.answers[stream].status, taken) == (0, size + 5)
