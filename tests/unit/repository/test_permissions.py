"""Who may read what was published: whoever may read the folder that it is published into."""

import logging
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kanserve import repository
from kanserve.artifact import directory
from tests.support.artifacts import small

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="has no such rights")


@pytest.fixture(autouse=True)
def private() -> Iterator[None]:
    """Files of this process are for its own user."""
    before = os.umask(0o077)
    yield
    os.umask(before)


def modes(root: Path) -> set[tuple[bool, str]]:
    """Whether it is a folder, and its rights, of everything below a root."""
    found = [path.stat().st_mode for path in root.rglob("*")]
    return {(stat.S_ISDIR(mode), f"{stat.S_IMODE(mode):o}") for mode in found}


@pytest.mark.parametrize(
    ("rights", "folders", "files"), [(0o750, "750", "640"), (0o755, "755", "644"), (0o770, "750", "640")]
)
def test_a_new_version_can_be_read_by_whoever_can_read_the_repository(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, rights: int, folders: str, files: str
) -> None:
    root = tmp_path / "models"
    root.mkdir()
    root.chmod(rights)
    for _ in range(2):
        repository.publish(root, "model", small())
    directory.add_signature(root / "model/1", bytes(64))
    assert modes(root) == {(True, folders), (False, files)}
    assert not caplog.records


def test_a_repository_of_one_user_stays_so_without_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tmp_path / "models"
    root.mkdir(0o700)
    repository.publish(root, "model", small())
    assert modes(root) == {(True, "700"), (False, "600")} and not caplog.records


def test_a_new_repository_that_only_its_owner_can_read_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "kanserve"):
        repository.publish(tmp_path / "models", "model", small())
    (record,) = caplog.records
    assert f"chmod -R g+rX {tmp_path / 'models'}" in record.getMessage()
    assert "another user" in record.getMessage()


def test_a_model_that_is_kept_from_others_stays_so_and_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "models"
    (root / "model").mkdir(parents=True)
    root.chmod(0o755)
    with caplog.at_level(logging.WARNING, "kanserve"):
        repository.publish(root, "model", small())
    (record,) = caplog.records
    assert f"{root / 'model'} can be read by this user only" in record.getMessage()
    assert modes(root / "model") == {(True, "700"), (False, "600")}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to any group")
def test_the_group_is_that_of_the_repository(tmp_path: Path) -> None:
    root = tmp_path / "models"
    root.mkdir()
    os.chown(root, -1, 54321)
    root.chmod(0o750)
    repository.publish(root, "model", small())
    assert {path.stat().st_gid for path in root.rglob("*")} == {54321}
