"""kanserve session: the file, its commands, and what they say to people and to scripts."""

import json
import re
import shlex
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kanserve.cli import app
from kanserve.cli.commands import session as session_command
from kanserve.cli.terminal import sparkline
from kanserve.data.dataset import Dataset
from kanserve.network import serialization
from kanserve.train import fit
from tests.support.networks.kans import classifier
from tests.support.paths import DOCS
from tests.support.sessions import assert_same_structure


def rows():
    return np.random.default_rng(1).uniform(-1, 1, (150, 2))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A table of exp(sin πx + y²) and a network that fits it."""
    folder = tmp_path_factory.mktemp("session")
    x = rows()
    y = np.exp(np.sin(np.pi * x[:, 0]) + x[:, 1] ** 2)
    lines = ["x,L/D,z", *(",".join(map(repr, row)) for row in np.column_stack([x, y]).tolist())]
    (folder / "rows.csv").write_text("\n".join(lines) + "\n")
    data = Dataset(x, y, ("x", "L/D"), ("z",))
    serialization.save(fit([2, 1, 1], data, grid=(5,), starts=2), folder / "kan.safetensors")
    serialization.save(classifier(), folder / "classifier.safetensors")
    labels = [f"{a!r},{b!r},{classifier().classes[n % 3]}" for n, (a, b) in enumerate(x.tolist())]
    (folder / "classes.csv").write_text("\n".join(["x1,x2,kind", *labels]) + "\n")
    return folder


@pytest.fixture
def session(made, tmp_path, monkeypatch, kanserve):
    """`kanserve session` in a folder with copies of the files."""
    for file in made.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    monkeypatch.chdir(tmp_path)
    return partial(kanserve, "session")


def facts(answer):
    code, out, err = answer
    assert (code, err) == (0, "")
    return json.loads(out)


@pytest.mark.slow
@pytest.mark.extended
def test_a_network_becomes_a_formula_edit_by_edit_and_a_program_that_replays_it(session):
    before = facts(session("new", "kan.safetensors", "rows.csv", "--json"))
    assert before["file"] == "session.json" and before["edges"] == 3
    found = facts(session("suggest", "session.json", "x->h1", "--top", "3", "--json"))
    assert found[0]["function"] == "sin" and {"r2", "loss", "change", "a", "b", "c", "d"} < set(found[0])
    done = facts(session("snap", "session.json", "x->h1", "sin", "--json"))
    assert done["loss"] == found[0]["loss"] and done["loss before"] == before["held-out loss"]
    for words in (
        ("snap", "session.json", "L/D->h1", "x^2"),
        ("snap", "session.json", "h1->z", "exp"),
        ("refit", "session.json", "--steps", "30"),
        ("set", "session.json", "L/D->h1", "--b", "-0.5"),
        ("undo", "session.json"),
        ("redo", "session.json"),
        ("undo", "session.json"),
        ("free", "session.json", "L/D->h1"),
        ("undo", "session.json"),
        ("zero", "session.json", "x->h1"),
        ("undo", "session.json"),
        ("round", "session.json", "6", "x->h1", "L/D->h1"),
        ("rename", "session.json", "L/D", "lift over drag"),
        ("prune", "session.json", "--tolerance", "0.001"),
        ("symbolify", "session.json", "--all-edges"),
    ):
        last = facts(session(*words, "--json"))
    assert last["loss"] < 1e-9 and last["last step"] == "symbolify(all_edges=True)"
    shown = facts(session("show", "session.json", "--json"))
    assert shown["formulas"][0]["closed_form"] and len(shown["history"]) == 8
    assert facts(session("save", "session.json", "--json"))["symbolic"]
    Path("edits.py").write_text(session("python", "session.json")[1])
    saved = serialization.load("edited.safetensors")
    Path("edited.safetensors").unlink()
    subprocess.run([sys.executable, "edits.py"], check=True)
    assert_same_structure(serialization.load("edited.safetensors"), saved, rows())


def test_people_see_a_table_and_the_next_command_and_pipes_see_tabs(session):
    code, out, _ = session("new", "kan.safetensors", "rows.csv")
    assert code == 0 and "next: kanserve session show session.json" in out
    out = session("show", "session.json")[1]
    head, first, *_ = out.splitlines()
    assert head.split("\t")[:4] == ["edge", "share", "curve", "function"] and first.split("\t")[0] == "x->h1"
    assert "spline" in first and set(first.split("\t")[2]) <= set("▁▂▃▄▅▆▇█")
    words = shlex.split(out.splitlines()[-1].removeprefix("next: kanserve session "))
    assert words[0] == "suggest"  # and what it says to do next can be done, as it stands
    words = shlex.split(session(*words)[1].splitlines()[-1].removeprefix("next: kanserve session "))
    assert words[0] == "snap" and session(*words)[0] == 0


def test_an_edge_is_drawn(session):
    session("new", "kan.safetensors", "rows.csv")
    assert session("plot", "session.json", "x->h1", "--candidates", "2", "--out", "x.svg")[0] == 0
    assert "sin: R² 0.99" in Path("x.svg").read_text() or Path("x.svg").stat().st_size > 10_000


@pytest.mark.slow
def test_a_session_moves_with_its_files_and_a_classifier_remembers_its_target(session):
    words = ("new", "classifier.safetensors", "classes.csv", "-t", "kind", "-o", "flowers.json")
    assert facts(session(*words, "--json"))["edges"] == 20
    assert facts(session("zero", "flowers.json", "x1->h1", "--json"))["edges"] == 19
    Path("elsewhere").mkdir()
    for name in ("classifier.safetensors", "classes.csv", "flowers.json"):
        Path(name).rename(Path("elsewhere") / name)
    assert facts(session("refit", "elsewhere/flowers.json", "--steps", "2", "--json"))["edges"] == 19
    Path("edits.py").write_text(session("python", "elsewhere/flowers.json")[1])
    subprocess.run([sys.executable, "edits.py"], check=True)
    session("save", "elsewhere/flowers.json", "-o", "saved.safetensors")
    edited, kept = serialization.load("edited.safetensors"), serialization.load("saved.safetensors")
    assert_same_structure(edited, kept, rows())


BAD = {
    "a missing session": (("show", "none.json"), "'kanserve session new'"),
    "a table as a session": (("show", "rows.csv"), "not JSON"),
    "other JSON": (("show", "other.json"), "keys kan, table, target, session"),
    "a type that is wrong": (("show", "types.json"), "kan is of the wrong type"),
    "a session over its table": (("new", "kan.safetensors", "rows.csv", "-f", "-o", "rows.csv"), "of this command"),
    "a session that is there": (("new", "kan.safetensors", "rows.csv"), "there already"),
    "a network over the session's own": (("save", "session.json", "-f", "-o", "kan.safetensors"), "of this command"),
    "an unknown edge": (("snap", "session.json", "x->h7", "sin"), "Nearest: x->h1"),
    "an unknown function": (("snap", "session.json", "x->h1", "sine"), "There are: x,"),
    "constants of a spline": (("set", "session.json", "x->h1", "--a", "1"), "free spline"),
    "no constant": (("set", "session.json", "x->h1"), "what to set"),
    "nothing to undo": (("undo", "session.json"), "No step is left to undo"),
    "changed rows": (("show", "changed.json"), "began with other data"),
    "a picture of no kind": (("plot", "session.json", "x->h1", "-o", "x.txt"), ".png"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_one_clear_line_and_nothing_is_changed(case, session):
    session("new", "kan.safetensors", "rows.csv")
    value = json.loads(Path("session.json").read_text())
    Path("other.json").write_text("{}")
    Path("types.json").write_text(json.dumps(value | {"kan": 1}))
    lines = Path("rows.csv").read_text().splitlines()
    Path("fewer.csv").write_text("\n".join(lines[:-1]) + "\n")
    Path("changed.json").write_text(json.dumps(value | {"table": "fewer.csv"}))
    before = {path: path.read_bytes() for path in Path().iterdir()}
    words, message = BAD[case]
    code, out, err = session(*words)
    assert (code, out) == (2, "") and message in err
    assert err.count("\n") == 1 and err.startswith("kanserve: ")
    assert {path: path.read_bytes() for path in Path().iterdir()} == before


def test_help_teaches_each_command_with_an_example(session):
    names = [
        registered_command.name or getattr(registered_command.callback, "__name__", "")
        for registered_command in session_command.app.registered_commands
    ]
    out = session("--help")[1]
    for name in names:
        assert name in out and f"kanserve session {name}" in session(name, "--help")[1]


def test_a_sparkline_is_low_where_the_curve_is_and_empty_where_it_is_not():
    assert sparkline([0.0, 1.0, 2.0, 3.0], 4) == "▁▃▆█"
    assert sparkline([None, 5.0, 5.0], 3) == " ▁▁"
    assert sparkline([None, None], 2) == "  "


@pytest.mark.slow
@pytest.mark.extended
def test_the_page_on_sessions_does_what_it_shows(tmp_path, monkeypatch, capsys):
    page = (DOCS / "session.md").read_text("utf-8")
    monkeypatch.chdir(tmp_path)
    python, shell = (re.search(rf"^```{name}\n(.*?)^```$", page, re.M | re.S) for name in ("python", "sh"))
    assert python is not None and shell is not None
    names: dict[str, Any] = {}
    exec(python[1], names)
    capsys.readouterr()
    rows = np.column_stack([names["x"], names["y"]])
    np.savetxt("pendulum.csv", rows, delimiter=",", header="length,swing,period", comments="")
    for line in shell[1].splitlines():
        words, _, file = line.partition(" > ")
        monkeypatch.setattr(sys, "argv", shlex.split(words))
        with pytest.raises(SystemExit) as stop:
            app.main()
        assert not stop.value.code, line
        if file:
            Path(file).write_text(capsys.readouterr().out)
    assert Path("edits.py").read_text().count("session.snap(") == 1 and Path("swing.png").stat().st_size > 10_000
