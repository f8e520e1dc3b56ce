"""Workers that are killed and servers that are told to end, under load: what clients see of it.

    python -m tests.soak.soak_workers [SECONDS]

prints one line for each of the two, with its numbers; the exit code is 1 when they are not what they must be. A worker
is killed every 250 ms; callers make 200 requests a second together, each by a connection that it keeps until it breaks.
The test of killed workers kills after so many answers instead, with callers who have time, so that no clock judges.
"""

import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from kanserve import repository
from kanserve.client import Client
from kanserve.errors import KanserveError, UnreachableError
from kanserve.inference import grpc_service_pb2 as pb
from kanserve.inference import wire
from kanserve.network.evaluate import evaluate
from kanserve.serve.processes.lifecycle import FAREWELL
from kanserve.serve.settings import Settings
from tests.support.networks import kans
from tests.support.servers import server_process, serving

RATE, CALLERS, KILL_EVERY = 200.0, 8, 0.25
_OWN = [("grpc.use_local_subchannel_pool", 1)]


@dataclass
class Seen:
    """What callers saw; they share it, each with the lock held."""

    requests: int = 0
    repeated: int = 0  # by the client, because the server could not be reached
    failed: dict[str, int] = field(default_factory=dict)  # by error, repeated or not
    wrong: int = 0  # answers that are not the network's
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass
class Killed:
    """What came of killing workers."""

    seen: Seen
    kills: int
    seconds: list[float]  # from each kill until there was a worker in that place that served

    @property
    def good(self) -> bool:
        """By what a user notices: few requests fail, and a new worker serves within a second."""
        seen = self.seen
        few = sum(seen.failed.values()) <= 0.01 * seen.requests
        return few and not seen.wrong and set(seen.failed) <= {UnreachableError.__name__} and self.middle < 1.0

    @property
    def middle(self) -> float:
        return float(np.median(self.seconds))

    def __str__(self) -> str:
        seen = self.seen
        failed, repeated = (100 * count / seen.requests for count in (sum(seen.failed.values()), seen.repeated))
        return (
            f"{self.kills} workers killed, {seen.requests} requests: {failed:.2f} % failed {seen.failed or ''}, "
            f"{repeated:.2f} % were made again by the client, {seen.wrong} wrong answers; "
            f"a new worker served after {self.middle:.2f} s in the middle, {max(self.seconds):.2f} s at most"
        )


@dataclass
class Ended:
    """What came of a SIGTERM under load."""

    in_flight: int
    answered: int
    code: int
    seconds: float

    @property
    def good(self) -> bool:
        return self.code == 0 and self.answered == self.in_flight > 0

    def __str__(self) -> str:
        return (
            f"SIGTERM: {self.answered} of {self.in_flight} calls in flight were answered, exit code {self.code} "
            f"after {self.seconds:.2f} s"
        )


def killed(
    count: int,
    workers: int = 2,
    every: float = KILL_EVERY,
    answers: int = 0,
    rate: float = RATE,
    timeout: float = 10.0,
    retries: int = 4,
) -> Killed:
    """Kill a worker at random so many times, every so many seconds and after so many answers, under load.

    The callers make so many requests a second together, and give each so much time and so many repetitions.
    """
    seen, over, kills, took = Seen(), threading.Event(), 0, list[float]()
    generator = random.Random(1)
    with _serving(workers) as (running, address), ExitStack() as stack:
        arguments = (address, seen, over, CALLERS / rate, timeout, retries)
        threads = [threading.Thread(target=_call, args=(*arguments, n)) for n in range(CALLERS)]
        silent = threading.Thread(target=lambda: server_process.errors_of(running).read())
        for thread in (*threads, silent):
            thread.start()
        stack.callback(over.set)
        begun = time.monotonic()
        for n in range(1, count + 1):
            time.sleep(max(0.0, begun + n * every - time.monotonic()))  # the load is what happens meanwhile
            wanted = seen.requests + answers
            server_process.until(lambda wanted=wanted: seen.requests >= wanted)
            if there := server_process.workers(running.pid):
                os.kill(generator.choice(there), signal.SIGKILL)
                kills += 1
                took.append(_replaced(running.pid, there))
        over.set()
        for thread in threads:
            thread.join()
        running.send_signal(signal.SIGTERM)
        assert running.wait(60) == 0
        silent.join()
    return Killed(seen, kills, took)


