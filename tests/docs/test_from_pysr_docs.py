"""docs/from-pysr.md, to the letter: its blocks and each call of its table are run."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import kanserve
from tests.support.paths import ROOT
from tests.support.readme_blocks import blocks

PAGE = (ROOT / "docs" / "from-pysr.md").read_text("utf-8")


def calls() -> list[str]:
    """What the second column of the table has, in its order."""
    (table,) = re.findall(r"^\| PySR \| here \| \|\n\|---\|---\|---\|\n(.*?)\n\n", PAGE, re.MULTILINE | re.DOTALL)
    return [call for row in table.splitlines() for call in re.findall(r"`([^`]+)`", row.split(" | ")[1])]


@pytest.mark.slow
@pytest.mark.extended
def test_every_block_of_the_page_runs(capsys: pytest.CaptureFixture[str]):
    names: dict[str, Any] = {}
    first, second = blocks("python", PAGE)
    exec(compile(first, "from-pysr.md", "exec"), names)
    assert capsys.readouterr().out.startswith(blocks("text", PAGE)[0])
    assert names["found"].best.formula.text == "2.5*a*exp(-0.7*t)"
    exec(compile(second, "from-pysr.md", "exec"), names)
    assert capsys.readouterr().out.startswith("2.5*a*exp(-0.7*t) exact")


@pytest.mark.slow
@pytest.mark.extended
def test_every_call_of_the_table_runs(tmp_path: Path):
    x = np.random.default_rng(0).uniform(0.5, (2, 5), (200, 2))
    y = 2.5 * x[:, 0] * np.exp(-0.7 * x[:, 1])
    table = pd.DataFrame({"a": x[:, 0], "t": x[:, 1], "y": y})
    found = kanserve.find_formulas(table, target="y", max_fits=100)
    before = kanserve.find_formulas((x, y), max_fits=100)
    names: dict[str, Any] = {"kanserve": kanserve, "np": np, "X": x, "y": y, "table": table, "found": found}
    names |= {"found_before": before, "path": tmp_path / "found.safetensors"}
    run = calls()
    assert len(run) > 25
    results = {call: eval(call, names) for call in run}
    searched = [result for result in results.values() if isinstance(result, kanserve.Findings)]
    assert len(searched) > 14
    assert all(result.status == "exact" for result in searched if "x1" not in str(result) or "exp" in str(result))


def test_the_table_of_the_page_is_whole():
    rows = [line for line in PAGE.splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {4}
