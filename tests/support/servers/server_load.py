"""Load on a server process from a process of its own: more than it can do, and for long.

    python -m tests.support.servers.server_load ADDRESS SECONDS RATE IN_FLIGHT < REQUEST

sends the bytes of REQUEST as ModelInfer: RATE a second whatever comes back, or where that is 0 with IN_FLIGHT at once;
prints, as JSON, for each status code the seconds that each call took; LATE: answered after
the time.
"""

import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any

import grpc
import numpy as np
import psutil

from kanserve import repository
from kanserve.artifact.format import Artifact
from kanserve.inference import grpc_service_pb2 as pb
from kanserve.inference import wire
from kanserve.serve.settings import Settings
from kanserve.v1 import formula_pb2, formula_pb2_grpc
from tests.support.paths import ROOT
from tests.support.servers import server_process, serving

INFER = "/inference.GRPCInferenceService/ModelInfer"
AT_ONCE = 16  # requests that are computed, of one model; to refuse what is beyond takes the processor's time too
ROUNDS = 10  # of calls of many kinds, at least, however long they take
Times = dict[str, list[float]]


@dataclass(frozen=True)
class Overload:
    """What came of more requests than a server can answer."""

    capacity: float  # answers a second, as fast as it can
    offered: float  # requests a second
    goodput: float  # answers a second, of those
    refusal: float  # the 99th percentile of the seconds until a refusal
    refused: int
    codes: set[str]
    answering: float  # seconds of the server's processor for an answer, where nothing is refused
    refusing: float  # and for a refusal


def overload(model: Artifact, times: float, seconds: float, apart: bool = False, at_once: int = AT_ONCE) -> Overload:
    """Requests of one row, `times` as many as a server can answer that computes so many of them `at_once`.

    `apart`: it has one core and they come from another, so that a model which takes all of its core takes nothing of
    theirs.
    """
    cores = os.sched_getaffinity(0)
    here, there = ({min(cores)}, {max(cores)}) if apart else (cores, cores)
    with TemporaryDirectory() as folder:
        repository.publish(folder, "kan", model)
        with _on(here), server_process.served(Settings(folder, port=0, concurrency=at_once)) as (running, address):
            body = request("kan", np.zeros((1, 1)))
            _sent(address, body, 0.5, 0, at_once, there)  # slower at first: does not count
            begun = server_process.busy(running.pid)
            alone = _sent(address, body, seconds, 0, at_once, there)
            capacity = len(alone.get("OK", ())) / seconds
            between = server_process.busy(running.pid)
            came = _sent(address, body, seconds, times * capacity, 0, there)
            ended = server_process.busy(running.pid)
    refused = came.get("RESOURCE_EXHAUSTED", [])
    answering = (between - begun) / max(1, sum(map(len, alone.values())))
    answers = sum(map(len, came.values())) - len(refused)
    return Overload(
        capacity=capacity,
        offered=sum(map(len, came.values())) / seconds,
        goodput=len(came.get("OK", ())) / seconds,
        refusal=float(np.percentile(refused, 99)) if refused else float("nan"),
        refused=len(refused),
        codes=set(came) - {"LATE"},
        answering=answering,
        refusing=(ended - between - answers * answering) / max(1, len(refused)),
    )


