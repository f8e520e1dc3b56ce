"""Lines 15 to 22 of the attacks that the server must withstand, each on every port where it applies.

    make attacks                                    # or: python -m tests.soak.soak_attacks [ATTACK]

A line for each: what an honest client's calls and new connections take (p99) before, during and after, the most memory
that the server had, and what it has more than before 20 seconds later. The server, the attackers and the honest client
are processes of their own; the attackers have what the others leave of one core. Loopback only, bounded in count and in
time: about five minutes. A figure that is missed is printed as a miss, and the exit code is then 1.
"""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from kanserve import repository
from kanserve.serve.transport import native_library
from tests.support.faults.attacked_servers import MODEL, Port, Server, Servers
from tests.support.faults.attackers import INFER
from tests.support.paths import ROOT
from tests.support.peers.http2_peer import Peer
from tests.support.servers import server_process, serving
from tests.support.servers.honest_caller import Sample, Way
from tests.support.servers.server_load import request

ENDLESS = "endless"
BEFORE, DURING, AFTER, LATER = 2.0, 4.0, 2.0, 20.0  # seconds
P99 = 0.010  # seconds that an honest call may take at most while others attack,
CONNECTION = 0.100  # likewise a new connection with its first answer,
CROWDED = 0.050  # or a call where all memory or all connections are asked for: half of what a person notices,
BUSY = 2.0  # or so many times what it took before, where that is more: on a busy machine
PEAK, LEFT = 256 * 2**20, 16 * 2**20  # bytes; malloc keeps pieces of pages that hold something else
REPLACED = 5.0  # seconds until a stuck worker has been
GRACE, BEYOND = 2.0, 5.0  # seconds that a server may take to end calls, and to end itself after that
FEW_DESCRIPTORS = 64


@dataclass(frozen=True)
class Attack:
    """A line of the table."""

    line: int
    name: str  # of tests.support.faults.attackers
    about: str
    ports: Sequence[str]
    way: Way | None = None  # of the honest client, other than the port's
    descriptors: int = 0  # that the server may have
    call: float = P99  # seconds that an honest one may take
    connection: float = CONNECTION  # likewise with a new connection
    is_cut_off: bool = False  # the server must end the attackers' connections


ATTACKS = (
    Attack(15, "key_updates", "KeyUpdate without end", ("gRPC, TLS", "REST, TLS", "edge, TLS"), is_cut_off=True),
    Attack(
        16,
        "metadata",
        "512 calls without a message on each of 400 connections",
        ("gRPC", "gRPC, TLS", "edge"),
        call=CROWDED,
    ),
    Attack(17, "half_requests", "1,000 half requests", ("REST", "REST, TLS", "edge, HTTP"), "health", connection=P99),
    Attack(
        18,
        "idle",
        "8,000 idle connections and half calls",
        ("gRPC", "gRPC, TLS", "REST", "edge", "edge, HTTP"),
        call=CROWDED,
    ),
    Attack(
        18,
        "idle",
        "the same, with few descriptors",
        ("gRPC", "REST", "edge"),
        descriptors=FEW_DESCRIPTORS,
        call=CROWDED,
    ),
    Attack(20, "key_pipe", "the key's file becomes a pipe", ("gRPC, TLS", "REST, TLS", "edge, TLS")),
    Attack(21, "overflow", "windows overrun, which the server resets", ("gRPC", "gRPC, TLS", "edge"), is_cut_off=True),
    Attack(21, "pages", "GET / without end", ("gRPC", "gRPC, TLS", "edge"), is_cut_off=True),
    Attack(22, "streams", "40 idle streaming calls of one connection", ("gRPC", "gRPC, TLS"), "streams"),
)


