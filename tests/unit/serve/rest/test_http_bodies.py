"""Bodies over HTTP/1.1 in Python: by length and in chunks, slowly, together, and wrongly."""

import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from kanserve.network.training_range import sample
from kanserve.serve.rest import http_server
from kanserve.serve.rest.http_head import Chunks
from kanserve.serve.rest.messages import HttpError, RestRequest
from kanserve.serve.settings import Settings
from tests.support.servers import server_process, serving
from tests.support.servers.rest_port import call, infer

PATH = "/v2/models/raw/infer"
MOST = 2**20


@pytest.fixture(scope="module")
def settings(repository):
    return Settings(str(repository), port=0, http_port=0, transport="grpcio", max_message_bytes=MOST)


@pytest.fixture(scope="module")
def body() -> bytes:
    return json.dumps(infer(sample(serving.kan("raw"), 3, seed=0))).encode()


@contextmanager
def connected(server: Any) -> Iterator[socket.socket]:
    host, _, port = server.http_address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        yield connection


def head(*lines: str, path: str = PATH) -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: a", "Content-Type: application/json", *lines, "", ""]).encode()


def chunked(data: bytes, size: int, extension: bytes = b"") -> bytes:
    parts = [data[start : start + size] for start in range(0, len(data), size)]
    return b"".join(b"%x%b\r\n%b\r\n" % (len(part), extension, part) for part in parts) + b"0\r\n\r\n"


def ended(connection: socket.socket) -> bytes:
    """What comes until the server closes."""
    answer = b""
    while more := connection.recv(65536):
        answer += more
    return answer


def statuses(answer: bytes) -> list[int]:
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]


@pytest.mark.parametrize("size", [1, 7, 100, 10**6])
def test_a_chunked_body_is_put_together(server, body, size):
    wanted = call(server.http_address, PATH, body).body
    with connected(server) as connection:
        asked = head("Transfer-Encoding: chunked", "Connection: close") + chunked(body, size, b";a=b")
        connection.sendall(asked)
        assert ended(connection).partition(b"\r\n\r\n")[2] == wanted


def test_a_body_may_come_a_byte_at_a_time(server, body):
    asked = head(f"Content-Length: {len(body)}", "Connection: close") + body
    with connected(server) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for position in range(len(asked)):
            connection.send(asked[position : position + 1])
        assert statuses(ended(connection)) == [200]


def test_requests_with_bodies_that_come_together_are_answered_in_order(server, body):
    one = head(f"Content-Length: {len(body)}") + body
    other = head("Transfer-Encoding: chunked") + chunked(body, 50)
    wrong = head("Content-Length: 1") + b"["
    last = b"GET /v2/nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with connected(server) as connection:
        connection.sendall((one + other + wrong) * 30 + last)
        assert statuses(ended(connection)) == [200, 200, 400] * 30 + [404]


def test_who_expects_100_is_told_to_go_on(server, body):
    with connected(server) as connection:
        connection.sendall(head(f"Content-Length: {len(body)}", "Expect: 100-continue", "Connection: close"))
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert statuses(ended(connection)) == [200]
    with connected(server) as connection:
        connection.sendall(head(f"Content-Length: {MOST + 1}", "Expect: 100-continue"))
        assert statuses(ended(connection)) == [413]


