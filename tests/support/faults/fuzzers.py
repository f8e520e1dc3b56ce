"""The fuzzers of tests/fuzz: how they are compiled, and inputs to begin with.

connection   all that a client may send on a connection, and threads that answer at any time
server       several clients at once, of HTTP/2 and of HTTP/1.1: time jumps, memory is short, the server drains and ends
infer        the messages of ModelInfer that the native transport reads itself
http         requests to an edge server's metrics port, and its calls besides inferences
http1        all that a client may send on a connection of HTTP/1.1
rest         the bodies of inferences over HTTP
network      the C source of a network, on any doubles
layer        the kernels of a layer of splines, of any size and numbers
descent      the kernels of Levenberg-Marquardt, on networks of any shape and numbers
operators    the operators of onnxruntime, on any node of a file and any rows
"""

import functools
import gzip
import os
import shutil
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from kanserve import native
from kanserve.inference import grpc_service_pb2 as pb
from kanserve.native import build
from kanserve.network.export_options import ExportOptions
from kanserve.v1 import formula_pb2
from kanserve_exporters import c_source
from tests.support.faults import http1_seeds, kernel_seeds, server_seeds
from tests.support.networks import kans
from tests.support.paths import ROOT
from tests.support.servers.request_parameters import IGNORED, REFUSED
from tests.support.servers.request_parameters import request as request_with_parameters

