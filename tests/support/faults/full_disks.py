"""Disks that are full, and publishers who are killed, at one moment after the other."""

import errno
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kanserve import repository
from kanserve.artifact.format import Artifact
from kanserve.errors import NotFoundError

BLOCK = 4096


def seen(root: Path, artifact: Artifact) -> int:
    """How many versions of "model" there are; each is read, and is whole."""
    try:
        found = repository.versions(root, "model")
    except NotFoundError:
        return 0
    for version in found:
        assert repository.read(root, "model", version).files == artifact.files
    return len(found)


def limited(root: Path, artifact: Artifact, points: int) -> int:
    """Publish where no file may grow beyond some size, a larger one each time; how often it failed, and nothing of it
    was seen. It takes a process of its own, since the limit is one of processes."""
    largest = max(map(len, artifact.files.values()))
    return sum(
        _in_a_child(lambda size=size: _limit(root, artifact, size))  # type: ignore[misc]  # its type is lost here
        for size in range(0, largest, max(1, largest // points))
    )


def filled(folder: Path, artifact: Artifact) -> int:
    """Publish on a disk of 1 MB that has one block more free each time, until it fits; how often it did not, and
    nothing of it was seen. PermissionError where this process may not mount one."""
    failures = 0
    with tmpfs(folder) as disk:
        ballast = disk / "ballast"
        free = os.statvfs(disk).f_bavail * BLOCK
        for size in range(free, 0, -BLOCK):
            with open(ballast, "wb") as file:
                file.write(b"x" * size)
            try:
                repository.publish(disk, "model", artifact)
            except OSError as error:
                assert error.errno == errno.ENOSPC
                assert seen(disk, artifact) == 0
                assert not [path for path in (disk / "model").glob(".*")]
                failures += 1
            else:
                assert seen(disk, artifact) == 1
                return failures
            finally:
                ballast.unlink()
    raise AssertionError("it never fits")


def killed(root: Path, artifact: Artifact, points: int) -> int:
    """Publish in processes that are killed before one call to the system after the other; at how many, until one came
    through or `points` were tried."""
    for point in range(1, points + 1):
        if not _in_a_child(lambda point=point: _die(root, artifact, point), dies=True):  # type: ignore[misc]  # as above
            return point - 1
        seen(root, artifact)
    return points


@contextmanager
def tmpfs(folder: Path) -> Iterator[Path]:
    """A disk of 1 MB in memory."""
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=60, check=False).returncode
    except OSError:
        done = 1
    if done != 0:
        raise PermissionError("This process may not mount a disk.")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], timeout=60, check=True)


def _limit(root: Path, artifact: Artifact, size: int) -> bool:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    with suppress(OSError):
        repository.publish(root, "model", artifact)
        return False
    return seen(root, artifact) == 0


def _die(root: Path, artifact: Artifact, point: int) -> bool:
    calls = 0
    events = {"open", "os.mkdir", "os.rename", "os.rmdir", "os.remove", "os.scandir", "os.listdir"}

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal calls
        calls += event in events
        if calls == point and event in events:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    repository.publish(root, "model", artifact)
    return False


def _in_a_child(act: Callable[[], bool], dies: bool = False) -> bool:
    """Whether it came true in a forked process, or with `dies` was killed."""
    child = os.fork()
    if child == 0:
        code = 2
        try:
            code = 0 if act() else 1
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    if dies and os.WIFSIGNALED(status):
        return True
    assert os.WIFEXITED(status) and os.WEXITSTATUS(status) != 2
    return os.WEXITSTATUS(status) == 0
