"""Floods, cut connections, forked children and a want of descriptors: others are answered throughout, and at the end
the loop counts nothing."""

import os
import resource
import socket
import struct
import subprocess
import sys
import threading
from contextlib import ExitStack, suppress

import pytest

from kanserve.serve.transport.native_library import CLOSED_CROWDED, CLOSED_FLOODING
from tests.support.peers.http2_peer import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    ENHANCE_YOUR_CALM,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    PING,
    PREFACE,
    PRIORITY,
    REFUSED_STREAM,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Peer,
    frame,
    literal,
    request_headers,
)
from tests.support.servers import server_process
from tests.support.servers.loop_server import ECHO, STREAM, LoopServer, needs_native
from tests.support.servers.server_process import until

RESOURCE_EXHAUSTED, UNAVAILABLE = 8, 14
MANY = 20_000
FLOODS = {
    "reset": frame(HEADERS, END_HEADERS, 1, request_headers(ECHO, {})) + frame(RST_STREAM, 0, 1, struct.pack(">I", 8)),
    "settings": frame(SETTINGS),
    "ping": frame(PING, 0, 0, bytes(8)),
    "priority": frame(PRIORITY, 0, 1, struct.pack(">IB", 3, 1)),
    "empty data": frame(DATA, 0, 1),
    "padded data": frame(DATA, 8, 1, b"\0"),
}


