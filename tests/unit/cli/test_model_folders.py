"""The commands that read a published model take its folder, for the newest version."""

import pytest

from kanserve import from_formula, repository
from kanserve.artifact_compiler import compile as compile_kan


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a model of two versions, and a table."""
    monkeypatch.chdir(tmp_path)
    for law in ("x*y", "7*x + y"):
        kan = from_formula(law, ranges={"x": (-1, 1), "y": (-1, 1)})
        repository.publish("models", "law", compile_kan(kan, ["numpy_source"], name="law"))
    (tmp_path / "one.csv").write_text("x,y\n0.5,0.5\n")
    return tmp_path


def test_predict_takes_the_newest_version_of_a_model(folder, kanserve):
    assert kanserve("predict", "models/law", "one.csv") == (0, "y\n4.0\n", "")
    assert kanserve("predict", "models/law/1", "one.csv") == (0, "y\n0.25\n", "")


@pytest.mark.parametrize("command", ["formula", "inspect", "card"])
def test_other_commands_show_the_newest_version_of_a_model(folder, kanserve, command):
    newest = kanserve(command, "models/law")
    assert newest[0] == 0 and newest[1] != kanserve(command, "models/law/1")[1]
    if command != "card":
        assert newest == kanserve(command, "models/law/2")


def test_an_earlier_version_is_published_again_as_the_newest(folder, kanserve):
    code, said, _ = kanserve("publish", "models/law/1", "models", "--name", "law")
    assert code == 0 and "models/law/3" in said
    assert kanserve("predict", "models/law", "one.csv") == (0, "y\n0.25\n", "")
    code, _, said = kanserve("publish", "models/law/1", "models", "--name", "law", "--data", "one.csv")
    assert code == 2 and "published again as it is" in said


def test_a_folder_without_versions_is_refused_with_an_example(folder, kanserve):
    code, _, said = kanserve("predict", "models", "one.csv")
    assert code != 0 and "models/houses" in said
