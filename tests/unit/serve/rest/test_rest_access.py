"""Who may call what over REST: the rules are those of gRPC, and health and metrics are open."""

import hashlib
import json
import logging
import socket
import ssl
import urllib.request

import pytest

from kanserve.network.training_range import sample
from kanserve.serve.rest import http_server
from kanserve.serve.server import start
from kanserve.serve.settings import Grant, Settings
from tests.support import programs
from tests.support.servers import keys, serving
from tests.support.servers.rest_port import TRANSPORTS, call, infer

OPEN = ("/v2/health/live", "/v2/health/ready", "/v2/models/raw/ready", "/metrics", "/openapi.json")


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


GRANTS = (
    Grant(("predict",), "planner", token_sha256=digest("of the planner"), models=("raw",)),
    Grant(("read", "manage"), "publisher", token_sha256=digest("of the publisher")),
)


@pytest.fixture(scope="module", params=TRANSPORTS)
def settings(request, repository, tmp_path_factory):
    log = str(tmp_path_factory.mktemp("log") / "access")
    return Settings(
        str(repository), port=0, http_port=0, access=GRANTS, access_log=log, transport=request.param, streams=4
    )


@pytest.fixture(scope="module")
def at(server):
    return server.http_address


@pytest.fixture(scope="module")
def asked():
    return infer(sample(serving.kan("raw"), 1, seed=0))


def test_health_metrics_and_the_document_are_open(at):
    for path in OPEN:
        assert call(at, path).status == 200


@pytest.mark.parametrize(
    ("path", "body", "planner", "publisher"),
    [
        ("/v2", None, 200, 200),
        ("/v2/models/raw", None, 200, 200),
        ("/v2/models/iris", None, 403, 200),
        ("/v2/models/raw/infer", ..., 200, 403),
        ("/v2/models/iris/infer", ..., 403, 403),
        ("/v2/models/fox/infer", ..., 403, 403),
        ("/v2/models/raw/gradient", {"rows": [[300.0, 101000.0]]}, 200, 403),
        ("/v2/models/raw/formula", None, 403, 200),
        ("/v2/repository/models/mixed/unload", {}, 403, 200),
        ("/v2/repository/models/mixed/load", {}, 403, 200),
    ],
)
def test_a_call_needs_the_right_that_it_needs_over_grpc(at, asked, path, body, planner, publisher):
    body = asked if body is ... else body
    nobody = call(at, path, body)
    assert nobody.status == 401 and nobody.headers["WWW-Authenticate"] == "Bearer" and "token" in nobody.error
    assert call(at, path, body, **bearer("of nobody")).status == 401
    assert call(at, path, body, Authorization="Basic b2Y=").status == 401
    assert call(at, path, body, **bearer("of the planner")).status == planner
    assert call(at, path, body, **bearer("of the publisher")).status == publisher


def test_who_may_not_call_learns_nothing_of_the_body_or_the_model(at):
    for body in (b"[", b"{}", b""):
        assert call(at, "/v2/models/raw/infer", body).status == 401
        assert call(at, "/v2/models/fox/infer", body, **bearer("of the planner")).status in (400, 403)


def test_lists_have_only_the_models_of_the_caller(at):
    index = call(at, "/v2/repository/index", {}, **bearer("of the planner")).json
    assert {entry["name"] for entry in index} == {"raw"}
    found = call(at, "/v2/models/stats", **bearer("of the planner")).json
    assert {entry["name"] for entry in found["model_stats"]} == {"raw"}


