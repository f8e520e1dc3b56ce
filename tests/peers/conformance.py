"""Other projects' conformance suites and clients against the server and an edge server: a line for each.

    make conformance

h2spec is looked for in the environment variable H2SPEC (several, separated by spaces, where one was built to send POST)
and then as `h2spec`: `go install github.com/summerwind/h2spec/cmd/h2spec@latest` builds it. Schemathesis and grpc-js
come by `make conformance`; C++ gRPC wants g++, pkg-config and libgrpc++-dev. What is missing here is said, and is no
failure.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from kanserve.serve.transport import native_library
from tests.support.faults.attacked_servers import MODEL, Port, Servers
from tests.support.faults.smuggled_requests import CASES, CUT_SHORT, is_closed, is_not_done
from tests.support.paths import ROOT
from tests.support.servers.rest_port import TRANSPORTS
from tests.support.servers.server_load import request

RUNS, LEAST = 3, 144  # of h2spec, and how many of its 146 cases must pass in each
SCHEMATHESIS = ROOT / ".venv/.peers-schemathesis/bin/python"
GRPC_JS = ROOT / ".venv/.peers-grpc-js"
HERE = Path(__file__).parent
UNIMPLEMENTED = 12


@dataclass
class Report:
    """The lines that were printed, and how many of them say that something is wrong."""

    wrong: int = 0
    missing: list[str] = field(default_factory=list)

    def line(self, true: bool, text: str) -> None:
        self.wrong += not true
        print(f"{'passed' if true else 'FAILED'}: {text}", flush=True)

    def lacks(self, what: str, why: str) -> None:
        self.missing.append(what)
        print(f"not tried: {what}: {why}", flush=True)


def h2spec(servers: Servers, report: Report) -> None:
    """All cases of h2spec against each port that speaks HTTP/2, three times."""
    programs = os.environ.get("H2SPEC", "").split() or [found for found in [shutil.which("h2spec")] if found]
    if not programs:
        report.lacks("h2spec", "it is not installed, and H2SPEC does not name it")
    for program in programs:
        for name in ("gRPC", "gRPC, TLS", "edge", "edge, TLS"):
            if lacking := servers.lacks(name):
                report.lacks(f"h2spec, {name}", f"needs {lacking}")
                continue
            with servers.started(name, servers.certificate() if "TLS" in name else None) as server:
                words = ["-p", server.ports[name].address.rpartition(":")[2]]
                words += ["-t", "-k", "-h", "localhost"] if "TLS" in name else []
                outputs = [_said([program, *words]) for _ in range(RUNS)]
            passed = [int(re.findall(r"(\d+) passed", output)[-1]) for output in outputs]
            failed = sorted({case for output in outputs for case in _failures(output)})
            text = f"{Path(program).name}, {name}: {', '.join(map(str, passed))} of 146"
            report.line(min(passed) >= LEAST, text + "".join(f"\n    {case}" for case in failed))


def _failures(output: str) -> Iterator[str]:
    """Section, number and title of what failed."""
    section = ""
    for line in output.partition("Failures:")[2].splitlines():
        if found := re.match(r"\s*([\d.]+)\.? [A-Z]", line):
            section = found[1].strip(".")
        elif found := re.match(r"\s*× (\d+: .*)", line):
            yield f"{section} #{found[1]}"


def schemathesis(servers: Servers, report: Report) -> None:
    """Requests that the OpenAPI document allows or forbids: the first are answered, and all as the document says."""
    if not SCHEMATHESIS.exists():
        report.lacks("schemathesis", "it is not installed in .venv/.peers-schemathesis")
        return
    for transport in TRANSPORTS:
        with (
            TemporaryDirectory() as folder,
            servers.started("gRPC", transport=transport, anonymous=("predict", "read", "manage")) as server,
        ):
            for about, parameters in (("any names", ""), ("a model that is there", _NAMED)):
                Path(folder, "schemathesis.toml").write_text(parameters + _BEYOND)
                words = [
                    "-m",
                    "schemathesis.cli",
                    "run",
                    f"http://{server.ports['REST'].address}/openapi.json",
                    "--max-examples",
                    "50",
                ]
                output = _said([SCHEMATHESIS, *words, "--checks", "all", "--seed", "1", "--no-color"], folder)
                counted = re.search(r"(\d+) generated(?:, (\d+) found)?", output)
                failures = int(counted[2] or 0) if counted else -1
                text = f"schemathesis, {transport}, {about}: {counted[0] if counted else output[-2000:]}"
                report.line(failures == 0, text + "".join(f"\n    {line}" for line in _reasons(output)))


_NAMED = f"""
[parameters]
"path.model" = "{MODEL}"
"path.version" = "1"
"""
# A model has so many inputs: no schema of all models can say how long a row is, nor that all rows are as long.
_BEYOND = """
[[operations]]
include-path-regex = "/(infer|gradient)$"
checks.positive_data_acceptance.expected-statuses = [200, 400, 401, 403, 404, 409, 413, 429, 503]
"""


def _reasons(output: str) -> list[str]:
    """What went wrong, each kind once."""
    return sorted({found.strip() for found in re.findall(r"^- .+$|^    `\{\"error\".{0,200}", output, re.MULTILINE)})


def smuggling(servers: Servers, report: Report) -> None:
    """Requests of HTTP/1.1 that two servers could read differently."""
    for transport in TRANSPORTS:
        with servers.started("gRPC", transport=transport) as server:
            address = server.ports["REST"].address
            cases: Mapping[str, bool] = {case.name: is_closed(case, address) for case in CASES}
            cases = {**cases, **{f"cut {name}": is_not_done(sent, address) for name, sent in CUT_SHORT.items()}}
        open_ones = [name for name, closed in cases.items() if not closed]
        text = f"smuggling, REST by {transport}: {len(cases)} cases, {len(open_ones)} open"
        report.line(not open_ones, text + "".join(f"\n    {name}" for name in open_ones))


def grpc_js(port: Port, folder: str) -> Mapping[str, int]:
    """What grpc-js is answered."""
    words = [port.address, _request().hex(), *([port.ca] if port.ca else [])]
    output = _said(["node", HERE / "grpc_js_client.mjs", *words], GRPC_JS)
    answers = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    return Counter(f"{answer['name']} {answer['code']}" for answer in answers)


def grpc_cpp(port: Port, folder: str) -> Mapping[str, int]:
    """What gRPC in C++ is answered."""
    binary, asked = Path(folder, "client"), Path(folder, "request")
    if not binary.exists():
        flags = _said(["pkg-config", "--cflags", "--libs", "grpc++"]).split()
        subprocess.run(["g++", "-O1", HERE / "grpc_cpp_client.cc", *flags, "-o", binary], check=True)
    asked.write_bytes(_request())
    output = _said([binary, port.address, asked, *([port.ca] if port.ca else [])])
    return Counter(line.rpartition(" ")[0] for line in output.splitlines() if re.fullmatch(r"\w+ \d+ \d+", line))


def buf(port: Port, folder: str) -> Mapping[str, int]:
    """What buf is answered, by the protos and, where the server has reflection, by that."""
    scheme, more = ("https", ["--cacert", port.ca]) if port.ca else ("http", ["--http2-prior-knowledge"])
    formulas, schema = "kanserve.v1.FormulaService", ["--schema", "protos"]
    rows = {"modelName": MODEL, "rows": {"shape": [1, 2], "values": b64encode(np.zeros((1, 2)).tobytes()).decode()}}
    found: Counter[str] = Counter()
    for method, message, by in (
        (f"{formulas}/GetFormula", {"modelName": MODEL}, schema),
        (f"{formulas}/Differentiate", rows, schema),
        ("inference.GRPCInferenceService/ServerLive", {}, []),
    ):
        words: list[str] = ["curl", "--protocol", "grpc", *by, *more, "-d", json.dumps(message)]
        command = [str(ROOT / ".venv/bin/buf"), *words, f"{scheme}://{port.address}/{method}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        found[f"{method.rpartition('/')[2]} {done.returncode and 'refused'}"] += 1
    return found


# An edge server has neither streams of requests nor reflection.
_NO_EDGE = (("grpc-js", "ModelStreamInfer 0"), ("buf", "ServerLive 0"))


def clients(servers: Servers, report: Report) -> None:
    """Clients of gRPC in other languages: one call, a hundred at once, streams, and a method that there is not."""
    calls, nothing = {"ServerLive 0": 1, "ModelInfer 0": 101}, {f"Nothing {UNIMPLEMENTED}": 1}
    beyond = {"Check 0": 1, "ModelStreamInfer 0": 2}
    for name, missing, ask, wanted in (
        (
            "grpc-js",
            "" if (GRPC_JS / "node_modules").exists() else "it is not in .venv/.peers-grpc-js",
            grpc_js,
            calls | nothing | beyond,
        ),
        ("C++ gRPC", "" if _has_grpc_cpp() else "needs g++, pkg-config and libgrpc++-dev", grpc_cpp, calls | nothing),
        (
            "buf",
            "" if (ROOT / ".venv/bin/buf").exists() else "it is not installed",
            buf,
            {"GetFormula 0": 1, "Differentiate 0": 1, "ServerLive 0": 1},
        ),
    ):
        if missing:
            report.lacks(name, missing)
            continue
        with TemporaryDirectory() as folder:
            for port in ("gRPC", "gRPC, TLS", "edge", "edge, TLS"):
                if lacking := servers.lacks(port):
                    report.lacks(f"{name}, {port}", f"needs {lacking}")
                    continue
                with servers.started(port, servers.certificate() if "TLS" in port else None) as server:
                    found = ask(server.ports[port], folder)
                expected = {
                    kind: times for kind, times in wanted.items() if (name, kind) not in _NO_EDGE or "edge" not in port
                }
                right = all(found.get(kind) == times for kind, times in expected.items())
                report.line(right, f"{name}, {port}: {', '.join(f'{times} x {kind}' for kind, times in found.items())}")


def _has_grpc_cpp() -> bool:
    asked = ["pkg-config", "--exists", "grpc++"]
    return bool(shutil.which("g++") and shutil.which("pkg-config")) and subprocess.run(asked).returncode == 0


def _request() -> bytes:
    return request(MODEL, np.array([[0.25, -0.5]]))


def _said(command: Sequence[str | Path], folder: str | Path | None = None) -> str:
    """All that a program prints, whatever its exit code."""
    done = subprocess.run(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600, check=False
    )
    return done.stdout


PARTS: dict[str, Callable[[Servers, Report], None]] = {
    part.__name__: part for part in (h2spec, schemathesis, smuggling, clients)
}


def main(names: Sequence[str]) -> int:
    if native_library.library() is None:
        print("The native transport is not built here, and edge servers neither: nothing to try.")
        return 2
    report = Report()
    with TemporaryDirectory() as folder:
        servers = Servers(Path(folder))
        for name, part in PARTS.items():
            if not names or name in names:
                part(servers, report)
    print(f"{report.wrong} failed, not tried: {', '.join(report.missing) or 'nothing'}")
    return int(report.wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