def _replaced(supervisor: int, before: list[int]) -> float:
    """Seconds until there is a new one, and it listens."""
    begun = time.monotonic()
    while True:
        new = set(server_process.workers(supervisor)) - set(before)
        if new and all(map(_listens, new)):
            return time.monotonic() - begun
        if time.monotonic() - begun > 60:
            raise AssertionError("no new worker within 60 seconds")
        time.sleep(0.002)


def _listens(process: int) -> bool:
    """Whether it has a socket that listens."""
    try:
        inodes = {os.readlink(f"/proc/{process}/fd/{descriptor}") for descriptor in os.listdir(f"/proc/{process}/fd")}
        lines = [line for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    except OSError:
        return False
    return any(line.split()[3] == "0A" and f"socket:[{line.split()[9]}]" in inodes for line in lines)


def ended(workers: int = 2, calls: int = 12) -> Ended:
    """SIGTERM while calls are in flight, each of which takes its time; fewer than one worker refuses."""
    with tempfile.TemporaryDirectory() as folder:
        gate = Path(folder, "gate")
        gate.mkdir()
        repository.publish(f"{folder}/models", "held", serving.held(gate))
        with server_process.served(_settings(f"{folder}/models", workers)) as (running, address), ExitStack() as stack:
            waiting = []
            for _ in range(calls):
                channel = stack.enter_context(grpc.insecure_channel(address, _OWN))
                grpc.channel_ready_future(channel).result(60)
                request = _request("held", np.full((1, 1), serving.WAIT))
                waiting.append(wire.stub(channel).ModelInfer.future(request, timeout=60))
            server_process.until(lambda: len(list(gate.iterdir())) == calls)  # all are being computed
            begun = time.monotonic()
            running.send_signal(signal.SIGTERM)
            server_process.until(lambda: _stops(wire.stub(channel)))
            time.sleep(2 * FAREWELL)  # longer than answers that are ready are given to leave
            (gate / "go").touch()
            answered = sum(_is_answered(future) for future in waiting)
            return Ended(calls, answered, running.wait(60), time.monotonic() - begun)


def _stops(stub: Any) -> bool:
    """Whether the server says that it ends, or takes no new connection."""
    try:
        return not stub.ServerReady(pb.ServerReadyRequest(), timeout=60).ready
    except grpc.RpcError as error:
        return bool(error.code() is grpc.StatusCode.UNAVAILABLE)


def _is_answered(call: Any) -> bool:
    return call.exception(60) is None


@contextmanager
def _serving(workers: int) -> Iterator[tuple[server_process.Process, str]]:
    with tempfile.TemporaryDirectory() as folder:
        repository.publish(folder, "fox", serving.artifact("iris"))
        with server_process.served(_settings(folder, workers)) as served:
            yield served


def _settings(folder: str, workers: int) -> Settings:
    return Settings(repository=folder, port=0, workers=workers)


def _call(
    address: str, seen: Seen, over: threading.Event, period: float, timeout: float, retries: int, number: int
) -> None:
    """One caller: a request every so many seconds."""
    kan, generator = kans.classifier(), np.random.default_rng(number)
    rows = generator.uniform(-1, 1, (100, 2, len(kan.inputs)))
    wanted = [evaluate(kan, row) for row in rows]
    due = time.monotonic() + period * generator.random()
    with Client(address, timeout=timeout, retries=retries, channels=2) as client:
        while not over.wait(max(0.0, due - time.monotonic())):
            due += period
            at = int(generator.integers(len(rows)))
            failed, wrong = "", False
            try:
                wrong = not np.allclose(client.predict("fox", rows[at]), wanted[at], rtol=1e-9, atol=1e-12)
            except KanserveError as error:
                failed = type(error).__name__
            with seen.lock:
                seen.requests += 1
                seen.wrong += wrong
                if failed:
                    seen.failed[failed] = seen.failed.get(failed, 0) + 1
        with seen.lock:
            seen.repeated += client.retried


def _request(model: str, x: np.ndarray[Any, Any]) -> pb.ModelInferRequest:
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP64", shape=x.shape)
    wanted = pb.ModelInferRequest.InferRequestedOutputTensor(name="y")
    return pb.ModelInferRequest(
        model_name=model, inputs=[tensor], outputs=[wanted], raw_input_contents=[x.astype("<f8").tobytes()]
    )


def main(arguments: list[str]) -> int:
    results: list[Killed | Ended] = [
        killed(round((float(arguments[0]) if arguments else 30.0) / KILL_EVERY) - 1),
        ended(),
    ]
    for result in results:
        print(result, flush=True)
    return 0 if all(result.good for result in results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
