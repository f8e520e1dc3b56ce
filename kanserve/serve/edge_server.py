"""An edge server: the C source of a server for one model, which builds into one static binary without Python. It
consists of the server's native transport (kanserve/native/server), the model's C source, and the constant answers as
bytes."""

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
_FILES = Path(__file__).parent / "edge_files"  # written with the model's words


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
    for path in ("README.md", "CMakeLists.txt"):
        files[path] = _write(path, words).encode()
    if wanted.debian:
        files["toolchain.cmake"] = wanted.toolchain.encode()
    files[f"{name}.service"] = _write("model.service", words).encode()
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
    """The path, format (or "") and bytes of each response that is the same for every request."""
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
    return _write("edge_model.c", words)


def _write(path: str, words: Mapping[str, str]) -> str:
    """A file of the folder `edge_files`, with its @words@ replaced."""
    return _fill((_FILES / f"{path}.in").read_text("utf-8"), words)


def _fill(text: str, words: Mapping[str, str]) -> str:
    """Replace the @words@ of a text, but not those in values, such as class names."""
    return re.sub(r"@(\w+)@", lambda found: words[found[1]], text)


def _numbers(values: list[float]) -> str:
    """Numbers as C source; infinite ends of ranges become HUGE_VAL."""
    texts = {float("inf"): "HUGE_VAL", float("-inf"): "-HUGE_VAL"}
    return ", ".join(texts.get(value) or repr(float(value)) for value in values)


def _string(data: bytes) -> str:
    """A C string literal. Special characters are written as octal escapes, which end after three digits."""
    plain = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 _-.,:;()[]{}+*/<>=!#%&'|~^$@")
    return '"' + "".join(chr(byte) if byte in plain else f"\\{byte:03o}" for byte in data) + '"'


def _array(name: str, data: bytes) -> str:
    lines = [
        ",".join(map(str, data[start : start + _BYTES_A_LINE])) for start in range(0, len(data), _BYTES_A_LINE)
    ] or ["0"]
    return f"static const uint8_t {name}[] = {{\n" + ",\n".join(lines) + "};"
