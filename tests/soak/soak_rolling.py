"""Servers are replaced one after another and scaled up and down, as a Deployment does it, under load: what is lost.

    python -m tests.soak.soak_rolling

SOAK_SECONDS says how long, ten minutes by default. A new server is ready before an old one goes; the old one's preStop
is 0.3 s here, then comes SIGTERM. Servers live at addresses that clients know, and clients look for one that is down
every 100 ms: a client of a headless Service is told of a new one instead.

There are four kinds of clients: gRPC with round_robin and a retry policy; gRPC that has none; kanserve's client;
HTTP/1.1 on connections that are kept open, which goes to the next address when one is refused, closed, or answers 503.
None of them may lose a call.
"""

import http.client
import itertools
import json
import os
import random
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np

from kanserve import repository
from kanserve.client import Client
from kanserve.errors import KanserveError
from kanserve.inference import wire
from kanserve.network.evaluate import evaluate
from kanserve.serve.settings import Settings
from tests.support.networks import kans
from tests.support.servers import rest_port, server_process, serving

PRE_STOP, BACK_OFF = 0.3, 100  # seconds, milliseconds
MOST = 4  # servers at a time: three, and one that replaces another
CALLERS = {"gRPC": 2, "kanserve.Client": 2, "REST": 2, "gRPC that repeats nothing": 1}
_BALANCED: dict[str, Any] = {"loadBalancingConfig": [{"round_robin": {}}]}
_POLICY = {
    "maxAttempts": 4,
    "initialBackoff": "0.05s",
    "maxBackoff": "1s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
_REPEATED = _BALANCED | {"methodConfig": [{"name": [{}], "retryPolicy": _POLICY}]}
_MODEL = "fox"
Address = tuple[int, int]  # ports of gRPC and of HTTP


@dataclass
class Seen:
    """What the callers of one kind saw."""

    calls: int = 0
    repeated: int = 0  # by the client
    wrong: int = 0  # answers that are not the network's
    lost: Counter[str] = field(default_factory=Counter)  # by error

    def add(self, other: "Seen") -> None:
        self.calls += other.calls
        self.repeated += other.repeated
        self.wrong += other.wrong
        self.lost += other.lost

    def __str__(self) -> str:
        lost = f" {dict(self.lost)}" if self.lost else ""
        return f"{self.calls} calls, {self.lost.total()} lost{lost}, {self.repeated} repeated, {self.wrong} wrong"


class Deployment:
    """Servers, each at one of a few addresses."""

    def __init__(self, models: str, addresses: list[Address], workers: int) -> None:
        self._models, self._free, self._workers = models, list(addresses), workers
        self._up: list[tuple[server_process.Process, Address, ExitStack]] = []
        self.replaced = self.scaled = 0

    def start(self) -> None:
        """One more, once it is ready."""
        address = self._free.pop(0)
        stack = ExitStack()
        wanted = Settings(self._models, port=address[0], http_port=address[1], workers=self._workers)
        process, _ = stack.enter_context(server_process.served(wanted))
        while _status(address) != 200:
            time.sleep(0.01)
        self._up.append((process, address, stack))

    def end(self) -> None:
        """The oldest goes."""
        process, address, stack = self._up.pop(0)
        with stack:
            time.sleep(PRE_STOP)
            process.send_signal(signal.SIGTERM)
            code = process.wait(60)
            assert code == 0, server_process.errors_of(process).read()
        self._free.append(address)

    def update(self) -> None:
        """Every server is replaced, one after another."""
        for _ in range(len(self._up)):
            self.start()
            self.end()
            self.replaced += 1

    def scale(self, to: int) -> None:
        while len(self._up) < to:
            self.start()
            self.scaled += 1
        while len(self._up) > to:
            self.end()
            self.scaled += 1


def rolled(seconds: float, workers: int = 0) -> tuple[dict[str, Seen], Deployment]:
    """What each kind of caller saw of two servers that are updated, become three and one, and two again."""
    seen = {name: Seen() for name in CALLERS}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        repository.publish(folder, _MODEL, serving.artifact("iris"))
        addresses = _free_ports(MOST)
        servers = Deployment(folder, addresses, workers)
        stack.callback(servers.scale, 0)
        servers.scale(2)
        servers.scaled = 0
        with _calling(addresses, seen):
            until = time.monotonic() + seconds
            for step in itertools.cycle([servers.update, *(lambda to=to: servers.scale(to) for to in (3, 1, 2))]):
                step()
                if time.monotonic() > until:
                    break
    return seen, servers


@contextmanager
def _calling(addresses: list[Address], seen: dict[str, Seen]) -> Iterator[None]:
    over, lock = threading.Event(), threading.Lock()
    ways = dict(zip(CALLERS, (_by_grpc, _by_client, _by_rest, _by_plain_grpc), strict=True))

    def call(name: str, number: int) -> None:
        mine = Seen()
        with ways[name](addresses, mine) as predict:
            _calls(predict, mine, over, number)
        with lock:
            seen[name].add(mine)

    threads = [
        threading.Thread(target=call, args=(name, number)) for name, count in CALLERS.items() for number in range(count)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def _calls(predict: Callable[[Any], Any], seen: Seen, over: threading.Event, number: int) -> None:
    """Calls of one caller, one after another."""
    kan = kans.classifier()
    rows = np.random.default_rng(number).uniform(-1, 1, (100, 2, len(kan.inputs)))
    wanted = [evaluate(kan, x) for x in rows]
    for at in itertools.cycle(range(len(rows))):
        if over.is_set():
            return
        seen.calls += 1
        try:
            y = predict(rows[at])
        except (KanserveError, grpc.RpcError, OSError) as error:
            code = error.code().name if isinstance(error, grpc.Call) else type(error).__name__
            details = error.details() if isinstance(error, grpc.Call) else str(error)
            seen.lost[f"{code}: {details}"[:120]] += 1
        else:
            seen.wrong += not np.allclose(np.reshape(y, wanted[at].shape), wanted[at], rtol=1e-9, atol=1e-12)


@contextmanager
def _by_grpc(
    addresses: list[Address], seen: Seen, config: dict[str, Any] = _REPEATED
) -> Iterator[Callable[[Any], Any]]:
    targets = ",".join(f"127.0.0.1:{port}" for port, _ in addresses)
    options: list[tuple[str, Any]] = [
        (f"grpc.{name}_reconnect_backoff_ms", BACK_OFF) for name in ("initial", "min", "max")
    ]
    options += [("grpc.service_config", json.dumps(config)), ("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(f"ipv4:{targets}", options) as channel:
        grpc.channel_ready_future(channel).result(60)
        infer = wire.stub(channel).ModelInfer
        yield lambda x: np.frombuffer(infer(serving.infer_request(_MODEL, x), timeout=30).raw_output_contents[0])


def _by_plain_grpc(addresses: list[Address], seen: Seen) -> AbstractContextManager[Callable[[Any], Any]]:
    return _by_grpc(addresses, seen, _BALANCED)


@contextmanager
def _by_client(addresses: list[Address], seen: Seen) -> Iterator[Callable[[Any], Any]]:
    with Client("ipv4:" + ",".join(f"127.0.0.1:{port}" for port, _ in addresses)) as client:
        yield lambda x: client.predict(_MODEL, x)
        seen.repeated += client.retried


@contextmanager
def _by_rest(addresses: list[Address], seen: Seen) -> Iterator[Callable[[Any], Any]]:
    with ExitStack() as stack:
        connections = [http.client.HTTPConnection("127.0.0.1", port, timeout=30) for _, port in addresses]
        for connection in connections:
            stack.callback(connection.close)
        turns = itertools.cycle(connections)

        def predict(x: Any) -> Any:
            body, until = json.dumps(rest_port.infer(x)), time.monotonic() + 30
            for _ in itertools.count():
                connection = next(turns)
                had = connection.sock is not None
                try:
                    connection.request("POST", f"/v2/models/{_MODEL}/infer", body, {"Content-Type": "application/json"})
                    response = connection.getresponse()
                    answer = json.loads(response.read())
                    if response.status == 200:
                        return next(output["data"] for output in answer["outputs"] if output["name"] == "y")
                    if response.status != 503:
                        raise OSError(f"{response.status} {answer}")
                    seen.repeated += 1
                except (ConnectionError, http.client.HTTPException):  # the next address then
                    connection.close()
                    seen.repeated += had  # an address at which there was nothing is no call
                if time.monotonic() > until:
                    raise OSError("no address answers")

        yield predict


def _free_ports(count: int) -> list[Address]:
    """Pairs of ports that nobody has now, and that the kernel gives no client."""
    free: list[int] = []
    ports = iter(random.sample(range(20_000, 32_000), 1000))
    while len(free) < 2 * count:
        with suppress(OSError), socket.create_server(("127.0.0.1", next(ports))) as one:
            free.append(one.getsockname()[1])
    return list(zip(free[::2], free[1::2], strict=True))


def _status(address: Address) -> int:
    try:
        return rest_port.call(f"127.0.0.1:{address[1]}", "/v2/health/ready").status
    except OSError:
        return 0


def main() -> int:
    seconds = float(os.environ.get("SOAK_SECONDS", "600"))
    seen, servers = rolled(seconds)
    good = True
    for name, one in seen.items():
        held = not one.lost and not one.wrong and one.calls > 0
        good &= held
        print(f"{'held' if held else 'BROKEN'}: {name}: {one}", flush=True)
    calls = sum(one.calls for one in seen.values())
    print(f"{calls} calls, {servers.replaced} servers replaced, {servers.scaled} scaled up or down, {seconds:.0f} s")
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
