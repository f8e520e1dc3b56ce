"""What one connection of the native transport may take of the loop's time and memory before others have their turn."""

import gzip
import select
import struct
import threading
import zlib

import pytest

from tests.support.peers.http2_peer import DATA, END_STREAM, LARGEST_FRAME, RST_STREAM, Peer, frame
from tests.support.servers.loop_server import ECHO, STREAM, LoopServer
from tests.support.servers.protocol_calls import (
    DEADLINE_EXCEEDED,
    INTERNAL,
    OK,
    RESOURCE_EXHAUSTED,
    UNIMPLEMENTED,
    WRAPPED,
)
from tests.support.servers.server_process import until

LARGE = 2**26  # bytes that are decompressed in many turns
ATTEMPTS = 20


def tell_length(message, context):
    context.answer(str(len(message)).encode())


def begin(peer: Peer, message: bytes, encoding: str, timeout: str | None = None) -> tuple[int, bytes]:
    """Send all of a compressed message but its last bytes: the stream, and these."""
    stream = peer.call(ECHO, grpc_encoding=encoding, grpc_timeout=timeout)
    whole = struct.pack(">BI", 1, len(message)) + message
    for at in range(0, len(whole) - 9, LARGEST_FRAME):
        peer.frame(DATA, 0, stream, whole[at : min(at + LARGEST_FRAME, len(whole) - 9)])
    peer.round_trip()
    return stream, whole[-9:]


def is_unanswered(peer: Peer) -> bool:
    return not select.select([peer.socket], [], [], 0)[0]


@pytest.mark.slow
@pytest.mark.parametrize("encoding", WRAPPED)
def test_others_are_answered_while_a_message_is_decompressed(encoding):
    """The loop answers both calls by itself, and that of the message once it has seen a wrong checksum at its end."""
    message = WRAPPED[encoding](bytes(LARGE))
    broken = message[:-4] + bytes(4) if encoding == "deflate" else message[:-8] + bytes(4) + message[-4:]
    with (
        LoopServer(max_message=LARGE) as server,
        Peer(server.address) as peer,
        Peer(server.address) as neighbour,
    ):
        neighbour.round_trip()
        peer.round_trip()
        for _ in range(ATTEMPTS):  # this process may have to wait for a core for so long that all is over
            stream, last = begin(peer, broken, encoding)
            peer.frame(DATA, END_STREAM, stream, last)
            assert neighbour.ask("/test/None").status == UNIMPLEMENTED
            before = is_unanswered(peer)
            assert peer.answer(stream).status == INTERNAL
            if before:
                break
        else:
            raise AssertionError("the neighbour was never answered before the large message")


@pytest.mark.parametrize("encoding", WRAPPED)
@pytest.mark.parametrize("end", ["reset", "deadline", "connection"])
def test_a_call_that_ends_while_its_message_is_decompressed_leaves_nothing(encoding, end):
    message = WRAPPED[encoding](bytes(LARGE))
    with LoopServer(tell_length, max_message=LARGE) as server:
        with Peer(server.address) as peer:
            peer.round_trip()
            stream, last = begin(peer, message, encoding, "50m" if end == "deadline" else None)
            peer.frame(DATA, END_STREAM, stream, last)
            if end == "reset":
                peer.frame(RST_STREAM, 0, stream, struct.pack(">I", 8))
            elif end == "deadline":
                assert peer.answer(stream).status in (OK, DEADLINE_EXCEEDED)
            if end != "connection":
                server.wait_idle_of(peer)
        server.wait_idle()


@pytest.mark.parametrize("encoding", WRAPPED)
def test_messages_of_a_stream_keep_their_order_while_one_is_decompressed(encoding):
    """What comes meanwhile waits, the end of the stream too."""
    messages = [b"first", bytes(2**22), *(b"%d" % number for number in range(100)), b"x" * 2**17]

    def digest(received, context):
        for message in received:
            context.send(b"%d %d" % (len(message), zlib.crc32(message)))
        context.finish()

    with LoopServer(stream=digest) as server, Peer(server.address) as peer:
        peer.round_trip()
        stream, parts = peer.call(STREAM, grpc_encoding=encoding), []
        for message in messages:
            packed = WRAPPED[encoding](message) if len(message) != 5 else message
            parts.append(struct.pack(">BI", packed is not message, len(packed)) + packed)
        whole = b"".join(parts)
        for at in range(0, len(whole), LARGEST_FRAME):
            last = at + LARGEST_FRAME >= len(whole)
            peer.frame(DATA, END_STREAM if last else 0, stream, whole[at : at + LARGEST_FRAME])
        answer = peer.answer(stream)
        assert answer.status == OK
        assert answer.messages == [b"%d %d" % (len(message), zlib.crc32(message)) for message in messages]
        server.wait_idle_of(peer)


def with_size(message: bytes, size: int) -> bytes:
    """A message of gzip that says at its end that it becomes so many bytes."""
    return message[:-4] + struct.pack("<I", size)


