"""The threads that answer calls: what is accepted and what is late, and that who is slow keeps nobody waiting."""

import itertools
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Any

import pytest

from kanserve.errors import BusyError
from kanserve.serve.request import Request
from kanserve.serve.scheduling import switch_interval, thread_pool
from kanserve.serve.scheduling.thread_pool import MAX_INFLIGHT_BYTES, SLOW, ThreadPool

PATIENCE = 60.0  # seconds after which something will not come any more


@contextmanager
def running(threads: int = 2, spare: int | None = None, held: int = MAX_INFLIGHT_BYTES) -> Iterator[ThreadPool]:
    pool = ThreadPool(threads, spare, held)
    try:
        yield pool
    finally:
        pool.shutdown()


class Gate:
    """Calls that begin, say so, and wait."""

    def __init__(self) -> None:
        self.begun: SimpleQueue[int] = SimpleQueue()
        self._open = threading.Event()

    def call(self, number: int = 0) -> None:
        self.begun.put(number)
        self._open.wait(2 * PATIENCE)  # longer than anybody waits for what is to come beside it

    def wait(self, count: int) -> list[int]:
        return [self.begun.get(timeout=PATIENCE) for _ in range(count)]

    def __enter__(self) -> "Gate":
        return self

    def __exit__(self, *_: object) -> None:
        self._open.set()


def ended(pool: ThreadPool, call: Any, *arguments: Any) -> None:
    """Submit a call and wait for its end."""
    done = threading.Event()
    pool.submit(call, *arguments).add_done_callback(lambda _: done.set())
    assert done.wait(PATIENCE)


def settled(threads: ThreadPool, gauge: str, wanted: float) -> bool:
    """Whether a gauge comes to a value."""
    until = time.monotonic() + PATIENCE
    while threads.gauges()[gauge] != wanted:
        if time.monotonic() > until:
            return False
        time.sleep(0.005)
    return True


def test_a_call_is_accepted_until_it_has_ended_and_its_callbacks_are_called_once():
    with running() as pool, Gate() as gate:
        called: list[Any] = []
        job = pool.submit(gate.call)
        job.add_done_callback(called.append)
        gate.wait(1)
        assert pool.accepted == 1 and called == []
        gate.__exit__()
        assert pool.drain(PATIENCE) and pool.accepted == 0
        pool.shutdown()
        assert called == [job]
        job.add_done_callback(called.append)  # too late to wait for anything
        assert called == [job, job]


def test_a_call_that_raises_leaves_its_thread_to_the_next(caplog):
    def broken() -> None:
        raise SystemExit("of an artifact")

    with running(threads=1) as pool:
        ended(pool, broken)
        ended(pool, int)
        assert pool.accepted == 0
    assert "SystemExit" in caplog.text


def test_what_was_accepted_before_a_drain_is_waited_for_and_what_comes_later_is_late():
    with running(threads=1) as pool, Gate() as gate:
        seen: list[bool] = []
        pool.submit(gate.call)
        pool.submit(lambda: seen.append(pool.arrival.late))
        gate.wait(1)
        assert not pool.drain(0.01)
        pool.submit(lambda: seen.append(pool.arrival.late))
        with pool.counted() as arrival:
            assert arrival.late
        assert pool.accepted <= 2
        gate.__exit__()
        assert pool.drain(PATIENCE)
    assert seen == [False, True]


def test_a_call_knows_when_it_arrived_and_not_when_it_began():
    with running(threads=1, spare=0) as pool, Gate() as gate:
        arrived: list[int] = []
        pool.submit(gate.call)
        gate.wait(1)
        before = time.perf_counter_ns()
        pool.submit(lambda: arrived.append(pool.arrival.at))
        after = time.perf_counter_ns()
        gate.__exit__()
        pool.drain(PATIENCE)
    assert before <= arrived[0] <= after


