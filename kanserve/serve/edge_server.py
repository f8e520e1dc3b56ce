"""An edge server: the C source of a server for one model, which builds into one static binary without Python.

It is the server's native transport (kanserve/native/server) with the C source of the model and the answers to calls
that do not depend on rows, written down as bytes.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any, cast

from kanserve import native
from kanserve.artifact.naming_rules import check_name, check_version
from kanserve.artifact_compiler import compile
from kanserve.errors import ExportError, FormulaError
from kanserve.inference import grpc_service_pb2 as pb
from kanserve.inference import wire
from kanserve.network import serialization
from kanserve.network.export_options import ExportOptions, Precision
from kanserve.network.kan import Kan
from kanserve.serve.edge_targets import edge_target
from kanserve.serve.models import catalog as models
from kanserve.serve.models.catalog import Catalog, Limits, Model
from kanserve.serve.rpc import inference_service
from kanserve.serve.rpc.formula_service import TEXTS, formula_answer
from kanserve.serve.rpc.range_violations import bounds, encodings
from kanserve.serve.settings import Settings
from kanserve.serve.state import Call, ServerState

MAX_MESSAGE_BYTES = 4 * 2**20  # the default of the server's option of this name
MAX_GRADIENT_ROWS = 4096
_TLS = ("tls_context.c",)
_BYTES_A_LINE = 24


def edge_server(
    kan: Kan, name: str, version: int = 1, precision: Precision = "double", target: str | None = None
) -> Mapping[str, bytes]:
    """The files of an edge server, by their paths.

    Parameters
    ----------
    kan : Kan
        The network.
    name : str
        The model's name, as callers give it.
    version : int, default=1
        Its version.
    precision : {"double", "float"}, default="double"
        The type that the model computes in. Derivatives need double.
    target : str, optional
        The processor whose compiler the README and CMake's files name: one of `edge_targets.TARGETS`, such as
        "aarch64-linux-gnu" or "x86-64-v3". By default that of the machine on which it is built. The source is the same.

    Returns
    -------
    mapping of str to bytes
        C source, a README with the command that builds it, CMakeLists.txt, for another processor toolchain.cmake, and
        a unit for systemd.

    Raises
    ------
    InvalidNameError
        The name or the version is not allowed.
    InputError
        Unknown target.
    ExportError
        The network cannot be written as C, or this installation lacks the server's source.

    Examples
    --------
    >>> import kanserve
    >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
    >>> files = edge_server(kan, "line")
    >>> sorted(files)[:4]
    ['CMakeLists.txt', 'README.md', 'answers.c', 'byte_buffer.c']
    """
    from kanserve_exporters import c_source

    check_name(name)
    check_version(version)
    wanted = edge_target(target)
    model = _model(kan, name, version, precision)
    gradient = precision == "double" and c_source.has_cheap_gradient(kan)
    source = c_source.export(kan, ExportOptions(name=name, precision=precision, gradient=gradient))
    (header,) = (path for path in source if path.endswith(".h"))
    prefix = header.removesuffix(".h")
    files = {path: source[path] for path in (header, f"{prefix}.c")}
    files |= _server_source()
    files["edge_model.c"] = _edge_model(model, prefix, gradient).encode("ascii")
    words = {"name": name, "project": name.replace("-", "_"), "version": str(version)}
    words |= {"compiler": wanted.compiler, "options": wanted.options, "cmake": wanted.cmake}
    words |= {"preparation": wanted.preparation, "trial": _fill(wanted.trial, words)}
    words |= {"libraries": wanted.packages("libnghttp2-dev", "zlib1g-dev")}
    words |= {"tls_libraries": wanted.packages("libssl-dev", "libzstd-dev")}
    words |= {"pkg_config": f"PKG_CONFIG_LIBDIR=/usr/lib/{wanted.name}/pkgconfig " if wanted.debian else ""}
    files |= {path: _fill(text, words).encode() for path, text in _TEXTS.items()}
    if wanted.debian:
        files["toolchain.cmake"] = wanted.toolchain.encode()
    files[f"{name}.service"] = _fill(_UNIT, words).encode()
    return files


def _model(kan: Kan, name: str, version: int, precision: Precision) -> Model:
    artifact = compile(kan, ["numpy_source"], name=name, precision="double")
    model = models.read(artifact, name, version, "numpy_source", Limits(max_message_bytes=MAX_MESSAGE_BYTES))
    manifest = replace(model.manifest, precision=precision)
    return replace(model, kind="c_source", manifest=manifest)


def _server_source() -> dict[str, bytes]:
    folder = native.FOLDER / "server"
    paths = [*sorted(folder.glob("*.[ch]")), *sorted((folder / "edge").glob("*.[ch]"))]
    if not paths:
        raise ExportError("This installation of kanserve has no C source of the server; install it from its source.")
    return {f"tls/{path.name}" if path.name in _TLS else path.name: Path(path).read_bytes() for path in paths}


def _answers(model: Model) -> list[tuple[str, str, bytes]]:
    """Path, format or "", and bytes of each answer that is always the same."""
    found = Catalog(MappingProxyType({model.name: {model.version: model}}), MappingProxyType({}))
    state = cast(ServerState, SimpleNamespace(catalog=found, settings=Settings()))
    call, service = Call(wire.SERVICE_NAME, "", 0), f"/{wire.SERVICE_NAME}"
    made: dict[str, Any] = {
        "ServerMetadata": inference_service.server_metadata(state, pb.ServerMetadataRequest(), call),
        "ModelMetadata": inference_service.model_metadata(state, pb.ModelMetadataRequest(name=model.name), call),
        "ModelConfig": inference_service.model_config(state, pb.ModelConfigRequest(name=model.name), call),
        "RepositoryIndex": inference_service.repository_index(state, pb.RepositoryIndexRequest(), call),
    }
    made["ModelMetadata"].properties["max_hessian_rows"] = "0"  # it has no second derivatives
    answers = [(f"{service}/{method}", "", answer.SerializeToString()) for method, answer in made.items()]
    path = f"/{wire.FORMULA_SERVICE_NAME}/GetFormula"
    try:
        answers += [
            (path, name, formula_answer(model, [name] if name else [], MAX_MESSAGE_BYTES)) for name in ("", *TEXTS)
        ]
    except FormulaError:  # the server says so
        answers = [answer for answer in answers if answer[0] != path]
    return answers


def _edge_model(model: Model, prefix: str, gradient: bool) -> str:
    kan = model.kan
    answers = _answers(model)
    double, single, known = bounds(model, "FP64"), bounds(model, "FP32"), encodings(model)
    words = {
        "prefix": prefix,
        "name": model.name,
        "version": str(model.version),
        "digest": hashlib.sha256(serialization.dumps(kan)).hexdigest()[:12],
        "inputs": str(len(kan.inputs)),
        "outputs": str(len(kan.outputs)),
        "single": str(int(model.manifest.precision == "float")),
        "classes": str(len(kan.classes)),
        "labels": _string(b"".join(label + b"\0" for label in model.labels[:-1])),
        "encodings": f"static const uint8_t encodings[] = {{{', '.join(map(str, known))}}};\n\n" if known else "",
        "named_encodings": "encodings" if known else "NULL",
        "low": _numbers(double.low.tolist()),
        "high": _numbers(double.high.tolist()),
        "low_single": _numbers(single.low.tolist()),
        "high_single": _numbers(single.high.tolist()),
        "max_rows": str(model.max_rows),
        "max_gradient_rows": str(min(MAX_GRADIENT_ROWS, model.max_differentiated_rows)),
        "gradient": f"{prefix}_gradient_batch" if gradient else "NULL",
        "arrays": "\n".join(_array(f"answer_{n}", data) for n, (_, _, data) in enumerate(answers)),
        "answers": ",\n".join(
            f'    {{"{path}", {_string(format.encode()) if format else "NULL"}, answer_{n}, {len(data)}}}'
            for n, (path, format, data) in enumerate(answers)
        ),
        "count": str(len(answers)),
    }
    return _fill(_MODEL, words)


def _fill(text: str, words: Mapping[str, str]) -> str:
    """A text with its @words@; those in a value, such as the name of a class, stay as they are."""
    return re.sub(r"@(\w+)@", lambda found: words[found[1]], text)


def _numbers(values: list[float]) -> str:
    """Numbers as C has them; an infinite end of a range is HUGE_VAL."""
    texts = {float("inf"): "HUGE_VAL", float("-inf"): "-HUGE_VAL"}
    return ", ".join(texts.get(value) or repr(float(value)) for value in values)


def _string(data: bytes) -> str:
    """A string of C: what is not plain is written in octal, which ends after three digits."""
    plain = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 _-.,:;()[]{}+*/<>=!#%&'|~^$@")
    return '"' + "".join(chr(byte) if byte in plain else f"\\{byte:03o}" for byte in data) + '"'


def _array(name: str, data: bytes) -> str:
    lines = [
        ",".join(map(str, data[start : start + _BYTES_A_LINE])) for start in range(0, len(data), _BYTES_A_LINE)
    ] or ["0"]
    return f"static const uint8_t {name}[] = {{\n" + ",\n".join(lines) + "};"


_MODEL = """\
/* Written by kanserve: what the server knows of its model. Export the network again instead of changing it. */

