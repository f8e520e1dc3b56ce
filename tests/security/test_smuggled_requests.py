"""Requests that a proxy could read in another way than the server, on both HTTP ports: none is open to two readings."""

import pytest

from kanserve.serve.settings import Settings
from tests.support.faults.smuggled_requests import CASES, CUT_SHORT, is_closed, is_not_done
from tests.support.servers.rest_port import TRANSPORTS


@pytest.fixture(scope="module", params=TRANSPORTS)
def settings(request, repository):
    return Settings(str(repository), port=0, http_port=0, transport=request.param)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_a_request_is_refused_with_the_connection_or_is_read_in_one_way(server, case):
    assert is_closed(case, server.http_address)


@pytest.mark.parametrize("sent", CUT_SHORT.values(), ids=[name.replace(" ", "-") for name in CUT_SHORT])
def test_a_request_that_is_cut_short_is_not_done(server, sent):
    assert is_not_done(sent, server.http_address)
