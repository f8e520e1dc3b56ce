"""Rules of gRPC and HTTP/2 that the native transport keeps, by raw frames; those that grpcio keeps too are in
test_grpc_rules.py."""

import struct

import pytest

from kanserve.serve.settings import Settings
from tests.support.peers.http2_peer import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    RST_STREAM,
    Peer,
    frame,
    request_headers,
)
from tests.support.servers.loop_server import LoopServer, needs_native
from tests.support.servers.protocol_calls import (
    DEADLINE_EXCEEDED,
    INFER,
    INTERNAL,
    LIVE,
    OK,
    READY,
    UNIMPLEMENTED,
    http_status,
    is_answered,
    row,
)

STREAM_CLOSED = 5


@pytest.fixture(scope="module")
def settings(repository) -> Settings:
    needs_native()
    return Settings(str(repository), port=0, transport="native", max_message_bytes=2**20)


@pytest.fixture
def peer(server):
    with Peer(server.address) as connected:
        connected.round_trip()
        yield connected


def test_only_post_is_a_call(peer):
    assert http_status(peer, peer.call(LIVE, end=True, method="GET")) == "405"
    assert is_answered(peer)


@pytest.mark.parametrize("kind", ["text/html", "application/json", "application/grpcx", None])
def test_other_content_types_are_refused(peer, kind):
    assert http_status(peer, peer.call(LIVE, end=True, content_type=kind)) == "415"
    assert is_answered(peer)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_is_no_call_is_answered_in_words_once_it_has_come_as_a_whole(peer, method):
    stream = peer.call("/", method=method, content_type="text/html")
    peer.frame(DATA, 0, stream, b"a body")
    assert is_answered(peer) and stream not in peer.answers
    peer.frame(DATA, END_STREAM, stream)
    assert http_status(peer, stream) == {"GET": "405", "POST": "415"}[method]
    assert is_answered(peer)
    assert b"gRPC" in peer.answers[stream].data


ENDS = {"its end": frame(DATA, END_STREAM, 1, struct.pack(">BI", 0, 0)), "a reset": frame(RST_STREAM, 0, 1, bytes(4))}
GOES_ON = {
    "data": frame(DATA, END_STREAM, 1, b"test"),
    "headers": frame(HEADERS, END_HEADERS | END_STREAM, 1, request_headers(LIVE, {})),
}


@pytest.mark.parametrize("pieces", [False, True])
@pytest.mark.parametrize("later", GOES_ON)
@pytest.mark.parametrize("end", ENDS)
def test_a_peer_that_goes_on_with_a_stream_that_it_has_ended_loses_its_connection(server, end, later, pieces):
    with Peer(server.address) as peer:
        peer.round_trip()
        begun = frame(HEADERS, END_HEADERS, 1, request_headers(LIVE, {})) + ENDS[end]
        if pieces:
            for byte in begun:
                peer.send(bytes([byte]))
            peer.round_trip()
            peer.send(GOES_ON[later])
        else:
            peer.send(begun + GOES_ON[later])
        assert STREAM_CLOSED in peer.end()


def test_what_was_on_its_way_when_the_server_ended_a_stream_is_no_error(peer):
    stream = peer.call("/no/method")
    assert peer.answer(stream, reset=True).status == UNIMPLEMENTED
    for _ in range(3):
        peer.message(stream, bytes(1000), end=False)
    peer.message(stream, bytes(1000))
    assert is_answered(peer)


def test_a_call_with_two_messages_is_refused(peer):
    stream = peer.call(LIVE)
    peer.frame(DATA, END_STREAM, stream, struct.pack(">BI", 0, 0) * 2)
    assert peer.answer(stream).status == UNIMPLEMENTED


def test_an_invalid_flag_is_an_error(peer):
    stream = peer.call(LIVE)
    peer.message(stream, b"", flag=2)
    assert peer.answer(stream).status == INTERNAL


def test_an_unknown_encoding_is_answered_with_the_known_ones(peer):
    stream = peer.call(INFER, grpc_encoding="br")
    peer.message(stream, b"whatever", flag=1)
    answer = peer.answer(stream)
    assert answer.status == UNIMPLEMENTED
    accepted = answer.headers["grpc-accept-encoding"].replace(" ", "").split(",")
    assert {"gzip", "deflate", "identity"} <= set(accepted)


def test_an_unknown_encoding_of_a_message_that_is_not_compressed_does_not_matter(peer):
    assert peer.ask(INFER, row(), grpc_encoding="br").status == OK


@pytest.mark.parametrize("timeout", ["", "S", "1", "1x", "-1S", "123456789S", "1.5S", "1 S", "0x1S"])
def test_an_invalid_timeout_is_an_error(peer, timeout):
    assert peer.ask(LIVE, grpc_timeout=timeout).status == INTERNAL


@pytest.mark.parametrize("path", [INFER, READY])
def test_a_passed_deadline_is_seen_before_anything_is_computed(peer, path):
    assert peer.ask(path, row(), grpc_timeout="1n").status == DEADLINE_EXCEEDED


def test_a_message_may_come_in_any_pieces_and_with_padding(peer):
    data = row("iris")
    whole = struct.pack(">BI", 0, len(data)) + data
    expected = peer.ask(INFER, data).messages
    for size in (1, 4, 5, 6, len(whole) - 1, len(whole)):
        stream = peer.call(INFER)
        for at in range(0, len(whole), size):
            padded = b"\x07" + whole[at : at + size] + bytes(7)
            peer.frame(DATA, 8 | (END_STREAM if at + size >= len(whole) else 0), stream, padded)
        assert peer.answer(stream).messages == expected
    stream = peer.call(INFER)
    peer.frame(DATA, 0, stream, whole)
    peer.frame(DATA, END_STREAM, stream)
    assert peer.answer(stream).messages == expected


@pytest.mark.parametrize("line", [b"GET / HTTP/1.1", b"POST /v2/models/m/infer HTTP/1.1", b"HEAD / HTTP/1.0"])
def test_a_client_of_http1_is_told_what_the_port_speaks(line):
    with LoopServer() as server, Peer(server.address, greet=False) as peer:
        connection = peer.socket
        connection.sendall(line + b"\r\nHost: x\r\n\r\n")
        with connection.makefile("rb") as answer:
            text = answer.read()  # to its end: the server ends the connection
    assert text.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert (
        text.partition(b"\r\n\r\n")[2]
        == b"This port speaks gRPC, over HTTP/2. REST has another port: see --http-port.\n"
    )
