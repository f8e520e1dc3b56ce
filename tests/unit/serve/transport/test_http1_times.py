"""The HTTP port of the native transport: what silent, slow and leaving clients may cost, drain, and TLS."""

import socket
import ssl
import threading
import time
from contextlib import ExitStack

import pytest

from tests.support.peers.http1_peer import Http1Peer, Http1Server, echo_request, line_of, request
from tests.support.servers import keys
from tests.support.servers.loop_server import SECOND
from tests.support.servers.server_process import until

MOMENT = SECOND // 20
CA = keys.authority()


def test_a_connection_without_a_request_is_closed():
    with Http1Server(greeting_time=MOMENT) as server, Http1Peer(server.http_address) as peer:
        assert peer.ended()
        server.wait_idle()


def assert_timed_out(peer: Http1Peer, more: bytes) -> None:
    """The answer comes, and is 408, though `more` is sent all the time."""
    peer.socket.settimeout(0.02)
    for _ in range(1000):
        try:
            peer.send(more)
            answer = peer.response()
            break
        except TimeoutError:
            continue
    assert answer.status == 408 and answer.headers["connection"] == "close"


def test_a_head_has_its_time_though_bytes_keep_coming():
    with Http1Server(greeting_time=SECOND // 4) as server, Http1Peer(server.http_address) as peer:
        peer.send(b"GET /v2 HTTP/1.1\r\nHost: x\r\n")
        assert_timed_out(peer, b"X: y\r\n")


def test_a_body_has_its_time_though_bytes_keep_coming():
    with Http1Server(patience=0.25) as server, Http1Peer(server.http_address) as peer:
        peer.send(request(method="POST", Content_Length="1000"))
        assert_timed_out(peer, b"x")
        until(lambda: server.held == 0)


def test_a_connection_that_is_idle_is_closed_after_a_while():
    with Http1Server(keepalive=SECOND // 4) as server, Http1Peer(server.http_address) as peer:
        assert peer.ask(request()).status == 200
        assert peer.ended()
        server.wait_idle()


@pytest.mark.parametrize("ahead", [False, True])
def test_a_handler_learns_that_its_caller_has_left_and_its_answer_is_dropped(ahead):
    started, left = threading.Event(), threading.Event()

    def answer(body, context):
        started.set()
        until(lambda: not context.alive())
        echo_request(body, context)
        left.set()

    with Http1Server(answer) as server:
        with Http1Peer(server.http_address) as peer:
            peer.send(request(method="POST", body=b"x" * 1000) + request() * ahead)
            assert started.wait(60)
        assert left.wait(60)
        server.wait_idle()


@pytest.mark.slow
def test_a_client_that_does_not_read_its_answer_is_closed():
    def answer(body, context):
        context.respond(200, [], bytes(2**24))

    with Http1Server(answer, write_time=SECOND // 4) as server, Http1Peer(server.http_address, receives=4096) as peer:
        peer.send(request())
        until(lambda: server.held > 0)
        server.wait_idle()


def test_an_answer_may_take_longer_to_be_read_than_a_connection_may_be_idle():
    size = 100_000

    def answer(body, context):
        context.respond(200, [], bytes(size))

    with Http1Server(answer, keepalive=MOMENT, sends=4096) as server:
        with Http1Peer(server.http_address, receives=4096) as peer:
            peer.send(request())
            time.sleep(6 * MOMENT / SECOND)
            assert len(peer.response().body) == size
            assert peer.ended()  # as it is idle from now on
        server.wait_idle()


@pytest.mark.slow
def test_a_client_that_does_not_read_is_closed_though_many_streams_wait_to_be_used_again():
    go = threading.Event()

    def answer(body, context):
        if line_of(context)[":target"] == "/v2/large":
            context.respond(200, [], bytes(2**24))
        else:
            go.wait(60)
            echo_request(body, context)

    with Http1Server(answer, write_time=SECOND, queue=1000) as server, ExitStack() as peers:
        slow = peers.enter_context(Http1Peer(server.http_address, receives=4096))
        slow.send(request("/v2/large"))
        others = [peers.enter_context(Http1Peer(server.http_address)) for _ in range(270)]
        for peer in others:
            peer.send(request())
        until(lambda: server.connections == 271)
        go.set()
        assert {peer.response().status for peer in others} == {200}
        until(lambda: server.connections == 270)
        assert server.held == 0


def test_many_connections_are_as_many_as_may_be_and_the_idle_ones_make_room():
    most = 1000
    with Http1Server(max_message=2**20) as server:
        peers = []
        try:
            for _ in range(most + 30):
                peers.append(Http1Peer(server.http_address))
            assert peers[-1].ask(request()).status == 200
            until(lambda: server.connections <= most)
            assert peers[0].ended()
        finally:
            for peer in peers:
                peer.socket.close()
        server.wait_idle()


@pytest.mark.parametrize("half", [b"GET /v2 HTTP/1.1\r\nHo", request(method="POST", Content_Length="1000") + b"x"])
def test_half_requests_make_room_for_whole_ones(half):
    with Http1Server() as server, ExitStack() as stack:
        for _ in range(1000):
            stack.enter_context(Http1Peer(server.http_address)).send(half)
        for _ in range(5):
            with Http1Peer(server.http_address) as peer:
                assert peer.ask(request()).status == 200
        assert server.connections <= 1000


def test_what_is_under_way_is_answered_when_the_server_stops_and_the_rest_is_closed():
    started, go = threading.Event(), threading.Event()

    def answer(body, context):
        if line_of(context)[":target"] == "/v2/slow":
            started.set()
            go.wait(60)
        echo_request(body, context)

    with Http1Server(answer) as server:
        with Http1Peer(server.http_address) as idle, Http1Peer(server.http_address) as busy:
            assert idle.ask(request()).status == 200
            busy.send(request("/v2/slow"))
            assert started.wait(60)
            server.library.drain(server.server, SECOND)
            late = idle.ask(request())
            assert late.status == 200 and late.headers["connection"] == "close"
            stopping = threading.Thread(target=server.library.hang_up, args=(server.server, 10 * SECOND))
            stopping.start()
            go.set()
            answered = busy.response()
            assert answered.status in (200, 503) and answered.headers["connection"] == "close"
            assert busy.ended() and idle.ended()
        stopping.join()


def test_a_stopped_server_frees_what_is_under_way():
    with Http1Server() as server, Http1Peer(server.http_address) as peer:
        peer.send(request(method="POST", Content_Length="100000") + bytes(50_000))
        until(lambda: server.held >= 50_000)


@pytest.fixture
def tls(tmp_path):
    with Http1Server(tls=(*CA.pair("localhost").write(tmp_path, "server"), None), greeting_time=10 * SECOND) as server:
        yield server


def client(*alpn: str) -> ssl.SSLContext:
    made = ssl.create_default_context(cadata=CA.certificate.decode())
    if alpn:
        made.set_alpn_protocols(list(alpn))
    return made


@pytest.mark.parametrize("alpn", [(), ("http/1.1",), ("h2", "http/1.1")])
def test_one_port_takes_tls_and_none(tls, alpn):
    with Http1Peer(tls.http_address, tls=client(*alpn)) as peer:
        assert isinstance(peer.socket, ssl.SSLSocket)
        assert peer.socket.selected_alpn_protocol() == ("http/1.1" if alpn else None)
        for size in (0, 10, 300_000):
            answer = peer.ask(request(method="POST", body=b"x" * size))
            assert answer.json["line"][":secure"] == "1" and len(answer.json["body"]) == size
        peer.send(request("/v2/a") + request("/v2/b"))
        assert [peer.response().json["line"][":target"] for _ in range(2)] == ["/v2/a", "/v2/b"]
    with Http1Peer(tls.http_address) as peer:
        assert peer.ask(request()).json["line"][":secure"] == "0"
    tls.wait_idle()


def test_a_client_that_speaks_only_http_2_is_refused(tls):
    with pytest.raises(ssl.SSLError):
        Http1Peer(tls.http_address, tls=client("h2"))
    tls.wait_idle()


def test_a_byte_at_a_time_is_plain_or_tls_by_the_first(tls):
    with Http1Peer(tls.http_address) as peer:
        for byte in request():
            peer.send(bytes([byte]))
        assert peer.response().status == 200
    with Http1Peer(tls.http_address) as peer:
        peer.send(b"\x16")
        peer.send(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises((ConnectionError, UnicodeDecodeError, ValueError, IndexError)):
            peer.response()
    tls.wait_idle()


def test_a_connection_that_sends_nothing_to_a_port_with_tls_is_closed(tmp_path):
    files = CA.pair("localhost").write(tmp_path, "server")
    with Http1Server(tls=(*files, None), greeting_time=MOMENT) as server:
        for first in (b"", b"\x16", b"\x16\x03\x01"):
            with socket.create_connection(("127.0.0.1", int(server.http_address.rpartition(":")[2]))) as silent:
                silent.sendall(first)
                silent.settimeout(60)
                while silent.recv(100):
                    pass
        server.wait_idle()
