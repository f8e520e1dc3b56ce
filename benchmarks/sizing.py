"""How large a pod must be: requests per second that a core gives, memory, and how many models one server holds.

A server of one process is on one core and the load generator, h2load, on another; a request has one row. What a core
gives is 1 / CPU time of a request: other work on the machine affects it little. REST is JSON over HTTP/1.1 on
connections that are kept open. Memory is what is resident, in all processes of a server; of pages that processes share
each counts its share (PSS). Start-up is from exec until the server says that it serves, of files that the machine has
in its cache.

    OMP_NUM_THREADS=1 python benchmarks/sizing.py [--small]
"""

import json
import shutil
import sys
import tempfile
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from benchmarks import _h2load as h2load
from benchmarks._h2load import Load
from benchmarks._servers import Server, cores, running
from benchmarks._timing import machine, table
from benchmarks.serving import network, request
from kanserve import compile, publish

KINDS = {"C": "c_source", "ONNX": "onnx_graph", "NumPy": "numpy_source"}
GRPC, REST = "gRPC", "REST"
IN_FLIGHT = 32
MODELS = (1, 100, 1000)


@dataclass
class Rate:
    """A request of one row: seconds of CPU, and requests per second by the clock."""

    cpu: list[float] = field(default_factory=list)
    by_clock: list[float] = field(default_factory=list)

    @property
    def per_core(self) -> float:
        return 1 / float(np.median(self.cpu))


@dataclass(frozen=True)
class Start:
    """A server that has so many models and has answered nothing."""

    models: int
    seconds: float
    cpu: float
    megabytes: float


@dataclass
class Results:
    rates: dict[tuple[str, str], Rate]  # by kind of model, and gRPC or REST
    starts: dict[str, list[Start]]  # by kind of model
    processes: dict[int, float]  # MB by number of workers, each with one C model
    skipped: list[str] = field(default_factory=list)


def main(arguments: list[str]) -> None:
    print(report(measure(small="--small" in arguments)))


def measure(small: bool = False) -> Results:
    rounds, seconds = (1, 0.1) if small else (5, 1.0)
    results = Results({}, {}, {})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind, form in KINDS.items():
            publish(folder / kind, "kan", compile(network(), [form], name="kan"))
        if h2load.there():
            results.rates = _rates(folder, rounds, seconds)
        else:
            results.skipped.append(h2load.MISSING)
        for workers in (1, 2) if small else (1, 2, 4):
            with _served(folder / "C", "--workers", str(workers)) as server:
                results.processes[workers] = server.proportional() / 2**20
        for kind in KINDS:  # last, as the repositories are full of copies then
            results.starts[kind] = [_start(folder / kind, count, rounds) for count in (MODELS[:1] if small else MODELS)]
    return results


def _served(repository: Path, *more: str) -> AbstractContextManager[Server]:
    command = ["-m", "kanserve", "serve", str(repository), "--port", "0", "--http-port", "0", *more]
    return running(command, cores()[0])


def _rates(folder: Path, rounds: int, seconds: float) -> dict[tuple[str, str], Rate]:
    """Every round sends each load in turn, so that a slow moment of the machine affects all of them."""
    beside, made = cores()[1], dict[tuple[str, str], Rate]()
    with ExitStack() as stack:
        servers = {kind: stack.enter_context(_served(folder / kind)) for kind in KINDS}
        loads = {(kind, way): _load(server, way) for kind, server in servers.items() for way in (GRPC, REST)}
        counts = {
            which: max(IN_FLIGHT, round(seconds * h2load.run(replace(load, seconds=seconds), beside).rate))
            for which, load in loads.items()
        }
        for _ in range(rounds):
            for which, load in loads.items():
                server, rate = servers[which[0]], made.setdefault(which, Rate())
                before = server.cpu_seconds()
                answered = h2load.run(replace(load, count=counts[which]), beside)
                # An error of gRPC has no data, and one of REST is counted as failed.
                if answered.failed or answered.count != counts[which] or not answered.data:
                    raise RuntimeError(f"{which} did not answer each of {counts[which]} requests")
                rate.cpu.append((server.cpu_seconds() - before) / answered.count)
                rate.by_clock.append(answered.rate)
    return made


def _load(server: Server, way: str) -> Load:
    if way == GRPC:
        return Load(server.address, request(network(), 1), IN_FLIGHT)
    x = np.random.default_rng(0).uniform(-1, 1, (1, len(network().inputs)))
    body = json.dumps({"inputs": [{"name": "x", "datatype": "FP64", "shape": x.shape, "data": x.tolist()}]}).encode()
    http = server.said.rsplit("http://", 1)[1].split("/")[0]
    return Load(http, body, IN_FLIGHT, connections=IN_FLIGHT, path="/v2/models/kan/infer", rest=True)


def _start(repository: Path, count: int, rounds: int) -> Start:
    """The medians of a few starts with so many copies of the model."""
    for number in range(1, count):
        if not (copy := repository / f"kan{number}").exists():
            shutil.copytree(repository / "kan", copy)
    starts = []
    for _ in range(rounds if count == 1 else 1):
        with _served(repository) as server:
            starts.append((server.seconds_to_ready, server.cpu_seconds(), server.resident() / 2**20))
    seconds, cpu, megabytes = np.median(starts, axis=0).tolist()
    return Start(count, seconds, cpu, megabytes)


def report(results: Results) -> str:
    rates = [
        [kind, way, f"{1e6 * np.median(rate.cpu):.1f}", f"{rate.per_core:.0f}", f"{np.median(rate.by_clock):.0f}"]
        for (kind, way), rate in results.rates.items()
    ]
    starts = [
        [kind, str(one.models), f"{one.seconds:.2f}", f"{one.cpu:.2f}", f"{one.megabytes:.0f}", _each(all_, one)]
        for kind, all_ in results.starts.items()
        for one in all_
    ]
    processes = [[str(count), f"{megabytes:.0f}"] for count, megabytes in results.processes.items()]
    return "\n".join(
        [
            f"Sizing of a server, network {network().shape}, a row for a request, {IN_FLIGHT} in flight",
            machine("grpcio", "onnxruntime", "numpy"),
            "",
            table(["model", "by", "CPU µs/request", "requests/s of a core", "requests/s by the clock"], rates),
            "",
            table(["model", "models", "start s", "start CPU s", "MB", "kB for each further model"], starts),
            "",
            table(["workers", "MB with a C model"], processes),
            *results.skipped,
        ]
    )


def _each(starts: list[Start], one: Start) -> str:
    first = starts[0]
    if one is first:
        return ""
    return f"{1024 * (one.megabytes - first.megabytes) / (one.models - first.models):.0f}"


if __name__ == "__main__":
    main(sys.argv[1:])
