"""Isolation: the latency of a fast model beside other models that sleep, fail, are busy, are huge, or are being loaded.

A fast C model gets requests at a steady rate, alone and then beside each neighbour in turn, round by round; every load
comes from a separate process. A busy or huge neighbour takes all the CPU that it gets; a loaded one is unloaded and
loaded again twice a second. Medians of the rounds are shown. Latency is wall-clock time, so trust only the ratios, and
none from a busy machine.

    OMP_NUM_THREADS=1 python benchmarks/isolation.py [--small]
"""

import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from threading import Event, Thread

import grpc
import numpy as np

from benchmarks._generator import Load
from benchmarks._servers import Generator, Server, cores, generating, running
from benchmarks._timing import goal, machine, table
from kanserve import compile, publish
from kanserve.artifact.format import Artifact, assemble
from kanserve.inference import grpc_service_pb2 as pb
from kanserve.inference import wire
from kanserve.train import create

ALONE, LOADED = "alone", "loaded"
FAST_RATE = 300.0  # requests per second: a tenth of one core's capacity
NEIGHBOURS: Mapping[str, tuple[str, float, int]] = {  # model; requests per second, 0 for HUGE_IN_FLIGHT at once; rows
    "sleeping": ("sleeping", 200.0, 1),  # twenty at once
    "broken": ("broken", 100.0, 3),  # it fails only at three rows, so that it can be loaded
    "busy": ("huge", 0.0, 256),  # less than a millisecond each
    "huge": ("huge", 0.0, 8192),  # as much work as 1024 rows of [784, 64, 10]
}
HUGE_INPUTS = 100
HUGE_IN_FLIGHT = 4
MOST = 2.0  # limit of the 99th percentile, relative to that alone


@dataclass(frozen=True)
class Waits:
    """Latency percentiles of the fast model in every round, in seconds."""

    p50: list[float]
    p99: list[float]

    @property
    def middle(self) -> tuple[float, float]:
        return float(np.median(self.p50)), float(np.median(self.p99))


def main(arguments: list[str]) -> None:
    print(report({workers: measure(workers, small="--small" in arguments) for workers in (1, 2)}))


def measure(workers: int, small: bool = False) -> dict[str, Waits]:
    """The latencies alone and beside each neighbour, with one core per worker if there are enough."""
    rounds, seconds = (1, 0.2) if small else (5, 2.0)
    on, beside = cores()
    arguments = ["--port", "0", "--workers", str(workers), "--anonymous", "predict,read,manage"]
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        for name, artifact in models(small).items():
            publish(folder, name, artifact)
        where = on if workers == 1 else on | beside
        server = stack.enter_context(running(["-m", "kanserve", "serve", folder, *arguments], where))
        fast, other = (stack.enter_context(generating(beside)) for _ in range(2))
        found = {name: Waits([], []) for name in (ALONE, *NEIGHBOURS, LOADED)}
        for number in range(rounds + 1):  # a server is slower at first: the first round does not count
            for name, waits in found.items():
                load = Load(server.address, request("fast", 4, 1).hex(), 1, seconds, 4, FAST_RATE)
                with _neighbour(name, server, other, 1.5 * seconds):
                    answered = fast.run(load)
                if answered.errors:
                    raise RuntimeError(f"{answered.errors} requests of the fast model failed: {answered.error}")
                if number:
                    waits.p50.append(answered.p50)
                    waits.p99.append(answered.p99)
    return found


def models(small: bool) -> dict[str, Artifact]:
    fast = create([4, 5, 1], grid=5, seed=0)
    huge = compile(create([HUGE_INPUTS, 1 if small else 64, 10], grid=5, seed=0), ["c_source"], name="huge")
    slow = {name: compile(fast, ["numpy_source"], name=name) for name in ("sleeping", "broken")}
    return {
        "fast": compile(fast, ["c_source"], name="fast"),
        "sleeping": _with_code(slow["sleeping"], "import time\n    time.sleep(0.1)"),
        "broken": _with_code(slow["broken"], "if len(x) == 3:\n        raise RuntimeError('broken')"),
        "huge": huge,
        LOADED: huge,
    }


def _with_code(artifact: Artifact, code: str) -> Artifact:
    """A model whose NumPy module runs additional code."""
    (path,) = (file for file in artifact.files if file.startswith("numpy_source/"))
    more = f"\n_answer = predict\n\ndef predict(x):\n    {code}\n    return _answer(x)\n"
    return assemble(
        artifact.kan(),
        {path: artifact.files[path] + more.encode()},
        formulas=artifact.formulas,
        golden=artifact.golden(),
    )


def request(model: str, inputs: int, rows: int) -> bytes:
    x = np.random.default_rng(0).uniform(-1, 1, (rows, inputs))
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP64", shape=x.shape)
    return pb.ModelInferRequest(model_name=model, inputs=[tensor], raw_input_contents=[x.tobytes()]).SerializeToString()


@contextmanager
def _neighbour(name: str, server: Server, other: Generator, seconds: float) -> Iterator[None]:
    """Run a neighbour's load during the context, for at most `seconds`."""
    if name == LOADED:
        with _loading(server):
            yield
        return
    if name == ALONE:
        with nullcontext():
            yield
        return
    model, rate, rows = NEIGHBOURS[name]
    body = request(model, HUGE_INPUTS if model == "huge" else 4, rows)
    other.begin(Load(server.address, body.hex(), HUGE_IN_FLIGHT, seconds, HUGE_IN_FLIGHT, rate))
    try:
        yield
    finally:
        other.end()


@contextmanager
def _loading(server: Server) -> Iterator[None]:
    ended = Event()
    thread = Thread(target=partial(_load_again, server.address, ended))
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _load_again(address: str, ended: Event) -> None:
    with grpc.insecure_channel(address) as channel:
        stub = wire.stub(channel)
        while not ended.wait(0.5):
            stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name=LOADED), timeout=60)
            stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name=LOADED), timeout=60)


def report(found: Mapping[int, Mapping[str, Waits]]) -> str:
    body, lines = [], []
    for workers, waits in found.items():
        p50, p99 = waits[ALONE].middle
        for name, wait in waits.items():
            mine = wait.middle
            body.append(
                [
                    f"{workers}",
                    name,
                    *(f"{figure:.2f}" for figure in (1e3 * mine[0], 1e3 * mine[1], mine[0] / p50, mine[1] / p99)),
                ]
            )
            if name != ALONE:
                text = f"{workers} worker{'s' * (workers > 1)}: p99 beside a model that is {name} < {MOST:.0f}x"
                lines.append(goal(mine[1] < MOST * p99, f"{text}: {mine[1] / p99:.2f}x"))
    head = ["workers", "beside", "p50 ms", "p99 ms", "p50 of alone", "p99 of alone"]
    return "\n".join(
        [f"A fast model beside others, {FAST_RATE:.0f} requests/s", machine(), "", table(head, body), "", *lines]
    )


if __name__ == "__main__":
    main(sys.argv[1:])
