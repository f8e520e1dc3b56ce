"""The HTTP port: what it answers, what it refuses, and what it bears."""

import http.client
import json
import os
import re
import socket
import threading
import time
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from kanserve import repository
from kanserve.errors import ConflictError, InputError
from kanserve.serve.models import loader
from kanserve.serve.observability.metrics import Metrics
from kanserve.serve.rest import http_server as port
from kanserve.serve.rest.api import RestApi
from kanserve.serve.settings import Settings
from kanserve.serve.state import Call
from tests.support.servers import serving


class Counting:
    """The control of a server of one process."""

    def __init__(self, meters: Metrics) -> None:
        self.meters = meters
        self.broken = False
        self.asked = 0

    def snapshot(self) -> Any:
        self.asked += 1
        if self.broken:
            raise RuntimeError("the secret of the house")
        return self.meters.snapshot()


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    repository.publish(root, "mixed", serving.artifact("mixed"))
    return loader.load(root)


def listening(
    catalog: Any,
    settings: Settings | None = None,
    control: Any = None,
    ready: Any = lambda: True,
    reuse_port: bool = False,
) -> port.Http:
    """A port of a server that has no calls."""
    settings = settings or Settings(http_port=0)
    state: Any = SimpleNamespace(catalog=catalog, control=control, settings=settings)
    handlers: Any = None
    return port.serve(settings, RestApi(state, handlers, ready), print, reuse_port=reuse_port)


@contextmanager
def served(catalog: Any, ready: Any = lambda: True):
    """A port, and the control that it asks."""
    meters = Metrics()
    meters.changed(catalog)
    control = Counting(meters)
    running = listening(catalog, control=control, ready=ready)
    try:
        yield running, control
    finally:
        running.close()


@pytest.fixture
def running(catalog):
    with served(catalog) as (one, _):
        yield one


def get(running: port.Http, path: str, method: str = "GET", **headers: str) -> tuple[int, Any, bytes]:
    with closing(http.client.HTTPConnection("127.0.0.1", running.port, timeout=60)) as connection:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, response.headers, response.read()


def sent(running: port.Http, data: bytes, seconds: float = 10) -> bytes:
    """What comes back for bytes, until the server closes."""
    with socket.create_connection(("127.0.0.1", running.port), timeout=seconds) as connection:
        connection.sendall(data)
        answer = b""
        while more := connection.recv(65536):
            answer += more
        return answer


def test_live_and_ready_are_told_apart(catalog):
    ready = threading.Event()
    with served(catalog, ready.is_set) as (running, _):
        assert get(running, "/v2/health/live")[::2] == (200, b'{"live": true}')
        assert get(running, "/v2/health/ready")[::2] == (503, b'{"ready": false}')
        assert get(running, "/v2/models/mixed/ready")[0] == 503
        ready.set()
        assert get(running, "/v2/health/ready")[::2] == (200, b'{"ready": true}')


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v2/models/mixed/ready", 200),
        ("/v2/models/mixed/versions/1/ready", 200),
        ("/v2/models/mixed/versions/2/ready", 404),
        ("/v2/models/mixed/versions/x/ready", 404),
        ("/v2/models/fox/ready", 404),
        ("/v2/models/%2e%2e%2fetc/ready", 404),
        ("/v2/models/mixed/ready?verbose", 200),
        ("/", 404),
        ("/metrics/../etc/passwd", 404),
    ],
)
def test_a_path_has_one_status(running, path, status):
    code, headers, body = get(running, path)
    assert code == status and json.loads(body)
    assert headers["Content-Type"] == "application/json" and headers["Server"].strip() == "kanserve"


def test_metrics_are_what_the_meters_have(catalog):
    with served(catalog) as (running, control):
        call = Call("inference.GRPCInferenceService", "ModelInfer", 0)
        call.model, call.version, call.rows, call.ended = "mixed", 1, 7, 1000
        control.meters.ended(call)
        status, headers, body = get(running, "/metrics")
        assert status == 200 and headers["Content-Type"].startswith("text/plain; version=0.0.4")
        families = {family.name: family for family in text_string_to_metric_families(body.decode())}
        assert families["kanserve_rows"].samples[0].value == 7
        kind = get(running, "/metrics", Accept="application/openmetrics-text;version=1.0.0,*/*;q=0.1")[1]
        assert kind["Content-Type"].startswith("application/openmetrics-text")


def test_a_page_that_cannot_be_written_is_logged_and_not_told(catalog, caplog):
    with served(catalog) as (running, control):
        control.broken = True
        status, _, body = get(running, "/metrics")
        assert status == 500 and json.loads(body) == {"error": "internal error"}
        assert "the secret of the house" in caplog.text
        control.broken = False
        assert get(running, "/metrics")[0] == 200


def test_head_is_get_without_the_body(running):
    for path in ("/metrics", "/v2/health/live"):
        status, headers, body = get(running, path, method="HEAD")
        assert status == 200 and body == b"" and int(headers["Content-Length"]) > 0


def test_requests_share_a_connection(running):
    with closing(http.client.HTTPConnection("127.0.0.1", running.port, timeout=60)) as connection:
        for path in ("/v2/health/live", "/metrics", "/v2/health/ready", "/metrics"):
            connection.request("GET", path)
            response = connection.getresponse()
            assert response.status == 200 and response.read()


