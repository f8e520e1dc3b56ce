"""The files of the tests of the command line."""

from pathlib import Path

import numpy as np

from kanserve import repository
from kanserve.artifact_compiler import compile as compile_kan
from kanserve.network import serialization
from kanserve.network.evaluate import evaluate
from tests.support.kans import classifier, symbolic


def made(folder: Path) -> Path:
    """The folder with a table, a network that fits it, that network published in a repository, and a classifier."""
    kan = symbolic()
    x = np.random.default_rng(0).uniform(-1, 1, (80, 2))
    lines = ["x,y,z", *(",".join(map(repr, row)) for row in np.column_stack([x, evaluate(kan, x)]).tolist())]
    (folder / "good.csv").write_text("\n".join(lines) + "\n")
    serialization.save(kan, folder / "law.safetensors")
    serialization.save(classifier(), folder / "classifier.safetensors")
    repository.publish(folder / "models", "law", compile_kan(kan, ["numpy_source"], name="law"))
    return folder
