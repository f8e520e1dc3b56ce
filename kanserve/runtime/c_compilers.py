"""Runs C compilers: the machine's own, and ziglang's, which compiles for other machines. Their standard input is empty,
their output becomes the error message, and all end with their caller."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

from kanserve.errors import ExportError, InputError, MissingDependencyError, NotFoundError

LONGEST = 120.0  # timeout of a compiler in seconds; 3,000 symbolic edges take 12
LONGEST_FOREIGN = 900.0  # of ziglang, which compiles a target's C library at its first use: 40 seconds here

Command = Sequence[str]


class StoppedError(ExportError):
    """A compiler was stopped after its timeout."""


def own(given: str | None = None) -> list[str]:
    """This machine's compiler command with its full path: the given one, else $CC, else cc, gcc or clang. Raises
    NotFoundError without one, InputError for invalid shell syntax."""
    wanted = given or os.environ.get("CC")
    try:
        candidates = [shlex.split(wanted)] if wanted else [["cc"], ["gcc"], ["clang"]]
    except ValueError as error:
        raise InputError(f"A compiler is named as in a shell, got {wanted!r:.80}: {error}. Set CC right.") from None
    for command in candidates:
        found = shutil.which(command[0]) if command else None
        if found:
            return [os.path.abspath(found), *command[1:]]  # absolute, as it runs in another folder
    tried = " ".join(wanted.split()) if wanted else "cc, gcc, clang"
    raise NotFoundError(f"Building C source needs a C compiler; tried {tried}. Install one, or name one by $CC.")


def foreign(target: str) -> list[str]:
    """The command of a compiler for one of ziglang's targets, such as "aarch64-linux-musl"."""
    if find_spec("ziglang") is None:
        raise MissingDependencyError("ziglang", "cross")
    return [sys.executable, "-m", "ziglang", "cc", "-target", target]


def foreign_environment() -> Mapping[str, str]:
    """The environment of `foreign`, which caches ziglang's compiled C libraries in the user's cache folder. Raises
    ExportError if that is not writable, since ziglang would retry forever."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = os.path.abspath(Path(cache, "kanserve", "zig"))
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ExportError(
            f"ziglang keeps what it compiles in {folder}, which cannot be written: {error.strerror}. "
            "Name another cache folder by XDG_CACHE_HOME."
        ) from None
    return {**os.environ, "ZIG_GLOBAL_CACHE_DIR": folder, "ZIG_LOCAL_CACHE_DIR": folder}


@contextmanager
def workplace() -> Iterator[str]:
    """A temporary folder for a compiler's files. Raises ExportError, with its path, if it cannot be written."""
    try:
        with tempfile.TemporaryDirectory(prefix="kanserve-") as folder:
            yield folder
    except OSError as error:
        raise ExportError(
            f"A compiler needs room in {tempfile.tempdir or 'a temporary folder'}: {error.strerror or error}. "
            "Make some, or name another folder by TMPDIR."
        ) from None


def run(
    commands: Sequence[Command],
    folder: str,
    *,
    environment: Mapping[str, str] | None = None,
    longest: float | None = None,
) -> str | None:
    """Run all commands in parallel in a folder. Returns None if all succeed, else the message of the first that fails.
    Raises StoppedError, and kills them, after `longest` seconds in all."""
    limit = LONGEST if longest is None else longest
    with ExitStack() as stack:
        # Files, not pipes: a surviving child process of a compiler would keep a pipe open.
        words = [stack.enter_context(tempfile.TemporaryFile()) for _ in commands]
        processes: list[subprocess.Popen[bytes]] = []
        try:
            for command, file in zip(commands, words, strict=True):
                processes.append(
                    subprocess.Popen(
                        command,
                        cwd=folder,
                        env=environment,
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                        stderr=file,
                        start_new_session=True,
                    )
                )
            ends = time.monotonic() + limit
            for process in processes:
                process.wait(timeout=max(0.0, ends - time.monotonic()))
        except BaseException as error:  # also Ctrl-C, which does not reach another session by itself
            _stop(processes)
            if isinstance(error, OSError):
                return f"it cannot be run: {error.strerror}"
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            raise StoppedError(
                f"{commands[0][0]} was stopped after {limit:g} s. Export a smaller network, or another format."
            ) from None
        for process, file in zip(processes, words, strict=True):
            if process.returncode != 0:
                file.seek(0)
                return file.read().decode(errors="replace").strip()[:1000] or f"code {process.returncode}"
    return None


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
