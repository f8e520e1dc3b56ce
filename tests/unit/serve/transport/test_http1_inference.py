"""Inferences over HTTP that the loop answers itself: they are those that Python answers, to the last bit."""

import gzip
import hashlib
import json
import struct
from contextlib import ExitStack

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from kanserve.network.evaluate import evaluate
from kanserve.serve.server import start
from kanserve.serve.settings import Grant, Settings
from tests.support.peers.http1_peer import Http1Peer, request
from tests.support.servers import serving
from tests.support.servers.loop_server import needs_native
from tests.support.servers.rest_port import call

COUNTED = "kanserve_requests_total"


@pytest.fixture(scope="module")
def settings(repository) -> Settings:
    if not needs_native().serves_http:
        pytest.skip("needs llhttp")
    return Settings(str(repository), port=0, http_port=0, transport="native")


def tensor(x, datatype="FP64", **more):
    return {"name": "x", "datatype": datatype, "shape": list(x.shape), **more}


def asked(x, datatype="FP64", *, binary=False, **more):
    """A body, and the headers that it needs."""
    if not binary:
        return json.dumps({"inputs": [tensor(x, datatype, data=x.ravel().tolist())], **more}).encode(), {}
    raw = x.astype("<f8" if datatype == "FP64" else "<f4").tobytes()
    head = json.dumps({"inputs": [tensor(x, datatype, parameters={"binary_data_size": len(raw)})], **more}).encode()
    return head + raw, {"Inference_Header_Content_Length": str(len(head))}


def parts(answer):
    """The JSON of an answer, and the bytes after it."""
    length = int(answer.headers.get("Inference-Header-Content-Length", len(answer.body)))
    return json.loads(answer.body[:length]), answer.body[length:]


def both(server, model, body, headers):
    """The answers of the loop and of Python, which gets what has an escape in its path."""
    escaped = f"%{ord(model[0]):02x}{model[1:]}"
    return (parts(call(server.http_address, f"/v2/models/{name}/infer", body, **headers)) for name in (model, escaped))


def inline(server, model):
    """How many inferences of a model the loop has answered itself."""
    counts = {key: counters for key, counters, current in server._transport._models.counts({}) if current}
    return int(counts[model, 1][2 + 5 : 2 + 5 + 16].sum())


def asked_with_null(datatype):
    data = [[None, 1.0], [0.5, 0.5], [1, None]]
    return json.dumps({"inputs": [tensor(np.empty((3, 2)), datatype, data=data)]}).encode(), {}


ROWS = np.array([[0.1, 0.2], [-0.3, 0.7], [1e3, 1e-300], [0.30000000000000004, 5e-324]])
BOTH = {
    "JSON": asked(ROWS),
    "one row": asked(ROWS[:1]),
    "FP32": asked(ROWS[:2], "FP32"),
    "an id": asked(ROWS, id='a "quoted" \\ ä \n id'),
    "rows apart": (json.dumps({"inputs": [tensor(ROWS, data=ROWS.tolist())]}).encode(), {}),
    "whole numbers": (json.dumps({"inputs": [tensor(np.zeros((1, 2)), data=[1, -2])]}).encode(), {}),
    "bytes": asked(ROWS, binary=True),
    "bytes of FP32": asked(ROWS[:2], "FP32", binary=True),
    "bytes back": asked(ROWS, binary=True, parameters={"binary_data_output": True}),
    "bytes back for JSON": asked(ROWS, parameters={"binary_data_output": True}),
    "one output": asked(ROWS, outputs=[{"name": "y"}]),
    "one output as bytes": asked(ROWS, outputs=[{"name": "y", "parameters": {"binary_data": True}}]),
    "null": asked_with_null("FP64"),
    "null, FP32": asked_with_null("FP32"),
    "not finite": asked(np.array([[np.nan, 1.0], [np.inf, -np.inf]]), binary=True),
    "not finite, back as bytes": asked(
        np.array([[np.nan, 1.0], [0.5, 0.5]]), binary=True, parameters={"binary_data_output": True}
    ),
}
ABOUT = {
    "labels": asked(ROWS[:2], outputs=[{"name": "label"}, {"name": "y", "parameters": {"binary_data": True}}]),
    "labels as bytes": asked(ROWS[:2], parameters={"binary_data_output": True}),
}


