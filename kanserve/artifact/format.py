"""The artifact: one trained model as a folder of files that are whole or refused. Format version 1.

    <repository>/<name>/<version>/
        manifest.json         what the model is; SHA-256 and size of every other file
        kan.safetensors       the network itself (serialization.py)
        formula.json          {"formulas": what kanserve.formula.to_json gives, "metrics" and "evidence": see below}
        golden.safetensors    x (N, inputs) and y (N, outputs), float64: what a backend must answer
        <kind>/...            what the exporter <kind> made and the backend <kind> loads

Files
- The folder holds exactly the files that the manifest lists, manifest.json, and the folders on the way to them: an
  unlisted file is one that nobody checked. Every file outside a <kind> folder is named above and must be there.
- A path is relative, of at most 4 names joined by "/", each `[A-Za-z0-9_][A-Za-z0-9._-]{0,99}`: so there is no "..",
  no absolute path, no hidden file, no option that a shell or compiler might read. <kind> is `[a-z][a-z0-9_]{0,62}`.
- No two paths differ only in case, and none is the folder of another: a folder can be copied to any file system.
- Only regular files and folders; no link, FIFO, socket or device, not even to inside: a link can be turned later.
  A hard link is a regular file with the right bytes and is accepted (backups make them).
- At most 256 files of 256 MiB, 1 GiB in all, a manifest of 1 MiB: checked before anything is allocated.

manifest.json
- Canonical JSON, so that one model has one manifest and a reader can refuse whatever is not it byte for byte
  (duplicate keys, other spellings of a number, trailing bytes): ASCII, keys sorted, indented by one space, numbers
  as Python's repr, no NaN or Infinity, a newline at the end.
- Its second line is the SHA-256 of all bytes after that line (`tail -n +3 manifest.json | sha256sum`), so that a
  flipped bit is found before JSON is parsed. ("checksum" sorts before every other key.)
- `format` is 1. A reader refuses other versions and unknown keys: it cannot know what it would miss.
- `name` matches `[a-z0-9][a-z0-9_-]{0,62}`: what the model was compiled as. The repository's folder is what it is
  served as; the two may differ, so that a model can be published under a second name.
- `precision`: "double" or "float", what the backends compute in.
- `inputs`, `outputs`: name, unit, low and high of each; null where a range is not known. `classes`: empty, or the
  outputs of a classifier. They repeat kan.safetensors for those who read JSON only and must agree with it.
- `metrics`: null, or rows, r2, rmse, max_error per output and accuracy; null for a number that is not finite.
- `provenance`: text to text, for people: versions, data, notes. Nothing acts on it.
- `files`: path to sha256 (64 lower-case hexadecimal digits) and size in bytes.

formula.json may have `evidence`, for each output: `constants` (value, text, standard_error or null: not determined),
`sigma`, `degrees` (null without data), at most 1000 `alternatives`: formulas with complexity, rmse, validation_rmse.

A version is a positive integer without leading zeros, at most 999999999. A checksum proves that a file is whole, not
that it is friendly: source and libraries of <kind> folders are code, to be loaded only from those one trusts.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, NoReturn, get_args

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as _load_tensors
from safetensors.numpy import save as _save_tensors

from kanserve import serialization
from kanserve.artifact.names import (
    FORMULA,
    GOLDEN,
    KAN,
    MANIFEST,
    REQUIRED,
    check_name,
    check_path,
    folders_of,
)
from kanserve.errors import FormatError, IntegrityError, NotFoundError
from kanserve.ir import Kan, Variable
from kanserve.options import Precision
from kanserve.serialization import variable_in, variable_out

Array = NDArray[np.float64]

FORMAT = 1
MAX_MANIFEST_BYTES = 2**20
MAX_FILES = 256
MAX_FILE_BYTES = 2**28
MAX_TOTAL_BYTES = 2**30
MAX_TEXT = 1000

_SHA256 = re.compile(r"[0-9a-f]{64}")
_HEAD = re.compile(rb'\{\n "checksum": "([0-9a-f]{64})",\n')


@dataclass(frozen=True)
class Entry:
    """What the manifest says of a file."""

    sha256: str
    size: int


@dataclass(frozen=True)
class Metrics:
    """How well the network fits `rows` rows, per output (a classifier's probabilities); None is not finite."""

    rows: int
    r2: tuple[float | None, ...]
    rmse: tuple[float | None, ...]
    max_error: tuple[float | None, ...]
    accuracy: float | None = None


@dataclass(frozen=True)
class Manifest:
    """What a model is, and the checksum and size of each of its files."""

    name: str
    inputs: tuple[Variable, ...]
    outputs: tuple[Variable, ...]
    files: Mapping[str, Entry]
    precision: Precision = "double"
    classes: tuple[str, ...] = ()
    metrics: Metrics | None = None
    provenance: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "files", MappingProxyType(dict(self.files)))
        object.__setattr__(self, "provenance", MappingProxyType(dict(self.provenance)))
        _check_manifest(self)


