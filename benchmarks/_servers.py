"""Server processes on a core of their own, if there are two, and their CPU time and memory."""

import ctypes
import os
import platform
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

import grpc

from kanserve.inference import grpc_service_pb2 as pb

ROOT = Path(__file__).parents[1]
_SHORT_SLICE = 100_000  # nanoseconds: the shortest there is
_READY = "/inference.GRPCInferenceService/ModelReady"


def cores() -> tuple[set[int], set[int]]:
    """The cores of the servers and of the generator; the same one if there is only one."""
    mine = sorted(os.sched_getaffinity(0))
    return {mine[0]}, {mine[-1]}


@dataclass(frozen=True)
class Server:
    """A running server process."""

    process: int
    address: str
    seconds_to_ready: float  # from the start of the process until it reports that it serves
    said: str = ""  # its output until then
    certificate: str = ""  # the file of its certificate, where it takes TLS

    def channel(self) -> grpc.Channel:
        if not self.certificate:
            return grpc.insecure_channel(self.address)
        return grpc.secure_channel(self.address, grpc.ssl_channel_credentials(Path(self.certificate).read_bytes()))

    def cpu_seconds(self) -> float:
        """The CPU time of it and its children so far, to a hundredth of a second for each."""
        return sum(map(cpu_seconds, family(self.process)))

    def stall(self, seconds: float) -> None:
        """Keep it and its children from every core for so long, as a busy machine does; it begins when a thread runs,
        or after a second."""
        members, until = family(self.process), time.monotonic() + 1
        while not (running := [thread for member in members for thread in _running(member)]):
            if time.monotonic() > until:
                break
        # To a process the signal goes by its main thread, which gets the core only once the running one waits.
        for thread in (*running, *members):
            os.kill(thread, signal.SIGSTOP)
        time.sleep(seconds)
        for member in members:
            os.kill(member, signal.SIGCONT)

    def resident(self) -> int:
        """The resident memory of it and its children, in bytes."""
        return sum(map(resident, family(self.process)))

    def proportional(self) -> int:
        """The same, where a page that n processes share counts 1/n for each (PSS)."""
        return sum(map(proportional, family(self.process)))


@contextmanager
def running(
    command: Sequence[str], where: set[int], environment: Mapping[str, str] | None = None, certificate: str = ""
) -> Iterator[Server]:
    """A process that prints "... on ADDRESS" when it is ready; it is stopped at the end.

    A command that starts with a flag is one for this Python.
    """
    begun = time.perf_counter()
    command = [sys.executable, *command] if command[0].startswith("-") else command
    with _started(command, where, environment, subprocess.PIPE) as process:
        assert process.stdout is not None  # asked for above
        said = ""
        for line in process.stdout:
            said += line
            if " on " in line:
                break
        else:
            raise RuntimeError(f"The server did not start: {said}")
        address = line.rsplit(" on ", 1)[1].split()[0]
        yield Server(process.pid, address, time.perf_counter() - begun, said, certificate)


@contextmanager
def running_peer(command: Sequence[str], where: set[int]) -> Iterator[Server]:
    """A server of another project, with PORT in its command; ModelReady says when it is ready."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = one.getsockname()[1]
    begun = time.perf_counter()
    command = [word.replace("PORT", str(port)) for word in command]
    with TemporaryFile("w+") as log, _started(command, where, {}, log.fileno()) as process:
        address = f"127.0.0.1:{port}"
        while not _ready(address):
            if process.poll() is not None or time.perf_counter() - begun > 120:
                log.seek(0)
                raise RuntimeError(f"{command[0]} did not start: {log.read()[-2000:]}")
            time.sleep(0.05)
        yield Server(process.pid, address, time.perf_counter() - begun)


@contextmanager
def on_cores(where: set[int]) -> Iterator[None]:
    """A process that is started within the context runs on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, where)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def short_slices(wanted: bool = True) -> Iterator[None]:
    """A process that is started within the context asks the kernel for short slices of time (Linux 6.12)."""
    if wanted:
        _take_slices(_SHORT_SLICE)
    try:
        yield
    finally:
        if wanted:
            _take_slices(0)


def _take_slices(nanoseconds: int) -> None:
    """Slices of this length for this thread; 0: the usual ones."""
    number = {"x86_64": 314, "aarch64": 274}.get(platform.machine())
    if number is None:
        return
    attributes = struct.pack("=IIQiIQQQ", 48, 0, 0, os.getpriority(os.PRIO_PROCESS, 0), 0, nanoseconds, 0, 0)
    ctypes.CDLL(None).syscall(number, 0, attributes, 0)


@contextmanager
def _started(
    command: Sequence[str], where: set[int], environment: Mapping[str, str] | None, out: int
) -> Iterator[subprocess.Popen[str]]:
    # Python keeps what it compiles, as it does where a server is installed.
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    path = os.pathsep.join([str(ROOT), str(ROOT / "exporters"), *filter(None, sys.path)])
    ours = {"PYTHONPATH": path} if command[0] == sys.executable else {}
    with on_cores(where):
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            text=True,
            env={**kept, **ours, **(environment or {})},
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def _ready(address: str) -> bool:
    with grpc.insecure_channel(address) as channel:
        ask = channel.unary_unary(_READY, pb.ModelReadyRequest.SerializeToString, pb.ModelReadyResponse.FromString)
        try:
            return bool(ask(pb.ModelReadyRequest(name="kan"), timeout=1).ready)
        except grpc.RpcError:
            return False


def family(process: int) -> list[int]:
    """A process and all its descendants."""
    parents = {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                parents[int(path.name)] = int(_stat(int(path.name))[1])
            except OSError:  # ended meanwhile
                continue
    found = [process]
    for member in found:
        found += [child for child, parent in parents.items() if parent == member]
    return found


def cpu_seconds(process: int) -> float:
    """The CPU time of a process so far, all threads together, to a hundredth of a second."""
    fields = _stat(process)
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _running(process: int) -> list[int]:
    """The threads of the process that run, or wait for a core."""
    return [int(path.name) for path in Path(f"/proc/{process}/task").iterdir() if _state(path) == "R"]


def _state(thread: Path) -> str:
    """The letter of proc_pid_stat(5), after the name, which may contain anything and ends at the last bracket."""
    try:
        return (thread / "stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:  # ended meanwhile
        return ""


def _stat(process: int) -> list[str]:
    # The name may contain anything and ends at the last bracket; field 3 of proc_pid_stat(5) follows.
    return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()


def resident(process: int) -> int:
    """The resident memory of a process, in bytes."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def proportional(process: int) -> int:
    """The proportional memory of a process, in bytes; 0 where the kernel does not tell."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