def flood(peer: Peer, name: str) -> None:
    """So many frames, as far as the server takes them."""
    with suppress(OSError):
        if name in ("empty data", "padded data"):
            peer.call(STREAM)
        if name != "reset":
            for _ in range(MANY // 1000):
                peer.send(FLOODS[name] * 1000)
            return
        for stream in range(1, 2 * MANY, 2):
            headers = frame(HEADERS, END_HEADERS, stream, request_headers(ECHO, {}))
            peer.send(headers + frame(RST_STREAM, 0, stream, struct.pack(">I", 8)))


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_ends_its_connection_with_a_reason_and_no_other(name):
    with LoopServer() as server, Peer(server.address) as neighbour:
        with Peer(server.address) as peer:
            flooding = threading.Thread(target=flood, args=(peer, name))
            flooding.start()
            for _ in range(20):
                assert neighbour.ask(ECHO, b"hello").messages == [b"hello"]
            codes = peer.end()
            flooding.join()
        assert codes and codes[0] != 0, name
        assert neighbour.ask(ECHO, b"hello").messages == [b"hello"]
        until(lambda: server.connections == 1)
        server.wait_idle_of(neighbour)


def test_a_ping_flood_is_told_to_calm_down():
    with LoopServer() as server, Peer(server.address) as peer:
        flood(peer, "ping")
        assert peer.end() == [ENHANCE_YOUR_CALM]


@pytest.mark.slow
@pytest.mark.extended
def test_pings_at_a_moderate_rate_are_no_flood_however_many_they_are():
    """Each after the last was answered: more than the bucket holds, which leaks 500 a second."""
    with LoopServer() as server, Peer(server.address) as peer:
        pause = threading.Event()
        for _ in range(1200):  # each counts for 2, the bucket holds 2,000
            peer.round_trip()
            pause.wait(0.002)
        assert peer.ask(ECHO, b"calm").messages == [b"calm"]


@pytest.mark.slow
def test_a_flood_of_continuations_ends_its_connection():
    with LoopServer() as server, Peer(server.address) as peer:
        with suppress(OSError):
            peer.frame(HEADERS, 0, 1, request_headers(ECHO, {}))
            for _ in range(1000):
                peer.frame(CONTINUATION, 0, 1)
        assert peer.end()
        server.wait_idle()


def test_a_small_block_that_unpacks_to_much_is_refused():
    """Each byte of an indexed field repeats 4,000 bytes."""
    with LoopServer() as server, Peer(server.address) as peer:
        block = request_headers(ECHO, {}) + b"\x40" + literal("x", "a" * 4000)[1:] + b"\xbe" * 10_000
        peer.frame(HEADERS, END_HEADERS, 1, block)
        answer = peer.answer(1)
        assert answer.reset is not None or peer.goaways or answer.status == RESOURCE_EXHAUSTED
        with Peer(server.address) as other:
            assert other.ask(ECHO, b"hello").messages == [b"hello"]


def test_streams_beyond_the_limit_are_refused_each_before_the_limit_is_known():
    with LoopServer(max_streams=1000, queue=2000) as server, Peer(server.address) as peer:
        streams = [peer.call(ECHO) for _ in range(1500)]
        for _ in range(500):
            got = next(got for got in peer.frames() if got.kind == RST_STREAM)
            assert got.error == REFUSED_STREAM
            assert got.stream > streams[999]
        for stream in streams[:1000]:
            peer.message(stream, b"hello")
        assert {peer.answer(stream).status for stream in streams[:1000]} == {0}
        server.wait_idle_of(peer)


def test_answers_that_nobody_takes_are_bounded():
    """Their bytes are counted with those of the messages that come in."""
    most = 2**20
    with LoopServer(max_held=most) as server, Peer(server.address, settings={INITIAL_WINDOW_SIZE: 0}) as peer:
        peer.round_trip()
        streams = [peer.call(ECHO) for _ in range(999)]
        for stream in streams:
            peer.message(stream, bytes(10_000))
            assert server.held <= most + 20_000
        peer.round_trip()
        until(lambda: server.library.queued(server.server) == 0)
        assert server.held <= most + 20_000
        with Peer(server.address) as other:
            assert other.ask(ECHO, bytes(10_000)).status in (0, RESOURCE_EXHAUSTED)
    # Closing takes all of it back, or ASan and `wait_idle` would say so.


def test_empty_messages_of_a_stream_wait_in_bounded_memory():
    """Each takes some bytes though it has none: the window closes."""
    gate = threading.Event()

    def late(messages, context):
        gate.wait(60)
        count = sum(1 for _ in messages)
        context.send(str(count).encode())
        context.finish()

    with LoopServer(stream=late) as server, Peer(server.address) as peer:
        peer.round_trip()
        stream, part, sent = peer.call(STREAM), 3000, 0
        peer.socket.settimeout(60)
        while server.held < 2**20 and sent < 10**6:
            peer.frame(DATA, 0, stream, bytes(5 * part))
            peer.round_trip()
            sent += part
        assert sent < 10**6  # so many empty messages are as good as a megabyte
        gate.set()
        peer.frame(DATA, 1, stream)
        assert peer.answer(stream).messages == [str(sent).encode()]
        server.wait_idle_of(peer)


def test_connections_that_are_cut_anywhere_leave_nothing():
    with LoopServer() as server:
        whole = PREFACE + frame(SETTINGS) + frame(HEADERS, END_HEADERS, 1, request_headers(STREAM, {}))
        whole += frame(DATA, 0, 1, struct.pack(">BI", 0, 3) + b"abc") + frame(WINDOW_UPDATE, 0, 1, struct.pack(">I", 9))
        host, port = server.address.split(":")
        for size in range(1, len(whole) + 1, 3):
            with socket.create_connection((host, int(port))) as cut:
                cut.sendall(whole[:size])
                if size % 2:  # RST instead of FIN
                    cut.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        server.wait_idle()


def test_no_descriptors_are_no_end():
    """A client that connects while there are none is served once there are."""
    with LoopServer() as server:
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        highest = max(map(int, os.listdir("/proc/self/fd")))
        client = socket.socket()
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, before[1]))
            taken = []
            with suppress(OSError):
                while True:
                    taken.append(os.dup(0))
            host, port = server.address.split(":")
            client.connect((host, int(port)))
            client.sendall(PREFACE)
            client.settimeout(0.3)
            with pytest.raises(TimeoutError):
                client.recv(1)  # nobody accepts
        finally:
            for descriptor in taken:
                os.close(descriptor)
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        client.settimeout(60)
        assert len(client.recv(9)) == 9  # the server's SETTINGS
        client.close()


FORKED = """
import os, socket, sys, time
sys.path[:0] = sys.argv[1:]
from tests.support.peers.http2_peer import Peer
from tests.support.servers.loop_server import ECHO, LoopServer

server = LoopServer().__enter__()
peer = Peer(server.address)
assert peer.ask(ECHO, b"before").messages == [b"before"]
read, write = os.pipe()
child = os.fork()
if child == 0:
    os.close(write)
    os.read(read, 1)  # lives on
    os._exit(0)
assert peer.ask(ECHO, b"after").messages == [b"after"]
server.close()
assert peer.end() is not None  # the connection ends, though a child lives that was forked with it
host, port = server.address.split(":")
try:
    socket.create_connection((host, int(port)), timeout=60)
    print("connected")
except ConnectionRefusedError:
    print("refused")
os.close(write)
os.waitpid(child, 0)
"""


def test_a_forked_child_keeps_no_connection_and_no_port():
    needs_native()
    done = subprocess.run(
        [sys.executable, "-c", FORKED, *server_process.ENVIRONMENT["PYTHONPATH"].split(":")],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.stdout, done.returncode) == ("refused\n", 0), done.stderr


