"""Pages of other origins: which may call, and what their browsers are told."""

import numpy as np
import pytest

from kanserve.serve.server import start
from kanserve.serve.settings import Grant, Settings
from tests.support.servers.rest_port import TRANSPORTS, call, infer

PAGE = "https://app.example"
INFER = "/v2/models/raw/infer"
BODY = infer(np.array([[300.0, 101000.0]]))
ASKS = {"Origin": PAGE, "Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": "content-type"}


@pytest.fixture(scope="module", params=TRANSPORTS)
def settings(request, repository):
    return Settings(str(repository), port=0, http_port=0, transport=request.param, cors_origin=(PAGE,))


@pytest.fixture(scope="module")
def at(server):
    return server.http_address


def test_a_page_that_may_call_is_told_so_before_and_with_each_answer(at):
    asked = call(at, INFER, method="OPTIONS", **ASKS)
    assert asked.status == 200 and asked.body == b""
    assert asked.headers["Access-Control-Allow-Origin"] == PAGE
    assert asked.headers["Access-Control-Allow-Methods"] == "POST"
    assert "Content-Type" in asked.headers["Access-Control-Allow-Headers"]
    for answer in (call(at, INFER, BODY, Origin=PAGE), call(at, "/v2/health/ready", Origin=PAGE)):
        assert answer.status == 200 and answer.headers["Access-Control-Allow-Origin"] == PAGE
        assert answer.headers["Vary"] == "Origin"
    refused = call(at, "/v2/models/none/infer", BODY, Origin=PAGE)
    assert refused.status == 404 and refused.headers["Access-Control-Allow-Origin"] == PAGE


def test_a_page_that_may_not_is_not_and_who_is_no_page_hears_nothing_of_it(at):
    other = call(at, INFER, method="OPTIONS", **(ASKS | {"Origin": "https://other.example"}))
    assert other.status == 405 and "Access-Control-Allow-Origin" not in other.headers
    answer = call(at, INFER, BODY, Origin="https://other.example")
    assert answer.status == 200 and "Access-Control-Allow-Origin" not in answer.headers
    assert "Vary" not in call(at, INFER, BODY).headers


@pytest.mark.parametrize(("method", "path", "status"), [("PUT", INFER, 405), ("POST", "/none", 404)])
def test_what_is_not_there_is_not_allowed_either(at, method, path, status):
    assert call(at, path, method="OPTIONS", **(ASKS | {"Access_Control_Request_Method": method})).status == status


def test_no_page_may_call_by_default_and_all_may_with_a_star_and_a_token(repository, tmp_path):
    (tmp_path / "token").write_text("secret")
    grants = (Grant(("predict", "read"), token_file=str(tmp_path / "token")),)
    for origins, allowed in (((), None), (("*",), "*")):
        with start(Settings(str(repository), port=0, http_port=0, cors_origin=origins, access=grants)) as server:
            asked = call(server.http_address, INFER, method="OPTIONS", **ASKS)
            answer = call(server.http_address, INFER, BODY, Origin=PAGE, Authorization="Bearer secret")
            assert asked.status == (200 if allowed else 405) and answer.status == 200
            assert asked.headers.get("Access-Control-Allow-Origin") == allowed
            assert answer.headers.get("Access-Control-Allow-Origin") == allowed
            assert call(server.http_address, INFER, BODY, Origin=PAGE).status == 401
