"""Live progress: one picture that is updated seldom, lines of text elsewhere, nothing where quiet is asked."""

import re
import time

import numpy as np
import pytest

import kanserve
from kanserve.plot.live_progress import LiveProgress, live_report
from kanserve.plot.progress_layout import POINTS, Trace, progress_page
from kanserve.search import Improvement
from kanserve.train import Progress
from kanserve.train.fit_progress import Event

X = np.random.default_rng(0).uniform(-1, 1, (120, 2))
DATA = (X, np.sin(2 * X[:, 0]) + X[:, 1])


def traced(*events: Event) -> Trace:
    trace = Trace()
    for n, event in enumerate(events):
        trace.add(event, 0.5 * n)
    return trace


def better(complexity: float, error: float) -> Improvement:
    return Improvement("better formula", error, 1.0, 7, f"x + {complexity}", complexity)


def test_a_fit_is_a_bar_and_the_curves_of_its_loss_and_its_validation_error():
    page = progress_page(traced(*(Progress(f"grid {n}", 1 / n, 2 / n, n / 8, 3.0) for n in range(1, 5))))
    assert "50%, 3 s left, loss 0.25, validation 0.5" in page
    assert page.count("<svg") == 2 and "grid 1 → grid 2 → grid 3 → grid 4" in page
    assert {">loss<", ">validation<"} <= set(re.findall(">(?:loss|validation)<", page))


def test_a_search_is_the_front_of_the_formulas_that_no_simpler_one_is_as_exact_as():
    trace = traced(better(4, 0.5), better(9, 0.1), better(6, 0.08), better(20, 0.01))
    assert [one[:2] for one in trace.front] == [(4, 0.5), (6, 0.08), (20, 0.01)]
    page = progress_page(trace)
    assert "7 formulas, least error 0.01" in page and "x + 20" in page and "x + 9" not in page


def test_losses_that_are_unknown_negative_or_equal_have_a_page():
    for losses in ([np.nan, np.nan], [-1.0, 2.0], [0.0, 0.0], [np.inf, 1.0], [1e-300, 1e300]):
        assert progress_page(traced(*(Event("step", loss) for loss in losses))).endswith("</div>")


def test_a_long_call_keeps_few_points_and_its_last_event():
    trace = traced(*(Event("step", 1 / (1 + n)) for n in range(50_000)))
    assert len(trace.losses) <= POINTS and trace.last.loss == 1 / 50_000
    assert len(progress_page(trace)) < 60_000
    assert trace.losses == sorted(trace.losses, reverse=True)


def test_names_in_stages_are_text():
    assert "<script>" not in progress_page(traced(Event("removed <script>", 1.0), Event("<script>", 0.5)))


def test_elsewhere_each_stage_is_a_line_and_there_is_no_flood(capsys: pytest.CaptureFixture[str]):
    live = LiveProgress()
    begun, count = time.monotonic(), 0
    while time.monotonic() - begun < 0.6:
        live(Event(f"stage {count}", 1.0))
        count += 1
    live.close()
    took = time.monotonic() - begun
    lines = capsys.readouterr().err.splitlines()
    assert count > 100 and 1 <= len(lines) <= 5 * took + 2
    assert lines[0] == "stage 0: loss 1" and lines[-1] == f"stage {count - 1}: loss 1"


def test_a_stage_that_lasts_is_not_said_again_and_again(capsys: pytest.CaptureFixture[str]):
    live = LiveProgress()
    for n in range(3):
        live(Event("one stage", 1.0 / (1 + n)))
        live.close()
    assert capsys.readouterr().err.splitlines() == ["one stage: loss 1"]


def test_the_last_event_of_a_call_is_shown(capsys: pytest.CaptureFixture[str]):
    with live_report() as report:
        for n in range(40):
            report(Event(f"stage {n}", 1.0))
    assert len(capsys.readouterr().err.splitlines()) == 2


@pytest.mark.slow
@pytest.mark.extended
def test_calls_are_quiet_unless_progress_is_asked_for(capsys: pytest.CaptureFixture[str]):
    kan = kanserve.fit([2, 2, 1], DATA, starts=1)
    small = kanserve.simplify(kan, DATA)
    kanserve.find_formulas(DATA, max_fits=30)
    assert capsys.readouterr() == ("", "")
    assert kanserve.network.kan.equal(kanserve.simplify(kan, DATA, progress=True), small)
    assert "edges, loss" in capsys.readouterr().err


@pytest.mark.slow
def test_the_improvements_of_a_search_say_how_complex_they_are():
    found: list[Improvement] = []
    kanserve.find_formulas(DATA, max_fits=60, progress=found.append)
    assert found and all(one.complexity > 0 for one in found)
