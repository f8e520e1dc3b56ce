"""A change of models on its way through all workers, with their deaths and births in between."""

from dataclasses import dataclass, field
from itertools import count
from typing import Any

from kanserve.serve.models.loading_queue import SLOW
from kanserve.serve.processes.rollout import CHANGE_SECONDS, Change, Changing


@dataclass
class Ears:
    heard: list[dict[str, Any]] = field(default_factory=list)

    def send(self, message: dict[str, Any]) -> None:
        self.heard.append(message)


@dataclass(eq=False)
class Process:
    pid: int
    ears: Any = field(default_factory=Ears)

    @property
    def asked(self) -> list[str]:
        return [f"{request['ask']} {request['name']}".strip() for request in self.ears.heard]


class Fleet:
    """Workers that do as they are told, when the test says so."""

    def __init__(self, workers: int) -> None:
        self.refused: dict[tuple[str, int], str] = {}
        self.changing = Changing(self.refused)
        self.ready = [Process(pid) for pid in range(1, workers + 1)]
        self.numbers = count(1)
        self.now = 0.0

    def go_on(self) -> None:
        self.changing.go_on(self.ready, self.numbers, self.now)

    def answer(self, one: Process, error: list[str] | None = None) -> None:
        self.changing.answered(one.pid, one.ears.heard[-1]["id"], error, True)
        self.go_on()

    def lose(self, one: Process) -> None:
        self.ready.remove(one)
        self.changing.forget_worker(one.pid, place=one.pid)
        self.go_on()

    def bear(self, place: int) -> Process:
        one = Process(pid=place + 100)
        self.ready.append(one)
        self.changing.add_worker(one, place)
        self.go_on()
        return one


def test_one_worker_makes_a_change_first_and_the_rest_only_when_it_has():
    fleet = Fleet(3)
    first, second, third = fleet.ready
    fleet.changing.add(Change("load", "fox"))
    fleet.go_on()
    assert (first.asked, second.asked, third.asked) == (["load fox"], [], [])
    fleet.answer(first)
    assert (second.asked, third.asked) == (["load fox"], ["load fox"])
    fleet.answer(third)
    assert not fleet.changing.finished()
    fleet.answer(second)
    (done,) = fleet.changing.finished()
    assert done.error is None and done.changed and fleet.changing.idle
    assert fleet.changing.loaded == {"fox"}


def test_the_first_error_is_told_when_all_have_tried():
    fleet = Fleet(2)
    first, second = fleet.ready
    fleet.changing.add(Change("load", "fox"))
    fleet.go_on()
    fleet.answer(first, ["GoldenError", "It differs."])
    fleet.answer(second, ["GoldenError", "It differs too."])
    (done,) = fleet.changing.finished()
    assert done.error == ["GoldenError", "It differs."]


def test_a_change_that_ends_its_first_worker_reaches_the_rest_when_that_is_replaced():
    fleet = Fleet(2)
    first, second = fleet.ready
    fleet.changing.add(Change("load", "fox"))
    fleet.go_on()
    fleet.lose(first)
    assert second.asked == []
    fleet.refused["fox", 2] = "It ended two processes."
    third = fleet.bear(place=first.pid)
    assert second.asked == third.asked == ["load fox"]
    assert second.ears.heard[-1]["refused"] == [["fox", 2, "It ended two processes."]]
    fleet.answer(second)
    fleet.answer(third)
    (done,) = fleet.changing.finished()
    assert done.error == ["ArtifactError", "It ended two processes."]


def test_a_change_does_not_wait_for_a_place_that_stays_empty():
    fleet = Fleet(2)
    first, second = fleet.ready
    fleet.changing.add(Change("refresh"))
    fleet.go_on()
    fleet.lose(first)
    fleet.changing.gave_up(first.pid)
    fleet.go_on()
    assert second.asked == ["refresh"]
    fleet.lose(second)
    (done,) = fleet.changing.finished()
    assert done.what == "refresh"


