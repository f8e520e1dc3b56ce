"""Serving: requests of one row over loopback, against an empty grpcio handler that takes and gives the same messages.

Each server is a process of its own, driven by an unmodified tritonclient: first with 64 requests in flight, for which
the CPU time of the server's process is counted, then one after the other by kanserve's own client, for which the time
until the answer is. Rounds go from server to server. The client shares the machine's cores with the servers.

    OMP_NUM_THREADS=1 python benchmarks/serving.py [--small]
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Semaphore
from typing import Any

import numpy as np
import tritonclient.grpc as triton
from numpy.typing import NDArray

from benchmarks._timing import goal, machine, table
from kanserve import compile, publish
from kanserve.client import Client
from kanserve.ir import Kan
from kanserve.reference import evaluate
from kanserve.train import create

Array = NDArray[np.float64]

IN_FLIGHT = 64
MODELS = {"C model": "c_source", "ONNX model": "onnx_graph"}
EMPTY = "empty handler"


@dataclass(frozen=True)
class Server:
    """A server process that answers."""

    process: int
    address: str
    seconds_to_ready: float  # from the start of the process until it says that it serves


@dataclass
class Measured:
    """Of one server: the figures of every round, what its start took, what memory it held after the last."""

    cpu: list[float] = field(default_factory=list)  # seconds a request
    rate: list[float] = field(default_factory=list)  # requests a second
    crowded: list[float] = field(default_factory=list)  # seconds until the answer, each request with 64 in flight
    alone: list[float] = field(default_factory=list)  # the same, one after the other
    seconds_to_ready: float = 0.0
    megabytes: float = 0.0
    error: float = 0.0  # of the answers against the network, in parts of the largest


def main(arguments: list[str]) -> None:
    print(report(measure(small="--small" in arguments)))


def network() -> Kan:
    """As many inputs and edges as a small model in production has."""
    return create([4, 5, 1], grid=5, seed=0)


def measure(small: bool = False) -> Mapping[str, Measured]:
    rounds, crowded, alone = (1, 128, 20) if small else (7, 3000, 500)
    kan = network()
    x = np.random.default_rng(0).uniform(-1, 1, (50, len(kan.inputs)))
    measured = {name: Measured() for name in (EMPTY, *MODELS)}
    with ExitStack() as stack:
        servers = {EMPTY: stack.enter_context(running(["-m", "benchmarks._empty_server"]))}
        for name, kind in MODELS.items():
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            publish(folder, "kan", compile(kan, [kind], name="kan"))
            servers[name] = stack.enter_context(running(["-m", "kanserve", "serve", folder, "--port", "0"]))
        for name, server in servers.items():
            measured[name].seconds_to_ready = server.seconds_to_ready
            if name != EMPTY:
                measured[name].error = _error(server.address, kan, x)
        for server in servers.values():  # a server is slower at first: this does not count
            _crowd(server, x[:1], crowded, Measured())
        for _ in range(rounds):
            for name, server in servers.items():
                _crowd(server, x[:1], crowded, measured[name])
                _queue(server, x[:1], alone, measured[name])
        for name, server in servers.items():
            measured[name].megabytes = resident(server.process) / 2**20
    return measured


@contextmanager
def running(arguments: Sequence[str]) -> Iterator[Server]:
    """A Python process that says "... on ADDRESS" when it answers, stopped at the end."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)])},
    )
    try:
        assert process.stdout is not None  # asked for above
        line = process.stdout.readline()
        if " on " not in line:
            raise RuntimeError(f"The server did not start: {line}{process.stdout.read()}")
        yield Server(process.pid, line.rsplit(" on ", 1)[1].split()[0], time.perf_counter() - begun)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


def _crowd(server: Server, x: Array, count: int, into: Measured) -> None:
    """Send `count` requests with 64 in flight."""
    free = Semaphore(IN_FLIGHT)
    errors: list[Exception] = []

    def sent(begun: float) -> Callable[[Any, Any], None]:
        def came(result: Any, error: Exception | None) -> None:
            into.crowded.append(time.perf_counter() - begun)
            if error is not None:
                errors.append(error)
            free.release()

        return came

    with triton.InferenceServerClient(server.address) as client:
        tensor = triton.InferInput("x", list(x.shape), "FP64")
        tensor.set_data_from_numpy(x)
        client.infer("kan", [tensor])  # the connection is there before the clock runs
        cpu, begun = cpu_seconds(server.process), time.perf_counter()
        for _ in range(count):
            free.acquire()
            client.async_infer("kan", [tensor], sent(time.perf_counter()))
        for _ in range(IN_FLIGHT):
            free.acquire()
        into.rate.append(count / (time.perf_counter() - begun))
        into.cpu.append((cpu_seconds(server.process) - cpu) / count)
    if errors:
        raise errors[0]


def _queue(server: Server, x: Array, count: int, into: Measured) -> None:
    """Send `count` requests one after the other."""
    with Client(server.address) as client:
        client.predict("kan", x)
        for _ in range(count):
            begun = time.perf_counter()
            client.predict("kan", x)
            into.alone.append(time.perf_counter() - begun)


def _error(address: str, kan: Kan, x: Array) -> float:
    wanted = evaluate(kan, x)
    with Client(address) as client:
        got = np.concatenate([client.predict("kan", row[None]) for row in x])
    return float(np.abs(got - wanted).max() / np.abs(wanted).max())


def cpu_seconds(process: int) -> float:
    """What a process has used of the CPU until now, all threads together: to a hundredth of a second."""
    # The name, which may hold anything, ends with the last bracket; then field 3 of proc_pid_stat(5) follows.
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(process: int) -> int:
    """The bytes of memory that a process holds."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def report(measured: Mapping[str, Measured]) -> str:
    head = ["server", "CPU µs/request", "of empty", "requests/s", "p50 ms, 64", "p99 ms, 64", "p50 ms, 1", "p99 ms, 1"]
    head += ["ready s", "MB", "error"]
    cpu = {name: float(np.median(one.cpu)) for name, one in measured.items()}
    body = [
        [name, f"{cpu[name] * 1e6:.0f}", f"{cpu[name] / cpu[EMPTY]:.2f}", f"{np.median(one.rate):.0f}"]
        + [f"{np.percentile(times, p) * 1e3:.2f}" for times in (one.crowded, one.alone) for p in (50, 99)]
        + [f"{one.seconds_to_ready:.2f}", f"{one.megabytes:.0f}", "-" if name == EMPTY else f"{one.error:.0e}"]
        for name, one in measured.items()
    ]
    edge = measured["C model"]
    ratios = {name: cpu[name] / cpu[EMPTY] for name in MODELS}
    return "\n".join(
        [
            f"Serving one row of {network().shape}, 64 requests in flight (tritonclient) and one (kanserve.Client)",
            machine("grpcio", "protobuf", "onnxruntime", "tritonclient"),
            "",
            table(head, body),
            "",
            *(
                goal(one <= 1.3, f"CPU of the {name} ≤ 1.3x the empty handler's: {one:.2f}x")
                for name, one in ratios.items()
            ),
            goal(edge.seconds_to_ready <= 0.6, f"ready with a C model ≤ 0.6 s: {edge.seconds_to_ready:.2f} s"),
            goal(edge.megabytes <= 60, f"memory with a C model ≤ 60 MB: {edge.megabytes:.0f} MB"),
        ]
    )


if __name__ == "__main__":
    main(sys.argv[1:])
