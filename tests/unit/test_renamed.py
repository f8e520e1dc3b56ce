"""Old names of modules: each is importable, warns with the new name, and is the new module."""

import pickle
import subprocess
import sys
import warnings
from importlib import import_module

import pytest

import kanserve
from kanserve.network.kan import equal
from kanserve.network.renamed_names import NAMES, RENAMED
from tests.support.kans import mixed


@pytest.mark.parametrize("old", RENAMED)
def test_an_old_name_is_the_new_module_and_says_so(old, monkeypatch):
    monkeypatch.delitem(sys.modules, old, raising=False)
    new = import_module(RENAMED[old])
    spec = new.__spec__
    with pytest.warns(DeprecationWarning, match=f"{old} is now {RENAMED[old]};") as told:
        found = import_module(old)
    assert found is new and new.__spec__ is spec and new.__name__ == RENAMED[old]
    assert len(told) == 1


def test_names_of_an_old_module_are_those_of_the_new_one_and_the_importing_line_is_blamed(tmp_path):
    program = tmp_path / "old.py"
    program.write_text("from kanserve.ir import Kan\nimport kanserve\nassert Kan is kanserve.Kan is kanserve.ir.Kan\n")
    done = subprocess.run([sys.executable, "-W", "always", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "old.py:1: DeprecationWarning: kanserve.ir is now kanserve.network.kan" in done.stderr


@pytest.mark.parametrize("old", NAMES)
def test_an_old_public_name_is_the_new_one_and_says_so(old, monkeypatch):
    monkeypatch.delitem(vars(kanserve), old, raising=False)
    with pytest.warns(DeprecationWarning, match=f"kanserve.{old} is now kanserve.{NAMES[old]};") as told:
        found = getattr(kanserve, old)
    assert found is getattr(kanserve, NAMES[old]) and old not in kanserve.__all__
    assert [warning.filename for warning in told] == [__file__]


def test_nothing_of_ours_uses_an_old_name():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in kanserve.__all__:
            assert getattr(kanserve, name) is not None


def test_a_pickle_of_an_older_version_is_read(monkeypatch):
    monkeypatch.delitem(sys.modules, "kanserve.ir", raising=False)
    kan = mixed()
    old = pickle.dumps(kan, protocol=0).replace(b"ckanserve.network.kan\n", b"ckanserve.ir\n")
    with pytest.warns(DeprecationWarning, match="kanserve.ir is now"):
        assert equal(pickle.loads(old), kan)