@pytest.mark.parametrize(
    ("made", "status"),
    [
        (gzip.compress(bytes(2**24 + 1), mtime=0), RESOURCE_EXHAUSTED),
        (with_size(gzip.compress(bytes(2**24 + 1), mtime=0), 7), INTERNAL),
        (with_size(gzip.compress(bytes(100), mtime=0), 99), INTERNAL),
        (with_size(gzip.compress(bytes(100), mtime=0), 101), INTERNAL),
        (with_size(gzip.compress(bytes(100), mtime=0), 2**31), INTERNAL),  # so small that it cannot become as much
    ],
)
def test_a_message_that_becomes_too_large_or_not_what_it_says_is_refused(made, status):
    with LoopServer(tell_length, max_message=2**24) as server, Peer(server.address) as peer:
        peer.round_trip()
        stream = peer.call(ECHO, grpc_encoding="gzip")
        peer.message(stream, made, flag=1)
        assert peer.answer(stream).status == status
        server.wait_idle_of(peer)


def test_what_a_message_becomes_counts_with_the_messages_under_way():
    """Each is allowed, and all of them are more than the server holds."""
    gate = threading.Event()

    def wait(message, context):
        gate.wait(60)
        tell_length(message, context)

    packed = zlib.compress(bytes(2**20))
    with LoopServer(wait, max_held=2**23) as server, Peer(server.address) as peer:
        peer.round_trip()
        streams = [peer.call(ECHO, grpc_encoding="deflate") for _ in range(16)]
        for stream in streams:
            peer.message(stream, packed, flag=1)
        refused = 0
        for got in peer.frames():
            refused += peer.answers[got.stream].headers.get("grpc-status") == str(RESOURCE_EXHAUSTED)
            if refused == 8:
                break
        assert server.held <= 2**23
        gate.set()
        assert {peer.answer(stream).status for stream in streams} == {OK, RESOURCE_EXHAUSTED}
        server.wait_idle_of(peer)


def test_one_connection_cannot_take_the_memory_of_all_messages():
    """It sends messages that never end until no more are taken: others are answered, with messages of the same size."""
    size = 50_000
    with LoopServer(max_held=2**20) as server, Peer(server.address) as greedy:
        greedy.round_trip()
        streams = [greedy.call(ECHO) for _ in range(40)]
        for stream in streams:
            greedy.message(stream, bytes(size), end=False, size=size + 1)
        greedy.round_trip()
        refused = [stream for stream, answer in greedy.answers.items() if "grpc-status" in answer.headers]
        assert refused and {greedy.answers[stream].status for stream in refused} == {RESOURCE_EXHAUSTED}
        assert server.held <= 2**19
        others = []
        try:
            for _ in range(3):  # each leaves as much to the next as it may take itself
                others.append(Peer(server.address))
                others[-1].round_trip()
                assert others[-1].ask(ECHO, bytes(size)).messages == [bytes(size)]
                others[-1].message(others[-1].call(ECHO), bytes(size), end=False, size=size + 1)
        finally:
            for other in others:
                other.socket.close()
        until(lambda: server.connections == 1)
        assert greedy.ask(ECHO, bytes(1000)).status in (OK, RESOURCE_EXHAUSTED)


@pytest.mark.parametrize("count", [1000])
def test_calls_that_take_many_turns_are_all_answered(count):
    """They come in one piece, and are begun in many."""
    with LoopServer(max_streams=count, queue=2 * count) as server, Peer(server.address) as peer:
        peer.round_trip()
        streams = [peer.call(ECHO) for _ in range(count)]
        parts = (struct.pack(">BI", 0, 2) + struct.pack(">H", number) for number in range(count))
        frames = [
            struct.pack(">I", 7)[1:] + struct.pack(">BBI", DATA, END_STREAM, stream) + part
            for stream, part in zip(streams, parts, strict=True)
        ]
        peer.send(b"".join(frames))
        answers = [peer.answer(stream).messages for stream in streams]
        assert answers == [[struct.pack(">H", number)] for number in range(count)]
        server.wait_idle_of(peer)


def test_what_follows_a_message_that_is_being_decompressed_is_refused_and_leaves_nothing():
    slow = b"\x78\x9c" + b"\0\0\0\xff\xff" * 40_000 + zlib.compress(b"x")[2:]  # empty blocks
    with LoopServer() as server, Peer(server.address) as peer:
        peer.round_trip()
        stream = peer.call(ECHO, grpc_encoding="deflate")
        whole = struct.pack(">BI", 1, len(slow)) + slow
        frames = [frame(DATA, 0, stream, whole[at : at + LARGEST_FRAME]) for at in range(0, len(whole), LARGEST_FRAME)]
        peer.send(b"".join(frames) + frame(DATA, END_STREAM, stream, struct.pack(">BI", 0, 1) + b"x"))
        assert peer.answer(stream).status == UNIMPLEMENTED
        peer.round_trip()
        assert server.held == 0


@pytest.mark.parametrize("encoding", WRAPPED)
def test_a_call_whose_last_bytes_use_up_its_turn_is_answered_though_no_more_comes(encoding):
    message = WRAPPED[encoding](bytes(2**24))  # in some frames, each of them more than a turn's work
    with LoopServer(tell_length) as server, Peer(server.address) as peer:
        for _ in range(5):
            stream = peer.call(ECHO, grpc_encoding=encoding)
            whole = struct.pack(">BI", 1, len(message)) + message
            for at in range(0, len(whole), LARGEST_FRAME):
                last = at + LARGEST_FRAME >= len(whole)
                peer.frame(DATA, END_STREAM * last, stream, whole[at : at + LARGEST_FRAME])
            assert peer.answer(stream).messages == [str(2**24).encode()]