FUZZERS = ("connection", "server", "infer", "http", "http1", "rest", "network", "layer", "descent", "operators")
# The folders of the kernels' own fuzzers, which libFuzzer runs as they are compiled for this machine's processor.
KERNELS = {"layer": ("layer", "common"), "descent": ("lm", "common"), "operators": ("onnxruntime",)}
FOLDER = ROOT / "tests" / "fuzz"
REGRESSIONS = FOLDER / "regressions"  # inputs that found something, in a folder for each fuzzer
SANITIZED = ("-std=c11", "-O1", "-g", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all")
# What the fuzzer of the server replaces of the system: see fuzz_system.h.
REPLACED = (
    "malloc",
    "calloc",
    "realloc",
    "free",
    "strdup",
    "clock_gettime",
    "epoll_wait",
    "nghttp2_session_server_new2",
)
FUZZ_SYSTEM = tuple(f"-D{name}=fuzz_{name}" for name in REPLACED)
LIBRARIES = ("-lnghttp2", "-lz", "-lm", "-pthread")
_NATIVE = ROOT / "kanserve" / "native"
_SERVER = _NATIVE / "server"
_SPEAK_HTTP1 = ("http1", "rest", "server")
# What the steps of fuzz_connection.c begin with.
_CALL, _WRITE, _TAKE, _TAKE_ASIDE, _WORK, _COMMANDS, _READ, _TURN = 0, 3, 7, 8, 9, 11, 12, 15


@functools.cache
def clang() -> str | None:
    """A clang that has libFuzzer and the sanitizers; None where there is none."""
    source = "int LLVMFuzzerTestOneInput(const char *data, unsigned long size) { return data[0] + (int)size ? 0 : 0; }"
    command = ["-x", "c", "-", "-fsanitize=fuzzer,address,undefined", "-o", os.devnull]
    for name in ("clang", *(f"clang-{version}" for version in range(24, 13, -1))):
        if (
            shutil.which(name)
            and subprocess.run([name, *command], input=source.encode(), capture_output=True).returncode == 0
        ):
            return name
    return None


def compiled(folder: Path, name: str, compiler: str, *, libfuzzer: bool) -> Path:
    """The fuzzer as a program in `folder`; without libFuzzer it runs the files that it is given."""
    program = folder / f"fuzz-{name}"
    sources = [FOLDER / f"fuzz_{name}.c"]
    if name == "network":
        made = c_source.export(kans.classifier(), ExportOptions("network", "double", gradient=True))
        for path, data in made.items():
            (folder / path).write_bytes(data)
        sources.append(folder / "network.c")
        include, libraries = folder, ["-lm"]
    elif name in KERNELS:
        sources += sorted(path for part in KERNELS[name] for path in (_NATIVE / part).glob("*.c"))
        include, libraries = _NATIVE, [*_for_kernels(name, libfuzzer), "-lm", "-pthread"]
    else:
        sources += server_sources()
        if name == "http":
            sources += [_SERVER / "edge" / "edge_http.c", _SERVER / "edge" / "edge_services.c"]
        if name in _SPEAK_HTTP1:
            sources += sorted((_SERVER / "http1").glob("*.c"))
        include, libraries = _SERVER, [f"-I{_SERVER / 'edge'}", *LIBRARIES]
        if name in _SPEAK_HTTP1:
            libraries = [f"-I{_SERVER / 'http1'}", *build.HTTP1_LIBRARIES, *LIBRARIES]
        if name == "server":
            libraries += FUZZ_SYSTEM
    if not libfuzzer:
        sources.append(FOLDER / "replay.c")
    sanitizers = f"-fsanitize={'fuzzer,' if libfuzzer else ''}address,undefined"
    command = [compiler, sanitizers, *SANITIZED, f"-I{include}", "-o", str(program), *map(str, sources), *libraries]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return program


def lacks(name: str) -> str:
    """What is missing here for this fuzzer; nothing if it can be compiled."""
    if name in _SPEAK_HTTP1 and not build.http1_headers():
        return "llhttp and yyjson (libllhttp-dev, libyyjson-dev)"
    return f"{build.HEADER} (libonnxruntime-dev)" if name == "operators" and build.headers() is None else ""


def longest(name: str) -> int:
    """The bytes of an input at most."""
    return kernel_seeds.LARGEST if name in KERNELS else 2000


def _for_kernels(name: str, libfuzzer: bool) -> list[str]:
    # Not by gcc, whose AddressSanitizer keeps vectors of 64 bytes at addresses that are not multiples of 64.
    library = native.library() if libfuzzer else None
    best = "generic" if library is None else Path(library._name).stem.removeprefix("libkanserve-")
    options = [] if best == "generic" else [f"-march={best}"]
    if name == "operators":
        options += [f"-I{_NATIVE / 'onnxruntime'}", f"-I{build.headers()}"]
    elif libfuzzer:
        options.append("-fno-sanitize-coverage=trace-cmp")  # of numbers in loops, half of the time
    return options


def server_sources() -> list[Path]:
    return sorted(path for path in _SERVER.glob("*.c") if path.name != "tls_context.c")


def racing(folder: Path, compiler: str) -> Path:
    """The program race_swaps.c under ThreadSanitizer."""
    program = folder / "race-swaps"
    command = [compiler, "-fsanitize=thread", *SANITIZED, f"-I{_SERVER}", "-o", str(program)]
    sources = [FOLDER / "race_swaps.c", *server_sources()]
    subprocess.run([*command, *map(str, sources), *LIBRARIES], check=True, capture_output=True, text=True)
    return program


def seeds(name: str) -> Iterator[bytes]:
    """Inputs that reach most of the code."""
    if name == "infer":
        yield from _messages()
    elif name == "http":
        yield from _requests()
    elif name == "network":
        for row in ([0.0, 0.5], [-1.0, 1.0], [np.nan, 1.0], [np.inf, 3.0], [1e300, -1e-300]):
            yield np.array(row).tobytes()
    elif name == "http1":
        yield from http1_seeds.connections()
    elif name == "rest":
        yield from http1_seeds.bodies()
    elif name == "server":
        yield from server_seeds.servers(_messages())
    elif name == "layer":
        yield from kernel_seeds.layers()
    elif name == "descent":
        yield from kernel_seeds.descents()
    elif name == "operators":
        yield from kernel_seeds.operators()
    else:
        yield from _connections()


def write_seeds(folder: Path, name: str) -> None:
    for number, data in enumerate(seeds(name)):
        (folder / f"seed-{number}").write_bytes(data)


def _messages() -> Iterator[bytes]:
    for model, inputs in (("raw", 2), ("iris", 3), ("single", 2), ("aside", 2)):
        for rows in (1, 3):
            for datatype, dtype in (("FP64", "<f8"), ("FP32", "<f4")):
                x = np.linspace(-2, 2, rows * inputs).astype(dtype)
                tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype=datatype, shape=[rows, inputs])
                request = pb.ModelInferRequest(model_name=model, id="é", inputs=[tensor])
                request.raw_input_contents.append(x.tobytes())
                yield request.SerializeToString()
                del request.raw_input_contents[:]
                contents = request.inputs[0].contents
                (contents.fp64_contents if datatype == "FP64" else contents.fp32_contents).extend(x)
                for name in ("y", "probabilities", "label") if model == "iris" else ("y",):
                    request.outputs.add(name=name)
                yield request.SerializeToString()
    for given in (*IGNORED.values(), *REFUSED.values()):
        yield request_with_parameters("raw", np.zeros((1, 2)), True, given).SerializeToString()


