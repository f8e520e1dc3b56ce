"""Isolation: the latency of a fast model beside others that sleep, fail, compute, are busy, huge, or being loaded.

A fast C model gets requests at a steady rate, alone and then beside each neighbour in turn, round by round; every load
comes from a process of h2load. Each neighbour is first a model of the same server, and then of another one on the same
cores: what the latter costs is the machine's doing, and no server can do better. The generator of the fast model's
requests has short slices of time, as if its machine were its own. A busy or huge neighbour takes all the CPU that it
gets. One that computes is pure Python: a thread of the server's process holds Python's lock all the time. A loaded one
is unloaded and loaded again twice a second. Medians of the rounds are shown. Latency is wall-clock time, so trust only
the ratios, and none from a busy machine.

    OMP_NUM_THREADS=1 python benchmarks/isolation.py [--small]
"""

import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from threading import Event, Thread

import grpc
import numpy as np

from benchmarks import _h2load as h2load
from benchmarks._h2load import Load
from benchmarks._servers import Server, cores, running
from benchmarks._timing import goal, machine, table
from kanserve import compile, publish
from kanserve.artifact.format import Artifact, assemble
from kanserve.inference import grpc_service_pb2 as pb
from kanserve.inference import wire
from kanserve.train import create

ALONE, LOADED = "alone", "loaded"
_BEGINS = 0.05  # seconds until a neighbour has its first requests
FAST_RATE = 300.0  # requests per second: a tenth of one core's capacity
HUGE_INPUTS = 100


@dataclass(frozen=True)
class Neighbour:
    """What another model is asked: `rate` requests per second, or `in_flight` at once."""

    model: str
    rows: int
    rate: float = 0.0
    in_flight: int = 4


NEIGHBOURS = {
    "sleeping": Neighbour("sleeping", 1, rate=200, in_flight=100),  # twenty at once
    "broken": Neighbour("broken", 3, rate=100, in_flight=100),  # it fails only at three rows, so that it can be loaded
    "computing": Neighbour("computing", 3, in_flight=1),
    "busy": Neighbour("huge", 256),  # less than a millisecond each
    "huge": Neighbour("huge", 8192),  # as much work as 1024 rows of [784, 64, 10]
}
SETUPS = {"one worker, one core": (1, True), "one worker": (1, False), "two workers": (2, False)}  # workers; one core?
MOST = 2.0  # limit of the 99th percentile, relative to that alone
# And relative to that beside the same neighbour in another server. Medians of five rounds differ by more than this from
# run to run, so a miss of one run says little, and one of several runs that models are not apart.
MOST_OF_APART = 1.25


@dataclass(frozen=True)
class Waits:
    """Latency percentiles of the fast model in every round, in seconds."""

    p50: list[float]
    p99: list[float]

    @property
    def middle(self) -> tuple[float, float]:
        return float(np.median(self.p50)), float(np.median(self.p99))


Found = Mapping[tuple[str, bool], Waits]  # by the neighbour, and whether it is in the same server


def main(arguments: list[str]) -> None:
    if not h2load.there():
        print(h2load.MISSING)
        return
    print(report({name: measure(*setup, small="--small" in arguments) for name, setup in SETUPS.items()}))


def measure(workers: int, one_core: bool, small: bool = False) -> Found:
    """The latencies alone and beside each neighbour; with all cores, the load generators share one of them."""
    rounds, seconds = (1, 0.2) if small else (5, 2.0)
    on, beside = cores()
    arguments = ["--port", "0", "--workers", str(workers), "--anonymous", "predict,read,manage"]
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        for name, artifact in models(small).items():
            publish(folder, name, artifact)
        where = on if one_core else on | beside
        command = ["-m", "kanserve", "serve", folder, *arguments]
        server, other = (stack.enter_context(running(command, where)) for _ in range(2))
        places = [(ALONE, server), *((name, place) for name in (*NEIGHBOURS, LOADED) for place in (server, other))]
        found = {(name, place is server): Waits([], []) for name, place in places}
        count = round(FAST_RATE * seconds)
        body = request("fast", 4, 1)
        load = Load(server.address, body, 400, count, connections=4, rate=FAST_RATE, prompt=True, waits=True)
        for number in range(rounds + 1):  # a server is slower at first: the first round does not count
            for name, place in places:
                waits = found[name, place is server]
                with _neighbour(name, place, beside):
                    answered = h2load.run(load, beside)
                if answered.failed or answered.data < count * h2load.PREFIX_BYTES:
                    raise RuntimeError(f"The fast model did not answer each of {count} requests beside {name}.")
                if number:
                    waits.p50.append(answered.percentile(0.5))
                    waits.p99.append(answered.percentile(0.99))
    return found


# A tenth of a second at a time; like the broken one only at three rows.
_COMPUTING = """import time
    end = time.thread_time() + 0.1 * (len(x) == 3)
    while time.thread_time() < end:
        sum(range(100))"""


def models(small: bool) -> dict[str, Artifact]:
    fast = create([4, 5, 1], grid=5, seed=0)
    huge = compile(create([HUGE_INPUTS, 1 if small else 64, 10], grid=5, seed=0), ["c_source"], name="huge")
    slow = {name: compile(fast, ["numpy_source"], name=name) for name in ("sleeping", "broken", "computing")}
    return {
        "fast": compile(fast, ["c_source"], name="fast"),
        "sleeping": _with_code(slow["sleeping"], "import time\n    time.sleep(0.1)"),
        "broken": _with_code(slow["broken"], "if len(x) == 3:\n        raise RuntimeError('broken')"),
        "computing": _with_code(slow["computing"], _COMPUTING),
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
def _neighbour(name: str, server: Server, beside: set[int]) -> Iterator[None]:
    """Run a neighbour's load during the context."""
    if name == ALONE:
        yield
    elif name == LOADED:
        with _loading(server):
            yield
    else:
        asked = NEIGHBOURS[name]
        body = request(asked.model, HUGE_INPUTS if asked.model == "huge" else 4, asked.rows)
        connections = 1 if asked.rate else asked.in_flight
        load = Load(server.address, body, asked.in_flight, 0, 60, connections, asked.rate)
        with h2load.under_way(load, beside):
            time.sleep(_BEGINS)
            yield


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


def report(found: Mapping[str, Found]) -> str:
    body, lines = [], []
    for setup, waits in found.items():
        p50, p99 = waits[ALONE, True].middle
        for (name, same), wait in waits.items():
            mine = wait.middle
            figures = (1e3 * mine[0], 1e3 * mine[1], mine[0] / p50, mine[1] / p99)
            beside = name if same else f"{name}, in another server"
            body.append([setup, beside, *(f"{figure:.2f}" for figure in figures)])
            if name != ALONE and same:
                text = f"{setup}: p99 beside a model that is {name} < {MOST:.0f}x"
                lines.append(goal(mine[1] < MOST * p99, f"{text}: {mine[1] / p99:.2f}x"))
                apart = waits[name, False].middle[1]
                text = f"{setup}: p99 beside a model that is {name} <= {MOST_OF_APART}x of that beside another server"
                lines.append(goal(mine[1] <= MOST_OF_APART * apart, f"{text}: {mine[1] / apart:.2f}x"))
    head = ["server", "beside", "p50 ms", "p99 ms", "p50 of alone", "p99 of alone"]
    title = f"A fast model beside others, {FAST_RATE:.0f} requests/s"
    return "\n".join([title, machine("numpy"), "", table(head, body), "", *lines])


if __name__ == "__main__":
    main(sys.argv[1:])
