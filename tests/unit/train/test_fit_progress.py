"""What a fit tells: the stage, both losses and the time left, to who asks."""

import io
import sys
from math import isfinite, nan

import numpy as np
import pytest

from kanserve.data.dataset import Dataset
from kanserve.train import Progress, fit
from kanserve.train.fit_progress import Watch, line


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def rows() -> Dataset:
    x = np.random.default_rng(0).uniform(-1, 1, (80, 2))
    return Dataset(x, np.sin(3 * x[:, 0]) * x[:, 1])


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("optimizer", ["lm", "adam", "lbfgs"])
def test_progress_holds_both_losses_and_the_share_that_is_done(optimizer: str) -> None:
    told: list[Progress] = []
    fit([2, 2, 1], rows(), starts=3, optimizer=optimizer, steps=40, progress=told.append)  # type: ignore[arg-type]
    shares = [event.share for event in told]
    assert shares == sorted(shares) and shares[0] > 0 and shares[-1] <= 1
    assert all(isfinite(event.error) and isfinite(event.loss) and isfinite(event.seconds_left) for event in told)
    assert all(event.seconds_left >= 0 for event in told)
    if optimizer == "lm":
        assert told[-1].share == 1 and told[-1].seconds_left == 0
        # Both are root mean squares in units of the answers' standard deviation.
        assert told[-1].loss == pytest.approx(told[-1].error, rel=1)


def test_a_line_says_stage_losses_and_time_left() -> None:
    assert line(Progress("grid 5", 0.001, 0.0123456, 0.5, 61)) == (
        "grid 5                [##########..........]  loss 0.001  validation 0.0123  61 s left"
    )
    assert (
        line(Progress("all rows", nan, 0.5, 1.0, 0.0)) == "all rows              [####################]  validation 0.5"
    )
    assert line(Progress("adam", nan, 0.5, 0.1, 1e4)).endswith("3 h left")


def test_a_terminal_that_cannot_rewrite_has_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "dumb")
    watch = Watch(show=True)
    for stage in ("grid 3", "grid 5"):
        watch.tell(stage, 1.0, 1.0, 0.5)
    watch.finish()
    assert terminal.getvalue().count("\n") == 2 and "\x1b" not in terminal.getvalue()


def test_a_line_in_a_narrow_terminal_does_not_wrap(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "40")
    Watch(show=True).tell("grid 3", 1.0, 1.0, 0.5)
    assert len(terminal.getvalue().removeprefix("\r\x1b[K")) == 39


def test_a_terminal_has_one_line_that_is_rewritten(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    watch = Watch(show=True)
    for share in (0.1, 0.5, 1.0):
        watch.tell("adam", 1.0, 1.0, share)
    watch.finish()
    shown = terminal.getvalue()
    assert shown.count("\n") == 1 and shown.endswith("\n")
    assert shown.count("\r") == 2  # the first, and the last; what comes at once is left out


def test_what_a_checkpoint_held_does_not_count_as_speed() -> None:
    told: list[Progress] = []
    watch = Watch(report=told.append, recalled=0.5)
    watch.tell("grid 5", 1.0, 1.0, 0.5)
    watch.began -= 10.0
    watch.tell("grid 5", 1.0, 1.0, 0.75)
    assert not isfinite(told[0].seconds_left)
    assert told[1].seconds_left == pytest.approx(10, rel=0.1)
