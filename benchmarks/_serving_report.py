"""The measurements of the servers as tables, and the goals, met or missed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks._h2load import Answered
from benchmarks._timing import goal, machine, table

EMPTY, CPP, TRITON = "empty handler", "C++ empty echo", "C in Triton"
MLSERVER, KSERVE = "MLServer", "KServe"
C, ONNX, OPERATORS, NUMPY = "C", "ONNX", "ONNX with our operators", "NumPy"
C_GRPCIO, C_TLS, EDGE = "C by grpcio", "C with TLS", "C in an edge server"
C_WITHOUT_DRIFT = "C without drift"
OURS = {C: 0.1, ONNX: 0.3, OPERATORS: 0.3, NUMPY: 0.5}  # and how much of an empty handler's CPU one row may take
INFER, DIFFERENTIATE, FORMULA = "ModelInfer", "Differentiate", "GetFormula"
FORMULA_OF_SPLINES = "GetFormula of the splines, 33 kB"
FORMULA_BY_GZIP = "the same, to a client that takes gzip"
Cell = tuple[int, int]  # rows of a request, requests in flight
CELLS: tuple[Cell, ...] = ((1, 64), (256, 64), (1, 1))


@dataclass
class Measured:
    """The figures of one server and one kind of load in every round; times are in seconds."""

    cpu: list[float] = field(default_factory=list)  # the server's, per request
    client: list[float] = field(default_factory=list)  # the generator's, per request
    busy: list[float] = field(default_factory=list)  # share of a core used by the generator
    rate: list[float] = field(default_factory=list)  # requests per second
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)

    def add(self, answered: Answered, cpu: float) -> None:
        """A round, in which the server used so much CPU time."""
        self.cpu.append(cpu / answered.count)
        self.client.append(answered.cpu / answered.count)
        self.busy.append(answered.cpu / answered.count * answered.rate)
        self.rate.append(answered.rate)
        self.p50.append(answered.percentile(0.5))
        self.p99.append(answered.percentile(0.99))

    def middle(self, name: str) -> float:
        return float(np.median(getattr(self, name)))


@dataclass
class Footprint:
    """The start-up time, memory and error of one server."""

    seconds_to_ready: list[float] = field(default_factory=list)
    megabytes_at_start: float = 0.0
    megabytes: float = 0.0  # after all requests
    megabytes_shared: float = 0.0  # the same as PSS: pages that n processes have in common count 1/n
    error: float = float("nan")  # of the answers, relative to the largest output
    libraries: Sequence[str] = ()  # imported packages that a server with a C model must not import


@dataclass(frozen=True)
class Scaling:
    """One worker on one core, and two on two, with requests that take far longer to compute than to send."""

    one: Measured
    two: Measured


@dataclass(frozen=True)
class Results:
    cells: Mapping[Cell, Mapping[str, Measured]]
    footprints: Mapping[str, Footprint]
    scaling: Scaling | None = None
    calls: Mapping[str, Measured] = field(default_factory=dict)  # of the C model, one row
    skipped: Sequence[str] = ()


def report(results: Results, shape: Any) -> str:
    lines = [
        f"Serving {shape}, raw FP64, the server on one core and the load generator, h2load, on another",
        machine("grpcio", "protobuf", "onnxruntime"),
        *results.skipped,
    ]
    if full := {cell: servers for cell, servers in results.cells.items() if cell[1] > 1}:
        lines += ["", "Full load, one connection", _full_load(full)]
    if one := results.cells.get((1, 1)):
        lines += ["", "One row, one in flight: the server sleeps and wakes for each request", _one_in_flight(one)]
    lines += ["", _footprints(results.footprints), ""]
    if results.calls:
        lines += [_calls(results.calls), ""]
    if results.scaling is not None:
        lines += [_scaling(results.scaling), ""]
    return "\n".join([*lines, *_goals(results)])


def _full_load(cells: Mapping[Cell, Mapping[str, Measured]]) -> str:
    peers = (EMPTY, CPP, TRITON)
    head = ["rows", "in flight", "server", "CPU µs/request", *(f"of {peer}" for peer in peers)]
    head += ["requests/s", "h2load µs/request", "h2load busy"]
    body = []
    for (rows, in_flight), servers in cells.items():
        for name, server in servers.items():
            ratios = [_ratio(servers, name, peer) for peer in peers]
            body.append(
                [f"{rows}", f"{in_flight}", name, f"{server.middle('cpu') * 1e6:.1f}"]
                + ["-" if ratio is None else f"{ratio:.3f}" for ratio in ratios]
                + [f"{server.middle('rate'):.0f}", f"{server.middle('client') * 1e6:.1f}"]
                + [f"{server.middle('busy'):.0%}"]
            )
    return table(head, body)


def _one_in_flight(servers: Mapping[str, Measured]) -> str:
    body = [
        [
            name,
            f"{server.middle('p50') * 1e3:.3f}",
            f"{server.middle('p99') * 1e3:.3f}",
            f"{server.middle('cpu') * 1e6:.0f}",
            f"{server.middle('rate'):.0f}",
        ]
        for name, server in servers.items()
    ]
    return table(["server", "p50 ms", "p99 ms", "CPU µs/request", "requests/s"], body)


def _calls(calls: Mapping[str, Measured]) -> str:
    head = ["call of C, one row, 64 in flight", "CPU µs/request", "of ModelInfer", "requests/s"]
    body = [
        [
            name,
            f"{call.middle('cpu') * 1e6:.1f}",
            f"{_of_inference(calls, name):.2f}",
            f"{call.middle('rate'):.0f}",
        ]
        for name, call in calls.items()
    ]
    return table(head, body)


def _of_inference(calls: Mapping[str, Measured], name: str) -> float:
    """The CPU time of a call, of that of ModelInfer; NaN where that is less than the clock's tick."""
    inference = calls[INFER].middle("cpu")
    return calls[name].middle("cpu") / inference if inference else float("nan")


