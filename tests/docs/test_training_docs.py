"""docs/training.md: its section on tables runs, and prints what it says."""

import pytest

from tests.support.paths import ROOT
from tests.support.readme_blocks import blocks

PAGE = (ROOT / "docs" / "training.md").read_text("utf-8")


@pytest.mark.slow
def test_the_block_on_missing_values_and_categories_runs(capsys: pytest.CaptureFixture[str]):
    (block,) = (one for one in blocks("python", PAGE) if "colour" in one)
    exec(compile(block, "training.md", "exec"), {})
    assert capsys.readouterr().out == "('blue', 'green', 'red') True\nTrue True\n"