def _requests() -> Iterator[bytes]:
    for path in ("/metrics", "/v2/health/live", "/v2/health/ready", "/"):
        yield bytes([64 + 63]) + f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    yield bytes([64 + 3]) + b"POST / HTTP/1.1\r\nX: " + b"a" * 1500
    for number in range(13):
        for message in (b"", b"\n\3raw", b"\n\3raw\x12\x013\x1a\4text", b"\n\5other", b"\n\2\xff\xfe"):
            yield bytes([number]) + message


def _gradients() -> Iterator[bytes]:
    for model, inputs in (("raw", 2), ("iris", 3)):
        for x in (np.zeros((1, inputs)), np.full((3, inputs), np.nan)):
            rows = formula_pb2.Float64Array(shape=x.shape, values=x.tobytes())
            yield formula_pb2.DifferentiateRequest(model_name=model, rows=rows).SerializeToString()


def _connections() -> Iterator[bytes]:
    for path, messages in ((5, _gradients()), (6, iter((b"\n\3raw", b"\n\3raw\x12\0011")))):
        for message in messages:
            yield bytes([_CALL, path, _WRITE, 5, len(message)]) + message + bytes([_READ, 0])
    for message in _messages():
        written = bytes([_WRITE, 5, len(message)]) + message
        answered = bytes([_TAKE, 0, _WORK, 0, _COMMANDS, 0, _READ, 0])
        yield bytes([_CALL, 1]) + written + answered
    for turn in (28, 29, 30, 31):  # short and long ones, decompressing at once and later
        for pack, number in ((gzip.compress, 0), (zlib.compress, 1)):
            packed = pack(b"abc" * 100)
            for path in (0, 2):
                called = bytes([_TURN, turn, _CALL, path | 16, number])
                first, second = (bytes([_WRITE, how, len(packed)]) + packed for how in (12, 13))
                yield (
                    called
                    + first
                    + bytes([_TURN, turn])
                    + second
                    + bytes([_COMMANDS, 0, _TAKE, 0, _WORK, 16, _COMMANDS, 0, _READ, 0])
                )
    for path in (0, 2, 3, 4, 7):  # unary, stream, health, watch, unknown
        for flags in (0, 8, 16):
            for work in (0, 4, 12, 16, 24, 28):
                called = bytes([_CALL, path | flags, flags and 1]) if flags else bytes([_CALL, path])
                steps = [called, bytes([_WRITE, 4, 3]) + b"abc", bytes([_TAKE, 0, _TAKE_ASIDE, 0, _WORK, work, 1])]
                steps += [bytes([_WRITE, 5, 3]) + b"abc", bytes([_WORK, 16, _WORK, 4, _COMMANDS, 0, _READ, 0])]
                yield b"".join(steps)
