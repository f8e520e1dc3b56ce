"""REST beside gRPC: the CPU of a request to the same server, in JSON, in binary and by gRPC.

One process serves a C model on one core; the load generator, h2load, is on another. gRPC sends 64 requests at once over
one connection, as its clients do, and over 64, as HTTP/1.1 has to. Rounds take the loads in turn; medians are shown.

    OMP_NUM_THREADS=1 python benchmarks/rest.py [--small]
"""

import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import _h2load as h2load
from benchmarks._h2load import Load
from benchmarks._servers import Server, cores, running
from benchmarks._timing import goal, machine, table
from kanserve import compile, publish
from kanserve.inference import grpc_service_pb2 as pb
from kanserve.train import create

GRPC, GRPC_64, JSON, BINARY = "gRPC, 1 connection", "gRPC, 64 connections", "REST, JSON", "REST, binary"
LARGE_GRPC, LARGE_BINARY = "gRPC, 8192 rows of 100", "REST, binary, 8192 rows of 100"
BESIDE = {GRPC_64: GRPC, JSON: GRPC, BINARY: GRPC, LARGE_BINARY: LARGE_GRPC}
MOST = {JSON: 2.0, LARGE_BINARY: 1.3}  # times the CPU of gRPC


def main(arguments: list[str]) -> None:
    if not h2load.there():
        print(h2load.MISSING)
        return
    print(report(measure("--small" in arguments)))


def measure(small: bool = False) -> dict[str, list[float]]:
    """CPU seconds of a request, for each load and round."""
    rounds, seconds = (1, 0.1) if small else (7, 1.0)
    on, beside = cores()
    with tempfile.TemporaryDirectory() as folder:
        for name, inputs in (("small", 4), ("large", 100)):
            publish(folder, name, compile(create([inputs, 5, 1], grid=5, seed=0), ["c_source"], name=name))
        with running(["-m", "kanserve", "serve", folder, "--port", "0", "--http-port", "0"], on) as server:
            loads = _loads(server)
            counts = {}
            for name, load in loads.items():  # a server is slower at first
                counts[name] = max(64, round(h2load.run(replace(load, seconds=seconds / 4), beside).rate * seconds))
            found: dict[str, list[float]] = {name: [] for name in loads}
            for _ in range(rounds):
                for name, load in loads.items():
                    before = server.cpu_seconds()
                    answered = h2load.run(replace(load, count=counts[name]), beside)
                    if answered.failed or answered.count != counts[name]:
                        raise RuntimeError(f"{name}: {answered.count} of {counts[name]} requests were answered.")
                    found[name].append((server.cpu_seconds() - before) / counts[name])
    return found


def _loads(server: Server) -> dict[str, Load]:
    rng = np.random.default_rng(0)
    few, many = rng.uniform(-1, 1, (1, 4)), rng.uniform(-1, 1, (8192, 100))
    http = server.said.rpartition("http://")[2].split("/")[0]

    def rest(model: str, body: tuple[bytes, int], connections: int) -> Load:
        path, headers = f"/v2/models/{model}/infer", (f"Inference-Header-Content-Length: {body[1]}",) * bool(body[1])
        return Load(http, body[0], connections, 0, 0, connections, path=path, rest=True, headers=headers)

    def grpc(model: str, x: NDArray[Any], in_flight: int, connections: int) -> Load:
        return Load(server.address, _message(model, x), in_flight, connections=connections)

    return {
        GRPC: grpc("small", few, 64, 1),
        GRPC_64: grpc("small", few, 64, 64),
        JSON: rest("small", (json.dumps({"inputs": [_tensor(few) | {"data": few.tolist()}]}).encode(), 0), 64),
        BINARY: rest("small", _binary(few), 64),
        LARGE_GRPC: grpc("large", many, 4, 4),
        LARGE_BINARY: rest("large", _binary(many), 4),
    }


def _tensor(x: NDArray[Any]) -> dict[str, Any]:
    return {"name": "x", "datatype": "FP64", "shape": list(x.shape)}


def _binary(x: NDArray[Any]) -> tuple[bytes, int]:
    """The body of a request in binary, and the length of its JSON."""
    tensor = _tensor(x) | {"parameters": {"binary_data_size": x.nbytes}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return head + x.tobytes(), len(head)


def _message(model: str, x: NDArray[Any]) -> bytes:
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP64", shape=x.shape)
    return pb.ModelInferRequest(model_name=model, inputs=[tensor], raw_input_contents=[x.tobytes()]).SerializeToString()


def report(found: Mapping[str, list[float]]) -> str:
    middle = {name: float(np.median(seconds)) for name, seconds in found.items()}
    body = [
        [name, f"{1e6 * cpu:.1f}", f"{cpu / middle[BESIDE[name]]:.2f}" if name in BESIDE else "-"]
        for name, cpu in middle.items()
    ]
    ratios = {name: middle[name] / middle[BESIDE[name]] for name in MOST}
    goals = [goal(ratios[name] <= most, f"{name} <= {most} of gRPC: {ratios[name]:.2f}") for name, most in MOST.items()]
    title = "The CPU of a request to a server of one process, C models, FP64"
    return "\n".join([title, machine("numpy"), "", table(["request", "CPU µs", "of gRPC"], body), "", *goals])


if __name__ == "__main__":
    main(sys.argv[1:])