def test_a_worker_that_is_ready_while_a_change_is_made_is_told_of_it():
    fleet = Fleet(1)
    (first,) = fleet.ready
    fleet.changing.add(Change("unload", "fox"))
    fleet.go_on()
    second = fleet.bear(place=7)
    assert second.asked == []
    fleet.answer(first)
    assert second.asked == ["unload fox"]
    fleet.answer(second)
    assert len(fleet.changing.finished()) == 1 and fleet.changing.unloaded == {"fox"}


def test_changes_are_made_one_after_the_other_and_the_last_word_counts():
    fleet = Fleet(1)
    (one,) = fleet.ready
    for change in (Change("load", "fox"), Change("unload", "fox"), Change("load", "hen")):
        fleet.changing.add(change)
    fleet.go_on()
    for n in range(3):
        assert len(one.asked) == n + 1
        fleet.answer(one)
        fleet.go_on()
    assert one.asked == ["load fox", "unload fox", "load hen"]
    assert (fleet.changing.loaded, fleet.changing.unloaded) == ({"hen"}, {"fox"})


def test_a_name_of_nothing_is_not_kept_for_later_workers():
    fleet = Fleet(1)
    fleet.changing.add(Change("load", "fox"))
    fleet.go_on()
    fleet.answer(fleet.ready[0], ["NotFoundError", "There is no model 'fox'."])
    assert not fleet.changing.loaded


def test_to_look_for_new_versions_once_is_enough_and_is_said_where_anybody_asked():
    fleet = Fleet(1)
    fleet.changing.add(Change("load", "fox"))
    fleet.go_on()
    for quiet in (True, True, False, True):
        fleet.changing.add(Change("refresh", quiet=quiet))
    fleet.answer(fleet.ready[0])
    fleet.go_on()
    fleet.answer(fleet.ready[0])
    assert [change.what for change in fleet.changing.finished()] == ["load", "refresh"]
    assert fleet.changing.idle and not fleet.ready[0].ears.heard[-1]["quiet"]


def test_a_worker_that_never_answers_ends_the_change_and_not_those_after_it():
    fleet = Fleet(1)
    fleet.changing.add(Change("load", "fox"))
    fleet.changing.add(Change("load", "hen"))
    fleet.go_on()
    fleet.now = CHANGE_SECONDS
    fleet.go_on()
    fleet.go_on()
    (late,) = fleet.changing.finished()
    assert late.error is not None and late.error[0] == "DeadlineError"
    assert fleet.ready[0].asked == ["load fox", "load hen"]


def test_a_change_that_is_slow_keeps_no_change_of_another_model_waiting():
    fleet = Fleet(2)
    first, second = fleet.ready
    for change in (Change("load", "slow"), Change("unload", "slow"), Change("load", "fox"), Change("refresh")):
        fleet.changing.add(change)
    fleet.go_on()
    assert first.asked == ["load slow"] and fleet.changing.deadline == SLOW
    fleet.now = SLOW
    fleet.go_on()
    assert first.asked == ["load slow", "load fox"] and fleet.changing.deadline == 2 * SLOW
    fleet.answer(first)
    fleet.answer(second)
    assert [change.name for change in fleet.changing.finished()] == ["fox"]
    fleet.go_on()
    assert first.asked == ["load slow", "load fox", "refresh"] and second.asked == ["load fox"]
    fleet.answer(first)
    fleet.answer(second)
    fleet.changing.answered(first.pid, first.ears.heard[0]["id"], None, True)
    fleet.go_on()
    assert second.asked == ["load fox", "refresh", "load slow"]  # which is unloaded once it is loaded everywhere
    fleet.answer(second)
    fleet.go_on()
    assert first.asked[-1] == "unload slow"


def test_each_change_that_was_under_way_goes_on_when_its_first_worker_is_replaced():
    fleet = Fleet(2)
    first, second = fleet.ready
    fleet.changing.add(Change("load", "slow"))
    fleet.changing.add(Change("load", "fox"))
    fleet.go_on()
    fleet.now = SLOW
    fleet.go_on()
    fleet.lose(first)
    assert second.asked == []
    third = fleet.bear(place=first.pid)
    assert second.asked == third.asked == ["load slow", "load fox"]
