"""Server processes and the load generator, each on its own core if there are two, and their CPU time and memory."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryFile

import grpc

from benchmarks._generator import Answered, Load
from kanserve.inference import grpc_service_pb2 as pb

ROOT = Path(__file__).parents[1]
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

    def cpu_seconds(self) -> float:
        """The CPU time of it and its children so far, to a hundredth of a second for each."""
        return sum(map(cpu_seconds, family(self.process)))

    def resident(self) -> int:
        """The resident memory of it and its children, in bytes."""
        return sum(map(resident, family(self.process)))


@contextmanager
def running(
    arguments: Sequence[str], where: set[int], environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """A Python process of ours that prints "... on ADDRESS" when it is ready; it is stopped at the end."""
    begun = time.perf_counter()
    with _started([sys.executable, *arguments], where, environment, subprocess.PIPE) as process:
        assert process.stdout is not None  # asked for above
        said = ""
        for line in process.stdout:
            said += line
            if " on " in line:
                break
        else:
            raise RuntimeError(f"The server did not start: {said}")
        yield Server(process.pid, line.rsplit(" on ", 1)[1].split()[0], time.perf_counter() - begun, said)


@contextmanager
def running_peer(python: Path, arguments: Sequence[str], where: set[int]) -> Iterator[Server]:
    """A server of another project, with the port as its last argument; ModelReady says when it is ready."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = one.getsockname()[1]
    begun = time.perf_counter()
    with TemporaryFile("w+") as log, _started([str(python), *arguments, str(port)], where, {}, log.fileno()) as process:
        address = f"127.0.0.1:{port}"
        while not _ready(address):
            if process.poll() is not None or time.perf_counter() - begun > 120:
                log.seek(0)
                raise RuntimeError(f"{arguments[0]} did not start: {log.read()[-2000:]}")
            time.sleep(0.05)
        yield Server(process.pid, address, time.perf_counter() - begun)


@contextmanager
def generating(where: set[int]) -> Iterator["Generator"]:
    with _started([sys.executable, "-m", "benchmarks._generator"], where, {}, subprocess.PIPE) as process:
        yield Generator(process)


class Generator:
    """The load generator's process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, load: Load) -> Answered:
        self.begin(load)
        return self.end()

    def begin(self, load: Load) -> None:
        """Start a load and return at once; `end` waits for the result."""
        assert self._process.stdin is not None  # asked for below
        self._process.stdin.write(json.dumps(asdict(load)) + "\n")
        self._process.stdin.flush()

    def end(self) -> Answered:
        assert self._process.stdout is not None  # asked for below
        line = self._process.stdout.readline()
        if not line.startswith("{"):
            raise RuntimeError(f"The load generator ended: {line}{self._process.stdout.read()}")
        return Answered(**json.loads(line))


@contextmanager
def _started(
    command: Sequence[str], where: set[int], environment: Mapping[str, str] | None, out: int
) -> Iterator[subprocess.Popen[str]]:
    path = os.pathsep.join([str(ROOT), str(ROOT / "exporters"), *filter(None, sys.path)])
    ours = {"PYTHONPATH": path} if command[0] == sys.executable else {}
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, where)  # the process inherits it
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **ours, **(environment or {})},
        )
    finally:
        os.sched_setaffinity(0, before)
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


def _stat(process: int) -> list[str]:
    # The name may contain anything and ends at the last bracket; field 3 of proc_pid_stat(5) follows.
    return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()


def resident(process: int) -> int:
    """The resident memory of a process, in bytes."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