#include <math.h>

#include "@prefix@.h"
#include "edge_model.h"

static const double low[] = {@low@}, high[] = {@high@};
static const float low_single[] = {@low_single@}, high_single[] = {@high_single@};

@encodings@@arrays@

static const edge_answer answers[] = {
@answers@};

static int predict(const void *x, size_t rows, size_t x_stride, void *y, size_t y_stride)
{
    return @prefix@_predict_batch(x, rows, x_stride, y, y_stride);
}

static int selftest(double *error)
{
    @prefix@_real largest = 0;
    int code = @prefix@_selftest(&largest);
    *error = (double)largest;
    return code;
}

const edge_model kanserve_edge_model = {
    .name = "@name@",
    .version = "@version@",
    .digest = "@digest@",
    .inputs = @inputs@,
    .outputs = @outputs@,
    .single = @single@,
    .classes = @classes@,
    .labels = @labels@,
    .low = low,
    .high = high,
    .low_single = low_single,
    .high_single = high_single,
    .encodings = @named_encodings@,
    .max_rows = @max_rows@,
    .max_gradient_rows = @max_gradient_rows@,
    .predict = predict,
    .gradient = @gradient@,
    .selftest = selftest,
    .answers = answers,
    .answer_count = @count@,
};
"""

_TEXTS = {
    "README.md": """\
