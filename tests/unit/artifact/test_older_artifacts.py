"""Artifacts that earlier versions of kanserve wrote are loaded, and say what they said.

`artifact_0_1` was written by the last version that wrote the expression trees of all networks, whatever their size.
"""

import json
from pathlib import Path

import numpy as np

import kanserve
from kanserve import formula
from kanserve.artifact import directory, read
from kanserve.artifact.naming_rules import FORMULA
from kanserve.network.evaluate import evaluate
from kanserve.runtime import load_backend
from kanserve.serve.models import loader
from tests.support import kans
from tests.support.paths import ROOT

OLD = ROOT / "tests" / "unit" / "artifact" / "artifact_0_1"


def test_an_artifact_with_all_trees_is_read_and_served() -> None:
    artifact = read(OLD)
    assert artifact.files[FORMULA].startswith(b"{\n")  # as it was written then
    kan = artifact.kan()
    assert formula.from_json(artifact.formulas) == formula.formulas(kans.mixed(), strict=False)
    x, y = artifact.golden()
    np.testing.assert_array_equal(y, evaluate(kan, x))
    np.testing.assert_allclose(load_backend(artifact).predict(x), y, rtol=1e-12)
    model = loader.load(OLD).find("mixed")
    formulas, _ = model.words.read()
    assert formulas == kanserve.load_model(OLD).formulas


def test_the_formulas_of_an_artifact_are_one_line_of_json(tmp_path: Path) -> None:
    directory.write(tmp_path / "new", kanserve.compile(kans.mixed(), ("numpy_source",)))
    data = (tmp_path / "new" / FORMULA).read_bytes()
    assert data.count(b"\n") == 1 and len(data) < len((OLD / FORMULA).read_bytes())
    assert json.loads(data) == json.loads((OLD / FORMULA).read_bytes())