def test_two_tokens_are_ambiguous(at):
    host, _, port = at.rpartition(":")
    lines = [f"authorization: Bearer {token}" for token in ("of the planner", "of the publisher")]
    head = "\r\n".join(["GET /v2 HTTP/1.1", "Host: a", "Connection: close", *lines])
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(f"{head}\r\n\r\n".encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 401 ")


def test_a_body_is_not_waited_for_from_whom_it_is_refused(at):
    host, _, port = at.rpartition(":")
    refused = [
        (b"POST /v2/models/raw/infer HTTP/1.1\r\n", b"401"),
        (b"POST /v2/models/raw/nothing HTTP/1.1\r\n", b"404"),
        (b"PUT /v2/models/raw/infer HTTP/1.1\r\n", b"405"),
    ]
    for line, status in refused:
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            connection.sendall(line + b"Host: a\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n{")
            assert connection.recv(65536)[9:12] == status


def test_calls_are_in_the_access_log_as_those_of_grpc(at, settings, asked):
    call(at, "/v2/models/raw/infer", asked, x_request_id="the-7th", **bearer("of the planner"))
    call(at, "/v2/models/raw/infer", b"[", x_request_id="the-8th", **bearer("of the planner"))
    with open(settings.access_log) as file:
        lines = {line.get("request_id"): line for line in map(json.loads, file)}
    one, other = lines["the-7th"], lines["the-8th"]
    assert (one["method"], one["model"], one["code"], one["identity"]) == ("ModelInfer", "raw", "OK", "planner")
    assert one["peer"].startswith("ipv4:127.0.0.1:") and one["rows"] == 1
    assert (other["method"], other["code"]) == ("ModelInfer", "INVALID_ARGUMENT")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_roles_of_anonymous_callers_hold(repository, asked, transport):
    with start(Settings(str(repository), port=0, http_port=0, anonymous=("read",), transport=transport)) as server:
        at = server.http_address
        refused = call(at, "/v2/models/raw/infer", asked)
        assert refused.status == 403 and "role predict" in refused.error
        assert call(at, "/v2/models/raw").status == 200 == call(at, "/v2/models/raw/formula").status
        assert call(at, "/v2/repository/models/raw/unload", {}).status == 403


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate of 127.0.0.1, and its key."""
    return keys.authority().pair("server").write(tmp_path_factory.mktemp("tls"), "server")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_with_tls_a_plain_connection_gets_health_and_metrics_only(repository, certificate, asked, transport):
    crt, key = certificate
    wanted = Settings(str(repository), port=0, http_port=0, tls_certificate=crt, tls_key=key, transport=transport)
    with start(wanted) as server:
        at = server.http_address
        for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/raw/ready", "/metrics"):
            assert call(at, path).status == 200
        for path, body in (("/v2", None), ("/v2/models/raw/infer", asked), ("/openapi.json", None)):
            refused = call(at, path, body)
            assert refused.status == 403 and "https" in refused.error
        urls = {"metrics": f"http://{at}/metrics"}
        if not isinstance(server._http, http_server.Http):
            urls = {"REST": f"https://{at}/v2"} | urls
        assert server.urls == urls


def test_calls_are_answered_over_tls_where_http_is_served_in_c(repository, certificate, asked, tmp_path):
    crt, key = certificate
    authority = tmp_path / "authority.pem"
    authority.write_bytes(keys.authority().certificate)
    with start(Settings(str(repository), port=0, http_port=0, tls_certificate=crt, tls_key=key)) as server:
        if isinstance(server._http, http_server.Http):
            programs.skip("llhttp")
        request = urllib.request.Request(
            f"https://{server.http_address}/v2/models/raw/infer",
            json.dumps(asked).encode(),
            {"Content-Type": "application/json"},
        )
        trusted = ssl.create_default_context(cafile=str(authority))
        with urllib.request.urlopen(request, timeout=60, context=trusted) as answer:
            assert json.load(answer)["model_name"] == "raw"


def test_nothing_of_a_caller_is_logged(at, caplog, asked):
    with caplog.at_level(logging.DEBUG):
        call(at, "/v2/models/raw/infer", asked, **bearer("of the planner"))
        call(at, "/v2/nothing", **bearer("of the planner"))
    assert "of the planner" not in caplog.text