@dataclass
class Row:
    """What came of an attack on a port; seconds and bytes."""

    line: int
    about: str
    port: str
    calls: list[float] = field(default_factory=list)  # p99 before, during and after
    connections: list[float] = field(default_factory=list)  # likewise of new connections
    lost: int = 0
    before: int = 0
    peak: int = 0
    left: int | None = None  # known later
    missed: list[str] = field(default_factory=list)
    note: str = ""

    def text(self) -> str:
        def milliseconds(times: list[float]) -> str:
            return " / ".join(f"{1e3 * seconds:.1f}" for seconds in times)

        left = "" if self.left is None else f"{self.left / 2**20:+.0f}"
        peak = f"{self.peak / 2**20:.0f}" if self.peak else ""
        verdict = "; ".join(filter(None, (f"MISSED: {', '.join(self.missed)}" if self.missed else "held", self.note)))
        cells = (
            *(self.line, self.about, self.port, milliseconds(self.calls), milliseconds(self.connections)),
            *(self.lost or "", peak, left, verdict),
        )
        return f"| {' | '.join(map(str, cells))} |"


HEAD = """\
| | attack | on | calls: p99 before / during / after, ms | new connections | lost | peak, MB | 20 s later | |
|---|---|---|---|---|---|---|---|---|"""


@contextmanager
def honest(port: Port, way: Way) -> Iterator[list[Sample]]:
    """A client that asks meanwhile; its samples are there at the end."""
    inputs = str(len(serving.kan(MODEL).inputs))
    words = [port.address, MODEL, inputs, "--way", way, *(["--ca", port.ca] if port.ca else [])]
    samples: list[Sample] = []
    command = [sys.executable, "-m", "tests.support.servers.honest_caller", *words]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=server_process.ENVIRONMENT, cwd=ROOT
    ) as running:
        assert running.stdin is not None  # asked for above
        try:
            yield samples
        finally:
            output, _ = running.communicate("", timeout=60)
            samples += [Sample(*values) for values in json.loads(output)]


def attacked(servers: Servers, attack: Attack, port: Port, tls: dict[str, str]) -> tuple[str, int]:
    """Attack for the time that it is given: what the attackers did, and how many of their connections were ended."""
    words = [attack.name, port.address, str(DURING), *(["--rest"] if port.way != "grpc" else [])]
    words += ["--ca", port.ca] if port.ca else []
    words += ["--key", tls["tls_key"], "--program", servers.program] if tls else []
    done = subprocess.run(
        ["nice", "-n", "10", sys.executable, "-m", "tests.support.faults.attackers", *words],
        capture_output=True,
        text=True,
        env=server_process.ENVIRONMENT,
        cwd=ROOT,
        timeout=DURING + 60,
        preexec_fn=lambda: os.sched_setaffinity(0, {max(os.sched_getaffinity(0))}),
    )
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)
    return "{opened} connections, {ended} ended, {sent} sent".format(**counts), counts["ended"]


def tried(servers: Servers, attack: Attack, name: str, stack: ExitStack) -> tuple[Row, int]:
    """Attack a port of a server of its own, which lives until `stack` ends; that process's number."""
    tls = servers.certificate() if "TLS" in name else {}
    server = stack.enter_context(servers.started(name, tls, attack.descriptors))
    number, port = server.process.pid, server.ports[name]
    row = Row(attack.line, attack.about, name)
    with honest(port, attack.way or port.way) as samples:
        time.sleep(1 + BEFORE)  # the client needs a moment to begin, and its first calls take longer
        row.before = server_process.memory(number)
        Path(f"/proc/{number}/clear_refs").write_text("5")  # VmHWM begins anew
        begun = time.monotonic()
        row.note, ended = attacked(servers, attack, port, tls)
        over = time.monotonic()
        time.sleep(AFTER)
    row.peak = server_process.memory(number, "VmHWM")
    _judge(row, attack, samples, begun, over)
    if attack.is_cut_off and not ended:
        row.missed.append("no connection was ended")
    return row, number


