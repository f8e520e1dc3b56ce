"""docs/from-scikit-learn.md, to the letter: its blocks and each call of its table are run."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import kanserve
from tests.support.paths import DOCS
from tests.support.readme_blocks import blocks

PAGE = (DOCS / "from-scikit-learn.md").read_text("utf-8")


def calls() -> list[str]:
    """What the second column of the table has, in its order."""
    (table,) = re.findall(
        r"^\| scikit-learn \| here \| \|\n\|---\|---\|---\|\n(.*?)\n\n", PAGE, re.MULTILINE | re.DOTALL
    )
    return [call for row in table.splitlines() for call in re.findall(r"`([^`]+)`", row.split(" | ")[1])]


@pytest.mark.slow
@pytest.mark.extended
def test_the_blocks_of_the_page_run_and_the_first_prints_what_it_says(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("sklearn")
    monkeypatch.chdir(tmp_path)
    first, pipeline = blocks("python", PAGE)
    exec(compile(first, "from-scikit-learn.md", "exec"), {})
    assert capsys.readouterr().out == blocks("text", PAGE)[0]
    exec(compile(pipeline, "from-scikit-learn.md", "exec"), {})


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.exhaustive
@pytest.mark.filterwarnings("ignore::kanserve.train.TrainingWarning")  # of fits that the table cuts short
def test_every_call_of_the_table_runs(tmp_path: Path):
    pytest.importorskip("sklearn")
    from sklearn.model_selection import GridSearchCV, cross_val_score

    generator = np.random.default_rng(0)
    X = pd.DataFrame(generator.uniform(-1, 1, (200, 2)), columns=["a", "b"])
    y = X["a"] ** 2 + X["b"]
    labels = np.where(y > 0, "high", "low")
    names: dict[str, Any] = {"kanserve": kanserve, "X": X, "y": y, "labels": labels, "counts": np.round(np.exp(y))}
    names |= {"KANRegressor": kanserve.KANRegressor, "KANClassifier": kanserve.KANClassifier}
    names |= {"GridSearchCV": GridSearchCV, "cross_val_score": cross_val_score}
    names |= {"model": kanserve.KANRegressor(hidden=()).fit(X, y), "folder": tmp_path / "exported"}
    names |= {"classifier": kanserve.KANClassifier(hidden=()).fit(X, labels), "path": tmp_path / "kan.safetensors"}
    run = calls()
    assert len(run) > 20
    for call in run:
        eval(call, names)


def test_the_tables_of_the_page_are_whole():
    assert {row.count("|") for row in PAGE.splitlines() if row.startswith("|")} == {4}
