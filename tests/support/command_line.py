"""The command line, run in this process."""

import sys

import pytest

from kanserve.cli import app


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int | str, str, str]:
    """The exit code of `kanserve words ..`, its standard output and its standard error."""
    monkeypatch.setattr(sys, "argv", ["kanserve", *words])
    code: int | str = 0
    try:
        app.main()
    except SystemExit as stop:
        code = stop.code or 0
    out, err = capsys.readouterr()
    return code, out, err
