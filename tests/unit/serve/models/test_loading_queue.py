"""What is slow to load keeps no other model waiting, and what is done to one model is done in order."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from kanserve import repository
from kanserve.client import Client
from kanserve.errors import DrainingError
from kanserve.repository.local import Folder
from kanserve.serve.models import loading_queue
from kanserve.serve.models.loader import Models
from kanserve.serve.models.loading_queue import AT_ONCE, LoadingQueue, when_done
from kanserve.serve.scheduling import switch_interval
from kanserve.serve.settings import Settings
from tests.support.servers import server_process, serving
from tests.support.servers.catalogs import loaded, publish, versions
from tests.support.servers.reload_checks import eventually

PATIENCE = 60.0


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next load begins beside one that is this slow."""
    monkeypatch.setattr(loading_queue, "SLOW", 0.2)


@contextmanager
def slow(root: Path, name: str) -> Iterator[Path]:
    """A model that is not loaded before something was written to this FIFO; at the end it is, so that nobody hangs."""
    fifo = root / f"{name}.fifo"
    os.mkfifo(fifo)
    repository.publish(root / "models", name, serving.loading(fifo))
    try:
        yield fifo
    finally:
        release(fifo)


def release(fifo: Path) -> None:
    """Let who reads go on, if there is anybody."""
    with suppress(OSError):
        os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))


def begins(models: Models, name: str) -> None:
    eventually(lambda: models.catalog.states.get((name, 1)) == "LOADING")


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_a_model_that_is_slow_to_load_delays_no_change_of_another(tmp_path: Path) -> None:
    publish(tmp_path / "models")
    with ThreadPoolExecutor(4) as pool, loaded(tmp_path / "models") as models, slow(tmp_path, "slow") as fifo:
        waits = pool.submit(models.load, "slow")
        begins(models, "slow")
        publish(tmp_path / "models")
        pool.submit(models.load, "fox").result(PATIENCE)
        assert versions(models) == [1, 2]
        pool.submit(models.unload, "fox").result(PATIENCE)
        assert versions(models) == []
        publish(tmp_path / "models", "owl")
        models.look().result(PATIENCE)  # because it is time: nobody waits for all that is loading
        eventually(lambda: versions(models, "owl") == [1])
        assert models.catalog.find("owl").backend.predict(np.zeros((1, 2))).shape == (1, 1)
        assert not waits.done() and models.catalog.states["slow", 1] == "LOADING"
        fifo.write_text("")
        waits.result(PATIENCE)
        assert versions(models, "slow") == [1]


def test_what_is_asked_of_a_model_that_is_being_loaded_is_done_after_it(tmp_path: Path) -> None:
    publish(tmp_path / "models")
    with ThreadPoolExecutor(4) as pool, loaded(tmp_path / "models") as models, slow(tmp_path, "slow") as fifo:
        load = pool.submit(models.load, "slow")
        begins(models, "slow")
        unload = pool.submit(models.unload, "slow")
        eventually(lambda: models.gauges()["model_changes_waiting"] == 1)
        again = pool.submit(models.load, "slow")
        eventually(lambda: models.gauges()["model_changes_waiting"] == 2)
        assert not unload.done()
        told: list[bool] = []
        models.subscribe(lambda catalog: told.append("slow" in catalog.models))
        fifo.write_text("")
        load.result(PATIENCE)
        unload.result(PATIENCE)
        begins(models, "slow")
        while not again.done():  # the second load, which comes after the unloading
            release(fifo)
            time.sleep(0.01)
        again.result(PATIENCE)
        assert versions(models, "slow") == [1]
        assert told.index(False, told.index(True)) < len(told) - 1 and told[-1]


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_only_so_many_are_loaded_at_once_and_unloading_waits_for_none_of_them(tmp_path: Path) -> None:
    publish(tmp_path / "models")
    publish(tmp_path / "models", "owl")
    with (
        ThreadPoolExecutor(4) as pool,
        loaded(tmp_path / "models") as models,
        slow(tmp_path, "slow") as fifo,
        slow(tmp_path, "snail") as other,
    ):
        before = set(threading.enumerate())
        waits = [pool.submit(models.load, "slow"), pool.submit(models.load, "snail")]
        begins(models, "slow")
        begins(models, "snail")
        publish(tmp_path / "models")
        third = pool.submit(models.load, "fox")
        pool.submit(models.unload, "owl").result(PATIENCE)  # which takes no time
        eventually(lambda: "owl" not in models.catalog.models and models.catalog.states.get(("owl", 1)) != "UNLOADING")
        assert not third.done() and versions(models) == [1]
        fifo.write_text("")
        third.result(PATIENCE)
        assert versions(models) == [1, 2] and not waits[1].done()
        other.write_text("")
        for future in waits:
            future.result(PATIENCE)
        for _ in range(3):
            models.unload("fox")
            models.load("fox")
        begun = [thread for thread in set(threading.enumerate()) - before if thread.name.startswith("kanserve-l")]
        assert sorted(thread.name for thread in begun) == ["kanserve-letting-go", *(AT_ONCE - 1) * ["kanserve-loading"]]
    eventually(lambda: not any(thread.is_alive() for thread in begun))