def test_calls_that_wait_give_their_places_away_and_the_threads_go_when_they_have_ended():
    with running(threads=2, spare=6) as pool:
        with Gate() as gate:
            for number in range(8):
                pool.submit(gate.call, number)
            assert sorted(gate.wait(8)) == list(range(8))  # 2 have a place
            pool.submit(gate.call, 8)
            with pytest.raises(Empty):  # no thread is left
                gate.begun.get(timeout=0.1)
            assert pool.gauges()["queue_length"] == 1 and pool.accepted == 9
        assert settled(pool, "calls_in_flight", 0)
        assert settled(pool, "threads", 4)  # 2 with a place, and as many kept for the next time
        with Gate() as again:
            for number in range(8):
                pool.submit(again.call, number)
            again.wait(8)
        assert settled(pool, "calls_in_flight", 0)
        ended(pool, int)


def test_fast_calls_go_on_beside_as_many_slow_ones_as_may_wait():
    with running(threads=1, spare=8) as pool, Gate() as gate:
        for _ in range(8):
            pool.submit(gate.call)
        gate.wait(8)
        for _ in range(100):
            ended(pool, int)


def test_threads_take_turns_more_often_beside_a_slow_call_and_only_then():
    usual = sys.getswitchinterval()
    with switch_interval.own_process(), running(threads=1, spare=2) as pool:
        with Gate() as gate:
            pool.submit(gate.call)
            gate.wait(1)
            ended(pool, int)  # by another thread: the first one has lost its place
            assert sys.getswitchinterval() < usual / 4
        assert settled(pool, "calls_in_flight", 0)
        assert sys.getswitchinterval() == usual


def test_a_slow_call_that_ends_leaves_short_turns_to_what_is_being_loaded():
    usual = sys.getswitchinterval()
    switch_interval.shorten("loading", switch_interval.BESIDE_LOADS)
    try:
        with switch_interval.own_process(), running(threads=1, spare=2) as pool:
            with Gate() as gate:
                pool.submit(gate.call)
                gate.wait(1)
                ended(pool, int)
            assert settled(pool, "calls_in_flight", 0)
            assert sys.getswitchinterval() < usual / 4
    finally:
        switch_interval.relax("loading")
    assert sys.getswitchinterval() == usual


def test_a_server_in_somebody_elses_process_leaves_the_turns_of_threads_alone():
    usual = sys.getswitchinterval()
    with running(threads=1, spare=2) as pool, Gate() as gate:
        pool.submit(gate.call)
        gate.wait(1)
        ended(pool, int)
        switch_interval.shorten("loading", switch_interval.BESIDE_LOADS)
        assert sys.getswitchinterval() == usual
        switch_interval.relax("loading")


def test_more_requests_of_a_model_at_once_than_it_may_have_are_refused():
    with running(threads=4, spare=8) as pool, Gate() as gate:

        def compute() -> None:
            with pool.computing("slow", 2):
                gate.call()

        for _ in range(2):
            pool.submit(compute)
        gate.wait(2)
        with pytest.raises(BusyError, match="limit: 2 requests"), pool.computing("slow", 2):
            pass
        with pool.computing("other", 2), pool.computing("slow", 2, "of another kind"):
            pass


def test_no_model_takes_the_last_threads_that_can_wait():
    with running(threads=1, spare=4) as pool, Gate() as gate:

        def compute(model: str) -> None:
            try:
                with pool.computing(model, 100):
                    gate.call()
            except BusyError:
                gate.begun.put(-1)

        for _ in range(6):
            pool.submit(compute, "greedy")
        begun = gate.wait(6)
        assert begun.count(-1) == 3  # after 3 there is 1 left, which is for others
        pool.submit(compute, "modest")
        assert gate.wait(1) == [0]