@pytest.mark.parametrize(
    ("lines", "data", "status"),
    [
        (["Content-Length: 2", "Transfer-Encoding: chunked"], b"2\r\n{}\r\n0\r\n\r\n", 400),
        (["Content-Length: 2", "Content-Length: 2"], b"{}", 400),
        (["Content-Length: 2", "Content-Length: 3"], b"{}", 400),
        (["Content-Length: 2, 2"], b"{}", 400),
        (["Content-Length: +2"], b"{}", 400),
        (["Content-Length: -2"], b"{}", 400),
        (["Content-Length: 0x2"], b"{}", 400),
        (["Content-Length: ٢"], b"{}", 400),
        (["Content-Length:"], b"", 400),
        (["Content-Length: 99999999999999999999"], b"{}", 400),
        (["Transfer-Encoding: gzip, chunked"], b"0\r\n\r\n", 400),
        (["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"], b"0\r\n\r\n", 400),
        (["Transfer-Encoding: identity"], b"{}", 400),
        (["Transfer-Encoding: xchunked"], b"0\r\n\r\n", 400),
        (["Content-Length : 2"], b"{}", 400),
        ([" Content-Length: 2"], b"{}", 400),
        (["X: 1", " folded"], b"", 400),
        (["X: a\0b"], b"", 400),
        (["X: a\nContent-Length: 2"], b"{}", 400),
        (["no colon"], b"", 400),
        (["Transfer-Encoding: chunked"], b"+2\r\n{}\r\n0\r\n\r\n", 400),
        (["Transfer-Encoding: chunked"], b"0x2\r\n{}\r\n0\r\n\r\n", 400),
        (["Transfer-Encoding: chunked"], b"\r\n{}\r\n0\r\n\r\n", 400),
        (["Transfer-Encoding: chunked"], b"2\r\n{}x\r\n0\r\n\r\n", 400),
        (["Transfer-Encoding: chunked"], b"2\n{}\n0\n\n" + b"\r\n", 400),
        (["Transfer-Encoding: chunked"], b"ffffffffffffffff\r\n", 400),
        (["Transfer-Encoding: chunked"], b"fffffffffff\r\n", 413),
        (["Transfer-Encoding: chunked"], b"2" * 2000, 400),
        (["Transfer-Encoding: chunked"], b"0\r\nno colon\r\n\r\n", 400),
    ],
)
def test_what_a_proxy_might_read_in_another_way_is_refused_and_the_connection_ended(server, lines, data, status):
    follows = b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\n\r\n"
    with connected(server) as connection:
        connection.sendall(head(*lines) + data + follows)
        assert statuses(ended(connection)) == [status]


def test_a_large_body_is_refused_before_it_comes(server):
    with connected(server) as connection:
        connection.sendall(head(f"Content-Length: {10 * MOST}") + b"x" * 1000)
        answer = ended(connection)
        assert statuses(answer) == [413] and b"Connection: close" in answer


def test_slow_bodies_are_left_and_hold_no_thread(server, body, monkeypatch):
    monkeypatch.setattr(http_server, "BODY_SECONDS", 0.3)
    threads = threading.active_count()
    with connected(server) as slow:
        slow.sendall(head(f"Content-Length: {len(body)}") + body[:-1])
        assert call(server.http_address, PATH, body).status == 200
        assert threading.active_count() <= threads + 1
        assert ended(slow) == b""


def test_bodies_that_wait_together_have_a_limit(server, body, monkeypatch):
    http = server._http
    monkeypatch.setattr(http, "_most_held", 300_000)
    half = head("Content-Length: 200000") + b" " * 140_000
    with connected(server) as one, connected(server) as other, connected(server) as third:
        for connection in (one, other):
            connection.sendall(half)
        server_process.until(lambda: sum(each.held for each in list(http._connections.values())) == 280_000)
        third.sendall(half)
        assert statuses(ended(third)) == [503]
        assert call(server.http_address, PATH, body).status == 200


def test_a_caller_who_has_left_is_not_computed_for(server, body):
    headers = [("content-type", "application/json")]
    request = RestRequest("POST", PATH, headers, body, alive=lambda: False)
    before = call(server.http_address, "/v2/models/raw/stats").json["model_stats"][0]["execution_count"]
    assert server._http._api.answer(request).status == 504
    assert call(server.http_address, "/v2/models/raw/stats").json["model_stats"][0]["execution_count"] == before


def test_chunks_are_the_same_however_they_arrive():
    data = chunked(b"hello, world" * 20, 9) + b"GET"
    for step in (1, 2, 3, 5, 64, len(data)):
        chunks, received, done = Chunks(1000), bytearray(), False
        for start in range(0, len(data), step):
            received += data[start : start + step]
            done = done or chunks.take(received)
        assert done and chunks.body == b"hello, world" * 20 and bytes(received) in (b"GET",)
    with pytest.raises(HttpError):
        Chunks(239).take(bytearray(data))
