"""Files that earlier versions wrote are read, and mean what they meant (docs/project/compatibility.md).

`files` was written by checkouts of earlier commits: network_1 and artifact_1 by the first with a server, network_2 by
the first with the compact form, network_3 and artifact_2_missing with missing values, artifact_2_intervals with
prediction intervals. The JSON beside a network has rows, and the outputs that the version of then computed.
session_1 and findings_1 are of the commits before format 3 of networks.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

import kanserve
from kanserve import formula
from kanserve.artifact import directory, format
from kanserve.artifact.naming_rules import FORMULA
from kanserve.errors import FormatError
from kanserve.network import serialization
from kanserve.network.evaluate import evaluate
from kanserve.runtime import load_backend
from kanserve.serve.models import loader
from tests.support.networks import kans
from tests.support.paths import ROOT

FILES = Path(__file__).parent / "files"
NETWORKS = sorted(FILES.glob("network_*.safetensors"))
ARTIFACTS = sorted(FILES.glob("artifact_*"))
NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?:e[+-]?\d+)?")
TREES = FILES / "artifact_1"  # of a version that wrote the expression trees of all networks, whatever their size


def assert_equal_but_for_rounding(got: Any, wanted: Any) -> None:
    """JSON is the same, with numbers, also those within texts, within what another processor may round otherwise: the
    numbers of a formula are ends of some products, so a few units in their last digits."""
    if isinstance(wanted, dict):
        assert list(got) == list(wanted)
        for name in wanted:
            assert_equal_but_for_rounding(got[name], wanted[name])
    elif isinstance(wanted, list | tuple):
        assert len(got) == len(wanted)
        for one, other in zip(got, wanted, strict=True):
            assert_equal_but_for_rounding(one, other)
    elif isinstance(wanted, str):
        (texts, numbers), (others, same) = ((NUMBER.split(text), NUMBER.findall(text)) for text in (got, wanted))
        assert texts == others
        assert_equal_but_for_rounding([float(number) for number in numbers], [float(number) for number in same])
    else:
        assert got == (pytest.approx(wanted, rel=1e-12, abs=1e-12) if isinstance(wanted, float) else wanted)


def test_there_is_a_file_of_each_version_of_each_format():
    assert {path.stem.split("_")[1] for path in NETWORKS} == {
        str(version) for version in (serialization.VERSION, serialization.COMPACT, serialization.ENCODED)
    }
    formats = {json.loads((path / "manifest.json").read_text())["format"] for path in ARTIFACTS}
    assert formats == {1, 2}
    assert sum(path.stat().st_size for path in FILES.rglob("*") if path.is_file()) < 120_000


@pytest.mark.parametrize("path", NETWORKS, ids=lambda path: path.stem)
def test_a_network_of_each_version_computes_what_it_did(path):
    kan = kanserve.load(path)
    wanted = json.loads(path.with_suffix(".json").read_text())
    x, y = (np.array(wanted[name], np.float64) for name in ("x", "y"))
    np.testing.assert_allclose(evaluate(kan, x), y, rtol=1e-13, atol=1e-13)
    assert kanserve.equal(serialization.loads(serialization.dumps(kan)), kan)


@pytest.mark.parametrize("path", NETWORKS, ids=lambda path: path.stem)
def test_a_network_is_written_in_the_oldest_version_that_can_hold_it(path):
    version = int(path.stem.split("_")[1])
    data = serialization.dumps(kanserve.load(path), compact=version == serialization.COMPACT)
    assert f'"version": {version}'.encode() in data.replace(b"\\", b"")
    assert data == path.read_bytes()


@pytest.mark.parametrize("path", ARTIFACTS, ids=lambda path: path.name)
def test_an_artifact_of_each_version_is_verified_and_runs(path, tmp_path):
    artifact = directory.read(path)
    x, y = artifact.golden()
    np.testing.assert_allclose(load_backend(artifact, "numpy_source").predict(x), y, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(evaluate(artifact.kan(), x), y, rtol=1e-13, atol=1e-13)
    assert format.dumps(artifact.manifest) == (path / "manifest.json").read_bytes()
    model = kanserve.load_model(path)
    assert model.formulas[0].text and kanserve.model_card(path).text.startswith("# ")
    assert bool(artifact.manifest.intervals) == ("intervals" in path.name)
    kanserve.publish(tmp_path, "again", artifact)
    assert kanserve.load_model(tmp_path, "again").artifact.files == artifact.files


def test_the_findings_of_a_search_are_read_and_predict():
    found = kanserve.Findings.load(FILES / "findings_1.json")
    assert found.best.formula.text == "a*b^2"
    np.testing.assert_allclose(found.predict([[2.0, 3.0]]), [18.0], rtol=1e-3)


@pytest.mark.slow
def test_a_session_is_replayed(tmp_path):
    shutil.copytree(FILES / "session_1", tmp_path / "session")
    command = [sys.executable, "-m", "kanserve", "session", "show", "session_1.json"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "exporters")])}
    done = subprocess.run(command, cwd=tmp_path / "session", capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "snap('a->y', 'sin')" in done.stdout and "sin(a" in done.stdout


def test_a_version_that_is_not_known_yet_is_said_to_be_one(tmp_path):
    data = NETWORKS[0].read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    newer = header["__metadata__"]["kan"].partition(" ")[2].replace('"version": 1', '"version": 4')
    tensors = load(data)
    sealed = save(tensors, metadata={"kan": f"{serialization.checksum(newer, tensors)} {newer}"})
    with pytest.raises(FormatError, match=r"version 4; this kanserve reads versions 1 to 3"):
        serialization.loads(sealed)
    copy = tmp_path / "artifact"
    shutil.copytree(ARTIFACTS[0], copy)
    (copy / "added").write_text("x")
    with pytest.raises(FormatError, match="does not list"):
        directory.read(copy)


def test_an_artifact_with_all_trees_is_read_and_served():
    artifact = directory.read(TREES)
    assert artifact.files[FORMULA].startswith(b"{\n")  # as it was written then
    kan = artifact.kan()
    written, now = formula.from_json(artifact.formulas), formula.formulas(kans.mixed(), strict=False)
    assert_equal_but_for_rounding(formula.to_json(now), formula.to_json(written))
    x, y = artifact.golden()
    np.testing.assert_allclose(y, evaluate(kan, x), rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(load_backend(artifact).predict(x), y, rtol=1e-12)
    model = loader.load(TREES).find("mixed")
    formulas, _ = model.words.read()
    assert formulas == kanserve.load_model(TREES).formulas


def test_the_formulas_of_an_artifact_are_one_line_of_json(tmp_path):
    directory.write(tmp_path / "new", kanserve.compile(kans.mixed(), ("numpy_source",)))
    data = (tmp_path / "new" / FORMULA).read_bytes()
    assert data.count(b"\n") == 1 and len(data) < len((TREES / FORMULA).read_bytes())
    assert_equal_but_for_rounding(json.loads(data), json.loads((TREES / FORMULA).read_bytes()))
