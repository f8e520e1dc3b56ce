"""One protocol for the progress of every long call: `progress(event)`."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import kanserve
from kanserve import pde
from kanserve.network.kan import Kan
from kanserve.train import Event, refine

X = np.random.default_rng(0).uniform(1, 2, (60, 2))
Y = X[:, 0] * X[:, 1]
RESIDUAL = pde.Residual(lambda x, u: u - np.sin(3 * X[:, 0]), X[:, :1])


def small() -> Kan:
    return kanserve.fit([2, 1, 1], (X, Y), starts=1, steps=5)


def start() -> Kan:
    return kanserve.create([1, 1], grid=5)


CALLS: dict[str, Callable[[Any], object]] = {
    "fit": lambda told: kanserve.fit([2, 1, 1], (X, Y), starts=1, steps=5, progress=told),
    "refine": lambda told: refine(small(), X, Y, steps=3, progress=told),
    "simplify": lambda told: kanserve.simplify(small(), (X, Y), progress=told),
    "prune": lambda told: kanserve.prune(small(), (X, Y), progress=told),
    "symbolify": lambda told: kanserve.symbolify(small(), (X, Y), progress=told),
    "discover": lambda told: kanserve.discover((X, Y), progress=told),
    "find_formulas": lambda told: kanserve.find_formulas((X, Y), max_fits=50, progress=told),
    "pde.solve": lambda told: pde.solve([1, 1], RESIDUAL, grid=(5,), starts=1, steps=3, progress=told),
    "pde.refine": lambda told: pde.refine(start(), RESIDUAL, steps=3, progress=told),
}


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("name", CALLS)
def test_every_long_call_reports_events_that_are_one_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    told: list[Event] = []
    CALLS[name](told.append)
    assert told and all(isinstance(event, Event) for event in told)
    CALLS[name](print)
    assert len(capsys.readouterr().out.splitlines()) == len(told)


@pytest.mark.parametrize("name", ["refine", "prune", "pde.refine"])
def test_progress_is_shown_as_lines_outside_notebooks(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    CALLS[name](False)
    assert capsys.readouterr().err == ""
    CALLS[name](True)
    assert ": " in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("name", CALLS)
def test_every_long_call_shows_its_progress(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    CALLS[name](True)
    assert len(capsys.readouterr().err.splitlines()) > 0


def test_the_word_of_other_libraries_for_progress_is_an_error_that_names_it() -> None:
    call: Any = kanserve.prune
    with pytest.raises(TypeError, match=r"prune has no parameter 'verbose'. It is called 'progress' here."):
        call(start(), (X[:, :1], Y), verbose=1)
