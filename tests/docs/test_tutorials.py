"""The tutorials: each runs from its first cell to its last, which asserts what the page claims."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import DOCS, ROOT
from tests.support.peers.notebooks import NOTEBOOKS, cells
from tests.support.programs import needs

NEEDS = {
    "browser": "onnxruntime",
    "classifier": "sklearn",
    "five-minutes": "pandas",
    "law-from-noisy-data": "pandas",
    "missing-values": "sklearn",
    "onnx-runtime": "onnxruntime",
    "pendulum": "scipy",
    "serve-and-update": "grpc",
}
LARGEST_CPU_SECONDS = 600


def test_there_are_twelve_tutorials_and_a_start():
    assert {page.stem for page in NOTEBOOKS} == {
        *("gallery", "browser", "classifier", "edit", "five-minutes", "hello-kan", "knots", "law-from-noisy-data"),
        *("microcontroller", "missing-values", "onnx-runtime", "pendulum", "poisson", "serve-and-update"),
    }


@pytest.mark.parametrize("page", NOTEBOOKS, ids=lambda page: page.stem)
def test_a_tutorial_ends_with_what_it_claims_and_has_no_outputs(page):
    text = page.read_text("utf-8")
    assert "assert " in cells(page)[-1]
    assert text.startswith("---\njupytext:\n") and "{code-cell-output}" not in text


def test_the_list_of_tutorials_has_each_of_them():
    text = (DOCS / "tutorials" / "index.md").read_text("utf-8")
    for page in NOTEBOOKS:
        assert page.parent.name == "start" or f"({page.name})" in text


@pytest.mark.slow
@pytest.mark.extended
@needs("cc")
@pytest.mark.parametrize("page", NOTEBOOKS, ids=lambda page: page.stem)
def test_every_cell_of_a_tutorial_runs(page: Path, tmp_path: Path):
    if page.stem in NEEDS:
        pytest.importorskip(NEEDS[page.stem])
    # A statement that shows something ends in a semicolon, as in a notebook.
    (tmp_path / "tutorial.py").write_text("\n".join(cells(page)))
    path = os.pathsep.join([str(ROOT), str(ROOT / "exporters")])
    environment = {**os.environ, "PYTHONPATH": path, "MPLBACKEND": "agg", "OMP_NUM_THREADS": "1"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = subprocess.run(
        [sys.executable, "tutorial.py"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < LARGEST_CPU_SECONDS / len(NOTEBOOKS)
