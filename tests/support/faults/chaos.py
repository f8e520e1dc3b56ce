"""A proxy between clients and a server that passes bytes on in pieces, late, and cuts connections, at random."""

import random
import socket
import struct
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Self

_LONGEST = 0.01  # seconds that a piece waits
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER, by which closing resets the connection


class Chaos:
    """Listens at `address`; `passed` bytes, `delays` and `cuts` are counted."""

    def __init__(self, target: str, seed: int = 0) -> None:
        self.passed = self.delays = self.cuts = 0
        self._target, self._random = target, random.Random(seed)
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.1)
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        host, _, port = self._target.rpartition(":")
        while not self._over.is_set():
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            try:
                server = socket.create_connection((host, int(port)), 10)
            except OSError:
                client.close()
                continue
            for end in (client, server):
                end.settimeout(0.1)
            left = [int(self._random.expovariate(1 / 20_000))]  # bytes, of both directions
            pairs = ((client, server), (server, client))
            threads = [threading.Thread(target=self._pass, args=(*pair, left)) for pair in pairs]
            for thread in threads:
                thread.start()
            self._threads = [thread for thread in self._threads if thread.is_alive()] + threads

    def _pass(self, source: socket.socket, to: socket.socket, left: list[int]) -> None:
        while not self._over.is_set():
            try:
                data = source.recv(self._random.choice((1, 7, 100, 5000)))
                if not data:
                    with suppress(OSError):
                        to.shutdown(socket.SHUT_WR)
                    return
                if self._random.random() < 0.1:
                    self.delays += 1
                    time.sleep(self._random.uniform(0, _LONGEST))
                to.sendall(data[: max(0, left[0])])
            except TimeoutError:
                continue
            except OSError:
                break
            self.passed += len(data)
            left[0] -= len(data)
            if left[0] <= 0:
                self.cuts += 1
                break
        for end in (source, to):
            with suppress(OSError):
                if self._random.random() < 0.5:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                end.shutdown(socket.SHUT_RDWR)
            with suppress(OSError):
                end.close()
