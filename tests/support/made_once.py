"""What takes seconds to make, made once in a run of the tests: the processes of pytest-xdist share it."""

import fcntl
import functools
import hashlib
import os
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

FOLDER = "SHARED_BY_TESTS"  # the variable in which conftest.py names a folder of the run


@functools.cache
def shared_folder() -> Path:
    """The run's folder, or one of this process where pytest does not run."""
    if named := os.environ.get(FOLDER):
        return Path(named)
    # Removed when the interpreter ends and collects the object that the function keeps.
    holder = tempfile.TemporaryDirectory(prefix="kanserve-test-")
    shared_folder.holder = holder  # type: ignore[attr-defined]  # so that it lives as long as its path
    return Path(holder.name)


def made_once(name: str, make: Callable[[Path], object]) -> Path:
    """The file or folder of this name, which the first that asks makes at the path that `make` gets. Read it only."""
    path = shared_folder() / name
    with open(path.with_name(f"{name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the others wait; it ends with the file
        if not path.exists():
            unfinished = path.with_name(f"{name}.unfinished")
            make(unfinished)
            unfinished.rename(path)
    return path


def object_file(folder: Path, source: str, flags: Sequence[str]) -> Path:
    """A C file, compiled once for all servers and tests in which the preprocessor makes the same text of it."""
    text = _cc(folder, *flags, "-E", "-P", source)
    key = hashlib.sha256("\0".join((*flags, text)).encode()).hexdigest()
    return made_once(f"{key}.o", lambda path: _cc(folder, *flags, "-c", source, "-o", str(path)))


def _cc(folder: Path, *words: str) -> str:
    done = subprocess.run(["cc", *words], cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout
