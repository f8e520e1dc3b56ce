"""HTTP/1.1 of the native transport, by raw bytes: what is a request, what is refused, and the order of answers."""

import gzip
import threading
import zlib

import pytest

from kanserve.serve.status import Code
from tests.support.peers.http1_peer import Http1Peer, Http1Server, echo_request, line_of, request

LIMIT = 2**20  # bytes of a message
HOST = b"Host: x\r\n"


@pytest.fixture(scope="module")
def loop():
    with Http1Server(max_message=LIMIT) as running:
        yield running


@pytest.fixture
def peer(loop):
    with Http1Peer(loop.http_address) as connected:
        yield connected


def test_a_request_reaches_its_handler_as_it_was_sent(peer):
    answer = peer.ask(request("/v2/models/a%20b/infer?x=1", "POST", b"some bytes", X_Request_ID="7 of 9"))
    assert answer.status == 200 and answer.headers["content-type"] == "application/json"
    line = answer.json["line"]
    assert answer.json["body"] == "some bytes"
    assert (line[":method"], line[":target"], line[":secure"]) == ("POST", "/v2/models/a%20b/infer?x=1", "0")
    assert (line["x-request-id"], line["host"], line["content-length"]) == ("7 of 9", "x", "10")


def test_the_same_connection_takes_one_request_after_another(peer):
    for number in range(20):
        assert peer.ask(request(f"/v2/{number}")).json["line"][":target"] == f"/v2/{number}"


def test_pipelined_requests_are_answered_in_their_order():
    started, go = threading.Event(), threading.Event()

    def answer(body, context):
        if line_of(context)[":target"] == "/v2/0":
            started.set()
            go.wait(60)
        echo_request(body, context)

    with Http1Server(answer) as server, Http1Peer(server.http_address) as peer:
        peer.send(b"".join(request(f"/v2/{number}", "POST", bytes([65 + number])) for number in range(5)))
        assert started.wait(60)
        go.set()
        for number in range(5):
            answered = peer.response().json
            assert (answered["line"][":target"], answered["body"]) == (f"/v2/{number}", chr(65 + number))


def test_a_client_that_sends_ahead_is_not_read_until_it_has_its_answer():
    go = threading.Event()

    def answer(body, context):
        go.wait(60)
        echo_request(body, context)

    with Http1Server(answer) as server, Http1Peer(server.http_address) as peer:
        many = request("/v2/a", "POST", b"x" * 100_000) * 200
        sender = threading.Thread(target=peer.send, args=(many,))
        sender.start()
        sender.join(1)
        assert sender.is_alive() and server.held < 1_000_000  # of 20 MB: the rest waits with the client
        go.set()
        for _ in range(200):
            assert len(peer.response().json["body"]) == 100_000
        sender.join()


def test_a_body_may_come_in_chunks_of_any_size_and_in_any_pieces(peer):
    body = b"4\r\nWiki\r\n6;name=value\r\npedia \r\nE\r\nin \r\n\r\nchunks.\r\n0\r\nX-Trailer: y\r\n\r\n"
    whole = request(method="POST", Transfer_Encoding="chunked") + body
    assert peer.ask(whole).json["body"] == "Wikipedia in \r\n\r\nchunks."
    for number in range(len(whole)):
        peer.send(whole[number : number + 1])
    assert peer.response().json["body"] == "Wikipedia in \r\n\r\nchunks."


def test_the_answer_to_head_is_its_head_alone(peer):
    peer.send(request(method="HEAD") + request())
    first, second = peer.response(head=True), peer.response()
    assert int(first.headers["content-length"]) > 0 and second.json["line"][":method"] == "GET"


def test_a_client_that_asks_whether_to_go_on_is_told(peer):
    peer.send(request(method="POST", body=b"xyz", Expect="100-continue")[:-3])
    assert peer.response().status == 100
    assert peer.ask(b"xyz").json["body"] == "xyz"


def test_a_client_that_asks_whether_to_send_too_much_is_told_so(peer):
    head = request(method="POST", Expect="100-continue", Content_Length=str(LIMIT + 1))
    answer = peer.ask(head)
    assert answer.status == 413 and answer.headers["connection"] == "close"
    assert peer.ended()


