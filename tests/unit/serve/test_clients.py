"""Other projects' clients, unmodified: every call that the protocol says must work."""

from collections.abc import Iterator

import pytest

from tests.peers import clients

# What INTEROP calls "must": without one of them a client breaks.
OF_TRITON = {
    "is_server_live",
    "is_server_ready",
    "is_model_ready",
    "get_server_metadata",
    "get_model_metadata",
    "get_model_config",
    "get_inference_statistics",
    "get_model_repository_index",
    "load_model",
    "unload_model",
    "infer",
}
CALLS = {
    "tritonclient": OF_TRITON | {"async_infer", "start_stream, async_stream_infer, stop_stream"},
    "tritonclient.aio": OF_TRITON | {"stream_infer"},
    "grpc_health": {"Check", "Watch"},
    "http": {"/v2/health/live", "/v2/health/ready"},
}


@pytest.fixture(scope="module")
def at() -> Iterator[clients.Addresses]:
    with clients.server() as addresses:
        yield addresses


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize(
    "name", [client for client in clients.CLIENTS if client != "perf_analyzer"]
)  # test_serve_load has that
def test_a_client_gets_from_every_call_what_it_should(name, at):
    done = list(clients.CLIENTS[name](at))
    assert done and set(done) >= CALLS.get(name, set())