def test_what_is_fast_to_load_is_loaded_one_at_a_time(tmp_path: Path) -> None:
    publish(tmp_path, "owl")
    with loaded(tmp_path) as models:
        most: list[int] = []
        models.subscribe(lambda catalog: most.append(list(catalog.states.values()).count("LOADING")))
        for number in range(6):
            publish(tmp_path, f"fox{number}")
        models.refresh()
        assert len(models.catalog.models) == 7 and max(most) == 1


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_at_the_start_one_follows_the_other_so_that_it_is_known_of_what_a_process_died(tmp_path: Path) -> None:
    publish(tmp_path / "models", "zebra")
    told: list[tuple[str, int]] = []
    with (
        ThreadPoolExecutor(1) as pool,
        slow(tmp_path, "slow") as fifo,
        Models(Settings(str(tmp_path / "models")), None, {}, lambda *key: told.append(key)) as models,
    ):
        start = pool.submit(models.refresh)
        begins(models, "slow")
        time.sleep(1.5 * loading_queue.SLOW)
        assert told == [("slow", 1)] and not start.done()
        fifo.write_text("")
        start.result(PATIENCE)
        assert told == [("slow", 1), ("zebra", 1)]


@pytest.mark.usefixtures("impatient")
def test_what_a_process_may_die_of_is_told_last(tmp_path: Path) -> None:
    publish(tmp_path / "models")
    told: list[tuple[str, int]] = []
    with (
        ThreadPoolExecutor(2) as pool,
        loaded(tmp_path / "models", None, {}, lambda *key: told.append(key)) as models,
        slow(tmp_path, "slow") as fifo,
    ):
        waits = pool.submit(models.load, "slow")
        begins(models, "slow")
        publish(tmp_path / "models")
        pool.submit(models.load, "fox").result(PATIENCE)
        assert told[-2:] == [("fox", 2), ("slow", 1)]
        fifo.write_text("")
        waits.result(PATIENCE)


class Store(Folder):
    """A folder that takes its time to say what it has seen."""

    looked, gate = threading.Event(), threading.Event()

    def look(self) -> Mapping[str, Mapping[int, str]]:
        found = super().look()
        self.looked.set()
        self.gate.wait(PATIENCE)
        return found


@pytest.mark.usefixtures("impatient")
def test_a_slow_look_does_not_undo_what_a_later_one_has_found(tmp_path: Path) -> None:
    publish(tmp_path)
    with loaded(tmp_path) as models:
        models.source = store = Store(tmp_path)
        before = models.look()
        assert store.looked.wait(PATIENCE)
        publish(tmp_path)
        models.load("fox")
        store.gate.set()
        for future in before.result(PATIENCE):
            future.result(PATIENCE)
        assert versions(models) == [1, 2]


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("workers", [1, 2])
def test_who_loads_another_model_is_answered_by_a_server(tmp_path: Path, workers: int) -> None:
    root = tmp_path / "models"
    publish(root)
    settings = Settings(str(root), port=0, workers=workers, anonymous=("predict", "read", "manage"))
    with (
        ThreadPoolExecutor(1) as pool,
        slow(tmp_path, "slow") as fifo,
        server_process.served(replace(settings, model_control="explicit", load=("fox",))) as (_, address),
        Client(address, timeout=PATIENCE) as client,
        Client(address, timeout=PATIENCE) as other,
    ):
        waits = pool.submit(client.load, "slow")
        with open(fifo, "w"):  # which is so once somebody reads
            publish(root)
            publish(root, "owl")
            other.load("owl")
            other.load("fox")
            other.unload("fox")
            assert {(model.name, model.version) for model in other.models() if model.ready} == {("owl", 1)}
            assert not waits.done()
        while not waits.done():  # by the other worker too
            release(fifo)
            time.sleep(0.01)
        waits.result()
        assert other.ready("slow")


