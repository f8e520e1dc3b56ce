"""Models that come and go while they are asked: what SECURITY.md's tests 6, 7 and 8 count, short or long."""

import functools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil
from numpy.typing import NDArray

from kanserve import repository
from kanserve.artifact.format import Artifact
from kanserve.artifact_compiler import compile
from kanserve.inference import grpc_service_pb2 as pb
from kanserve.inference import wire
from kanserve.network.evaluate import evaluate
from kanserve.network.kan import Kan
from kanserve.serve.models.loader import Models
from kanserve.serve.server import Server
from kanserve.serve.settings import Settings
from tests.support.networks import kans
from tests.support.paths import ROOT
from tests.support.servers import server_load, server_process

KINDS = 4  # of versions that answer differently: number n is the one of n % KINDS
X = np.random.default_rng(0).uniform(-0.9, 0.9, (8, 1))


def kan(kind: int) -> Kan:
    return replace(kans.one_edge(), output_shift=np.array([10.0 * kind]))


@functools.cache
def artifact(kind: int) -> Artifact:
    return compile(kan(kind), ("c_source",), name="model")


@functools.cache
def answer(kind: int) -> NDArray[np.float64]:
    return evaluate(kan(kind), X)


def publish(root: Path) -> int:
    """The next version."""
    there = repository.versions(root, "model") if (root / "model").is_dir() else (0,)
    return repository.publish(root, "model", artifact((there[-1] + 1) % KINDS))


@dataclass
class Asked:
    """What came of asking a model: by each version so many answers, and whatever went wrong."""

    answers: dict[str, int] = field(default_factory=dict)
    wrong: int = 0  # answers that are not those of the version that they name
    errors: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def ask(self, stub: Any, request: pb.ModelInferRequest) -> None:
        begun = time.perf_counter()
        try:
            response = stub.ModelInfer(request, timeout=60)
        except grpc.RpcError as error:
            self.errors.append(f"{error.code().name}: {error.details()}")
            return
        self.seconds.append(time.perf_counter() - begun)
        version = response.model_version
        self.answers[version] = self.answers.get(version, 0) + 1
        got = np.frombuffer(response.raw_output_contents[0]).reshape(-1, 1)
        self.wrong += not np.allclose(got, answer(int(version) % KINDS), rtol=1e-12, atol=1e-12)


@contextmanager
def asked(address: str, pause: float, clients: int = 2) -> Iterator[list[Asked]]:
    """Clients, each with a connection of its own, that ask every `pause` seconds until the block ends."""
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP64", shape=X.shape)
    request = pb.ModelInferRequest(model_name="model", inputs=[tensor], raw_input_contents=[X.tobytes()])
    found, ended = [Asked() for _ in range(clients)], threading.Event()

    def work(one: Asked) -> None:
        with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            stub = wire.stub(channel)
            while not ended.is_set():
                one.ask(stub, request)
                time.sleep(pause)

    threads = [threading.Thread(target=work, args=(reading,)) for reading in found]
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        ended.set()
        for thread in threads:
            thread.join()


@dataclass(frozen=True)
class Held:
    """What a process holds."""

    megabytes: float
    threads: int
    descriptors: int

    @classmethod
    def now(cls) -> "Held":
        process = psutil.Process()
        return cls(process.memory_info().rss / 1e6, process.num_threads(), process.num_fds())


@contextmanager
def serving(root: Path, **options: Any) -> Iterator[tuple[Models, str]]:
    """The models of a repository and a server's address, on this process."""
    settings = Settings(repository=str(root), port=0, **options)
    with Models(settings) as models:
        models.refresh()
        server = Server(settings, models=models)
        try:
            yield models, server.address
        finally:
            server.stop()


def settled(models: Models) -> None:
    """Wait until the last version that was let go has ended."""
    eventually(lambda: "UNLOADING" not in models.catalog.states.values())
    models.load("model")  # nothing to do, but after whatever the thread still does


def eventually(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it does not come true"
        time.sleep(0.01)


def reloads(root: Path, count: int, every: float = 0.0, pause: float = 0.001) -> tuple[list[Asked], Held, Held]:
    """Publish and load `count` versions, one each `every` seconds, under load; what was held before and after."""
    publish(root)
    with serving(root, versions="latest") as (models, address), asked(address, pause) as found:
        for number in range(count + 10):  # the first ten set up what stays
            if number == 10:
                settled(models)
                before = Held.now()
            begun = time.monotonic()
            version = publish(root)
            models.load("model")
            assert list(models.catalog.models["model"]) == [version]
            time.sleep(max(0.0, begun + every - time.monotonic()))
        settled(models)
        after = Held.now()
        for _ in range(100):  # threads that a burst has made end when they were idle for a while
            if after.threads <= before.threads:
                break
            time.sleep(0.1)
            after = Held.now()
    return found, before, after


def corrupted(root: Path, seconds: float) -> tuple[list[Asked], str]:
    """Publish a corrupt second version under load; the reason that the index gives."""
    publish(root)
    with serving(root) as (models, address), asked(address, 0.001) as found:
        time.sleep(seconds / 2)
        version = publish(root)
        (library,) = (root / "model" / str(version) / "c_source").glob("*.so")
        data = bytearray(library.read_bytes())
        data[len(data) // 2] ^= 1
        os.chmod(library, 0o644)
        library.write_bytes(data)
        models.refresh()
        time.sleep(seconds / 2)
        with grpc.insecure_channel(address) as channel:
            index = wire.stub(channel).RepositoryIndex(pb.RepositoryIndexRequest()).models
    (entry,) = (entry_of_model for entry_of_model in index if entry_of_model.version == str(version))
    assert entry.state == "UNAVAILABLE"
    return found, entry.reason


def disturbed(root: Path, rounds: int, seconds: float) -> tuple[list[list[float]], list[list[float]], int]:
    """Seconds that answers of a small model take, told by another process, in rounds by turns: left alone, and while a
    large one is loaded and let go again and again, with half a second between; and how often that was."""
    publish(root)
    layers = [kans._random(seed, o, i) for seed, (i, o) in enumerate(((48, 48), (48, 48), (48, 10)))]
    repository.publish(root, "large", compile(Kan(tuple(layers)), ("c_source",), name="large"))
    alone, busy, counts = [], [], []
    with serving(root, model_control="explicit", load=("model",)) as (models, address):
        for _ in range(rounds):
            alone.append(_timed(address, seconds))
            with _loading(models, "large") as count:
                busy.append(_timed(address, seconds))
            counts += count
    return alone, busy, sum(counts)


@contextmanager
def _loading(models: Models, name: str) -> Iterator[list[int]]:
    """A model that comes and goes until the block ends, and how often."""
    ended, count = threading.Event(), [0]

    def work() -> None:
        while not ended.is_set():
            models.load(name)
            models.unload(name)
            count[0] += 1
            ended.wait(0.5)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield count
    finally:
        ended.set()
        thread.join()


def _timed(address: str, seconds: float) -> list[float]:
    """What 200 requests a second take, each; all are answered."""
    request = server_load.request("model", X)
    command = [sys.executable, "-m", "tests.support.servers.server_load", address, str(seconds), "200", "0"]
    done = subprocess.run(
        command,
        input=request,
        capture_output=True,
        env=server_process.ENVIRONMENT,
        cwd=ROOT,
        timeout=60 + seconds,
        check=True,
    )
    times: dict[str, list[float]] = json.loads(done.stdout)
    assert set(times) <= {"OK", "LATE"}, times.keys()
    return times["OK"]