@pytest.mark.parametrize(
    ("model", "name"), [*((m, n) for m in ("raw", "iris", "single") for n in BOTH), *(("iris", n) for n in ABOUT)]
)
def test_the_loop_answers_what_python_answers(server, model, name):
    before = inline(server, model)
    ours, pythons = both(server, model, *(BOTH | ABOUT)[name])
    assert ours == pythons
    assert inline(server, model) == before + 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"inputs":[]}',
        b'{"inputs":[{"name":"x","datatype":"FP64","shape":[1,2],"data":[1,NaN]}]}',
        b'{"inputs":[{"name":"x","datatype":"FP64","shape":[1,2],"data":[1,1e999]}]}',
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[1,1e300]}]}',
        b'{"inputs":[{"name":"x","datatype":"FP64","shape":[1,2],"data":[1,"2"]}]}',
        b'{"inputs":[{"name":"x","datatype":"FP64","shape":[1,2],"data":[1,true]}]}',
        b'{"inputs":[{"name":"x","datatype":"FP64","shape":[1,2],"data":[1]}]}',
        b'{"inputs":[{"name":"x","datatype":"FP64","shape":[1,2],"data":[1,2,3]}]}',
        b'{"inputs":[{"name":"x","datatype":"FP64","shape":[0,2],"data":[]}]}',
        b'{"inputs":[{"name":"x","datatype":"FP64","shape":[-1,2],"data":[1,2]}]}',
        b'{"inputs":[{"name":"x","datatype":"FP64","shape":[1.0,2],"data":[1,2]}]}',
        b'{"inputs":[{"name":"x","datatype":"INT32","shape":[1,2],"data":[1,2]}]}',
        b'{"inputs":[{"name":"z","datatype":"FP64","shape":[1,2],"data":[1,2]}]}',
        b'{"inputs":[{"name":"x","name":"x","datatype":"FP64","shape":[1,2],"data":[1,2]}]}',
        b'{"inputs":[{"name":"x","datatype":"FP64","shape":[1,2],"data":[1,2]}],"outputs":[{"name":"w"}]}',
        b'{"inputs":[{"name":"x","datatype":"FP64","shape":[1,2],"data":[1,2]}],"more":1}',
        b'{"inputs":[{"name":"x","datatype":"FP64","shape":[1,2],"parameters":{"binary_data_size":16}}]}',
        b'{"inputs":[{"name":"x","datatype":"FP64","shape":[1,2],"data":[[1],[2]]}]}',
        b"\xff\xfe",
    ],
)
def test_what_is_wrong_or_unusual_is_left_to_python(server, body):
    before = inline(server, "raw")
    here, there = (call(server.http_address, f"/v2/models/{name}/infer", body) for name in ("raw", "%72aw"))
    assert (here.status, here.body) == (there.status, there.body)
    assert inline(server, "raw") == before


def test_answers_are_those_of_the_network(server):
    x = np.random.default_rng(7).uniform(-1, 1, (50, 2))
    for binary in (False, True):
        body, headers = asked(x, binary=binary)
        (made, _), _ = both(server, "raw", body, headers)
        want = evaluate(serving.kan("raw"), x)
        np.testing.assert_allclose(np.reshape(made["outputs"][0]["data"], want.shape), want, rtol=1e-12, atol=1e-12)


def test_numbers_read_back_to_the_same_bits(server):
    x = np.random.default_rng(8).uniform(-1, 1, (300, 2))
    body, headers = asked(x, binary=True, parameters={"binary_data_output": True})
    (_, raw), _ = both(server, "raw", body, headers)
    body, headers = asked(x)
    (made, _), _ = both(server, "raw", body, headers)
    numbers = made["outputs"][0]["data"]
    assert struct.pack(f"<{len(numbers)}d", *numbers) == raw


def test_a_version_can_be_named_and_another_is_not_there(server):
    body, _ = asked(ROWS)
    assert call(server.http_address, "/v2/models/raw/versions/1/infer", body).status == 200
    for path in ("raw/versions/7", "raw/versions/01", "raw/versions/x", "other"):
        assert call(server.http_address, f"/v2/models/{path}/infer", body).status in (400, 404)


def test_compressed_bodies_are_answered_by_the_loop_too(server):
    body, headers = asked(np.repeat(ROWS, 50, axis=0), binary=True)
    before = inline(server, "raw")
    plain = call(server.http_address, "/v2/models/raw/infer", body, **headers)
    packed = call(server.http_address, "/v2/models/raw/infer", gzip.compress(body), Content_Encoding="gzip", **headers)
    assert (packed.status, packed.body) == (200, plain.body) and inline(server, "raw") == before + 2