@pytest.mark.slow
@pytest.mark.extended
def test_a_server_that_polls_finds_a_model_while_another_is_loaded(tmp_path: Path) -> None:
    root = tmp_path / "models"
    publish(root)
    settings = Settings(str(root), port=0, model_control="poll", poll_seconds=0.1)
    with (
        server_process.served(settings) as (running, address),
        Client(address) as client,
        slow(tmp_path, "slow") as fifo,
    ):
        with open(fifo, "w"):
            publish(root, "owl")
            server_process.until(lambda: client.ready("owl"), PATIENCE)
            assert "serving 2 models" in server_process.said(running, "serving")
            running.send_signal(signal.SIGHUP)
            publish(root, "elk")
            server_process.until(lambda: client.ready("elk"), PATIENCE)
        server_process.said(running, "serving 4 models")


# The threads alone


def test_jobs_of_one_model_are_done_in_their_order_whoever_asks() -> None:
    made = LoadingQueue()
    made.give_way()
    done: list[int] = []
    last = [made.begin(partial(done.append, number), "fox") for number in range(50)][-1]
    with made.turn("fox"):
        assert done == list(range(50)) and last.done()
        after = made.begin(lambda: done.append(50), "fox")
        made.begin(lambda: None, "owl").result(PATIENCE)
        assert not after.done()
    after.result(PATIENCE)
    made.close()


def test_a_job_is_shared_only_as_long_as_nothing_else_was_asked_since() -> None:
    made, gate = LoadingQueue(), threading.Event()
    made.begin(lambda: gate.wait(PATIENCE), "fox")
    first, second = made.begin(list, "fox", "load"), made.begin(list, "fox", "load")
    assert first is second
    other = made.begin(list, "fox")
    assert made.begin(list, "fox", "load") not in (first, other)
    gate.set()
    made.close()


def test_what_waits_is_refused_at_the_end_and_what_runs_is_done() -> None:
    made, gate, begun = LoadingQueue(), threading.Event(), threading.Event()

    def run() -> bool:
        begun.set()
        return gate.wait(PATIENCE)

    runs = made.begin(run, "fox")
    assert begun.wait(PATIENCE)
    waits = made.begin(list, "fox")
    with ThreadPoolExecutor(2) as pool:
        turn = pool.submit(lambda: made.turn("fox").__enter__())
        eventually(lambda: made.waiting == 2)
        closing = pool.submit(made.close)
        for future in (waits, turn):
            with pytest.raises(DrainingError):
                future.result(PATIENCE)
        assert not runs.done()
        gate.set()
        closing.result(PATIENCE)
    assert runs.result(0) is True
    with pytest.raises(DrainingError):
        made.begin(list)


@pytest.mark.usefixtures("impatient")
def test_the_interpreter_changes_threads_as_usual_once_nothing_is_loaded() -> None:
    usual = sys.getswitchinterval()
    with switch_interval.own_process():
        made, gates = LoadingQueue(), [threading.Event(), threading.Event()]
        both = threading.Barrier(3)

        def run(gate: threading.Event) -> None:
            both.wait(PATIENCE)
            gate.wait(PATIENCE)

        made.give_way()
        jobs = [made.begin(partial(run, gate), str(number)) for number, gate in enumerate(gates)]
        both.wait(PATIENCE)
        gates[0].set()
        jobs[0].result(PATIENCE)
        assert sys.getswitchinterval() < usual
        gates[1].set()
        jobs[1].result(PATIENCE)
        assert sys.getswitchinterval() == usual
        made.close()


def test_when_all_are_done_it_is_told_once() -> None:
    futures: list[Future[None]] = [Future() for _ in range(3000)]
    told: list[int] = []
    when_done(futures, lambda: told.append(1))
    for future in reversed(futures):
        assert not told
        future.set_result(None)
    assert told == [1]
    when_done(futures, lambda: told.append(2))
    assert told == [1, 2]
