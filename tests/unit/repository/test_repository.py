import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kanserve import repository
from kanserve.artifact import write
from kanserve.errors import ArtifactError, ConflictError, FormatError, InvalidNameError, NotFoundError
from tests.support.artifacts import small


def test_versions_count_up_and_the_newest_is_read_by_default(tmp_path):
    assert repository.publish(tmp_path, "model", small(provenance={"n": "1"})) == 1
    assert repository.publish(tmp_path, "model", small(provenance={"n": "2"})) == 2
    assert repository.publish(tmp_path, "model", small(provenance={"n": "10"}), version=10) == 10
    assert repository.publish(tmp_path, "model", small(provenance={"n": "11"})) == 11
    assert repository.versions(tmp_path, "model") == (1, 2, 10, 11)
    assert repository.read(tmp_path, "model").manifest.provenance == {"n": "11"}
    assert repository.read(tmp_path, "model", 2).manifest.provenance == {"n": "2"}
    assert repository.names(tmp_path) == ("model",)


def test_a_repository_is_made_where_it_is_missing(tmp_path):
    assert repository.publish(tmp_path / "a" / "b", "model", small()) == 1
    assert repository.names(tmp_path / "a" / "b") == ("model",)


def test_a_version_never_changes(tmp_path):
    repository.publish(tmp_path, "model", small(provenance={"n": "1"}))
    with pytest.raises(ConflictError, match="Version 1"):
        repository.publish(tmp_path, "model", small(), version=1)
    assert repository.read(tmp_path, "model", 1).manifest.provenance == {"n": "1"}
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["1", "card-1.md", "card-1.svg"]


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(NotFoundError, match="folder"):
        repository.names(tmp_path / "none")
    assert repository.names(tmp_path) == ()
    with pytest.raises(NotFoundError, match="no model 'model'"):
        repository.versions(tmp_path, "model")
    with pytest.raises(NotFoundError, match="no model 'model'"):
        repository.read(tmp_path, "model")
    repository.publish(tmp_path, "model", small())
    with pytest.raises(NotFoundError, match="no version 2 of 'model'"):
        repository.read(tmp_path, "model", 2)


def test_what_is_not_named_like_a_model_or_a_version_is_not_there(tmp_path):
    repository.publish(tmp_path, "model", small())
    for name in ("Model", ".model", "model.old"):
        repository.publish(tmp_path, "another", small())
        (tmp_path / "another").rename(tmp_path / name)
    for name in ("01", "0", "1x", ".2", "9999999999"):
        write(tmp_path / "model" / name, small())
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "half" / "1").mkdir(parents=True)
    assert repository.names(tmp_path) == ("model",)
    assert repository.versions(tmp_path, "model") == (1,)


def test_a_number_that_is_taken_by_anything_is_not_given_again(tmp_path):
    (tmp_path / "model" / "7").mkdir(parents=True)
    (tmp_path / "model" / "8").touch()
    assert repository.publish(tmp_path, "model", small()) == 9


def test_nothing_below_the_root_is_reached_over_a_link(tmp_path):
    repository.publish(tmp_path / "away", "model", small())
    root = tmp_path / "root"
    root.mkdir()
    (root / "model").symlink_to(tmp_path / "away" / "model")
    assert repository.names(root) == ()
    with pytest.raises(NotFoundError):
        repository.versions(root, "model")
    with pytest.raises(FormatError, match="link"):
        repository.read(root, "model", 1)
    with pytest.raises(ConflictError, match="link"):
        repository.publish(root, "model", small())
    repository.publish(root, "other", small())
    (root / "other" / "2").symlink_to(root / "other" / "1")
    assert repository.versions(root, "other") == (1,)
    with pytest.raises(FormatError, match="link"):
        repository.read(root, "other", 2)
    (tmp_path / "entrance").symlink_to(root)
    assert repository.names(tmp_path / "entrance") == ("other",)
    assert repository.read(tmp_path / "entrance", "other").backends == ("numpy_source", "other")


@pytest.mark.parametrize("name", ["..", ".", "", "../model", "/etc", "a/b", "model\0", "MODEL", "x" * 64, "~", "*"])
def test_a_hostile_name_opens_nothing(name, tmp_path):
    """The path of the root leads nowhere, so that any attempt to open it would say so."""
    for act in (
        lambda: repository.read(tmp_path / "none", name),
        lambda: repository.read(tmp_path / "none", name, 1),
        lambda: repository.versions(tmp_path / "none", name),
        lambda: repository.publish(tmp_path / "none", name, small()),
    ):
        with pytest.raises(InvalidNameError):
            act()
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("version", ["../1", "01", 0, -1, 10**9, True, 1.5])
def test_a_hostile_version_opens_nothing(version, tmp_path):
    repository.publish(tmp_path, "model", small())
    with pytest.raises(InvalidNameError):
        repository.read(tmp_path, "model", version)
    with pytest.raises(InvalidNameError):
        repository.publish(tmp_path, "model", small(), version)


