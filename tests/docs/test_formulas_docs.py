"""docs/formulas.md: its blocks run in order, and what they say of their results holds."""

from pathlib import Path
from typing import Any

import pytest

import kanserve
from tests.support.paths import ROOT
from tests.support.readme_blocks import blocks

pytestmark = [pytest.mark.slow, pytest.mark.extended]

PAGE = (ROOT / "docs" / "formulas.md").read_text("utf-8")


def test_every_block_of_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    first, weighted, template, own, by_values, results = blocks("python", PAGE)
    exec(compile(first.replace("seconds=20", "max_fits=500"), "formulas.md", "exec"), names)
    assert names["found"].status == "within noise" and "m*c^3/sqrt(c^2 - v^2)" in capsys.readouterr().out
    exec(compile(weighted, "formulas.md", "exec"), names)
    assert names["found"].status == "within noise" and names["found"].best.formula.text.count("exp(-") == 1
    capsys.readouterr()
    exec(compile(template, "formulas.md", "exec"), names)
    assert capsys.readouterr().out.strip() in template
    exec(compile(own, "formulas.md", "exec"), names)
    assert names["found"].status == "exact" and capsys.readouterr().out.strip() in own
    exec(compile(by_values, "formulas.md", "exec"), names)
    assert names["found"].status == "exact" and capsys.readouterr().out.strip() in by_values
    model = kanserve.compile(names["found"].best.kan, ["c_source", "numpy_source"], name="law")  # compares the values
    assert "import SpecialFunctions\n" in kanserve.formula.source(model.kan(), "julia")
    exec(compile(results, "formulas.md", "exec"), names)
    assert names["found"].status == "exact"
