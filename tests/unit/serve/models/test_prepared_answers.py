"""An answer is built once, also for callers who come while it is being built."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from kanserve.errors import FormulaError
from kanserve.serve.models.catalog import PreparedAnswers


def test_callers_who_come_meanwhile_wait_for_the_one_that_builds() -> None:
    answers, begun, go = PreparedAnswers(), Event(), Event()
    built = []

    def build() -> bytes:
        built.append(1)
        begun.set()
        assert go.wait(60)
        return b"answer"

    with ThreadPoolExecutor(4) as threads:
        first = threads.submit(answers.get, "what", build)
        assert begun.wait(60)
        others = [threads.submit(answers.get, "what", build) for _ in range(3)]
        go.set()
        assert {future.result(60) for future in (first, *others)} == {b"answer"}
    assert len(built) == 1 and answers.get("what", build) is first.result()


def test_a_failure_goes_to_all_who_wait_and_the_next_caller_tries_again() -> None:
    answers = PreparedAnswers()

    def fail() -> bytes:
        raise FormulaError("too large")

    for _ in range(2):
        with pytest.raises(FormulaError, match="too large"):
            answers.get("what", fail)
    assert answers.get("what", lambda: b"answer") == b"answer"


def test_what_is_kept_has_a_bound_and_the_latest_stay() -> None:
    answers = PreparedAnswers(most_bytes=10)
    built: list[str] = []

    def get(name: str, size: int) -> bytes:
        def build() -> bytes:
            built.append(name)
            return bytes(size)

        return answers.get(name, build)

    get("a", 4), get("b", 4), get("a", 4), get("c", 4)
    assert built == ["a", "b", "c"]
    get("a", 4), get("b", 4)
    assert built == ["a", "b", "c", "b"]
    assert len(get("large", 11)) == 11 and len(get("large", 11)) == 11
    assert built[4:] == ["large", "large"]
