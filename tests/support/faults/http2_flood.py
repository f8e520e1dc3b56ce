"""What a server must refuse before it takes memory for it, messages and metadata of any size; and what it weighs."""

import os
import socket
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

from kanserve.serve import settings as settings_of
from kanserve.serve.settings import Settings
from tests.support.paths import ROOT

_AT_ONCE = 50
_SERVE = """
import sys
from kanserve.serve import server, settings

with server.start(settings.loads(sys.argv[1])) as running:
    print(running.address, flush=True)
    sys.stdin.read()
"""


@dataclass(frozen=True)
class Process:
    """A server in a process of its own."""

    address: str
    number: int

    def memory(self) -> int:
        """Bytes that it takes."""
        return self._kilobytes("VmRSS") * 1024

    def peak(self) -> int:
        """The most that it took since `forget`."""
        return self._kilobytes("VmHWM") * 1024

    def forget(self) -> None:
        Path(f"/proc/{self.number}/clear_refs").write_text("5")

    def _kilobytes(self, field: str) -> int:
        for line in Path(f"/proc/{self.number}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1])
        raise AssertionError(f"Linux says {field} of every process.")


@contextmanager
def process(settings: Settings) -> Iterator[Process]:
    command = [sys.executable, "-c", _SERVE, settings_of.dumps(settings)]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'exporters'}"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, env=environment, text=True
    ) as running:
        assert running.stdin is not None and running.stdout is not None
        address = running.stdout.readline().strip()
        assert address, "the server did not start"
        try:
            yield Process(address, running.pid)
        finally:
            running.stdin.close()
            running.wait(60)


def large_message(address: str, path: str, size: int) -> int:
    """Begin a call whose message has `size` bytes, and send as many as the server lets us; how many that were.

    In frames of HTTP/2 by hand: a library would need the memory that the server must not take.
    """
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=60) as one:
        headers = {":method": "POST", ":scheme": "http", ":path": path, ":authority": address}
        headers |= {"te": "trailers", "content-type": "application/grpc"}
        one.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(4, 0, 0, b""))
        one.sendall(_frame(1, 4, 1, b"".join(_literal(name, value) for name, value in headers.items())))
        sent = 5
        one.sendall(_frame(0, 0, 1, struct.pack(">BI", 0, size)))
        room = 65_535 - sent  # of the windows of the stream and of the connection, with which HTTP/2 begins
        stream = connection = room
        stream_open = True
        while stream_open and sent < size:
            part = min(16_384, stream, connection, size - sent)
            if part > 0:
                one.sendall(_frame(0, 0, 1, bytes(part)))
                sent, stream, connection = sent + part, stream - part, connection - part
                continue
            kind, number, body = _received(one)
            if kind == 8:  # WINDOW_UPDATE
                more = struct.unpack(">I", body)[0]
                stream, connection = (stream + more, connection) if number else (stream, connection + more)
            stream_open = not (number == 1 and kind in (1, 3)) and kind != 7  # trailers, RST_STREAM, GOAWAY
    return sent


def _frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return struct.pack(">I", len(body))[1:] + struct.pack(">BBI", kind, flags, stream) + body


def _literal(name: str, value: str) -> bytes:
    """A header as HPACK writes it without its tables and without Huffman's code; of at most 126 bytes each."""
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def _received(one: socket.socket) -> tuple[int, int, bytes]:
    head = _exactly(one, 9)
    if len(head) < 9:
        return 7, 0, b""
    (size, kind, number) = struct.unpack(">I", b"\0" + head[:3])[0], head[3], struct.unpack(">I", head[5:9])[0]
    return kind, number, _exactly(one, size)


def _exactly(one: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        try:
            more = one.recv(size - len(data))
        except ConnectionError:
            more = b""
        if not more:
            break
        data += more
    return data


def codes(channel: grpc.Channel, path: str, metadata: tuple[tuple[str, str], ...], count: int) -> dict[str, int]:
    """What `count` calls with this metadata were answered, `_AT_ONCE` at a time: grpc takes its time to refuse one."""
    call = channel.unary_unary(path, bytes, bytes)
    found: Counter[str] = Counter()
    for begun in range(0, count, _AT_ONCE):
        asked = [call.future(b"", timeout=60, metadata=metadata) for _ in range(min(_AT_ONCE, count - begun))]
        found.update(waiting_call.code().name for waiting_call in asked)
    return dict(found)


def packed_message(channel: grpc.Channel, path: str, size: int) -> str:
    """What a message of so many zeros is answered that travels as a thousandth of it."""
    call = channel.unary_unary(path, bytes, bytes)
    try:
        call(bytes(size), timeout=60, compression=grpc.Compression.Gzip)
    except grpc.RpcError as error:
        code: str = error.code().name
        return code
    return "OK"