@pytest.mark.slow
def test_a_stop_answers_what_is_still_open():
    forever = threading.Event()

    def never(message, context):
        forever.wait(60)

    with LoopServer(never) as server, Peer(server.address) as peer:
        stream = peer.call(ECHO)
        peer.message(stream, b"")
        peer.round_trip()
        ending = threading.Thread(target=server.library.hang_up, args=(server.server, 60 * 10**9))
        ending.start()
        assert peer.answer(stream).status == UNAVAILABLE
        assert peer.end() == [0, 0]
        ending.join()
        forever.set()


def test_a_call_may_be_ended_by_its_caller_while_threads_use_it():
    def stream(messages, context):
        for message in messages:
            if not context.send(message):
                return

    with LoopServer(stream=stream) as server:
        for round_number in range(50):
            with Peer(server.address) as peer:
                one = peer.call(STREAM)
                for _ in range(round_number % 7):
                    peer.message(one, b"abc", end=False)
                if round_number % 2:
                    peer.frame(RST_STREAM, 0, one, struct.pack(">I", 8))
                    peer.round_trip()
        server.wait_idle()


def test_metadata_of_calls_without_messages_is_counted_before_anything_is_known_of_the_caller():
    with LoopServer(max_held=2**21) as server:
        with Peer(server.address) as one, Peer(server.address) as other:
            for peer in (one, other):
                streams = [peer.call(ECHO, big="x" * 8000) for _ in range(400)]
                peer.round_trip()
                answers = [peer.answer(stream) for stream in streams[-100:]]
                assert {answer.status for answer in answers} == {RESOURCE_EXHAUSTED}
                assert 2**19 < server.held <= 2**21
            with Peer(server.address) as neighbour:
                neighbour.round_trip()
        until(lambda: server.held == 0)


def test_calls_that_wait_for_their_messages_give_way_to_those_of_others():
    """Many connections hold all that calls may hold; who comes then is answered all the same."""
    with LoopServer(max_held=2**21) as server, Peer(server.address) as neighbour:
        with ExitStack() as stack:
            for _ in range(20):
                peer = stack.enter_context(Peer(server.address))
                for _ in range(100):
                    peer.call(ECHO, big="x" * 8000)
                peer.round_trip()
                assert server.held <= 2**20
                assert neighbour.ask(ECHO, b"hello").messages == [b"hello"]
            assert server.library.closed(server.server, CLOSED_CROWDED) > 0
        until(lambda: server.held == 0)


def test_at_too_many_connections_the_oldest_that_waits_for_its_peer_gives_way():
    with LoopServer(max_connections=20) as server, Peer(server.address) as busy:
        stream = busy.call(STREAM)
        busy.message(stream, b"under way", end=False)
        busy.round_trip()
        idle = [Peer(server.address) for _ in range(19)]
        for peer in idle:
            peer.round_trip()
        half = []
        for _ in range(30):
            half.append(peer := Peer(server.address))
            peer.message(peer.call(ECHO), b"the begin", end=False, size=1000)
        with Peer(server.address) as neighbour:
            neighbour.round_trip()
            until(lambda: server.connections == 20)
        assert server.library.closed(server.server, CLOSED_CROWDED) == 31
        busy.round_trip()
        for peer in (*idle, *half):
            peer.socket.close()


def overflow(peer: Peer) -> None:
    """Windows of streams that are overrun, each by a byte: the server resets each."""
    for _ in range(MANY):
        stream = peer.call(STREAM)
        peer.send(frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", 2**31 - 1)))


def pages(peer: Peer) -> None:
    """Requests of a browser, which no gRPC answers."""
    for stream in range(1, 2 * MANY, 2):
        peer.send(frame(HEADERS, END_HEADERS | 1, stream, request_headers("/", {"method": "GET"})))


@pytest.mark.parametrize("attack", [overflow, pages])
def test_what_the_server_has_to_reset_or_to_refuse_is_charged_to_its_connection(attack):
    def flooding(peer: Peer) -> None:
        with suppress(OSError):
            attack(peer)

    with LoopServer() as server, Peer(server.address) as neighbour:
        with Peer(server.address) as peer:
            thread = threading.Thread(target=flooding, args=(peer,))
            thread.start()
            for _ in range(20):
                assert neighbour.ask(ECHO, b"hello").messages == [b"hello"]
            assert ENHANCE_YOUR_CALM in peer.end()
            thread.join()
        assert server.library.closed(server.server, CLOSED_FLOODING) == 1
