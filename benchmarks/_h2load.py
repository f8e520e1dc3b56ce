"""The load generator: nghttp2's h2load, a process in C that costs a few microseconds per request.

It sends one prepared message again and again and does not read the answers. A gRPC error is a response without data, so
the bytes of data that came back say whether every answer was one (`Answered.data`).
"""

import re
import resource
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import which

from benchmarks._servers import on_cores, short_slices

PATH = "/inference.GRPCInferenceService/ModelInfer"
MISSING = "h2load: not installed here (Debian: nghttp2-client), so no load is measured"
PREFIX_BYTES = 5  # of a gRPC message: a flag and the length
_HEADERS = ("-H", "content-type: application/grpc", "-H", "te: trailers")
_REST_HEADERS = ("--h1", "-H", "content-type: application/json")
_LONGEST = 120.0  # seconds that a load of a fixed number of requests may take


@dataclass(frozen=True)
class Load:
    """`count` requests, or as many as are answered in `seconds`.

    A closed loop with `in_flight` requests over all connections. With a rate, so many are sent per second instead,
    regardless of answers; then `in_flight` is the limit.
    """

    address: str
    request: bytes
    in_flight: int
    count: int = 0
    seconds: float = 0.0
    connections: int = 1
    rate: float = 0.0
    path: str = PATH
    tls: bool = False
    rest: bool = False  # the request is a body of REST, over HTTP/1.1, where a connection has one in flight
    headers: tuple[str, ...] = ()  # further ones
    prompt: bool = False  # have the core soon after waking, though others want it, as on a machine of its own
    waits: bool = False  # note how long each request takes, which costs h2load a line of a file


@dataclass(frozen=True)
class Answered:
    count: int
    rate: float  # requests per second
    cpu: float  # seconds that h2load used
    failed: int  # by HTTP or by the connection
    data: int  # bytes, of all responses
    waits: list[float]  # seconds, in ascending order

    def percentile(self, part: float) -> float:
        return self.waits[min(len(self.waits) - 1, int(len(self.waits) * part))] if self.waits else float("nan")


def there() -> bool:
    """Whether h2load is installed."""
    return which("h2load") is not None


def run(load: Load, where: set[int]) -> Answered:
    """Send a load from these cores and wait for its end."""
    with tempfile.TemporaryDirectory() as folder:
        before = _cpu()
        with _started(load, where, Path(folder)) as process:
            said, _ = process.communicate(timeout=_LONGEST + load.seconds)
        if process.returncode:
            raise RuntimeError(f"h2load failed: {said}")
        log = Path(folder) / "waits"
        waits = sorted(_waits(log.read_text())) if load.waits else []
        return _answered(said, _cpu() - before, waits)


@contextmanager
def under_way(load: Load, where: set[int]) -> Iterator[None]:
    """Send a load during the context."""
    with tempfile.TemporaryDirectory() as folder, _started(load, where, Path(folder)) as process:
        try:
            yield
        finally:
            process.terminate()
            process.communicate()


def _started(load: Load, where: set[int], folder: Path) -> "subprocess.Popen[str]":
    body = folder / "request"
    prefix = b"" if load.rest else b"\0" + len(load.request).to_bytes(PREFIX_BYTES - 1, "big")
    body.write_bytes(prefix + load.request)
    streams = -(-load.in_flight // load.connections)
    headers = [*(_REST_HEADERS if load.rest else _HEADERS), *(part for one in load.headers for part in ("-H", one))]
    command = ["h2load", "-d", str(body), *headers, "-c", str(load.connections), "-m", str(streams)]
    command += ["-n", str(load.count)] if load.count else ["-D", f"{max(1, round(1e3 * load.seconds))}ms"]
    command += ["--rps", f"{load.rate / load.connections:g}"] * bool(load.rate)
    command += ["--log-file", str(folder / "waits")] * load.waits
    with on_cores(where), short_slices(load.prompt):
        return subprocess.Popen(
            [*command, f"http{'s' * load.tls}://{load.address}{load.path}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def _answered(said: str, cpu: float, waits: list[float]) -> Answered:
    rate = re.search(r"finished in \S+, ([\d.]+) req/s", said)
    counts = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", said)
    data = re.search(r"\((\d+)\) data", said)
    if rate is None or counts is None or data is None:
        raise RuntimeError(f"h2load said something else than expected: {said}")
    succeeded, *failed = map(int, counts.groups())
    return Answered(succeeded, float(rate[1]), cpu, sum(failed), int(data[1]), waits)


def _waits(log: str) -> Iterator[float]:
    """The time of each request that was answered: start, HTTP status and duration, in microseconds, are one line."""
    for line in log.splitlines():
        _, status, duration = line.split("\t")
        if status == "200":
            yield int(duration) / 1e6


def _cpu() -> float:
    """The CPU time of all ended child processes."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
