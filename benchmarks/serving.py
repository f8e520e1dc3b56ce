"""Serving over loopback: ours beside an empty grpcio handler, MLServer and KServe's ModelServer.

Each server is a process on one core; the load generator is a process on another, which sends prepared bytes and ignores
the answers. The empty handler, of grpcio, takes and returns the same messages. MLServer and KServe have the same ONNX
file in the same onnxruntime, each in its own environment (`make bench-serving` makes them in .venv; a peer that cannot
be installed is skipped). Rounds alternate between servers for each number of rows and of requests in flight; medians
are shown. Calls of the C model besides ModelInfer have a table of their own. Two workers are compared with one on a
large network, so that the workers and not the generator limit the throughput.

    OMP_NUM_THREADS=1 python benchmarks/serving.py [--small] [--only NAME,..]
"""

import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from itertools import pairwise
from pathlib import Path

import grpc
import numpy as np
from numpy.typing import NDArray

from benchmarks._generator import PATH, Load
from benchmarks._servers import ROOT, Generator, Server, cores, generating, running, running_peer
from benchmarks._serving_report import (
    C_GRPCIO,
    DIFFERENTIATE,
    EMPTY,
    FORMULA,
    INFER,
    KSERVE,
    MLSERVER,
    NUMPY,
    ONNX,
    OPERATORS,
    C,
    Cell,
    Footprint,
    Measured,
    Results,
    Scaling,
    report,
)
from kanserve import compile, native, publish
from kanserve.inference import grpc_service_pb2 as pb
from kanserve.inference import wire
from kanserve.network.evaluate import evaluate
from kanserve.network.kan import Kan
from kanserve.serve.transport import native_library
from kanserve.train import create
from kanserve.v1 import formula_pb2

Array = NDArray[np.float64]
Start = Callable[[], AbstractContextManager[Server]]

ROWS, IN_FLIGHT = (1, 256), (1, 8, 64)
HEAVY_ROWS, HEAVY_IN_FLIGHT, HEAVY_CONNECTIONS = 1024, 16, 16
WITHOUT = {"onnx", "onnxruntime", "sympy", "torch"}  # packages that a server with a C model must not import
PEERS = {MLSERVER: "mlserver", KSERVE: "kserve"}


def main(arguments: list[str]) -> None:
    only = next((value.split(",") for flag, value in pairwise(arguments) if flag == "--only"), None)
    print(report(measure(small="--small" in arguments, only=only), network().shape))


def network() -> Kan:
    """A network of the size of a small production model."""
    return create([4, 5, 1], grid=5, seed=0)


def large_network() -> Kan:
    """A network whose computation takes far longer than the request overhead."""
    return create([4, 64, 64, 64, 1], grid=5, seed=0)


def measure(small: bool = False, only: Sequence[str] | None = None) -> Results:
    rounds, seconds = (1, 0.1) if small else (5, 1.0)
    kan = network()
    cells = {(rows, flight): dict[str, Measured]() for rows in ROWS for flight in IN_FLIGHT}
    on, beside = cores()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        starts, skipped = servers(folder, kan, on, peers=not small)
        starts = {name: start for name, start in starts.items() if only is None or name in only}
        footprints = {name: _started(start, 0 if small else 5) for name, start in starts.items()}
        if C in footprints:
            footprints[C].libraries = _imported(folder / C, on)
        running = {name: stack.enter_context(start()) for name, start in starts.items()}
        generator = stack.enter_context(generating(beside))
        for name, server in running.items():
            footprints[name].seconds_to_ready.append(server.seconds_to_ready)
            footprints[name].megabytes_at_start = server.resident() / 2**20
            if name != EMPTY:
                footprints[name].error = _error(server.address, kan)
        for number in range(rounds + 1):  # a server is slower at first: the first round does not count
            for cell, measured in cells.items():
                for name, server in running.items():
                    into = measured.setdefault(name, Measured()) if number else Measured()
                    _load(server, generator, request(kan, cell[0]), cell, seconds if number else seconds / 10, into)
        calls = _calls(running[C], generator, kan, rounds, seconds) if C in running else {}
        for name, server in running.items():
            footprints[name].megabytes = server.resident() / 2**20
    scaling = None if small or only is not None else scale(rounds)
    return Results(cells, footprints, scaling, calls, skipped)


def servers(folder: Path, kan: Kan, on: set[int], peers: bool) -> tuple[dict[str, Start], list[str]]:
    """The function that starts each server, and lines about missing servers."""
    skipped = []
    for name, kind in ((C, "c_source"), (ONNX, "onnx_graph"), (NUMPY, "numpy_source")):
        publish(folder / name, "kan", compile(kan, [kind], name="kan"))

    def ours(name: str, transport: str = "auto", **environment: str) -> Start:
        command = ["-m", "kanserve", "serve", str(folder / name), "--port", "0", "--transport", transport]
        return lambda: running(command, on, environment)

    starts: dict[str, Start] = {EMPTY: lambda: running(["-m", "benchmarks._empty_server"], on)}
    starts[C] = ours(C)
    starts[C_GRPCIO] = ours(C, "grpcio")
    # Without our operators, but with the native transport where there is one.
    starts[ONNX] = ours(ONNX, "grpcio" if native_library.library() is None else "native", KANSERVE_NATIVE="0")
    starts[NUMPY] = ours(NUMPY)
    if native_library.library() is None:
        skipped.append("The native transport was not built here: grpcio serves everywhere.")
    if native.operators() is not None:
        starts[OPERATORS] = ours(ONNX)
    else:
        skipped.append(f"{OPERATORS}: not built here, because there was no header of onnxruntime")
    for name, package in PEERS.items() if peers else ():
        python = ROOT / f".venv/.peers-{package}/bin/python"
        if python.exists():
            starts[name] = _peer(python, package, folder / ONNX / "kan/1/onnx_graph/model.onnx", on)
        else:
            skipped.append(f"{name}: not installed here; 'make bench-serving' tries to")
    return starts, skipped


