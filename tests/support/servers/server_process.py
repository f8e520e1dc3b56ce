"""The process that serves, started as `kanserve serve` starts it, and what is said of it from outside."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from kanserve.serve import settings
from kanserve.serve.settings import Settings
from tests.support.paths import ROOT
from tests.support.servers import server_process

ENVIRONMENT = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'exporters'}"}

Process = subprocess.Popen[str]


@contextmanager
def started(wanted: Settings, first: Path | None = None) -> Iterator[Process]:
    """The process as soon as there is one, which looks for modules in `first` before anywhere else.

    Killed, whereupon its workers end, if it has not ended.
    """
    environment = ENVIRONMENT | {"PYTHONPATH": f"{first}:{ENVIRONMENT['PYTHONPATH']}"} if first else ENVIRONMENT
    with tempfile.TemporaryFile() as file:
        file.write(settings.dumps(wanted).encode())
        file.seek(0)
        command = [sys.executable, "-P", "-W", "error", "-m", "kanserve.serve", str(file.fileno())]
        running = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env=environment, cwd=ROOT, pass_fds=[file.fileno()]
        )
    try:
        yield running
    finally:
        running.kill()
        running.communicate()


@contextmanager
def served(wanted: Settings, first: Path | None = None) -> Iterator[tuple[Process, str]]:
    """The process once it serves, and its address."""
    with started(wanted, first) as running:
        yield running, said(running, "serving").split()[-1]


def said(running: Process, text: str) -> str:
    """The next line on standard error that has this text; those before it are dropped."""
    dropped = ""
    while line := errors_of(running).readline():
        if text in line:
            return line
        dropped += line
    pytest.fail(f"The process has ended and not said {text!r}, but:\n{dropped}")


def errors_of(running: Process) -> IO[str]:
    assert running.stderr is not None  # asked for above
    return running.stderr


def workers(supervisor: int) -> list[int]:
    """The processes whose parent it is."""
    path = Path(f"/proc/{supervisor}/task/{supervisor}/children")
    return [int(word) for word in path.read_text().split()]


def memory(process: int, which: str = "VmRSS") -> int:
    """Bytes that a process has; VmHWM: has had at most."""
    (line,) = (
        status_line
        for status_line in Path(f"/proc/{process}/status").read_text().splitlines()
        if status_line.startswith(which)
    )
    return int(line.split()[1]) * 1024


def busy(process: int) -> float:
    """Seconds of processor time that it has had."""
    numbers = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(numbers[11]) + int(numbers[12])) / os.sysconf("SC_CLK_TCK")


def until(true: object, seconds: float = 60.0) -> None:
    """Wait for something to be true; fail when it is not in time."""
    assert callable(true)
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# A server of what ours is built on, that has nothing to serve.
BARE = """
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc, grpc_health.v1.health, grpc_reflection.v1alpha.reflection, numpy
server = grpc.server(ThreadPoolExecutor(2))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print("bare: serving on", f"127.0.0.1:{port}", file=sys.stderr, flush=True)
sys.stdin.read()
"""


@contextmanager
def bare() -> Iterator[server_process.Process]:
    command = [sys.executable, "-P", "-W", "error", "-c", BARE]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=server_process.ENVIRONMENT, cwd=ROOT
    ) as running:
        try:
            yield running
        finally:
            running.kill()