def test_requests_that_come_together_are_answered_in_order(running):
    asked = b"".join(b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n" % path for path in (b"v2/health/live", b"metrics", b"none"))
    many = (
        asked
        + b"GET /v2/health/ready HTTP/1.1\r\nHost: x\r\n\r\n" * 200
        + b"GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    codes = re.findall(rb"HTTP/1.1 (\d{3}) ", sent(running, many))
    assert codes == [b"200", b"200", b"404", *[b"200"] * 200, b"404"]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 405),
        (b"DELETE /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 405),
        (b"DELETE / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
        (b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello", 400),
        (b"GET /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET /metrics HTTP/9.9.9\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: 1\r\n" % i for i in range(150)) + b"\r\n", 431),
        (b"GET /" + b"a" * 17000 + b" HTTP/1.1\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 17000, 431),
    ],
)
def test_what_is_no_request_is_refused_and_the_connection_ended(running, request_, status):
    answer = sent(running, request_)
    assert b" %d " % status in answer.partition(b"\r\n")[0], answer
    assert get(running, "/v2/health/live")[0] == 200


def test_nonsense_leaves_the_port_as_it_was(running):
    for data in (b"", b"\r\n\r\n", b"\0" * 100, b"GET", b"GET / HTTP/1.1\r\n", b"\r\n" * 5000, os.urandom(4096)):
        with socket.create_connection(("127.0.0.1", running.port), timeout=60) as connection:
            connection.sendall(data)
    assert get(running, "/v2/health/live")[0] == 200


def test_two_hundred_slow_connections_take_neither_threads_nor_descriptors_nor_the_port(running, monkeypatch):
    monkeypatch.setattr(port, "MOST", 64)
    monkeypatch.setattr(port, "READ_SECONDS", 1000.0)  # whoever waits for one of them gets no answer in this test
    threads, before = threading.active_count(), descriptors()
    slow = [socket.create_connection(("127.0.0.1", running.port), timeout=60) for _ in range(200)]
    for connection in slow:
        connection.send(b"GET /metrics HT")
    try:
        assert get(running, "/v2/health/ready")[0] == 200 and get(running, "/metrics")[0] == 200
        held = descriptors() - before - len(slow)
        # Threads of tests before this one may end meanwhile.
        assert held <= port.MOST + 2 and threading.active_count() <= threads, (held, threading.enumerate())
    finally:
        for connection in slow:
            connection.close()


def test_connections_that_have_asked_and_do_not_read_make_room_too(catalog):
    with served(catalog) as (running, control):
        held = threading.Event()
        original = control.meters.snapshot

        def slowly() -> Any:
            held.wait(60)
            return original()

        control.meters.snapshot = slowly
        asking = [socket.create_connection(("127.0.0.1", running.port), timeout=60) for _ in range(port.MOST)]
        for connection in asking:
            connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        for _ in range(10):
            assert get(running, "/v2/health/live")[0] == 200
        held.set()
        assert asking[-1].recv(12) == b"HTTP/1.1 200"
        for connection in asking:
            connection.close()


@pytest.mark.slow
@pytest.mark.extended
def test_a_client_that_is_silent_or_does_not_read_is_left(catalog, monkeypatch):
    monkeypatch.setattr(port, "READ_SECONDS", 0.2)
    monkeypatch.setattr(port, "WRITE_SECONDS", 0.3)
    with served(catalog) as (running, control):
        for i in range(200):
            call = Call("inference.GRPCInferenceService", "ModelInfer", 0)
            call.model, call.version, call.ended = f"m{i}", 1, 1000
            control.meters.ended(call)
        with socket.create_connection(("127.0.0.1", running.port), timeout=60) as silent:
            assert silent.recv(1) == b""
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect(("127.0.0.1", running.port))
            deaf.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
            assert get(running, "/v2/health/live")[0] == 200
            until = time.monotonic() + 60
            with pytest.raises(OSError):  # what is sent to who has left
                while time.monotonic() < until:
                    time.sleep(0.02)
                    deaf.send(b" ")


def test_scrapes_that_wait_together_are_one_snapshot(catalog):
    with served(catalog) as (running, control):
        held, entered = threading.Event(), threading.Event()
        original = control.meters.snapshot

        def slowly() -> Any:
            entered.set()
            held.wait(60)
            return original()

        control.meters.snapshot = slowly
        clients = [socket.create_connection(("127.0.0.1", running.port), timeout=60) for _ in range(20)]
        clients[0].sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        assert entered.wait(60)
        for client in clients[1:]:
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        # Health is answered while the page waits.
        assert get(running, "/v2/health/live")[0] == 200
        held.set()
        for client in clients:
            assert client.recv(12) == b"HTTP/1.1 200"
            client.close()
        assert control.asked <= 3


def test_it_answers_while_threads_compute(running):
    stop = threading.Event()

    def compute() -> None:
        while not stop.is_set():
            sum(range(1000))

    threads = [threading.Thread(target=compute) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        assert get(running, "/v2/health/live")[0] == 200  # in time, though they go on until it has answered
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_a_port_in_use_and_a_host_that_is_none_are_said(catalog, running):
    with pytest.raises(ConflictError, match=f"Port {running.port} of 127.0.0.1 is in use"):
        listening(catalog, Settings(http_port=running.port))
    for host in ("no such host", "192.0.2.1"):
        with pytest.raises(InputError):
            listening(catalog, Settings(host=host, http_port=0))


def test_two_processes_can_share_a_port(catalog):
    one = listening(catalog, reuse_port=True)
    other = listening(catalog, Settings(http_port=one.port), reuse_port=True)
    assert one.port == other.port
    one.close()
    assert get(other, "/v2/health/live")[0] == 200
    other.close()


def test_closing_leaves_nothing_behind(catalog):
    threads, before = threading.active_count(), descriptors()
    for _ in range(5):
        with served(catalog) as (running, _):
            hanging = socket.create_connection(("127.0.0.1", running.port), timeout=60)
            assert get(running, "/metrics")[0] == 200
        assert hanging.recv(1) == b""
        hanging.close()
        running.close()
    assert (threading.active_count(), descriptors()) == (threads, before)
    with pytest.raises(OSError):
        get(running, "/v2/health/live")


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