@dataclass(frozen=True, eq=False)
class Artifact:
    """A manifest and the bytes of its files; there is none whose bytes differ from its manifest."""

    manifest: Manifest
    files: Mapping[str, bytes]

    def __post_init__(self) -> None:
        object.__setattr__(self, "files", MappingProxyType(dict(self.files)))
        for path in sorted(set(self.files) ^ set(self.manifest.files)):
            raise FormatError(f"The manifest and the files differ: {path!r} is in one of them only.")
        for path, data in self.files.items():
            check_file(path, data, self.manifest.files[path])

    @property
    def backends(self) -> tuple[str, ...]:
        """The kinds there are: "c_source", "onnx_graph", ..."""
        return tuple(sorted({path.split("/")[0] for path in self.files if "/" in path}))

    def part(self, kind: str) -> Mapping[str, bytes]:
        """The files of one kind, by their paths inside its folder; NotFoundError when there are none."""
        files = {path[len(kind) + 1 :]: data for path, data in self.files.items() if path.startswith(f"{kind}/")}
        if not files:
            raise NotFoundError(f"The model has no {kind!r}; it has: {', '.join(self.backends) or 'no backend'}.")
        return files

    def kan(self) -> Kan:
        """The network; FormatError when the manifest describes another."""
        kan = serialization.loads(self.files[KAN])
        says = (self.manifest.inputs, self.manifest.outputs, self.manifest.classes)
        if says != (kan.inputs, kan.outputs, kan.classes):
            raise FormatError("The manifest's inputs, outputs or classes are not those of the network.")
        return kan

    @cached_property
    def formulas(self) -> Any:
        """The formulas as data, one per output: `formula.from_json` makes formulas of them."""
        return self._formula["formulas"]

    @property
    def evidence(self) -> list[Any]:
        """What is known of each output's formula, for `formula.evidence.from_json`; empty where nothing is."""
        value = self._formula.get("evidence", [])
        if not isinstance(value, list) or len(value) not in (0, len(self.manifest.outputs)):
            raise FormatError(f"The evidence of {FORMULA} must have one entry for each output.")
        return value

    @cached_property
    def _formula(self) -> dict[str, Any]:
        value = read_json(self.files[FORMULA], FORMULA)
        if not isinstance(value, dict) or "formulas" not in value:
            raise FormatError(f"{FORMULA} must be an object with the key 'formulas'.")
        return value

    def golden(self) -> tuple[Array, Array]:
        """The golden rows x (N, inputs) and the reference outputs y (N, outputs)."""
        try:
            tensors = _load_tensors(self.files[GOLDEN])
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise FormatError(f"{GOLDEN} cannot be read: {error}.") from None
        widths = {"x": len(self.manifest.inputs), "y": len(self.manifest.outputs)}
        shapes = {name: (tensor.dtype.str, tensor.shape) for name, tensor in tensors.items()}
        count = len(tensors["x"]) if "x" in tensors and tensors["x"].ndim == 2 else 0
        if count == 0 or shapes != {name: ("<f8", (count, width)) for name, width in widths.items()}:
            raise FormatError(f"{GOLDEN} must hold float64 x and y with N ≥ 1 rows of widths {widths}, got {shapes}.")
        return tensors["x"], tensors["y"]


