"""What gives way is counted and logged, with few lines however much it is."""

import logging
import socket
import subprocess
import sys

import pytest

from kanserve.serve.observability import prometheus
from kanserve.serve.transport.native import MEANINGS, GivingWay
from kanserve.serve.transport.native_library import CLOSED_SLOW, REFUSED_MEMORY
from tests.support import programs
from tests.support.paths import ROOT
from tests.support.peers.http2_peer import Peer
from tests.support.servers import server_process
from tests.support.servers.loop_server import ECHO, SECOND, LoopServer, needs_native
from tests.support.servers.server_process import until

FAILING_CALLOC = ROOT / "tests" / "support" / "faults" / "failing_calloc.c"


def test_each_kind_is_one_line_a_look_and_a_metric(caplog):
    counts = dict.fromkeys(MEANINGS, 0.0)
    watch = GivingWay(lambda: counts, 3600)
    watch.start()
    for more in (70, 0, 5):
        counts.update({name: count + more for name, count in counts.items()})
        with caplog.at_level(logging.WARNING):
            watch.look()
    watch.end()
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2 * len(MEANINGS)
    for name, meaning in MEANINGS.items():
        assert [line.split()[0] for line in lines if meaning in line] == ["70", "5"]
        assert f"kanserve_{name}" in {row.name for row in prometheus.TABLE}


def test_who_asks_nothing_is_counted_and_who_asked_is_not():
    with LoopServer(greeting_time=SECOND // 10) as server, Peer(server.address) as peer:
        peer.round_trip()
        host, _, port = server.address.rpartition(":")
        with socket.create_connection((host, int(port))) as silent:
            while silent.recv(1000):  # our SETTINGS, then the end
                pass
        until(lambda: server.library.closed(server.server, CLOSED_SLOW) == 1)
        peer.round_trip()


def test_a_call_for_which_there_is_no_memory_is_counted():
    with LoopServer(max_held=2**16) as server, Peer(server.address) as peer:
        peer.round_trip()
        assert peer.ask(ECHO, bytes(2**17)).status == 8
        assert server.library.refused(server.server, REFUSED_MEMORY) == 1


NO_MEMORY = """
import ctypes
import sys

from tests.support.peers.http2_peer import Peer
from tests.support.servers.loop_server import ECHO, STREAM, LoopServer

fail_next = ctypes.PyDLL(sys.argv[1]).fail_next


def answer(message, context):
    if message == b"fail":
        fail_next()
    context.answer(message)


def answer_each(messages, context):
    for message in messages:
        fail_next()
        context.send(message)
    context.finish()


with LoopServer(answer, answer_each) as server, Peer(server.address, seconds=5) as peer:
    print(*(peer.ask(path, message).status for path, message in ((ECHO, b"fail"), (STREAM, b"2"), (ECHO, b"3"))))
"""


@pytest.mark.slow
def test_a_call_whose_answer_finds_no_memory_fails_and_those_after_it_do_not(tmp_path):
    needs_native()
    library = tmp_path / "failing_calloc.so"
    compiled = [programs.want("gcc"), "-shared", "-fPIC", FAILING_CALLOC, "-o", library, "-ldl"]
    subprocess.run(compiled, check=True)
    command = [sys.executable, "-c", NO_MEMORY, library]
    environment = server_process.ENVIRONMENT | {"LD_PRELOAD": str(library)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=60)
    assert done.stdout == "8 8 0\n", done.stderr  # 8: RESOURCE_EXHAUSTED
