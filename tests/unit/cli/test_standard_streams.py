"""Commands whose output nobody reads, cannot be written or is narrow, and a command that is interrupted at once."""

import io
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from kanserve.cli import terminal
from kanserve.network import serialization
from kanserve.simplification import SimplifyStep
from tests.support.networks.kans import symbolic

RUN = [sys.executable, "-W", "error", "-m", "kanserve"]
WORDS = ["inspect", "law.safetensors", "--json"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    serialization.save(symbolic(), tmp_path / "law.safetensors")
    (tmp_path / "rows.csv").write_text("x,y\n" + "0.5,0.5\n" * 20_000)
    return tmp_path


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize(
    ("words", "code"),
    [(WORDS, 141), (["predict", "law.safetensors", "rows.csv"], 141), (["--help"], 141), (["serve", "--help"], 0)],
    ids=lambda one: one[0] if isinstance(one, list) else "",
)
def test_a_reader_that_has_gone_is_no_error_to_report(folder, words, code):
    reads, writes = os.pipe()
    os.close(reads)
    done = subprocess.run([*RUN, *words], cwd=folder, stdout=writes, stderr=subprocess.PIPE, text=True)
    os.close(writes)
    assert (done.returncode, done.stderr) == (code, "")


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize("words", [WORDS, ["--help"], ["serve", "--help"]], ids=" ".join)
def test_an_output_without_space_is_one_line(folder, words):
    with open("/dev/full", "w") as full:
        done = subprocess.run([*RUN, *words], cwd=folder, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr == "kanserve: The output cannot be written: No space left on device.\n"


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("words", [WORDS, ["predict", "law.safetensors", "rows.csv"]], ids=" ".join)
def test_a_closed_output_is_no_output(folder, words):
    command = ["sh", "-c", 'exec "$@" >&-', "sh", *RUN, *words]
    done = subprocess.run(command, cwd=folder, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize("words", [WORDS, ["serve", "models", "--port", "0"]], ids=" ".join)
def test_an_interrupt_while_modules_are_imported_is_no_traceback(folder, words):
    command = [sys.executable, "-X", "importtime", *RUN[1:], *words]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.endswith("| kanserve.errors\n") or "kanserve.cli" in line:  # the first modules of each
            process.send_signal(signal.SIGINT)
            break
    _, err = process.communicate(timeout=60)
    assert process.returncode in (-signal.SIGINT, 130) and "Traceback" not in err


ROWS: list[dict[str, Any]] = [
    {"number": n, "complexity": 2.5, "validation": 0.123456, "formula": f"y = {'x + ' * 12}{n}", "note": ""}
    for n in (1, 2)
]


def shown(monkeypatch: pytest.MonkeyPatch, width: int) -> str:
    """What a terminal of so many columns shows of a list."""
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=True, color_system=None, highlight=False)
    monkeypatch.setattr(terminal, "Console", lambda **_: console)
    terminal.print_rows(ROWS, False)
    return file.getvalue()


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_a_list_is_complete_in_a_terminal_of_any_width(monkeypatch, width):
    text = shown(monkeypatch, width)
    assert "…" not in text and max(map(len, text.splitlines())) <= width
    plain = " ".join(text.split()).replace(" - ", " ")
    assert all(str(row["formula"])[-9:].replace(" ", "") in plain.replace(" ", "") for row in ROWS)
    assert plain.count("0.123456") == 2 and "complexity" in plain
    assert ("complexity: 2.5" in text) is (width < 120)  # row by row where the table has no room


def test_progress_and_errors_are_as_they_are_written_and_without_control_characters(capsys):
    terminal.tell(SimplifyStep(stage="tried [4, 2, 1]\x1b[31m", loss=0.5, edges=3, kan=symbolic()))
    terminal.warn("a file has \x1b[31mred\n and 'ä'")
    told, warned = capsys.readouterr().err.splitlines()
    assert told.endswith("held-out loss 0.5: tried [4, 2, 1]?[31m")
    assert warned == "kanserve: a file has ?[31mred and 'ä'"