@contextmanager
def _on(cores: set[int]) -> Iterator[None]:
    """What is started in this context runs on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def request(model: str, x: np.ndarray) -> bytes:
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP64", shape=x.shape)
    made = pb.ModelInferRequest(model_name=model, inputs=[tensor], raw_input_contents=[x.tobytes()])
    return made.SerializeToString()


def _sent(address: str, body: bytes, seconds: float, rate: float, in_flight: int, cores: set[int]) -> Times:
    words = [address, str(seconds), str(rate), str(in_flight)]
    with _on(cores):
        done = subprocess.run(
            [sys.executable, "-m", "tests.support.servers.server_load", *words],
            input=body,
            capture_output=True,
            env=server_process.ENVIRONMENT,
            cwd=ROOT,
            timeout=seconds + 60,
        )
    assert done.returncode == 0, done.stderr.decode()
    times: Times = json.loads(done.stdout)
    return times


def send(address: str, body: bytes, seconds: float, rate: float, in_flight: int) -> Times:
    """In this process: what each status code took."""
    came: defaultdict[str, list[float]] = defaultdict(list)
    clock, ended, under_way = time.perf_counter, threading.Condition(), 0
    with grpc.insecure_channel(address) as channel:
        method = channel.unary_unary(INFER, request_serializer=None, response_deserializer=None)
        method(body, timeout=60)  # the connection is there before the clock runs
        begun = clock()

        def one() -> None:
            nonlocal under_way
            sent = clock()
            with ended:
                under_way += 1

            def answered(call: Any) -> None:
                nonlocal under_way
                now = clock()
                late = call.code() is grpc.StatusCode.OK and now - begun > seconds
                came["LATE" if late else call.code().name].append(now - sent)
                if in_flight and now - begun < seconds:
                    one()
                with ended:
                    under_way -= 1
                    ended.notify()

            method.future(body, timeout=60).add_done_callback(answered)

        for _ in range(in_flight):
            one()
        number = 0
        while rate and (passed := clock() - begun) < seconds:
            while number < passed * rate:
                one()
                number += 1
            time.sleep(0.001)
        with ended:
            ended.wait_for(lambda: under_way == 0)
    return dict(came)


@dataclass(frozen=True)
class Held:
    """What a process holds: bytes of memory, descriptors, threads."""

    memory: int
    descriptors: int
    threads: int


@dataclass(frozen=True)
class Endurance:
    """What a server held once it was warm, and at the end; each the least of a tenth of the time."""

    calls: int
    warm: Held
    end: Held


def endure(seconds: float) -> Endurance:
    """Calls of many kinds, the wrong ones among them, on connections that come and go, after as long again to warm up
    as a fifth of the time."""
    wanted = Settings(str(serving.folder()), port=0, http_port=0)
    with server_process.started(wanted) as running:
        line = server_process.said(running, "serving")
        address, http = line.split()[-1], line.split("http://")[1].split("/")[0]
        process, calls = psutil.Process(running.pid), 0
        held: list[Held] = []
        begun = time.monotonic()
        # Where others have the cores the time is over before the server has done anything often.
        while (passed := time.monotonic() - begun) < 1.2 * seconds or len(held) < ROUNDS:
            calls += _all_kinds(address, http)
            if passed > 0.2 * seconds and calls > ROUNDS * 10:
                held.append(_held(process))
        tenth = max(1, len(held) // 10)
        for _ in range(20):  # the last connections are closed in a moment
            time.sleep(0.05)
            held.append(_held(process))
    return Endurance(calls, _least(held[:tenth]), _least(held[-tenth - 20 :]))


def _held(process: psutil.Process) -> Held:
    return Held(process.memory_info().rss, process.num_fds(), process.num_threads())


def _least(held: list[Held]) -> Held:
    return Held(*(min(getattr(sample, name) for sample in held) for name in ("memory", "descriptors", "threads")))


def _all_kinds(address: str, http: str) -> int:
    """One connection's calls, and how many they were."""
    count = 0
    with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        stub, formulas = wire.stub(channel), formula_pb2_grpc.FormulaServiceStub(channel)
        for model in ("raw", "graph", "mixed", "iris"):
            inputs = len(serving.kan(model).inputs)
            for rows in (1, 256):
                asked = pb.ModelInferRequest.FromString(request(model, np.zeros((rows, inputs))))
                stub.ModelInfer(asked, timeout=60)
                list(stub.ModelStreamInfer(iter([asked, asked]), timeout=60))
                count += 3
            asked.raw_input_contents[0] = asked.raw_input_contents[0][:-1]
            for wrong in (asked, pb.ModelInferRequest(model_name="none")):
                try:
                    stub.ModelInfer(wrong, timeout=60)
                except grpc.RpcError:
                    count += 1
            stub.ModelMetadata(pb.ModelMetadataRequest(name=model), timeout=60)
            stub.ModelStatistics(pb.ModelStatisticsRequest(name=model), timeout=60)
            formulas.GetNetwork(formula_pb2.GetNetworkRequest(model_name=model), timeout=60)
            formulas.GetFormula(formula_pb2.GetFormulaRequest(model_name="graph"), timeout=60)
            count += 4
    for path in ("/metrics", "/v2/health/ready"):
        with urllib.request.urlopen(f"http://{http}{path}", timeout=60) as answer:
            answer.read()
    return count + 2


def main() -> None:
    address, seconds, rate, in_flight = sys.argv[1:]
    body = sys.stdin.buffer.read()
    print(json.dumps(send(address, body, float(seconds), float(rate), int(in_flight))))


if __name__ == "__main__":
    main()