def _peer(python: Path, package: str, model: Path, on: set[int]) -> Start:
    return lambda: running_peer(python, [str(ROOT / f"benchmarks/_peer_{package}.py"), str(model)], on)


def _started(start: Start, times: int) -> Footprint:
    footprint = Footprint()
    for _ in range(times):
        with start() as server:
            footprint.seconds_to_ready.append(server.seconds_to_ready)
    return footprint


def _imported(repository: Path, on: set[int]) -> list[str]:
    """The packages of WITHOUT that are imported from exec until the server is ready."""
    # With this variable the interpreter lists every imported module on standard error.
    with running(
        ["-m", "kanserve", "serve", str(repository), "--port", "0"], on, {"PYTHONPROFILEIMPORTTIME": "1"}
    ) as one:
        modules = {line.rsplit("|", 1)[-1].strip().partition(".")[0] for line in one.said.splitlines()}
    assert "kanserve" in modules
    return sorted(WITHOUT & modules)


def request(kan: Kan, rows: int) -> bytes:
    x = np.random.default_rng(0).uniform(-1, 1, (rows, len(kan.inputs)))
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP64", shape=x.shape)
    return pb.ModelInferRequest(model_name="kan", inputs=[tensor], raw_input_contents=[x.tobytes()]).SerializeToString()


def _calls(server: Server, generator: Generator, kan: Kan, rounds: int, seconds: float) -> dict[str, Measured]:
    """The calls of the C model that need no other thread, in turn."""
    x = np.random.default_rng(0).uniform(-1, 1, (1, len(kan.inputs)))
    rows = formula_pb2.Float64Array(shape=x.shape, values=x.tobytes())
    service = f"/{wire.FORMULA_SERVICE_NAME}"
    asked = {
        INFER: (PATH, request(kan, 1)),
        DIFFERENTIATE: (
            f"{service}/Differentiate",
            formula_pb2.DifferentiateRequest(model_name="kan", rows=rows).SerializeToString(),
        ),
        FORMULA: (f"{service}/GetFormula", formula_pb2.GetFormulaRequest(model_name="kan").SerializeToString()),
    }
    measured = {name: Measured() for name in asked}
    for number in range(rounds + 1):
        for name, (path, body) in asked.items():
            into = measured[name] if number else Measured()
            _load(server, generator, body, (1, 64), seconds if number else seconds / 10, into, path=path)
    return measured


def _load(
    server: Server,
    generator: Generator,
    request: bytes,
    cell: Cell,
    seconds: float,
    into: Measured,
    connections: int = 1,
    path: str = PATH,
) -> None:
    before = server.cpu_seconds()
    answered = generator.run(Load(server.address, request.hex(), cell[1], seconds, connections, path=path))
    if answered.errors:
        raise RuntimeError(f"{answered.errors} requests failed: {answered.error}")
    into.cpu.append((server.cpu_seconds() - before) / answered.sent)
    into.client.append(answered.cpu / answered.count)
    into.busy.append(answered.cpu / answered.seconds)
    into.rate.append(answered.count / answered.seconds)
    into.p50.append(answered.p50)
    into.p99.append(answered.p99)


def _error(address: str, kan: Kan) -> float:
    """The relative error of one answer of many rows."""
    body = request(kan, ROWS[-1])
    x = np.frombuffer(pb.ModelInferRequest.FromString(body).raw_input_contents[0]).reshape(ROWS[-1], -1)
    wanted = evaluate(kan, x)
    with grpc.insecure_channel(address) as channel:
        ask = channel.unary_unary(PATH, request_serializer=None, response_deserializer=pb.ModelInferResponse.FromString)
        answer = ask(body, timeout=60)
    raw = answer.raw_output_contents
    got = np.frombuffer(raw[0]) if raw else np.array(answer.outputs[0].contents.fp64_contents)
    return float(np.abs(got.reshape(wanted.shape) - wanted).max() / np.abs(wanted).max())


def scale(rounds: int, seconds: float = 2.0) -> Scaling | None:
    """One worker on one core with the generator on the other, and two workers on both cores with the generator."""
    on, beside = cores()
    if on == beside:
        return None
    kan, measured = large_network(), (Measured(), Measured())
    cell, body = (HEAVY_ROWS, HEAVY_IN_FLIGHT), request(kan, HEAVY_ROWS)
    with tempfile.TemporaryDirectory() as folder, generating(on | beside) as generator:
        publish(folder, "kan", compile(kan, ["c_source"], name="kan"))
        command = ["-m", "kanserve", "serve", folder, "--port", "0", "--workers"]
        with running([*command, "1"], on) as one, running([*command, "2"], on | beside) as two:
            for number in range(rounds + 1):
                for server, into in zip((one, two), measured, strict=True):
                    kept = into if number else Measured()
                    _load(server, generator, body, cell, seconds if number else 0.2, kept, HEAVY_CONNECTIONS)
    return Scaling(*measured)


if __name__ == "__main__":
    main(sys.argv[1:])
