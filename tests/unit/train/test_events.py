"""One protocol for the progress of every long call: `report(event)`."""

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
    "fit": lambda report: kanserve.fit([2, 1, 1], (X, Y), starts=1, steps=5, report=report),
    "refine": lambda report: refine(small(), X, Y, steps=3, report=report),
    "simplify": lambda report: kanserve.simplify(small(), (X, Y), report=report),
    "prune": lambda report: kanserve.prune(small(), (X, Y), report=report),
    "symbolify": lambda report: kanserve.symbolify(small(), (X, Y), report=report),
    "discover": lambda report: kanserve.discover((X, Y), report=report),
    "find_formulas": lambda report: kanserve.find_formulas((X, Y), max_fits=50, report=report),
    "pde.solve": lambda report: pde.solve([1, 1], RESIDUAL, grid=(5,), starts=1, steps=3, report=report),
    "pde.refine": lambda report: pde.refine(start(), RESIDUAL, steps=3, report=report),
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


@pytest.mark.parametrize("name", ["refine", "pde.solve", "pde.refine"])
def test_callbacks_of_two_arguments_work_for_one_release(name: str) -> None:
    told: list[tuple[object, float]] = []
    with pytest.warns(DeprecationWarning, match="report is called with one event now"):
        CALLS[name](lambda stage, loss: told.append((stage, loss)))
    kind = str if name == "pde.solve" else int
    assert told and all(isinstance(stage, kind) and loss > 0 for stage, loss in told)
