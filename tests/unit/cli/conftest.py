"""The folder in which the commands of these tests run."""

import shutil

import numpy as np
import pytest

from kanserve import repository
from kanserve.artifact_compiler import compile as compile_kan
from kanserve.network import serialization
from kanserve.network.evaluate import evaluate
from tests.support.networks.kans import classifier, symbolic


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A table, a network that fits it, that network published in a repository, and a classifier."""
    folder = tmp_path_factory.mktemp("cli")
    kan = symbolic()
    x = np.random.default_rng(0).uniform(-1, 1, (80, 2))
    lines = ["x,y,z", *(",".join(map(repr, row)) for row in np.column_stack([x, evaluate(kan, x)]).tolist())]
    (folder / "good.csv").write_text("\n".join(lines) + "\n")
    serialization.save(kan, folder / "law.safetensors")
    serialization.save(classifier(), folder / "classifier.safetensors")
    repository.publish(folder / "models", "law", compile_kan(kan, ["numpy_source"], name="law"))
    return folder


@pytest.fixture
def folder(published, tmp_path, monkeypatch):
    """The same folder, copied: what a command does to it is seen by nobody else."""
    shutil.copytree(published, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"
