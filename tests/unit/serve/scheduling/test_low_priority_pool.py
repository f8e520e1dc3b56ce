"""Where models compute that keep a processor busy: one at a time for each core, in their order, and out of the way."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import grpc
import numpy as np
import pytest

from kanserve import repository
from kanserve.inference import wire
from kanserve.serve.scheduling import cpus, thread_pool
from kanserve.serve.scheduling.low_priority_pool import FELT, HEAVY, NICE, Cost, LowPriorityPool
from kanserve.serve.scheduling.thread_pool import Job, ThreadPool
from kanserve.serve.server import start
from kanserve.serve.settings import Settings
from tests.support.servers import serving
from tests.support.servers.serving import infer_request

PATIENCE = 60.0  # seconds; only a failure takes as long


@contextmanager
def running() -> Iterator[LowPriorityPool]:
    heavy = LowPriorityPool()
    try:
        yield heavy
    finally:
        heavy.close()


def together(count: int, work: Any) -> None:
    """So many calls at once, each on a thread of its own, to their end."""
    callers = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(PATIENCE)
        assert not caller.is_alive()


def test_no_more_compute_at_once_than_there_are_cores():
    with running() as heavy:
        lock, now, most = threading.Lock(), 0, 0
        full = threading.Barrier(heavy.cores)

        def compute() -> None:
            nonlocal now, most
            with lock:
                now += 1
                most = max(most, now)
            full.wait(PATIENCE)  # until every core has one; fewer at once would wait for ever
            time.sleep(0.005)  # in which one too many would begin
            with lock:
                now -= 1

        together(4 * heavy.cores, lambda _: heavy.run(Cost(), compute))
        assert most == heavy.cores


def test_what_is_computed_comes_back_and_so_does_what_is_raised():
    def broken(text: str) -> None:
        raise SystemExit(text)

    with running() as heavy:
        assert heavy.run(Cost(), divmod, 7, 4) == (1, 3)
        with pytest.raises(SystemExit, match="of an artifact"):
            heavy.run(Cost(), broken, "of an artifact")
        assert heavy.run(Cost(), divmod, 7, 4) == (1, 3)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread has no priority of its own")
def test_its_threads_give_way_and_those_that_ask_do_not():
    def priority() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    before = priority()
    with running() as heavy:
        assert heavy.run(Cost(), priority) == NICE
        assert priority() == before


def test_its_threads_end_when_it_is_closed():
    before = threading.active_count()
    with running() as heavy:
        heavy.run(Cost(), int)
    deadline = time.monotonic() + PATIENCE
    while threading.active_count() > before:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_what_uses_a_processor_is_heavy_and_what_waits_is_not():
    computes, waits, beside = Cost(), Cost(), Cost()
    for _ in range(20):
        computes.note(3 * HEAVY, 3 * HEAVY, 1.0)
        waits.note(40 * HEAVY, 3 * HEAVY, 1.0)
        beside.note(48 * HEAVY, 3 * HEAVY, 1 / 16)  # of 16 that share a core
    assert (computes.heavy, waits.heavy, beside.heavy) == (True, False, True)
    for _ in range(40):
        computes.note(HEAVY // 10, HEAVY // 10, 1.0)  # the next version is faster
    assert not computes.heavy


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody says how long a thread has waited for a core")
def test_what_has_to_wait_for_a_core_is_as_heavy_as_before():
    core = min(os.sched_getaffinity(0))

    def compute() -> None:
        os.sched_setaffinity(0, {core})  # of this thread
        end = time.thread_time_ns() + 2 * HEAVY
        while time.thread_time_ns() < end:
            pass

    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3)]
    try:
        for process in others:
            os.sched_setaffinity(process.pid, {core})
        with running() as heavy:
            cost = Cost()
            for _ in range(20):
                heavy.run(cost, compute)
            assert cost.heavy
    finally:
        for process in others:
            process.kill()
            process.wait()


class Clock:
    """The time of a thread pool, which goes on only when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1
        for clock in ("perf_counter_ns", "thread_time_ns"):
            monkeypatch.setattr(thread_pool, clock, lambda: self.now)
        monkeypatch.setattr(cpus, "read_queued_time", lambda: 0)


def test_few_rows_of_a_model_do_not_wait_for_many(monkeypatch):
    clock, pool = Clock(monkeypatch), ThreadPool(1)
    try:
        for _ in range(2):  # the first says that its CPU time is worth measuring
            with pool.computing("large", 4, rows=1024) as aside:
                assert aside is None
                clock.now += 10 * HEAVY
        with pool.computing("large", 4, rows=1) as aside:
            assert aside is None
        with pool.computing("large", 4, rows=1024) as aside:
            assert aside is not None and aside(threading.current_thread).name == "kanserve-heavy"
    finally:
        pool.shutdown()


def test_what_takes_less_computes_aside_only_while_other_models_are_asked(monkeypatch):
    clock, pool = Clock(monkeypatch), ThreadPool(1)

    def aside(model: str, takes: int = 0) -> bool:
        with pool.computing(model, 4) as given:
            clock.now += takes
            return given is not None and given(int) == 0

    try:
        for _ in range(20):
            clock.now += 3600 * 10**9  # an hour in which no other model was asked
            assert not aside("busy", 2 * FELT)
        assert not aside("other") and aside("busy")
        clock.now += 3600 * 10**9
        assert not aside("busy")
    finally:
        pool.shutdown()


class LoopQueue(SimpleQueue[Job | None]):
    """A queue of a transport that lets a model compute by itself, outside of the pool."""

    def __init__(self) -> None:
        self.at = 0

    def computed(self) -> int:
        return self.at


def test_a_model_that_the_transport_asks_counts_as_another_one(monkeypatch):
    clock, queue = Clock(monkeypatch), LoopQueue()
    pool = ThreadPool(1, jobs=queue)
    try:
        for _ in range(20):
            clock.now += 3600 * 10**9
            with pool.computing("busy", 4) as aside:
                assert aside is None
                clock.now += 2 * FELT
        clock.now += 3600 * 10**9
        queue.at = clock.now - 1
        with pool.computing("busy", 4) as aside:
            assert aside is not None and aside(int) == 0
    finally:
        pool.shutdown()


@pytest.mark.slow
@pytest.mark.extended
def test_a_server_learns_which_model_is_heavy_and_answers_right(tmp_path):
    repository.publish(tmp_path, "busy", serving.busy())
    repository.publish(tmp_path, "iris", serving.artifact("iris"))
    where: dict[str, list[str]] = {"busy": [], "iris": []}
    settings = Settings(str(tmp_path), port=0, transport="grpcio")
    with start(settings) as server, grpc.insecure_channel(server.address) as channel:
        stub = wire.stub(channel)
        predict = server.catalog.find("busy").backend.predict
        for name in where:
            backend = server.catalog.find(name).backend

            def watched(x: Any, name: str = name, answer: Any = backend.predict) -> Any:
                where[name].append(threading.current_thread().name)
                return answer(x)

            object.__setattr__(backend, "predict", watched)
        x = np.zeros((1, 1))
        for _ in range(20):
            got = stub.ModelInfer(infer_request("busy", x), timeout=PATIENCE)
            assert np.frombuffer(got.raw_output_contents[0]) == predict(x)[0]
            stub.ModelInfer(infer_request("iris", np.zeros((1, 2))), timeout=PATIENCE)
        assert where["busy"][0] == "kanserve" and where["busy"][-1] == "kanserve-heavy"
        assert where["iris"].count("kanserve") > 10  # all of 20, unless the machine's clock is coarse
