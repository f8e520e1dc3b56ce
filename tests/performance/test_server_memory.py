"""The memory that a load of the native transport leaves behind."""

import os
from contextlib import ExitStack

import pytest

from tests.support.peers.http2_peer import Peer
from tests.support.servers import server_process
from tests.support.servers.loop_server import ECHO, LoopServer


@pytest.mark.timing
def test_memory_of_a_load_returns_once_it_is_over():
    """Though what is still used lies between what is free."""
    before = server_process.memory(os.getpid())
    with LoopServer() as server, ExitStack() as kept:
        with ExitStack() as ended:
            for number in range(120):
                peer = (ended if number % 12 else kept).enter_context(Peer(server.address))
                peer.round_trip()
                for _ in range(4):
                    peer.message(peer.call(ECHO), bytes(200_000), end=False, size=2**20)  # it never ends
            server_process.until(lambda: server.held >= 120 * 4 * 200_000)
            assert server_process.memory(os.getpid()) - before > 80_000_000
        server_process.until(lambda: server_process.memory(os.getpid()) - before < 40_000_000, 10)
