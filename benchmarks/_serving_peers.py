"""Servers of other projects, and our edge server: what is built here, and how each is started.

MLServer, KServe and Triton have environments of their own (`make bench-serving` makes them in .venv); Triton and C++
gRPC get C and C++ that is compiled here. What is missing is left out, with a line that says so.
"""

import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from benchmarks._servers import ROOT, Server, running, running_peer
from benchmarks._serving_report import CPP, EDGE, KSERVE, MLSERVER, TRITON
from kanserve.errors import ExportError
from kanserve.network.kan import Kan
from kanserve.serve.edge_server import edge_server

Start = Callable[[], AbstractContextManager[Server]]

_PYTHON_PEERS = {MLSERVER: "mlserver", KSERVE: "kserve"}
UNBUILT = (ExportError, OSError, subprocess.CalledProcessError)
_C_FLAGS = ("-std=c11", "-O2", "-ffp-contract=off")
_TRITON = "pytriton/tritonserver/bin/tritonserver"
_TRITON_CONFIG = """name: "kan"
backend: "kan"
max_batch_size: 0
input [{{ name: "x", data_type: TYPE_FP64, dims: [-1, {inputs}] }}]
output [{{ name: "y", data_type: TYPE_FP64, dims: [-1, {outputs}] }}]
instance_group [{{ kind: KIND_CPU, count: 1 }}]
"""


class Peers:
    """The peers that can be started here (`starts`), and a line for each other one (`skipped`)."""

    def __init__(self, folder: Path, kan: Kan, on: set[int]) -> None:
        self.starts: dict[str, Start] = {}
        self.skipped: list[str] = []
        self._folder, self._kan, self._on = folder, kan, on

    def add_edge(self) -> None:
        try:
            binary = build_edge_server(self._kan, "kan", self._folder / EDGE)
        except UNBUILT as error:
            self.skipped.append(f"{EDGE}: does not build here (Debian: gcc libnghttp2-dev zlib1g-dev): {why(error)}")
            return
        self.starts[EDGE] = lambda: running([str(binary), "--port", "0"], self._on)

    def add_cpp(self) -> None:
        program = self._folder / "grpc_echo"
        try:
            flags = _run("pkg-config", "--cflags", "--libs", "grpc++").split()
            _run("g++", "-std=c++17", "-O2", str(ROOT / "benchmarks/grpc_echo.cc"), "-o", str(program), *flags)
        except UNBUILT as error:
            self.skipped.append(f"{CPP}: does not build here (Debian: g++ pkg-config libgrpc++-dev): {why(error)}")
            return
        self.starts[CPP] = lambda: running([str(program)], self._on)

    def add_triton(self, artifact: Mapping[str, bytes]) -> None:
        """With the library of the C model among these files, the one that our server loads."""
        packages = ROOT.glob(".venv/.peers-triton/lib/python*/site-packages")
        found = [path / _TRITON for path in packages if (path / _TRITON).exists()]
        library = next((path for path in artifact if path.startswith("c_source/") and path.endswith(".so")), None)
        if not found or library is None:
            self.skipped.append(_not_installed(TRITON))
            return
        models, backends = self._folder / "triton_models", self._folder / "triton_backends"
        backend = backends / "kan"
        for made in (models / "kan/1", backend):
            made.mkdir(parents=True)
        config = _TRITON_CONFIG.format(inputs=len(self._kan.inputs), outputs=len(self._kan.outputs))
        (models / "kan/config.pbtxt").write_text(config)
        (backend / "kan.h").write_bytes(artifact["c_source/kan.h"])
        (backend / "libkan.so").write_bytes(artifact[library])
        source, linked = (
            str(ROOT / "benchmarks/triton_backend.c"),
            (f"-L{backend}", "-l:libkan.so", "-Wl,-rpath,$ORIGIN"),
        )
        made = backend / "libtriton_kan.so"
        _run("cc", *_C_FLAGS, "-shared", "-fPIC", f"-I{backend}", source, *linked, "-o", str(made))
        command = [str(found[0]), f"--model-repository={models}", f"--backend-directory={backends}"]
        command += ["--grpc-address=127.0.0.1", "--grpc-port=PORT", "--allow-http=false", "--allow-metrics=false"]
        self.starts[TRITON] = lambda: running_peer(command, self._on)

    def add_python_peers(self, model: Path) -> None:
        """With this ONNX file."""
        for name, package in _PYTHON_PEERS.items():
            python = ROOT / f".venv/.peers-{package}/bin/python"
            if python.exists():
                command = [str(python), str(ROOT / f"benchmarks/_peer_{package}.py"), str(model), "PORT"]
                self.starts[name] = _peer(command, self._on)
            else:
                self.skipped.append(_not_installed(name))


def build_edge_server(kan: Kan, name: str, folder: Path, *, static: bool = True, tls: bool = False) -> Path:
    """The binary, built as the README of the export says; an error of UNBUILT where it cannot be."""
    for path, data in edge_server(kan, name).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    sources = [*sorted(map(str, folder.glob("*.c"))), *(map(str, folder.glob("tls/*.c")) if tls else ())]
    flags = [*_C_FLAGS, "-ffunction-sections", "-fdata-sections", f"-I{folder}", *["-DKANSERVE_TLS"] * tls]
    # OpenSSL may be built with compression: pkg-config tells what a static link then needs besides.
    openssl = _run("pkg-config", *["--static"] * static, "--libs", "openssl").split() if tls else []
    libraries = ["-lnghttp2", *openssl, "-lz", "-lm", "-pthread"]
    binary = folder / name
    _run("cc", *flags, *sources, *["-static"] * static, "-s", "-Wl,--gc-sections", *libraries, "-o", str(binary))
    return binary


def _peer(command: Sequence[str], on: set[int]) -> Start:
    return lambda: running_peer(command, on)


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout


def _not_installed(name: str) -> str:
    return f"{name}: not installed here; 'make bench-serving' tries to"


def why(error: Exception) -> str:
    """The first line in which a compiler or linker says what is wrong."""
    said = str(error.stderr) if isinstance(error, subprocess.CalledProcessError) else str(error)
    lines = said.strip().splitlines()
    return next((line for line in lines if "error" in line or "undefined" in line), lines[0] if lines else "")
