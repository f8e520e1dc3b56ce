"""docs/from-pykan.md, to the letter: its blocks, its shell line and each call of its table are run."""

import ast
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch

import kanserve
from kanserve.network.evaluate import activations, edge
from kanserve.network.signal_shares import signal_shares
from kanserve.train.grids import regrid, set_ranges
from tests.support.paths import CHECKPOINTS, ROOT

pytestmark = pytest.mark.extended

PAGE = (ROOT / "docs" / "from-pykan.md").read_text("utf-8")
PYKAN = CHECKPOINTS / "pykan"
ENDINGS = ("_config.yml", "_state")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def calls() -> list[str]:
    """What the second column of the table of calls has, in its order."""
    (table,) = re.findall(r"^\| pykan \| here \| \|\n\|---\|---\|---\|\n(.*?)\n\n", PAGE, re.MULTILINE | re.DOTALL)
    cells = [re.split(r" *(?<!\\)\| *", row)[2] for row in table.splitlines()]
    return [call for cell in cells for call in re.findall(r"`([^`]+)`", cell)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the page takes for granted: two checkpoints of pykan, one of efficient-kan, and the command."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    for name, stored in (("0.1", "named_by_hand_double"), ("splines", "trained")):
        for ending in ENDINGS:
            shutil.copy(PYKAN / f"{stored}{ending}", tmp_path / "model" / f"{name}{ending}")
    generator = torch.Generator().manual_seed(0)
    sizes = {"base_weight": (1, 2), "spline_weight": (1, 2, 8), "spline_scaler": (1, 2)}
    state = {f"layers.0.{name}": torch.randn(size, generator=generator) for name, size in sizes.items()}
    state["layers.0.grid"] = torch.linspace(-2.2, 2.2, 12).repeat(2, 1)
    torch.save(state, tmp_path / "efficient_kan.pt")
    command = tmp_path / "bin" / "kanserve"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m kanserve "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'exporters'}")
    monkeypatch.syspath_prepend(tmp_path)  # where the page leaves a copy of the module's file
    return tmp_path


@pytest.fixture
def address(folder: Path) -> Iterator[str]:
    """The server that the shell line ends with."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    (line,) = blocks("sh")
    running = subprocess.Popen(
        line.replace("8001", port),
        shell=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert running.stderr is not None
        said = ""
        while (text := running.stderr.readline()) and "serving 1 model" not in text:
            said += text
        assert text, said
        yield f"localhost:{port}"
    finally:
        os.killpg(running.pid, signal.SIGTERM)
        printed = running.communicate(timeout=300)[0]
    assert blocks("text")[0] in printed


@pytest.mark.slow
def test_every_block_of_the_page_runs_beside_its_server(folder: Path, address: str, capsys: pytest.CaptureFixture[str]):
    names: dict[str, Any] = {}
    for block in blocks("python"):
        exec(compile(block.replace("localhost:8001", address), "from-pykan.md", "exec"), names)
        printed = capsys.readouterr().out
        if "Client" in block:
            x = np.array(names["x"])
            want = np.exp(np.sin(x[:, :1]) + x[:, 1:] ** 2)
            assert printed.startswith(str(want)) and printed.endswith("exp(sin(x1) + x2^2)\n")
        if "0.1" in block:
            assert "exp(sin(x) + y^2)" in printed and names["conversion"].library == "pykan"
        if "simplify" in block:
            assert kanserve.score(names["simple"], names["data"]).r2[0] > 0.99
        if "from_torch" in block:
            assert not kanserve.equal(names["trained"], names["kan"])
    assert isinstance(names["network"], torch.nn.Module)
    assert type(names["network"]).__module__ == "torch_network"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The network misses structure")  # Adam stops after the 50 steps of the table
def test_every_call_of_the_table_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    matplotlib.use("agg")
    generator = np.random.default_rng(0)

    def f(x: np.ndarray) -> np.ndarray:
        result: np.ndarray = np.exp(np.sin(np.pi * x[:, 0]) + x[:, 1] ** 2)
        return result

    x = generator.uniform(-1, 1, (300, 2))
    data = kanserve.Dataset(x, f(x), inputs=("a", "b"), outputs=("y",))
    np.savetxt("rows.csv", np.column_stack([x, data.y]), delimiter=",", header="a,b,y", comments="")
    kan = kanserve.fit([2, 2, 1], data)
    names: dict[str, Any] = {"kanserve": kanserve, "np": np, "x": x, "f": f, "data": data, "unseen": data, "kan": kan}
    names |= {"session": kanserve.Session(kan, data), "signal_shares": signal_shares, "activations": activations}
    names |= {"edge": edge, "regrid": regrid, "set_ranges": set_ranges}
    run = calls()
    assert len(run) > 40
    for call in run:
        if call != "kan":
            assert isinstance(ast.parse(call).body[0], ast.Expr | ast.Assign), call
        exec(compile(call, call, "exec"), names)


def test_the_tables_of_the_page_are_whole():
    rows = [line for line in PAGE.splitlines() if line.startswith("|")]
    widths = [len(re.split(r"(?<!\\)\|", row)) for row in rows]
    assert set(widths) == {5, 6}, [row for row, width in zip(rows, widths, strict=True) if width not in (5, 6)]