@pytest.mark.parametrize("chunked", [False, True])
def test_too_large_a_body_is_413(peer, chunked):
    if chunked:
        peer.send(request(method="POST", Transfer_Encoding="chunked") + b"%x\r\n" % (LIMIT + 1))
        peer.send(bytes(LIMIT + 1))
    else:
        peer.send(request(method="POST", Content_Length=str(LIMIT + 1)))
    assert peer.response().status == 413
    assert peer.ended()


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 300_000, LIMIT])
def test_bodies_up_to_the_limit_arrive(peer, size):
    body = (bytes(range(256)) + b"x" * 767) * (size // 1023) + b"y" * (size % 1023)
    assert peer.ask(request(method="POST", body=body)).json["body"].encode("latin-1") == body


@pytest.mark.parametrize(("coding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_a_compressed_body_arrives_as_it_was_before(peer, coding, pack):
    body = b"abc" * 100_000
    answer = peer.ask(request(method="POST", body=pack(body), Content_Encoding=coding))
    assert answer.json["body"].encode() == body and "content-encoding" not in answer.json["line"]
    assert peer.ask(request(method="POST", body=pack(bytes(LIMIT + 1)), Content_Encoding=coding)).status == 413
    assert peer.ask(request(method="POST", body=b"not packed", Content_Encoding=coding)).status == 400
    assert peer.ask(request()).status == 200  # the connection goes on


def test_an_offer_to_speak_something_else_is_ignored(peer):
    for protocol in ("h2c", "websocket"):
        offered = request(method="POST", body=b"x", Connection="Upgrade, HTTP2-Settings", Upgrade=protocol)
        assert peer.ask(offered).json["body"] == "x"
    assert peer.ask(request()).status == 200


def test_connections_end_when_a_client_wants_it(loop):
    for sent in (request(Connection="close"), request(version="1.0"), request(host="", version="1.0")):
        with Http1Peer(loop.http_address) as peer:
            answer = peer.ask(sent)
            assert answer.status == 200 and answer.headers["connection"] == "close"
            assert peer.ended()
    with Http1Peer(loop.http_address) as peer:
        kept = request(version="1.0", Connection="keep-alive")
        assert peer.ask(kept).headers["connection"] == "keep-alive"
        assert peer.ask(kept).status == 200


def test_a_target_with_a_host_means_its_path(peer):
    assert peer.ask(request("http://other:80/v2/path?q")).json["line"][":target"] == "/v2/path?q"


REFUSED = {
    "both lengths": (
        400,
        b"POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    "both lengths, the other way": (
        400,
        b"POST /v2 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    ),
    "a host with a path": (400, b"GET /v2 HTTP/1.1\r\nHost: a/b@c\r\n\r\n"),
    "a chunk of half of all numbers": (
        413,
        b"POST /v2 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n7fffffffffffffff\r\nx",
    ),
    "two lengths": (400, b"POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc"),
    "a list of lengths": (400, b"POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: 3, 3\r\n\r\nabc"),
    "a length with a sign": (400, b"POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: +3\r\n\r\nabc"),
    "a negative length": (400, b"POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: -3\r\n\r\nabc"),
    "a length with zeros": (400, b"POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: 003\r\n\r\nabc"),
    "a hexadecimal length": (400, b"POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: 0x3\r\n\r\nabc"),
    "a huge length": (400, b"POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\nabc"),
    "an empty length": (400, b"POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: \r\n\r\nabc"),
    "another coding": (501, b"POST /v2 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    "a coding twice": (
        400,
        b"POST /v2 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    "a misspelt coding": (501, b"POST /v2 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    "chunks in 1.0": (400, b"POST /v2 HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "a space before the colon": (400, b"POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Length : 3\r\n\r\nabc"),
    "a folded header": (400, b"GET /v2 HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n"),
    "a first header that is folded": (400, b"GET /v2 HTTP/1.1\r\n Host: x\r\n\r\n"),
    "line feeds alone": (400, b"GET /v2 HTTP/1.1\nHost: x\n\n"),
    "a line feed alone in the headers": (400, b"GET /v2 HTTP/1.1\r\nHost: x\nX: y\r\n\r\n"),
    "a carriage return alone": (400, b"GET /v2 HTTP/1.1\r\nHost: x\r\nX: a\rb\r\n\r\n"),
    "a NUL": (400, b"GET /v2 HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n"),
    "a NUL in the name": (400, b"GET /v2 HTTP/1.1\r\nHost: x\r\nX\0: ab\r\n\r\n"),
    "a control character": (400, b"GET /v2 HTTP/1.1\r\nHost: x\r\nX: a\x01b\r\n\r\n"),
    "a NUL in the path": (400, b"GET /v2\0 HTTP/1.1\r\nHost: x\r\n\r\n"),
    "no host": (400, b"GET /v2 HTTP/1.1\r\n\r\n"),
    "two hosts": (400, b"GET /v2 HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n"),
    "no name": (400, b"GET /v2 HTTP/1.1\r\nHost: x\r\n: y\r\n\r\n"),
    "no path": (400, b"GET * HTTP/1.1\r\nHost: x\r\n\r\n"),
    "a relative path": (400, b"GET v2 HTTP/1.1\r\nHost: x\r\n\r\n"),
    "a proxy's method": (405, b"CONNECT /v2 HTTP/1.1\r\nHost: x\r\n\r\n"),
    "a proxy's call": (405, b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n"),
    "an unknown method": (400, b"FETCH /v2 HTTP/1.1\r\nHost: x\r\n\r\n"),
    "HTTP/2": (400, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "an unknown version": (505, b"GET /v2 HTTP/3.7\r\nHost: x\r\n\r\n"),
    "HTTP/0.9": (505, b"GET /v2\r\n\r\n"),
    "TLS": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100)),
    "another expectation": (417, b"POST /v2 HTTP/1.1\r\nHost: x\r\nExpect: more\r\nContent-Length: 1\r\n\r\n"),
    "an unknown compression": (
        415,
        b"POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Encoding: br\r\nContent-Length: 1\r\n\r\nx",
    ),
    "two compressions": (
        415,
        b"POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip, gzip\r\nContent-Length: 1\r\n\r\nx",
    ),
    "no size of a chunk": (
        400,
        b"POST /v2 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\r\nabc\r\n0\r\n\r\n",
    ),
    "a size with a sign": (
        400,
        b"POST /v2 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n",
    ),
    "a size with 0x": (
        400,
        b"POST /v2 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n",
    ),
    "a negative size": (
        400,
        b"POST /v2 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n0\r\n\r\n",
    ),
    "a huge size": (
        400,
        b"POST /v2 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nabc\r\n0\r\n\r\n",
    ),
    "a size and a line feed alone": (
        400,
        b"POST /v2 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n",
    ),
    "a chunk that is longer": (
        400,
        b"POST /v2 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
    ),
    "a large head": (431, b"GET /v2 HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 20_000 + b"\r\n\r\n"),
    "a long path": (431, b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"),
    "many headers": (431, b"GET /v2 HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 6000 + b"\r\n"),
}


@pytest.mark.parametrize("line", [b"GET  /v2 HTTP/1.1\r\n", b"GET /v2  HTTP/1.1\r\n"])
def test_a_second_space_in_the_line_is_refused_wherever_a_read_ends(loop, line):
    for size in range(1, len(line)):
        with Http1Peer(loop.http_address) as peer:
            peer.ask(request())
            peer.send(line[:size])
            peer.send(line[size:] + HOST + b"\r\n")
            assert peer.response().status == 400


@pytest.mark.parametrize("name", REFUSED)
def test_what_two_servers_could_read_differently_is_refused_and_ends_the_connection(loop, peer, name):
    status, sent = REFUSED[name]
    peer.send(sent + request())
    answer = peer.response()
    assert answer.status == status and list(answer.json) == ["error"] and answer.headers["connection"] == "close"
    assert peer.ended()  # what came behind it is no request
    with Http1Peer(loop.http_address) as other:
        assert other.ask(request()).status == 200


def test_no_header_has_a_control_character_wherever_it_stands(loop):
    controls = [bytes([code]) for code in (*range(32), 127) if bytes([code]) != b"\t"]
    for value in (part for control in controls for part in (control + b"b", b"a" + control + b"b", b"ab" + control)):
        with Http1Peer(loop.http_address) as peer:
            peer.send(b"GET /v2 HTTP/1.1\r\nHost: x\r\nX: " + value + b"\r\n\r\n")
            assert peer.response().status == 400, value


def test_chunks_that_carry_next_to_nothing_end_the_connection(peer):
    peer.send(request(method="POST", Transfer_Encoding="chunked"))
    with pytest.raises(ConnectionError):
        for _ in range(100):
            peer.send(b"1;" + b"x" * 10_000 + b"\r\nx\r\n")
        while peer.response().status != 400:
            pass
        peer.response()


def test_the_headers_of_an_answer_cannot_be_split():
    def answer(body, context):
        context.respond(
            200, [("x-good", "yes"), ("x-bad", "a\r\nX-Evil: b"), ("x bad", "c"), ("content-length", "99")], b"{}"
        )

    with Http1Server(answer) as server, Http1Peer(server.http_address) as peer:
        answered = peer.ask(request())
        assert answered.body == b"{}" and answered.headers["x-good"] == "yes"
        assert not {"x-bad", "x-evil", "x bad"} & set(answered.headers)


def test_a_request_behind_an_answer_that_ends_the_connection_is_not_read():
    with Http1Server(queue=0) as server, Http1Peer(server.http_address) as peer:
        answer = peer.ask(request(method="POST", body=b"x") + request("/v2/second"))
        assert answer.status == 429 and answer.headers["connection"] == "close"
        assert peer.ended()


def test_the_status_of_a_refusal_is_its_own_whatever_was_refused_before():
    def answer(body, context):
        context.finish(Code.UNAVAILABLE, "not now")

    with Http1Server(answer, max_message=1000) as server, Http1Peer(server.http_address) as peer:
        for body, status in ((b"not packed", 400), (gzip.compress(bytes(1001)), 413)):
            assert peer.ask(request(method="POST", body=body, Content_Encoding="gzip")).status == status
            assert peer.ask(request()).status == 503


@pytest.mark.parametrize(
    ("target", "waits"),
    [
        ("/v2/models/a/infer", True),
        ("//v2/models/a/infer", True),
        ("///v2/models/a/infer", True),
        ("http://x//v2/models/a/infer", True),
        ("/v2/models/a/infer#/ready", True),
        ("/v2/models/a/infer?/ready", True),
        ("/v2/models/a/ready", False),
        ("/v2/health/live?x", False),
        ("//v2/health/live", False),
        ("/metrics", False),
    ],
)
def test_only_what_does_not_compute_passes_by_a_full_queue(target, waits):
    with Http1Server(queue=0) as server, Http1Peer(server.http_address) as peer:
        assert peer.ask(request(target)).status == (429 if waits else 200)