def test_a_model_that_is_known_to_be_slow_gives_its_place_away_at_once(monkeypatch):
    monkeypatch.setattr(thread_pool, "SLOW_TICKS", 10**9)  # the monitor takes no place away
    with running(threads=1, spare=2) as pool, Gate() as gate:
        with monkeypatch.context() as clock:  # which goes on by so much whenever it is looked at
            clock.setattr(thread_pool, "perf_counter_ns", itertools.count(1, 16 * SLOW).__next__)
            with pool.computing("slow", 2):
                pass
        order: list[str] = []

        def compute() -> None:
            with pool.computing("slow", 2):
                gate.begun.put(0)
                ended(pool, order.append, "fast")  # by another thread, for this one waits
                order.append("slow")

        ended(pool, compute)
        assert order == ["fast", "slow"]


def test_streams_are_counted_and_bounded():
    with running() as pool:
        pool.open_stream(1, "unix:")
        with pytest.raises(BusyError, match="1 streams are open"):
            pool.open_stream(1, "ipv4:127.0.0.1:1")
        assert pool.gauges()["streams_open"] == 1
        pool.close_stream("unix:")
        pool.open_stream(1, "ipv4:127.0.0.1:1")


def test_one_connection_leaves_as_many_streams_as_it_has():
    with running() as pool:
        for _ in range(5):
            pool.open_stream(10, "ipv4:127.0.0.1:1")
        with pytest.raises(BusyError, match="This connection has 5 of 10 streams"):
            pool.open_stream(10, "ipv4:127.0.0.1:1")
        for _ in range(2):
            pool.open_stream(10, "ipv4:127.0.0.1:2")
        pool.close_stream("ipv4:127.0.0.1:1")
        pool.open_stream(10, "unix:")
        assert pool.gauges()["streams_open"] == 7


def test_many_at_once_are_all_answered():
    with running(threads=4) as pool, ThreadPoolExecutor(4) as others:
        answered: SimpleQueue[int] = SimpleQueue()

        def submit(start: int) -> None:
            for number in range(start, start + 500):
                pool.submit(answered.put, number)

        list(others.map(submit, range(0, 2000, 500)))
        assert pool.drain(PATIENCE)
        assert sorted(answered.get_nowait() for _ in range(2000)) == list(range(2000))


def test_the_monitor_sleeps_when_nothing_runs_and_wakes_for_the_next_call(monkeypatch):
    ticks = 0
    sleep = time.sleep

    def counted(seconds: float) -> None:
        nonlocal ticks
        ticks += threading.current_thread().name == "kanserve-monitor"
        sleep(seconds)

    monkeypatch.setattr(time, "sleep", counted)
    monkeypatch.setattr(thread_pool, "TICK", 0.001)
    with running(threads=1, spare=1) as pool:
        ended(pool, int)
        before, until = -1, time.monotonic() + PATIENCE
        while ticks != before:  # as long as there is another tick in the time of three hundred
            assert time.monotonic() < until
            before = ticks
            sleep(0.3)
        with Gate() as gate:
            pool.submit(gate.call)
            gate.wait(1)
            ended(pool, int)  # by another thread, for the monitor has seen that the first one waits


def test_what_large_messages_hold_is_bounded_and_given_back_with_the_call():
    large = 2**20
    with running(threads=2, spare=0, held=large) as pool:
        said: SimpleQueue[str] = SimpleQueue()

        def send(size: int, then: Any) -> None:
            request = Request()
            request.messages = iter([bytes(size)])
            try:
                pool.message(request)
            except BusyError as error:
                said.put(str(error))
            else:
                then()
                said.put("")

        with Gate() as gate:
            pool.submit(send, large, gate.call)
            gate.wait(1)
            ended(pool, send, large // 8, int)
            assert "memory" in said.get(timeout=PATIENCE)
            ended(pool, send, 1000, int)
            assert said.get(timeout=PATIENCE) == ""  # a small one does not count
        assert settled(pool, "calls_in_flight", 0) and said.get(timeout=PATIENCE) == ""
        for _ in range(2):
            ended(pool, send, large, int)
            assert said.get(timeout=PATIENCE) == ""
            assert settled(pool, "calls_in_flight", 0)
