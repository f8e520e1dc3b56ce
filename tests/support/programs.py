"""Programs that some tests run and not every machine has: whether one works here, and skips that name what is missing.

A reason "needs NAME" or "needs NAME: why" is counted by name in the last line of a run.
"""

import functools
import multiprocessing
import re
import subprocess
from collections import Counter
from collections.abc import Sequence
from typing import NoReturn

import pytest

_ASKED_BY = {"openssl": "version"}  # others by --version
# What this module says, and what pytest.importorskip says.
_MISSING = re.compile(r"(?:Skipped: )?(?:needs |could not import ')([\w.+-]+)")
# What to install for a program or module whose package has another name.
_INSTALLED_AS = {
    "kan": "pykan",
    "octave-cli": "octave",
    "cc": "gcc",
    "buf": "kanserve[dev]",
    "torch": "kanserve[torch]",
    "psql": "postgresql",
    "soffice": "libreoffice-calc-nogui",
}


@functools.cache
def runs(program: str) -> bool:
    """Whether a program is on the PATH and starts: rustup's `rustc`, for one, does not where it has no toolchain."""
    try:
        done = subprocess.run(
            [program, _ASKED_BY.get(program, "--version")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=60,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def needs(program: str) -> pytest.MarkDecorator:
    """Skip the test where a program does not run."""
    return pytest.mark.skipif(not runs(program), reason=f"needs {program}")


@functools.cache
def shares_memory() -> bool:
    """Whether processes can wait for one another by a semaphore, which some sandboxes without /dev/shm lack."""
    try:
        multiprocessing.Semaphore()
    except (ImportError, OSError):
        return False
    return True


needs_shared_memory = pytest.mark.skipif(not shares_memory(), reason="needs shm: /dev/shm is missing or read-only")


def want(program: str) -> str:
    """The program's name, once it is known to run; otherwise the test is skipped from here on."""
    if not runs(program):
        skip(program)
    return program


def skip(missing: str) -> NoReturn:
    """Skip the test for want of a program or package."""
    pytest.skip(f"needs {missing}")


def skipped_by(reasons: Sequence[str]) -> str:
    """One line: how many tests were skipped, and which missing package or program would bring how many of them back."""
    names = Counter(
        _INSTALLED_AS.get(found[1], found[1]) if (found := _MISSING.match(reason)) else "" for reason in reasons
    )
    other = names.pop("", 0)
    parts = [f"{name} {count}" for name, count in sorted(names.items(), key=lambda one: (-one[1], one[0]))]
    if other:
        parts.append(f"not for this machine {other}")
    return f"{len(reasons)} skipped: {', '.join(parts)}"
