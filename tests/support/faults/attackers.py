"""Attacks on a server by callers without any right, each in a process of its own, bounded in time and in count.

    python -m tests.support.faults.attackers NAME ADDRESS SECONDS [--ca FILE] [--key FILE] [--program FILE] [--rest]

goes on for so long and prints, as JSON, what it sent and how often the server ended a connection. Frames are made
beforehand, so that one process can send as fast as a server reads.
"""

import argparse
import errno
import json
import os
import resource
import select
import socket
import ssl
import struct
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.peers.http2_peer import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PREFACE,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    literal,
    request_headers,
)

INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM_INFER = "/inference.GRPCInferenceService/ModelStreamInfer"
WATCH = "/grpc.health.v1.Health/Watch"
CALLS = 512  # of a connection: as many as the server lets be open
GREETING = PREFACE + frame(SETTINGS)
HALF_REQUEST = (
    b"POST /v2/models/iris/infer HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
)
HALF_CALL = frame(HEADERS, END_HEADERS, 1, request_headers(INFER, {})) + frame(DATA, 0, 1, struct.pack(">BI", 0, 999))
PAUSE = 0.05  # between a connection that the server has ended and the next
FIRST_RATE, RATE = 4000, 500  # connections a second that a crowd opens, until it is all there and then


@dataclass
class Target:
    """What is attacked, and until when."""

    address: str
    until: float  # of time.monotonic
    tls: ssl.SSLContext | None = None
    key: str = ""  # the file of the server's key
    program: str = ""  # that of key_updates.c
    rest: bool = False  # speaks HTTP/1.1
    opened: int = 0
    ended: int = 0  # connections, by the server
    sent: int = 0  # of what the attack consists of
    sockets: list[socket.socket] = field(default_factory=list)

    def over(self) -> bool:
        return time.monotonic() >= self.until

    def connect(self, first: bytes = b"", agreed: bool = True) -> socket.socket:
        """A connection that has sent something; not `agreed`: in plain, though the port may have TLS."""
        host, _, port = self.address.rpartition(":")
        made = socket.create_connection((host, int(port)), timeout=5)
        if self.tls is not None and agreed:
            made = self.tls.wrap_socket(made, server_hostname="localhost")
        self.opened += 1
        if first:
            made.sendall(first)
        return made

    def hold(self, first: bytes = b"", agreed: bool = True) -> bool:
        """Open a connection and keep it; whether that was possible."""
        try:
            self.sockets.append(self.connect(first, agreed))
        except OSError as error:
            if error.errno not in (errno.ECONNRESET, errno.EPIPE, errno.ECONNREFUSED, errno.EADDRNOTAVAIL, None):
                raise
            return False
        return True

    def drop_ended(self) -> None:
        """Close what the server has closed, and take what it sent."""
        poll = select.poll()
        numbers = {}
        for held in self.sockets:
            numbers[held.fileno()] = held
            poll.register(held, select.POLLIN)
        for number, _ in poll.poll(0):
            held = numbers[number]
            held.setblocking(False)
            with suppress(BlockingIOError, ssl.SSLWantReadError):
                try:
                    while data := held.recv(65_536):
                        pass
                except (ConnectionError, ssl.SSLError) as error:
                    if isinstance(error, ssl.SSLWantReadError):
                        raise
                    data = b""
                if not data:
                    self.ended += 1
                    self.sockets.remove(held)
                    held.close()
                    continue
            held.settimeout(5)


def key_updates(target: Target) -> None:
    """15: demand new keys of TLS, and nothing else."""
    port, protocol = target.address.rpartition(":")[2], "http/1.1" if target.rest else "h2"
    while not target.over():
        left = max(0.1, target.until - time.monotonic())
        command = [target.program, port, "100000000", protocol]
        target.opened += 1
        with suppress(subprocess.TimeoutExpired):
            done = subprocess.run(command, capture_output=True, text=True, timeout=left)
            target.ended += 1
            target.sent += int(done.stdout or 0)
        time.sleep(PAUSE)


def calls_with_metadata() -> bytes:
    """So many calls without a message, whose headers are 7 kB each and, but for the first, 8 bytes on the wire."""
    added = [
        *((":path", INFER), (":authority", "localhost")),
        *(("te", "trailers"), ("content-type", "application/grpc"), ("x", "a" * 3700)),
    ]
    first = b"\x83\x86" + b"".join(b"\x40" + literal(name, value)[1:] for name, value in added)
    # By number of HPACK's tables: POST and http; what was added, the last of which is 62, and that twice.
    again = bytes([0x83, 0x86, *(0x80 | number for number in (66, 65, 64, 63, 62, 62))])
    frames = [frame(HEADERS, END_HEADERS, 1, first)]
    frames += [frame(HEADERS, END_HEADERS, number, again) for number in range(3, 2 * CALLS, 2)]
    return b"".join(frames)


def metadata(target: Target) -> None:
    """16: calls that never send a message on each of many connections."""
    data = GREETING + calls_with_metadata()
    while not target.over():
        if len(target.sockets) < 400 and target.hold(data):
            target.sent += len(data)
        else:
            time.sleep(PAUSE)
        if target.opened % 20 == 0:
            target.drop_ended()


def half_requests(target: Target) -> None:
    """17: a thousand requests that never end."""
    _crowd(target, 1000, [HALF_REQUEST])


def idle(target: Target) -> None:
    """18: thousands of connections that do nothing, or have sent the half of a call."""
    parts = [b"", HALF_REQUEST] if target.rest else [b"", GREETING, GREETING + HALF_CALL]
    _crowd(target, 8000, parts)


def _crowd(target: Target, most: int, parts: list[bytes]) -> None:
    """Hold so many connections, and open others for those that the server ends."""
    begun = looked = time.monotonic()
    while not target.over():
        passed = time.monotonic() - begun
        due = passed * FIRST_RATE if target.opened < most else most + (passed - most / FIRST_RATE) * RATE
        if len(target.sockets) < most and target.opened < due:
            first = parts[target.opened % len(parts)]
            # A handshake costs more than all else here: a few of the connections agree on TLS.
            agrees = target.tls is None or target.opened % 10 < 2
            target.sent += target.hold(first if agrees else b"", agrees and bool(first))
        else:
            time.sleep(0.001)
        if time.monotonic() > looked + 0.5:
            target.drop_ended()
            looked = time.monotonic()


def key_pipe(target: Target) -> None:
    """20: the key's file has become a pipe that nobody writes to, and clients connect."""
    key = Path(target.key)
    key.unlink()
    os.mkfifo(key)
    while not target.over():
        with suppress(OSError):
            target.connect(b"" if target.rest else GREETING).close()
            target.sent += 1
        time.sleep(PAUSE)


def overflow(target: Target) -> None:
    """21: calls whose window is overrun at once, which the server must reset."""
    headers, window = request_headers(INFER, {}), struct.pack(">I", 2**31 - 1)
    _flood(
        target, lambda number: frame(HEADERS, END_HEADERS, number, headers) + frame(WINDOW_UPDATE, 0, number, window)
    )


def pages(target: Target) -> None:
    """21: requests of a browser, each of which the server refuses."""
    headers = request_headers("/", {"method": "GET"})
    _flood(target, lambda number: frame(HEADERS, END_HEADERS | END_STREAM, number, headers))


def _flood(target: Target, part: Callable[[int], bytes]) -> None:
    """The same for one stream after another, as fast as the server reads, on one connection after another."""
    blocks = [b"".join(part(number) for number in range(at, at + 200, 2)) for at in range(1, 100_000, 200)]
    while not target.over():
        with suppress(OSError), target.connect(GREETING) as made:
            for block in blocks:
                made.sendall(block)
                target.sent += 100
                while select.select([made], [], [], 0)[0] and made.recv(2**20):
                    pass
                if target.over():
                    return
        target.ended += 1
        time.sleep(PAUSE)


def streams(target: Target) -> None:
    """22: streaming calls of one connection that never send a message; a half is more than its share."""
    calls = [frame(HEADERS, END_HEADERS, number, request_headers(STREAM_INFER, {})) for number in range(1, 81, 2)]
    target.hold(GREETING + b"".join(calls))
    target.sent = len(calls)
    while not target.over():
        time.sleep(PAUSE)
        target.drop_ended()


ATTACKS: dict[str, Callable[[Target], None]] = {
    made.__name__: made for made in (key_updates, metadata, half_requests, idle, key_pipe, overflow, pages, streams)
}


def trusting(ca: str, rest: bool = False) -> ssl.SSLContext | None:
    """TLS that trusts the authority in a file; None without one."""
    if not ca:
        return None
    made = ssl.create_default_context(cafile=ca)
    made.set_alpn_protocols(["http/1.1" if rest else "h2"])
    return made


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=ATTACKS)
    parser.add_argument("address")
    parser.add_argument("seconds", type=float)
    for option in ("--ca", "--key", "--program"):
        parser.add_argument(option, default="")
    parser.add_argument("--rest", action="store_true")
    given = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    target = Target(
        given.address,
        time.monotonic() + given.seconds,
        tls=trusting(given.ca, given.rest),
        key=given.key,
        program=given.program,
        rest=given.rest,
    )
    ATTACKS[given.name](target)
    print(json.dumps({"opened": target.opened, "ended": target.ended, "sent": target.sent}))


if __name__ == "__main__":
    main()
