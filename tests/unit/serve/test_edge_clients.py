"""Other projects' clients, unmodified, against an edge server: every call that it offers must work."""

from collections.abc import Iterator

import pytest

from benchmarks._serving_peers import build_edge_server
from kanserve.serve.transport import native_library
from tests.peers import clients, edge_clients
from tests.support.programs import skip, want
from tests.support.servers import serving


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[clients.Addresses]:
    if native_library.library() is None:
        skip("libnghttp2-dev")
    binary = build_edge_server(serving.kan(clients.MODEL), clients.MODEL, tmp_path_factory.mktemp("edge"), static=False)
    with edge_clients.edge_server(binary) as addresses:
        yield addresses


@pytest.mark.extended
@pytest.mark.parametrize("name", [client for client in edge_clients.CLIENTS if client != "perf_analyzer"])
def test_a_client_gets_from_every_call_what_it_should(name, at):
    assert list(edge_clients.CLIENTS[name](at))


@pytest.mark.extended
def test_h2load_gets_an_answer_to_every_request(at):
    want("h2load")
    assert len(list(clients.nghttp2_h2load(at))) == 2