def assemble(
    kan: Kan,
    parts: Mapping[str, bytes],
    *,
    formulas: Any,
    golden: tuple[Array, Array],
    evidence: Sequence[Any] = (),
    name: str = "model",
    precision: Precision = "double",
    metrics: Metrics | None = None,
    provenance: Mapping[str, str] | None = None,
) -> Artifact:
    """The artifact of a network: `parts` are the exporters' files with the kind's folder in front of their paths."""
    written = {"formulas": formulas, "metrics": _metrics_out(metrics), "evidence": evidence}
    x, y = (np.ascontiguousarray(one, np.float64) for one in golden)
    files = {
        KAN: serialization.dumps(kan),
        FORMULA: _canonical(written, FORMULA),
        GOLDEN: _save_tensors({"x": x, "y": y}),
        **parts,
    }
    manifest = Manifest(
        name=name,
        precision=precision,
        inputs=kan.inputs,
        outputs=kan.outputs,
        classes=kan.classes,
        metrics=metrics,
        provenance=provenance or {},
        files={path: Entry(hashlib.sha256(data).hexdigest(), len(data)) for path, data in files.items()},
    )
    return Artifact(manifest, files)


def dumps(manifest: Manifest) -> bytes:
    """The bytes of manifest.json; equal manifests give equal bytes."""
    body = _canonical(_to_json(manifest), MANIFEST).removeprefix(b"{\n")
    if len(body) + 100 > MAX_MANIFEST_BYTES:
        raise FormatError(f"A manifest may have {MAX_MANIFEST_BYTES} bytes, this one has {len(body)}.")
    return b'{\n "checksum": "%s",\n' % hashlib.sha256(body).hexdigest().encode() + body


def loads(data: bytes) -> Manifest:
    """The manifest of these bytes; IntegrityError when they are damaged, FormatError when they are something else."""
    if len(data) > MAX_MANIFEST_BYTES:
        raise FormatError(f"{MANIFEST} may have {MAX_MANIFEST_BYTES} bytes, got more.")
    head = _HEAD.match(data)
    if head is None:
        raise FormatError(f"{MANIFEST} must begin with its checksum; this is not a kanserve manifest.")
    if hashlib.sha256(data[head.end() :]).hexdigest().encode() != head[1]:
        raise IntegrityError(f"{MANIFEST} differs from its checksum: it is damaged. Publish the model again.")
    value = read_json(data, MANIFEST)
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        version = value.get("format") if isinstance(value, dict) else None
        raise FormatError(f"{MANIFEST} has format {str(version)[:20]}; this kanserve reads format {FORMAT}.")
    try:
        manifest = _from_json(value)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise FormatError(f"{MANIFEST} lacks something or has it wrong: {error!r:.200}.") from None
    if dumps(manifest) != data:
        raise FormatError(f"{MANIFEST} is not canonical: unknown or repeated keys, or another spelling of a value.")
    return manifest


def read_json(data: bytes, what: str) -> Any:
    """JSON without NaN, infinity or repeated keys; FormatError otherwise."""

    def constant(text: str) -> NoReturn:
        raise FormatError(f"{what} must not contain {text}.")

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(result := dict(items)) != len(items):
            raise FormatError(f"{what} has a key twice.")
        return result

    try:
        return json.loads(data, parse_constant=constant, object_pairs_hook=pairs)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{what} is not JSON: {str(error)[:100]}.") from None


def check_file(path: str, data: bytes, entry: Entry) -> None:
    """IntegrityError when a file's bytes are not those of the manifest."""
    if len(data) != entry.size:
        raise IntegrityError(f"{path} must have {entry.size} bytes, got {len(data)}. Publish the model again.")
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise IntegrityError(f"{path} differs from its checksum: it is damaged. Publish the model again.")


def _check_manifest(manifest: Manifest) -> None:
    check_name(manifest.name)
    if manifest.precision not in get_args(Precision):
        raise FormatError(f"precision must be one of {get_args(Precision)}, got {manifest.precision!r:.40}.")
    if not manifest.inputs or not manifest.outputs:
        raise FormatError("A model has at least one input and one output.")
    if manifest.classes and len(manifest.classes) != len(manifest.outputs):
        raise FormatError(f"{len(manifest.outputs)} outputs need as many classes, got {len(manifest.classes)}.")
    variables = (*manifest.inputs, *manifest.outputs)
    texts = [text for one in variables for text in (one.name, one.unit)]
    _check_texts([*texts, *manifest.classes, *manifest.provenance, *manifest.provenance.values()])
    if any(math.isnan(one.low) or math.isnan(one.high) or one.low > one.high for one in variables):
        raise FormatError("The range of a variable must have low ≤ high.")
    if (metrics := manifest.metrics) is not None:
        lengths = {len(metrics.r2), len(metrics.rmse), len(metrics.max_error)}
        if metrics.rows < 1 or lengths != {len(manifest.outputs)}:
            raise FormatError(f"Metrics need rows ≥ 1 and one number for each output, got {metrics}.")
    _check_files(manifest.files)


