"""Callers of the native transport who leave before the server has begun with them."""

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kanserve.serve.rpc.standard_services import WATCHES
from kanserve.serve.server import start
from kanserve.serve.settings import Settings
from tests.support.servers.loop_server import needs_native


@pytest.mark.slow
def test_watchers_who_leave_at_once_give_their_places_back(repository, caplog):
    needs_native()
    settings = Settings(str(repository), port=0, transport="native")
    with start(settings) as server, grpc.insecure_channel(server.address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch
        for _ in range(4 * WATCHES):
            watch(health_pb2.HealthCheckRequest(), timeout=60).cancel()
        # Of one connection, so that it is answered after those before it have been taken back.
        told = [watch(health_pb2.HealthCheckRequest(), timeout=60) for _ in range(WATCHES // 2)]
        assert [next(call).status for call in told] == len(told) * [1]
    assert "could not be begun" not in caplog.text