def test_rows_of_models_that_are_not_c_are_handed_out_and_answered_alike(server):
    for model in ("graph", "mixed"):
        for name in ("JSON", "an id", "bytes back"):
            ours, pythons = both(server, model, *BOTH[name])
            assert ours == pythons


def test_many_rows_are_handed_out_and_answered_alike(server):
    x = np.random.default_rng(9).uniform(-1, 1, (20_000, 2))
    for options in ({}, {"parameters": {"binary_data_output": True}}):
        body, headers = asked(x, binary=True, **options)
        ours, pythons = both(server, "raw", body, headers)
        assert ours == pythons


def test_an_inference_of_the_loop_is_counted_as_one_of_grpc(server):
    def counted():
        page = call(server.http_address, "/metrics").body.decode()
        families = {family.name: family for family in text_string_to_metric_families(page)}
        return sum(
            sample.value
            for sample in families["kanserve_requests"].samples
            if sample.name == COUNTED and sample.labels.get("model") == "raw" and sample.labels["code"] == "OK"
        )

    before = counted()
    body, _ = asked(ROWS)
    for _ in range(5):
        assert call(server.http_address, "/v2/models/raw/infer", body).status == 200
    assert counted() == before + 5


def test_pipelined_inferences_are_answered_in_their_order(server):
    rows = np.linspace(-1, 1, 40).reshape(20, 2)
    with Http1Peer(server.http_address) as peer:
        peer.send(
            b"".join(
                request(
                    "/v2/models/raw/infer" if i % 3 else "/v2/models/%72aw/infer",
                    "POST",
                    asked(row[None], id=f"{i}")[0],
                )
                for i, row in enumerate(rows)
            )
        )
        assert [peer.response().json["id"] for _ in rows] == [f"{i}" for i in range(20)]


def test_who_may_not_call_is_refused_before_the_body_is_read(repository):
    if not needs_native().serves_http:
        pytest.skip("needs llhttp")
    grants = (Grant(("predict",), token_sha256=hashlib.sha256(b"secret").hexdigest()),)
    wanted = Settings(str(repository), port=0, http_port=0, transport="native", access=grants)
    body, _ = asked(ROWS)
    with start(wanted) as server:
        with Http1Peer(server.http_address) as peer:
            answer = peer.ask(request("/v2/models/raw/infer", "POST", Content_Length="1000000") + body)
            assert answer.status == 401 and answer.headers["connection"] == "close"
            assert peer.ended()
        with Http1Peer(server.http_address) as peer:
            whole = request("/v2/models/raw/infer", "POST", body, Authorization="Bearer secret")
            peer.send(whole[:-10])
            assert peer.ask(whole[-10:]).status == 200
            packed = gzip.compress(body)
            whole = request(
                "/v2/models/raw/infer", "POST", packed, Authorization="Bearer secret", Content_Encoding="gzip"
            )
            peer.send(whole[:-10])
            assert peer.ask(whole[-10:]).status == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ((), 200),
        (("Content-Type: application/json",), 200),
        (("Content-Type: APPLICATION/JSON; charset=utf-8",), 200),
        (("Origin: http://page", "Content-Type: application/json"), 200),
        (("Content-Type: application/json", "Origin: http://page"), 200),
        (("Origin: http://page",), 415),  # which a browser sends for any page
        (("Content-Type: application/jsonp",), 415),
        (("Content-Type: text/plain",), 415),
    ],
)
def test_the_loop_takes_the_content_types_that_python_takes(server, headers, status):
    body, _ = asked(ROWS)
    for name in ("raw", "%72aw"):
        head = (f"POST /v2/models/{name}/infer HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers, "", "")
        with Http1Peer(server.http_address) as peer:
            assert peer.ask("\r\n".join(head).encode() + body).status == status


def test_health_is_answered_while_many_loads_wait(repository):
    if not needs_native().serves_http:
        pytest.skip("needs llhttp")
    grants = (Grant(("manage",), token_sha256=hashlib.sha256(b"secret").hexdigest()),)
    wanted = Settings(str(repository), port=0, http_port=0, transport="native", access=grants)
    begun = request("/v2/repository/models/raw/load", "POST", Content_Length="2", Authorization="Bearer secret")
    with start(wanted) as server, ExitStack() as peers:
        loads = [peers.enter_context(Http1Peer(server.http_address)) for _ in range(30)]
        for peer in loads:
            peer.send(begun)
        assert call(server.http_address, "/v2/health/live").status == 200
        for peer in loads:
            peer.send(b"{}")
        assert {peer.response().status for peer in loads} <= {200, 409, 429}
