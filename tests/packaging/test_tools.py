"""What the tests take for a program that is there, and what a run says of those that are not."""

from pathlib import Path

import pytest

from tests.support.programs import runs, skipped_by


def test_a_program_is_there_when_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, code in (("kanserve-works", 0), ("kanserve-shim", 1)):
        (tmp_path / name).write_text(f"#!/bin/sh\nexit {code}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert runs("kanserve-works")
    assert not runs("kanserve-shim")  # as rustup's rustc without a toolchain
    assert not runs("kanserve-nowhere")


def test_skips_are_counted_by_what_would_bring_them_back() -> None:
    operators = "Skipped: needs libonnxruntime-dev: no onnxruntime_c_api.h at the install"
    imported = "Skipped: could not import 'kan': No module named 'kan'"
    reasons = ["Skipped: needs cppcheck", operators, operators, imported, "Skipped: reads /proc"]
    assert skipped_by(reasons) == "5 skipped: libonnxruntime-dev 2, cppcheck 1, pykan 1, not for this machine 1"