# @name@: a server of one model

A gRPC server of the model `@name@` by the Open Inference Protocol, with its formula and exact derivatives
(`kanserve.v1.FormulaService`: GetFormula, Differentiate), health, and metrics over HTTP. It needs neither Python nor
files.

## Build

@preparation@

    @compiler@ -std=c11 -O2@options@ -ffp-contract=off -ffunction-sections -fdata-sections *.c \\
        -static -s -Wl,--gc-sections -lnghttp2 -lz -lm -pthread -o @name@

or `cmake -B build@cmake@ && cmake --build build`. With TLS, Debian's packages `pkg-config` and
`@tls_libraries@` too, and

    @compiler@ -std=c11 -O2@options@ -ffp-contract=off -ffunction-sections -fdata-sections \\
        -DKANSERVE_TLS -I. *.c tls/*.c -static -s -Wl,--gc-sections -lnghttp2 \\
        $(@pkg_config@pkg-config --static --libs openssl) -lz -lm -pthread -o @name@

or `cmake -B build@cmake@ -DKANSERVE_TLS=ON && cmake --build build`.
`kanserve export --to edge-server --processors` writes this for another processor. Without `-static`
(`-DKANSERVE_STATIC=OFF`) the binary takes the system's libraries.

## Run

    ./@name@ --check                            # compares with the golden rows that are compiled in
@trial@    ./@name@ --port 8001 --http-port 8002       # --help has all options

It compares itself with its golden rows before it listens. SIGTERM ends it: calls under way are answered, new ones get
UNAVAILABLE. `@name@.service` is a unit for systemd.

Clients of the protocol (tritonclient, KServe's, `kanserve.Client`) connect to the port. There are no reflection, no
streams of requests, no loading of models, and no tokens: put it behind TLS with client certificates, or listen on
127.0.0.1.
""",
    "CMakeLists.txt": """\
cmake_minimum_required(VERSION 3.14...4.0)
project(@project@ LANGUAGES C)

option(KANSERVE_TLS "TLS by OpenSSL" OFF)
option(KANSERVE_STATIC "One binary without shared libraries" ON)

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release)
endif()

file(GLOB SOURCES ${CMAKE_CURRENT_SOURCE_DIR}/*.c)
add_executable(@name@ ${SOURCES})
set_target_properties(@name@ PROPERTIES C_STANDARD 11 C_EXTENSIONS OFF)
target_compile_options(@name@ PRIVATE -O2@options@ -ffp-contract=off -ffunction-sections -fdata-sections)
target_link_options(@name@ PRIVATE -s -Wl,--gc-sections)
target_include_directories(@name@ PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
if(KANSERVE_STATIC)
  target_link_options(@name@ PRIVATE -static)
endif()
if(KANSERVE_TLS)
  target_compile_definitions(@name@ PRIVATE KANSERVE_TLS)
  target_sources(@name@ PRIVATE tls/tls_context.c)
  # OpenSSL may be built with compression: pkg-config tells what a static link then needs besides.
  find_package(PkgConfig REQUIRED)
  pkg_check_modules(OPENSSL REQUIRED openssl)
  if(KANSERVE_STATIC)
    target_link_libraries(@name@ PRIVATE ${OPENSSL_STATIC_LDFLAGS})
  else()
    target_link_libraries(@name@ PRIVATE ${OPENSSL_LDFLAGS})
  endif()
endif()
find_package(Threads REQUIRED)
if(KANSERVE_STATIC)
  set(CMAKE_FIND_LIBRARY_SUFFIXES .a)
endif()
find_path(NGHTTP2_INCLUDE nghttp2/nghttp2.h)
find_library(NGHTTP2 nghttp2)
find_path(ZLIB_INCLUDE zlib.h)
find_library(ZLIB z)
if(NOT NGHTTP2 OR NOT NGHTTP2_INCLUDE OR NOT ZLIB OR NOT ZLIB_INCLUDE)
  message(FATAL_ERROR "nghttp2 and zlib for ${CMAKE_SYSTEM_PROCESSOR} are not found: install @libraries@ (README.md), "
    "or name the folder that has them: -DCMAKE_PREFIX_PATH=FOLDER.")
endif()
target_include_directories(@name@ PRIVATE ${NGHTTP2_INCLUDE} ${ZLIB_INCLUDE})
target_link_libraries(@name@ PRIVATE ${NGHTTP2} ${ZLIB} m Threads::Threads)
install(TARGETS @name@)
""",
}

_UNIT = """\
[Unit]
Description=@name@, a server of one Kolmogorov-Arnold network
After=network.target

[Service]
Type=notify
ExecStart=/usr/local/bin/@name@ --port 8001 --http-port 8002
Restart=on-failure
RestartSec=1
TimeoutStopSec=40
LimitNOFILE=65536

DynamicUser=yes
UMask=0077
CapabilityBoundingSet=
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
ProtectProc=invisible
ProcSubset=pid
PrivateTmp=yes
PrivateDevices=yes
PrivateUsers=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
LockPersonality=yes
RemoveIPC=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources

[Install]
WantedBy=multi-user.target
"""