def _ratio(servers: Mapping[str, Measured], name: str, other: str) -> float | None:
    if name not in servers or other not in servers or other == name:
        return None
    cpu = servers[other].middle("cpu")
    return servers[name].middle("cpu") / cpu if cpu else None


def _footprints(footprints: Mapping[str, Footprint]) -> str:
    body = [
        [
            name,
            f"{np.median(footprint.seconds_to_ready):.2f}",
            f"{footprint.megabytes_at_start:.0f}",
            f"{footprint.megabytes:.0f}",
            f"{footprint.megabytes_shared:.0f}",
            "-" if np.isnan(footprint.error) else f"{footprint.error:.0e}",
        ]
        for name, footprint in footprints.items()
    ]
    return table(["server", "ready s", "MB at first", "MB after the load", "PSS after it", "error"], body)


def _scaling(scaling: Scaling) -> str:
    head = ["a large network", "requests/s", "requests/CPU s", "cores used", "by the generator"]
    body = []
    for name, runs in (("one worker, one core", scaling.one), ("two workers, two cores", scaling.two)):
        rate, cpu = runs.middle("rate"), runs.middle("cpu")
        body.append([name, f"{rate:.1f}", f"{1 / cpu:.1f}", f"{rate * cpu:.2f}", f"{runs.middle('busy'):.2f}"])
    return table(head, body)


def _goals(results: Results) -> list[str]:
    lines = []
    servers = results.cells.get((1, 64), {})
    for name, of_empty in OURS.items():
        for peer, most in ((EMPTY, of_empty), (MLSERVER, 0.1), (KSERVE, 0.1)):
            if (ratio := _ratio(servers, name, peer)) is not None:
                lines.append(
                    goal(ratio <= most, f"CPU of {name}, one row, 64 in flight ≤ {most}x {peer}: {ratio:.3f}x")
                )
    lines += _goals_beside_triton(servers, results.cells.get((256, 64), {}))
    if (ratio := _ratio(servers, C, C_WITHOUT_DRIFT)) is not None:
        lines.append(goal(ratio <= 1.02, f"CPU of C, one row, 64 in flight ≤ 1.02x that without drift: {ratio:.3f}x"))
    one = results.cells.get((1, 1), {})
    if C in one and C_GRPCIO in one:
        share = one[C].middle("p50") / one[C_GRPCIO].middle("p50")
        lines.append(goal(share <= 0.6, f"p50 with a C model, one in flight ≤ 0.6x grpcio's: {share:.2f}x"))
    for name in (DIFFERENTIATE, FORMULA, FORMULA_OF_SPLINES, FORMULA_BY_GZIP):
        if name in results.calls:
            share = _of_inference(results.calls, name)
            lines.append(goal(share <= 1.2, f"CPU of {name} ≤ 1.2x ModelInfer: {share:.2f}x"))
    if C in results.footprints:
        lines += _goals_of_c(results.footprints[C])
    wrong = [name for name, footprint in results.footprints.items() if footprint.error > 1e-12]
    lines.append(goal(not wrong, "every answer is the network's to 1e-12 of the largest", wrong))
    if results.scaling is not None:
        lines += _goals_of_scaling(results.scaling)
    return lines


def _goals_beside_triton(one: Mapping[str, Measured], many: Mapping[str, Measured]) -> list[str]:
    """Triton has the same C model."""
    lines = []
    for servers, rows, most in ((one, "one row", 0.3), (many, "256 rows", 1.0)):
        if (ratio := _ratio(servers, C, TRITON)) is not None:
            lines.append(goal(ratio <= most, f"CPU of C, {rows}, 64 in flight ≤ {most}x {TRITON}: {ratio:.3f}x"))
    if {C, C_TLS, TRITON} <= {*one} and (triton := one[TRITON].middle("cpu")):
        added = (one[C_TLS].middle("cpu") - one[C].middle("cpu")) / triton
        lines.append(goal(added <= 0.5, f"what TLS adds to C, one row, 64 in flight ≤ 0.5x {TRITON}: {added:.3f}x"))
    return lines


def _goals_of_c(c: Footprint) -> list[str]:
    ready = float(np.median(c.seconds_to_ready))
    return [
        goal(ready <= 0.4, f"ready with a C model ≤ 0.4 s after exec: {ready:.2f} s"),
        goal(c.megabytes <= 60, f"memory with a C model ≤ 60 MB: {c.megabytes:.0f} MB"),
        goal(not c.libraries, "with a C model no onnxruntime, sympy, onnx or torch", c.libraries),
    ]


def _goals_of_scaling(scaling: Scaling) -> list[str]:
    """Two goals: by wall-clock time, where the generator and other processes share the two cores, and by CPU time."""
    clock = scaling.two.middle("rate") / scaling.one.middle("rate")
    counted = 2 * scaling.one.middle("cpu") / scaling.two.middle("cpu")
    busy = scaling.two.middle("busy")
    return [
        goal(
            clock >= 1.8,
            f"two workers on two cores ≥ 1.8x one by the clock: {clock:.2f}x, the generator {busy:.0%} of one",
        ),
        goal(counted >= 1.8, f"the same by CPU, twice the requests that a CPU second of one gives: {counted:.2f}x"),
    ]