def _judge(row: Row, attack: Attack, samples: list[Sample], begun: float, over: float) -> None:
    phases = ((begun - BEFORE, begun), (begun, over), (over, over + AFTER))
    for kind, times, most in (("call", row.calls, attack.call), ("connection", row.connections, attack.connection)):
        for since, until in phases:
            within = [one.seconds for one in samples if one.kind == kind and since <= one.begun < until]
            times.append(float(np.percentile(within, 99)) if within else float("inf"))
        if times[1] > max(most, BUSY * times[0]):
            row.missed.append(f"{kind}s take long")
    failures = [one.failure for one in samples if one.failure]
    row.lost = len(failures)
    if failures:
        row.missed.append(f"answers lost: {', '.join(sorted(set(failures)))}")
    if row.peak > PEAK:
        row.missed.append("peak")


def stuck(servers: Servers) -> Row:
    """19: a model that never ends in one of two workers, and in a server that is told to end, once or twice."""
    row = Row(19, "a C model that computes for ever", "gRPC")
    asked = request(ENDLESS, np.array([[serving.ENDLESS, 1e5]]))
    with TemporaryDirectory() as folder:
        repository.publish(servers.models, ENDLESS, serving.endless(Path(folder)))

    def begin(server: Server) -> Peer:
        peer = Peer(server.ports["gRPC"].address)
        peer.message(peer.call(INFER), asked)
        return peer

    seconds = []
    with servers.started("gRPC", workers=2) as server:
        before = set(server_process.workers(server.process.pid))
        begun = time.monotonic()
        with begin(server):
            server_process.until(lambda: len(set(server_process.workers(server.process.pid)) - before) == 1)
        seconds.append(time.monotonic() - begun)
    for signals in (1, 2):
        with servers.started("gRPC", grace_seconds=GRACE) as server, begin(server):
            until_busy = server_process.busy(server.process.pid) + 0.5
            server_process.until(lambda: server_process.busy(server.process.pid) > until_busy)  # noqa: B023  # at once
            begun = time.monotonic()
            for _ in range(signals):
                server.process.send_signal(signal.SIGTERM)
                time.sleep(0.1)
            server.process.wait(60)
            seconds.append(time.monotonic() - begun)
    row.note = "replaced in {:.1f} s, ended {:.1f} s after SIGTERM, {:.1f} s after two".format(*seconds)
    limits = (("replaced late", REPLACED), ("ended late", GRACE + BEYOND), ("not ended at once", 1.0))
    row.missed = [text for (text, most), took in zip(limits, seconds, strict=True) if took > most]
    return row


def settle(waiting: list[tuple[float, Row, int, ExitStack]], until: float) -> None:
    """Say what is left of those attacks that ended long enough ago, up to a time, and end their servers."""
    while waiting and waiting[0][0] <= until:
        due, row, number, stack = waiting.pop(0)
        time.sleep(max(0.0, due - time.monotonic()))
        row.left = server_process.memory(number) - row.before
        stack.close()
        if row.left > LEFT:
            row.missed.append("memory does not come back")
        print(row.text(), flush=True)


def main(names: Sequence[str] = ()) -> int:
    if native_library.library() is None:
        print("The native transport is not built here, and edge servers neither: nothing to attack.")
        return 2
    begun = time.monotonic()
    rows: list[Row] = []
    waiting: list[tuple[float, Row, int, ExitStack]] = []
    with TemporaryDirectory() as folder, ExitStack() as everything:
        servers = Servers(Path(folder))
        print(HEAD, flush=True)
        for attack in ATTACKS:
            for port in attack.ports:
                if names and attack.name not in names:
                    continue
                if lacking := servers.lacks(port, attack.name):
                    print(f"| {attack.line} | {attack.about} | {port} | needs {lacking} |", flush=True)
                    continue
                stack = everything.enter_context(ExitStack())
                row, number = tried(servers, attack, port, stack)
                rows.append(row)
                waiting.append((time.monotonic() + LATER, row, number, stack))
                settle(waiting, time.monotonic())
        if not names or ENDLESS in names:
            rows.append(stuck(servers))
            print(rows[-1].text(), flush=True)
        settle(waiting, math.inf)
    missed = sum(bool(row.missed) for row in rows)
    print(f"{len(rows)} attacks, {missed} missed, {time.monotonic() - begun:.0f} s")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