def test_publishers_who_race_get_a_version_each(tmp_path):
    def publish(number):
        return repository.publish(tmp_path, "model", small(provenance={"n": str(number)}))

    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(publish, range(24)))
    assert sorted(got) == list(range(1, 25))
    for number, version in enumerate(got):
        assert repository.read(tmp_path, "model", version).manifest.provenance == {"n": str(number)}


def test_publishers_who_race_for_one_version_have_one_winner(tmp_path):
    def publish(number):
        try:
            repository.publish(tmp_path, "model", small(provenance={"n": str(number)}), version=1)
        except ConflictError:
            return None
        return str(number)

    with ThreadPoolExecutor(8) as pool:
        (winner,) = [version for version in pool.map(publish, range(16)) if version is not None]
    assert repository.read(tmp_path, "model").manifest.provenance == {"n": winner}
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["1", "card-1.md", "card-1.svg"]


# A child publishes and kills itself before the n-th call that opens, makes or renames something; the parent goes on
# with n + 1 until a child comes through. What can be read after each is printed.
KILLED = """
import json, os, signal, sys
from kanserve import repository
from kanserve.artifact import read
from kanserve.errors import NotFoundError

source, root = sys.argv[1:]
artifact = read(source)
events = {"open", "os.mkdir", "os.rename", "os.rmdir", "os.remove", "os.scandir", "os.listdir"}

def publish_and_die(point):
    calls = 0
    def hook(event, arguments):
        nonlocal calls
        if event in events:
            calls += 1
            if calls == point:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)
    repository.publish(root, "model", artifact, card=False)

killed, visible = 0, []
while True:
    child = os.fork()
    if child == 0:
        publish_and_die(killed + 1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    try:
        visible.append(len(repository.versions(root, "model")))
    except NotFoundError:
        visible.append(0)
    for version in range(1, visible[-1] + 1):
        assert repository.read(root, "model", version).files == artifact.files
    if status == 0:
        break
    assert os.WTERMSIG(status) == signal.SIGKILL
    killed += 1
print(json.dumps({"killed": killed, "visible": visible}))
"""


def test_a_publisher_killed_at_any_point_leaves_no_partial_version(tmp_path):
    write(tmp_path / "source", small())
    root = Path(repository.__file__).parents[2]
    command = [sys.executable, "-c", KILLED, str(tmp_path / "source"), str(tmp_path / "root")]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    print(f"killed at {result['killed']} points")
    assert result["killed"] >= 15
    # Only the last calls (syncing after the rename) and the run that came through may have made a version.
    assert result["visible"][:-4] == [0] * (len(result["visible"]) - 4)
    assert result["visible"][-1] >= 1
    left = [path for path in (tmp_path / "root" / "model").iterdir() if path.name.startswith(".")]
    assert len(left) >= 10
    assert repository.clean(tmp_path / "root") == 0
    assert repository.clean(tmp_path / "root", older_than=0) == len(left)
    assert not [path for path in (tmp_path / "root" / "model").iterdir() if path.name.startswith(".")]
    assert repository.read(tmp_path / "root", "model").files == small().files


def test_cleaning_leaves_everything_else_alone(tmp_path):
    repository.publish(tmp_path, "model", small())
    kept = [tmp_path / "model" / name for name in (".hidden", ".x.part", "a.part", f".{'0' * 16}.part.old")]
    for path in kept:
        path.mkdir()
    (tmp_path / "model" / f".{'0' * 16}.part").symlink_to(kept[0])
    assert repository.clean(tmp_path, older_than=0) == 0
    assert all(path.exists() for path in kept)


def test_a_broken_newest_version_is_refused_and_the_others_are_read(tmp_path):
    repository.publish(tmp_path, "model", small())
    repository.publish(tmp_path, "model", small())
    os.truncate(tmp_path / "model" / "2" / "kan.safetensors", 10)
    with pytest.raises(ArtifactError):
        repository.read(tmp_path, "model")
    assert repository.read(tmp_path, "model", 1).files == small().files
