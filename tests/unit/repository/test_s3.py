"""What only a real store shows: its own keys, its silence, and publishers who are killed on the way to it."""

import itertools
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kanserve import repository
from kanserve.artifact import format, write
from kanserve.errors import IntegrityError, NotFoundError, UnreachableError
from kanserve.repository import remote
from tests.support.artifacts import small
from tests.support.peers import s3_store

_numbers = itertools.count()


@pytest.mark.slow
@pytest.mark.extended
def test_empty_files_in_place_of_folders_are_no_files(store: str) -> None:
    """Tools with a picture of folders make them in S3."""
    root = f"s3://bucket/models{next(_numbers)}"
    repository.publish(root, "model", small())
    for key in ("", "model/", "model/1/", "model/1/numpy_source/", "model/1/other/deep/"):
        s3_store.put(root, key)
    assert repository.names(root) == ("model",)
    assert repository.read(root, "model").files == small().files


@pytest.mark.slow
@pytest.mark.extended
def test_a_file_larger_than_it_may_be_is_not_fetched(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    root = f"s3://bucket/models{next(_numbers)}"
    repository.publish(root, "model", small())
    s3_store.put(root, "model/1/formula.json", b"x" * 50_000)
    s3_store.put(root, "model/1/manifest.json", b" " * (2**20 + 1))
    asked: list[str] = []
    source = remote.Remote(root)
    real = source._files.cat_file

    def asking(path: str, **more: object) -> object:
        asked.append(path)
        return real(path, **more)

    monkeypatch.setattr(source._files, "cat_file", asking)
    with pytest.raises(IntegrityError, match="1048576"):
        source.read("model", 1)
    s3_store.put(root, "model/1/manifest.json", format.dumps(small().manifest))
    with pytest.raises(IntegrityError, match=r"formula.json may have \d+ bytes, it has 50000"):
        source.read("model", 1)
    assert asked == [f"{root.removeprefix('s3://')}/model/1/manifest.json"]


KILLED = """
import os, signal, sys
from kanserve import repository
from kanserve.artifact import read
from kanserve.repository.remote import Remote

class Mortal(Remote):
    left = int(sys.argv[3])
    def _put(self, key, data):
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= 1
        return super()._put(key, data)

Mortal(sys.argv[2]).publish("model", read(sys.argv[1]))
"""


@pytest.mark.slow
@pytest.mark.extended
def test_a_publisher_killed_before_any_file_leaves_no_partial_version(store: str, tmp_path: Path) -> None:
    write(tmp_path / "source", small())
    root = f"s3://bucket/models{next(_numbers)}"
    code, point = -signal.SIGKILL, 0
    for point in range(1, len(small().files) + 1, 2):
        command = [sys.executable, "-c", KILLED, str(tmp_path / "source"), root, str(point)]
        folder = Path(repository.__file__).parents[2]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
        code = done.returncode
        assert code == -signal.SIGKILL, done.stderr
        assert repository.names(root) == ()
    assert repository.publish(root, "model", small()) == (point + 1) // 2 + 1
    assert repository.read(root, "model").files == small().files


@pytest.mark.slow
@pytest.mark.extended
def test_a_store_that_is_not_there_or_silent_is_an_error_of_ours_without_secrets(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NotFoundError):
        repository.names("s3://no-such-bucket/models")
    monkeypatch.setattr(remote, "SECONDS", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        begun = time.monotonic()
        with s3_store.environment(f"http://127.0.0.1:{silent.getsockname()[1]}"):
            for act in (
                lambda: repository.names("s3://bucket/models"),
                lambda: repository.read("s3://bucket/models", "model", 1),
            ):
                with pytest.raises(UnreachableError, match="in time") as caught:
                    act()
                assert s3_store.SECRET not in str(caught.value) and "127.0.0.1" not in str(caught.value)
        assert time.monotonic() - begun < 60  # as long as botocore waits when nobody tells it otherwise
        free = silent.getsockname()[1]
    monkeypatch.setattr(remote, "SECONDS", 20.0)
    with s3_store.environment(f"http://127.0.0.1:{free}"), pytest.raises(UnreachableError) as caught:
        repository.names("s3://bucket/models")
    assert s3_store.SECRET not in str(caught.value) and "127.0.0.1" not in str(caught.value)
