"""The first of the nasty fits of benchmarks/robustness.py: nothing may be wrong with any."""

import os

import pytest

from benchmarks.robustness import FITS, SMALL, Method, measure, report


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

    monkeypatch.setattr("benchmarks.robustness.fit", fails)
    found = report(measure({"lm": 2}))
    assert "MISSED" in found and "lm exception in 0: ValueError('on purpose')" in found and "lm 10 characters" in found
