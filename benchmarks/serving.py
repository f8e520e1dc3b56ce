"""Serving over loopback: ours beside empty handlers of gRPC, Triton, MLServer and KServe's ModelServer.

Each server is a process on one core, the load generator (h2load) one on another. The empty handler, of grpcio, takes
and returns the same messages; that in C++ echoes bytes. Triton has the same C model in a backend of ours, MLServer and
KServe the same ONNX file in the same onnxruntime, each from an environment of its own (`make bench-serving` makes them
in .venv). A peer that cannot be installed or built is skipped, with a line. Rounds alternate between servers for each
kind of load; medians are shown. Calls of the C model besides ModelInfer have a table of their own. Before it the server
is stalled again and again while it answers ModelInfer and Differentiate: it must not be slower afterwards. Two workers
are compared with one on a large network, so that the workers and not the generator limit the throughput.

    OMP_NUM_THREADS=1 python benchmarks/serving.py [--small] [--only NAME,..]

`--only C` measures the C model alone, without any peer.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from benchmarks import _h2load as h2load
from benchmarks._h2load import PATH, Load
from benchmarks._servers import Server, cores, running
from benchmarks._serving_peers import Peers, Start
from benchmarks._serving_report import (
    C_GRPCIO,
    C_TLS,
    C_WITHOUT_DRIFT,
    CELLS,
    CPP,
    DIFFERENTIATE,
    EMPTY,
    FORMULA,
    FORMULA_BY_GZIP,
    FORMULA_OF_SPLINES,
    INFER,
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
from kanserve import compile, from_formula, native, publish
from kanserve.inference import grpc_service_pb2 as pb
from kanserve.inference import wire
from kanserve.network.evaluate import evaluate
from kanserve.network.kan import Kan
from kanserve.network.training_bins import with_training_bins
from kanserve.serve.transport import native_library
from kanserve.train import create
from kanserve.v1 import formula_pb2

ERROR_ROWS = 256
HEAVY_ROWS, HEAVY_IN_FLIGHT = 1024, 16
# A busy machine hardly ever takes a core away for 50 ms. The server can only take a stall for the model's own time if
# the model computes just then: of 40 stalls under requests of 16 rows about 6 did, under single rows often none. With
# more rows a stall would add too little to the time of a row.
STALL_SECONDS, STALLS, STALLED_ROWS = 0.05, 40, 16
LAW = "exp(sin(pi*x) + y^2)"
WITHOUT = {"onnx", "onnxruntime", "sympy", "torch"}  # packages that a server with a C model must not import


def main(arguments: list[str]) -> None:
    only = next((value.split(",") for flag, value in pairwise(arguments) if flag == "--only"), None)
    print(report(measure(small="--small" in arguments, only=only), network().shape))


def network() -> Kan:
    """A network of the size of a small production model, whose inputs the server counts."""
    kan = create([4, 5, 1], grid=5, seed=0)
    return with_training_bins(kan, np.random.default_rng(0).uniform(-1, 1, (5000, 4)))


def large_network() -> Kan:
    """A network whose computation takes far longer than the request overhead."""
    return create([4, 64, 64, 64, 1], grid=5, seed=0)


def measure(small: bool = False, only: Sequence[str] | None = None) -> Results:
    """All figures; without h2load those of start-up and memory, and the errors of the answers."""
    rounds, seconds = (1, 0.1) if small else (5, 1.0)
    kan = network()
    cells = {cell: dict[str, Measured]() for cell in CELLS}
    on, beside = cores()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        starts, skipped = servers(folder, kan, on, peers=not small)
        starts = {name: start for name, start in starts.items() if only is None or name in only}
        footprints = {name: _started(start, 0 if small else 5) for name, start in starts.items()}
        if C in footprints:
            footprints[C].libraries = _imported(folder / C, on)
        up = {name: stack.enter_context(start()) for name, start in starts.items()}
        for name, server in up.items():
            footprints[name].seconds_to_ready.append(server.seconds_to_ready)
            footprints[name].megabytes_at_start = server.resident() / 2**20
            if name not in (EMPTY, CPP):
                footprints[name].error = _error(server, kan)
        if not h2load.there():
            cells, skipped = {}, [*skipped, h2load.MISSING]
        for cell, measured in cells.items():
            loads = {name: _load(server, request(kan, cell[0]), cell) for name, server in up.items()}
            measured |= {name: Measured() for name in loads}
            _measure(up, loads, measured, rounds, seconds, beside)
        calls = _calls(up[C], kan, rounds, seconds, beside) if cells and C in up else {}
        for name, server in up.items():
            footprints[name].megabytes = server.resident() / 2**20
            footprints[name].megabytes_shared = server.proportional() / 2**20
    scaling = None if small or only is not None or not cells else scale(rounds)
    return Results(cells, footprints, scaling, calls, skipped)


def servers(folder: Path, kan: Kan, on: set[int], peers: bool) -> tuple[dict[str, Start], list[str]]:
    """The function that starts each server, and lines about missing servers."""
    skipped = []
    artifacts = {name: compile(kan, [kind], name="kan") for name, kind in _KINDS.items()}
    for name, artifact in artifacts.items():
        publish(folder / name, "kan", artifact)
    publish(folder / C, "law", compile(from_formula(LAW), ["c_source"], name="law"))

    def ours(name: str, *more: str, certificate: str = "", **environment: str) -> Start:
        command = ["-m", "kanserve", "serve", str(folder / name), "--port", "0", *more]
        return lambda: running(command, on, environment, certificate)

    other = Peers(folder, kan, on)
    starts: dict[str, Start] = {EMPTY: lambda: running(["-m", "benchmarks._empty_server"], on)}
    starts[C] = ours(C)
    starts[C_WITHOUT_DRIFT] = ours(C, "--drift-rows", "0")
    starts[C_GRPCIO] = ours(C, "--transport", "grpcio")
    # Without our operators, but with the native transport where there is one.
    transport = "grpcio" if native_library.library() is None else "native"
    starts[ONNX] = ours(ONNX, "--transport", transport, KANSERVE_NATIVE="0")
    starts[NUMPY] = ours(NUMPY)
    if native_library.library() is None:
        skipped.append("The native transport was not built here: grpcio serves everywhere.")
    if native.operators() is not None:
        starts[OPERATORS] = ours(ONNX)
    else:
        skipped.append(f"{OPERATORS}: not built here, because there was no header of onnxruntime")
    if (pair := new_certificate(folder)) is not None:
        starts[C_TLS] = ours(C, "--tls-certificate", pair[0], "--tls-key", pair[1], certificate=pair[0])
    else:
        skipped.append(f"{C_TLS}: openssl is missing, which makes the certificate")
    other.add_edge()
    if peers:
        other.add_cpp()
        other.add_triton(artifacts[C].files)
        other.add_python_peers(folder / ONNX / "kan/1/onnx_graph/model.onnx")
    return starts | other.starts, skipped + other.skipped


_KINDS = {C: "c_source", ONNX: "onnx_graph", NUMPY: "numpy_source"}


def new_certificate(folder: Path) -> tuple[str, str] | None:
    """The files of a new certificate of this machine and its key; None without openssl."""
    paths = str(folder / "server.crt"), str(folder / "server.key")
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
    ]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    try:
        subprocess.run([*command, "-out", paths[0], "-keyout", paths[1]], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return paths


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


def _differentiate(kan: Kan, rows: int) -> bytes:
    x = np.random.default_rng(0).uniform(-1, 1, (rows, len(kan.inputs)))
    array = formula_pb2.Float64Array(shape=x.shape, values=x.tobytes())
    return formula_pb2.DifferentiateRequest(model_name="kan", rows=array).SerializeToString()


def _calls(server: Server, kan: Kan, rounds: int, seconds: float, beside: set[int]) -> dict[str, Measured]:
    """The calls that need no other thread, in turn: those of the C model, and the formula of a law in closed form."""
    service = f"/{wire.FORMULA_SERVICE_NAME}"
    law, splines = (formula_pb2.GetFormulaRequest(model_name=name).SerializeToString() for name in ("law", "kan"))
    loads = {
        INFER: _load(server, request(kan, 1), (1, 64)),
        DIFFERENTIATE: _load(server, _differentiate(kan, 1), (1, 64), path=f"{service}/Differentiate"),
        FORMULA: _load(server, law, (1, 64), path=f"{service}/GetFormula"),
        FORMULA_OF_SPLINES: _load(server, splines, (1, 64), path=f"{service}/GetFormula"),
        FORMULA_BY_GZIP: replace(
            _load(server, splines, (1, 64), path=f"{service}/GetFormula"),
            headers=("grpc-accept-encoding: identity, deflate, gzip",),
        ),
    }
    for load in loads.values():  # after a first GetFormula the server forgets what it has measured
        _size(server, load, beside)
    for name, body in ((INFER, request(kan, STALLED_ROWS)), (DIFFERENTIATE, _differentiate(kan, STALLED_ROWS))):
        _stall(server, replace(loads[name], request=body), STALLS if rounds > 1 else 1, beside)
    measured = {name: Measured() for name in loads}
    _measure(dict.fromkeys(loads, server), loads, measured, rounds, seconds, beside)
    return measured


def _stall(server: Server, load: Load, times: int, beside: set[int]) -> None:
    """Stall the server under a load."""
    with h2load.under_way(replace(load, seconds=60.0), beside):
        for _ in range(times):
            time.sleep(STALL_SECONDS / 5)  # in which it answers thousands of calls
            server.stall(STALL_SECONDS)


def _load(server: Server, request: bytes, cell: Cell, path: str = PATH, connections: int = 1) -> Load:
    in_flight = cell[1]
    return Load(
        server.address,
        request,
        in_flight,
        connections=connections,
        path=path,
        tls=bool(server.certificate),
        waits=in_flight == 1,
    )


def _measure(
    servers: Mapping[str, Server],
    loads: Mapping[str, Load],
    into: Mapping[str, Measured],
    rounds: int,
    seconds: float,
    beside: set[int],
) -> None:
    """Every round sends each load for about `seconds`, in turn."""
    # A server is slower at first: this says how many requests these are, and does not count.
    rates = {name: h2load.run(replace(load, seconds=seconds / 4), beside).rate for name, load in loads.items()}
    sizes = {name: _size(servers[name], load, beside) for name, load in loads.items()}
    for _ in range(rounds):
        for name, load in loads.items():
            before = servers[name].cpu_seconds()
            count = max(load.in_flight, round(rates[name] * seconds))
            answered = h2load.run(replace(load, count=count), beside)
            cpu = servers[name].cpu_seconds() - before
            if answered.failed or answered.data != count * sizes[name]:
                raise RuntimeError(f"{name} did not answer each of {count} requests: {answered.data} bytes came back")
            into[name].add(answered, cpu)


def _size(server: Server, load: Load, beside: set[int]) -> int:
    """The bytes of one answer, as they are in a response of HTTP; an exception if it is an error."""
    with server.channel() as channel:
        ask = channel.unary_unary(load.path, request_serializer=None, response_deserializer=None)
        size = h2load.PREFIX_BYTES + len(ask(load.request, timeout=60))
    return h2load.run(replace(load, in_flight=1, count=1), beside).data if load.headers else size


def _error(server: Server, kan: Kan) -> float:
    """The relative error of one answer of many rows."""
    body = request(kan, ERROR_ROWS)
    x = np.frombuffer(pb.ModelInferRequest.FromString(body).raw_input_contents[0]).reshape(ERROR_ROWS, -1)
    wanted = evaluate(kan, x)
    with server.channel() as channel:
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
    kan, names = large_network(), ("one", "two")
    measured = {name: Measured() for name in names}
    with tempfile.TemporaryDirectory() as folder:
        publish(folder, "kan", compile(kan, ["c_source"], name="kan"))
        command = ["-m", "kanserve", "serve", folder, "--port", "0", "--workers"]
        with running([*command, "1"], on) as one, running([*command, "2"], on | beside) as two:
            servers, body = dict(zip(names, (one, two), strict=True)), request(kan, HEAVY_ROWS)
            cell = HEAVY_ROWS, HEAVY_IN_FLIGHT
            loads = {name: _load(server, body, cell, connections=cell[1]) for name, server in servers.items()}
            _measure(servers, loads, measured, rounds, seconds, on | beside)
    return Scaling(measured["one"], measured["two"])


if __name__ == "__main__":
    main(sys.argv[1:])
