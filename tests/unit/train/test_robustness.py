"""Some of the fits of benchmarks/robustness.py, and that it tells what goes wrong."""

import os

import pytest

from benchmarks import robustness
from benchmarks._random_fits import FITS, SMALL, Method, measure, report


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("method", list(FITS))
def test_nasty_fits_are_finite_silent_repeatable_and_no_worse_than_the_mean(method: Method) -> None:
    found = measure({method: SMALL[method]})
    assert "nothing wrong with any" in report(found)
    assert "met: " in report(found), report(found)


def test_what_goes_wrong_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        os.write(1, b"said\n")
        raise ValueError("on purpose")

    monkeypatch.setattr("benchmarks._random_fits.fit", fails)
    found = report(measure({"lm": 2}))
    assert "MISSED" in found and "lm exception in 0: ValueError('on purpose')" in found and "lm 10 characters" in found


@pytest.mark.slow
@pytest.mark.extended
def test_the_program_fails_where_a_fit_is_bad_and_silent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert robustness.main(["--small", "--named"]) == 0
    assert "6 cases, none bad and silent" in capsys.readouterr().out
    monkeypatch.setattr("benchmarks._named_fits.Result.good", False)
    assert robustness.main(["--small", "--named"]) == 1
    assert "MISSED: 6 cases, none bad and silent" in capsys.readouterr().out