def _check_texts(texts: Iterable[object]) -> None:
    for text in texts:
        if not isinstance(text, str) or len(text) > MAX_TEXT:
            raise FormatError(f"A name, unit or note is text of at most {MAX_TEXT} characters, got {text!r:.80}.")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise FormatError(f"A name, unit or note must be Unicode text, got {ascii(text)[:80]}.") from None


def _check_files(files: Mapping[str, Entry]) -> None:
    if len(files) > MAX_FILES:
        raise FormatError(f"An artifact may have {MAX_FILES} files, got {len(files)}.")
    for path in REQUIRED:
        if path not in files:
            raise FormatError(f"An artifact needs the file {path}.")
    for path, entry in files.items():
        check_path(path)
        if not _SHA256.fullmatch(entry.sha256) or not 0 <= entry.size <= MAX_FILE_BYTES:
            raise FormatError(f"{path} needs a SHA-256 and a size of at most {MAX_FILE_BYTES}, got {entry!r:.150}.")
    if (total := sum(entry.size for entry in files.values())) > MAX_TOTAL_BYTES:
        raise FormatError(f"The files of an artifact may have {MAX_TOTAL_BYTES} bytes in all, got {total}.")
    folded = [path.lower() for path in files]
    folders = {folder for path in folded for folder in folders_of(path)}
    if len(set(folded)) < len(folded) or folders & set(folded):
        raise FormatError("Two paths of an artifact differ only in case, or one is the folder of another.")


def _canonical(value: Any, what: str) -> bytes:
    try:
        return json.dumps(value, sort_keys=True, indent=1, allow_nan=False).encode() + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise FormatError(f"{what} cannot be written as JSON: {str(error)[:100]}.") from None


def _to_json(manifest: Manifest) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "name": manifest.name,
        "precision": manifest.precision,
        "inputs": [variable_out(one) for one in manifest.inputs],
        "outputs": [variable_out(one) for one in manifest.outputs],
        "classes": list(manifest.classes),
        "metrics": _metrics_out(manifest.metrics),
        "provenance": dict(manifest.provenance),
        "files": {path: {"sha256": one.sha256, "size": one.size} for path, one in manifest.files.items()},
    }


def _from_json(value: dict[str, Any]) -> Manifest:
    """Reads what it knows and converts nothing: `loads` compares the canonical bytes, which finds all the rest."""
    metrics = value["metrics"]
    return Manifest(
        name=value["name"],
        precision=value["precision"],
        inputs=tuple(variable_in(one) for one in value["inputs"]),
        outputs=tuple(variable_in(one) for one in value["outputs"]),
        classes=tuple(value["classes"]),
        metrics=None
        if metrics is None
        else Metrics(
            rows=_integer(metrics["rows"]),
            r2=tuple(_number(one) for one in metrics["r2"]),
            rmse=tuple(_number(one) for one in metrics["rmse"]),
            max_error=tuple(_number(one) for one in metrics["max_error"]),
            accuracy=_number(metrics["accuracy"]),
        ),
        provenance=value["provenance"],
        files={path: Entry(one["sha256"], _integer(one["size"])) for path, one in value["files"].items()},
    )


def _metrics_out(metrics: Metrics | None) -> dict[str, Any] | None:
    if metrics is None:
        return None
    return {
        "rows": metrics.rows,
        "r2": [_finite(one) for one in metrics.r2],
        "rmse": [_finite(one) for one in metrics.rmse],
        "max_error": [_finite(one) for one in metrics.max_error],
        "accuracy": _finite(metrics.accuracy),
    }


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _number(value: Any) -> float | None:
    if value is not None and (type(value) is not float or not math.isfinite(value)):
        raise TypeError(f"{str(value)[:40]} is not a finite decimal number")
    return value


def _integer(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"{str(value)[:40]} is not an integer")
    return value
