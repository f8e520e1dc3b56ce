"""What the studio does while it answers: a search, simplifying and a first fit are told of and can be cancelled."""

import os
import signal
import threading

import numpy as np
import pytest

import kanserve
from kanserve.data.dataset import Dataset
from kanserve.editing import Session
from kanserve.studio.opened_model import Opened, open_table
from kanserve.studio.worker import Worker
from tests.support.servers.studios import Running, idle, running, told_until_interrupted
from tests.support.sessions import assert_same_structure, law, replayed

pytestmark = pytest.mark.slow  # each starts a studio and its workers


@pytest.mark.extended
def test_a_search_is_told_of_and_its_formula_is_taken_as_a_step(studio: Running):
    studio.post("search", {"seconds": 300})  # it ends with the law, long before
    assert studio.ask("/api/search", {"seconds": 20}).status == 503
    done = threading.Event()
    while studio.get("pareto")["running"]:
        done.wait(0.2)
    found = studio.get("pareto")["formulas"]
    assert [one["complexity"] for one in found] == sorted(one["complexity"] for one in found)
    best = next(one for one in found if one["best"])
    now = studio.step("take", formula=best["take"])
    np.testing.assert_allclose(now["view"]["measure"]["r2"][0], 1, atol=1e-6)
    assert_same_structure(studio.network(), replayed(Session(*law()).take(best["take"]), *law()), law()[1].x)


def noisy() -> Opened:
    """A network with an input that does not count."""
    x = np.random.default_rng(4).uniform(-1, 1, (300, 3))
    y = np.sin(3 * x[:, 0]) + x[:, 1] ** 2 + np.random.default_rng(5).normal(0, 0.01, 300)
    data = Dataset(x, y, ("x", "y", "noise"), ("z",))
    return Opened(kanserve.fit([3, 1], data, grid=(5,), starts=1), "noisy", data)


def told_of(studio: Running, kind: str) -> tuple[list[dict[str, object]], threading.Event]:
    """The events of a kind from now on, and whether the last one has come."""
    heard: list[dict[str, object]] = []
    ended = threading.Event()

    def hear(event: dict[str, object] | None) -> None:
        if event is not None and event["kind"] == kind:
            heard.append(event)
            if not event["running"]:
                ended.set()

    studio.studio.workspace.events.subscribe(hear)
    return heard, ended


@pytest.mark.extended
def test_simplifying_tells_each_change_and_takes_the_steps_of_a_session():
    opened = noisy()
    assert opened.kan is not None and opened.data is not None
    with running(opened) as studio:
        heard, ended = told_of(studio, "simplify")
        assert studio.ask("/api/simplify", {"base": 5}).status == 409
        studio.post("simplify", {"base": 0})
        assert studio.get("snapshot")["simplifying"]
        answer = studio.ask("/api/steps", {"base": 0, "step": {"kind": "zero", "edge": "x->z"}})
        assert answer.status == 503 and "being simplified" in answer.data["error"]
        assert ended.wait(120)
        now, after = studio.get("snapshot"), studio.network()
        again = studio.step("zero", edge=now["view"]["snapshot"]["edges"][0]["name"])
    changes = [one for one in heard if "line" in one]
    assert heard[0]["running"] and len(changes) >= 3 and "from noise to" in str([one["line"] for one in changes])
    assert changes[0]["edges"] == 3 and changes[-1]["edges"] == 2 and changes[-1]["named"] == 2
    wanted = Session(opened.kan, opened.data).prune().symbolify()
    assert_same_structure(after, wanted.kan, opened.data.x)
    assert heard[-1]["steps"] == 2 and not now["simplifying"]
    assert [step["step"] for step in now["view"]["snapshot"]["history"]] == ["prune()", "symbolify()"]
    assert len(again["view"]["snapshot"]["history"]) == 3


@pytest.mark.extended
def test_simplifying_that_is_cancelled_takes_the_steps_that_are_whole():
    with running(noisy()) as studio:
        heard, ended = told_of(studio, "simplify")
        pause = threading.Event()
        studio.post("simplify", {"base": 0})
        while not any("before named" in str(one.get("line")) for one in heard):
            pause.wait(0.01)
        studio.post("simplify/cancel", {})
        assert ended.wait(60) and heard[-1]["steps"] == 1
        steps = studio.get("snapshot")["view"]["snapshot"]["history"]
    assert [one["step"] for one in steps] == ["prune()"]


@pytest.mark.extended
def test_a_table_is_fitted_first_and_a_cancelled_fit_keeps_its_best():
    x = np.random.default_rng(3).uniform(-1, 1, (2000, 3))
    data = Dataset(x, np.sin(4 * x[:, 0]) * x[:, 1] + x[:, 2] ** 3)
    with running(open_table(data, "rows", [8])) as studio:
        first = studio.get("snapshot")
        assert first["phase"] == "fitting" and first["model"]["total_rows"] == 2000
        assert studio.ask("/api/steps", {"base": 0, "step": {"kind": "refit"}}).status == 503
        pause = threading.Event()
        pause.wait(2)
        while studio.get("snapshot")["phase"] == "fitting":
            studio.post("fit/cancel", {})
            pause.wait(0.3)
        assert studio.get("snapshot")["view"]["snapshot"]["shape"] == [3, 8, 1]


@pytest.mark.extended
def test_a_search_begins_by_itself_after_a_fit_and_gives_way_to_the_first_step():
    x = np.random.default_rng(3).uniform(1, 2, (300, 2))
    noise = np.random.default_rng(4).normal(0, 0.05, 300)
    with running(open_table(Dataset(x, np.sin(4 * x[:, 0]) * x[:, 1] ** 1.3 + noise), "rows", [])) as studio:
        pause = threading.Event()
        while studio.get("snapshot")["phase"] == "fitting":
            pause.wait(0.2)
        while not studio.get("pareto")["running"]:
            pause.wait(0.05)
        heard, ended = told_of(studio, "search")
        studio.step("keep", edges=1)
        assert ended.wait(120)
        assert "error" not in heard[-1], "who did not ask for it is not told that it was stopped"
        assert not studio.get("pareto")["running"]


def test_a_fit_that_fails_in_any_way_ends_with_a_sentence(monkeypatch: pytest.MonkeyPatch):
    def failing(worker: Worker, *given: object, **options: object) -> None:
        raise ZeroDivisionError("no rows")

    monkeypatch.setattr(Worker, "run", failing)
    with running(open_table(law()[1], "law", [1])) as studio:
        pause = threading.Event()
        while not (trouble := studio.get("snapshot").get("trouble")):
            pause.wait(0.05)
    assert trouble == "The fit has failed: ZeroDivisionError: no rows"


def test_an_interrupt_in_the_middle_of_a_message_waits_for_its_end():
    worker = Worker()
    for _ in range(10):
        heard: list[str] = []

        def hear(message: str, heard: list[str] = heard) -> None:
            heard.append(message)
            if len(heard) >= 5:
                worker.interrupt()

        sent = worker.run(told_until_interrupted, seconds=60, report=hear)
        assert 5 <= len(heard) == sent or len(heard) == sent + 1
        assert set(heard) == {"x" * 300_000}
    worker.end()


def test_an_interrupt_ends_the_call_that_it_was_meant_for_and_no_later_one():
    worker = Worker()
    worker.run(told_until_interrupted, seconds=60, report=lambda message: worker.interrupt())
    assert worker._process is not None and worker._process.pid is not None
    os.kill(worker._process.pid, signal.SIGINT)  # one that comes late
    assert worker.run(idle, seconds=60) == "done"
    worker.end()
