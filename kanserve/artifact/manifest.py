"""manifest.json: the description of a model, and the checksum and size of each file; format.py defines the rules."""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NoReturn, get_args

from kanserve.artifact.naming_rules import MANIFEST, REQUIRED, check_name, check_path, folders_of
from kanserve.errors import FormatError, IntegrityError, reason
from kanserve.network.conformal_intervals import ConformalInterval
from kanserve.network.encoding import is_encoded
from kanserve.network.export_options import Precision
from kanserve.network.kan import Variable
from kanserve.network.serialization import variable_in, variable_out

FORMATS = (1, 2, 3)  # 2: inputs with a fill value or categories, or prediction intervals; 3: intervals with scales
MAX_MANIFEST_BYTES = 2**20
MAX_FILES = 256
MAX_FILE_BYTES = 2**28
MAX_TOTAL_BYTES = 2**30
MAX_TEXT = 1000
INTERVALS = "intervals"  # the note of the provenance that says where the prediction intervals come from

_HASHED_AT_ONCE = 2**15  # bytes: a tenth of a millisecond
_SHA256 = re.compile(r"[0-9a-f]{64}")
_HEAD = re.compile(rb'\{\n "checksum": "([0-9a-f]{64})",\n')


@dataclass(frozen=True)
class Entry:
    """The manifest's entry for a file.

    Parameters
    ----------
    sha256 : str
        The checksum, in 64 hexadecimal digits.
    size : int
        Bytes.

    Examples
    --------
    >>> import kanserve
    >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
    >>> artifact = kanserve.compile(kan, ["numpy_source"], name="line")
    >>> artifact.manifest.files["numpy_source/line.py"].size == len(artifact.files["numpy_source/line.py"])
    True
    """

    sha256: str
    size: int


@dataclass(frozen=True)
class Metrics:
    """How well the network fits the rows that it was compiled with; None where a number is not finite.

    Parameters
    ----------
    rows : int
        The rows.
    r2, rmse, max_error : tuple of float or None
        Per output; for a classifier those of its probabilities.
    accuracy : float, optional
        The share of the rows that a classifier gets right.

    Examples
    --------
    >>> import kanserve
    >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
    >>> x = [[n / 20] for n in range(20)]
    >>> kanserve.compile(kan, ["numpy_source"], data=(x, kan(x))).manifest.metrics
    Metrics(rows=20, r2=(1.0,), rmse=(0.0,), max_error=(0.0,), accuracy=None)
    """

    rows: int
    r2: tuple[float | None, ...]
    rmse: tuple[float | None, ...]
    max_error: tuple[float | None, ...]
    accuracy: float | None = None


@dataclass(frozen=True)
class Manifest:
    """The description of a model, and the checksum and size of each of its files.

    Parameters
    ----------
    name : str
        The model's name.
    inputs, outputs : tuple of Variable
        With their units and ranges.
    files : mapping of str to Entry
        By their paths.
    precision : {"double", "float"}
        The type that the exports compute in.
    classes : tuple of str
        Of a classifier.
    metrics : Metrics, optional
        How well it fits the data that it was compiled with.
    provenance : mapping of str to str
        Notes, such as the version of kanserve.
    intervals : tuple of ConformalInterval
        The half widths of the prediction intervals, and where they depend on the answer, their scales.

    Raises
    ------
    FormatError, InvalidNameError
        Something breaks the rules of the format.

    Examples
    --------
    >>> import kanserve
    >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
    >>> manifest = kanserve.compile(kan, ["numpy_source"], name="line").manifest
    >>> manifest.name, manifest.precision, manifest.inputs[0].name
    ('line', 'double', 'x')
    """

    name: str
    inputs: tuple[Variable, ...]
    outputs: tuple[Variable, ...]
    files: Mapping[str, Entry]
    precision: Precision = "double"
    classes: tuple[str, ...] = ()
    metrics: Metrics | None = None
    provenance: Mapping[str, str] = field(default_factory=dict)
    intervals: tuple[ConformalInterval, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "files", MappingProxyType(dict(self.files)))
        object.__setattr__(self, "provenance", MappingProxyType(dict(self.provenance)))
        _check_manifest(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return loads, (dumps(self),)


def dumps(manifest: Manifest) -> bytes:
    """The bytes of manifest.json; equal manifests give equal bytes."""
    body = canonical(_to_json(manifest), MANIFEST).removeprefix(b"{\n")
    if len(body) + 100 > MAX_MANIFEST_BYTES:
        raise FormatError(f"A manifest may have {MAX_MANIFEST_BYTES} bytes, this one has {len(body)}.")
    return b'{\n "checksum": "%s",\n' % hashlib.sha256(body).hexdigest().encode() + body


def loads(data: bytes) -> Manifest:
    """Read a manifest. Raises IntegrityError if the bytes are damaged, FormatError if they are something else."""
    if len(data) > MAX_MANIFEST_BYTES:
        raise FormatError(f"{MANIFEST} may have {MAX_MANIFEST_BYTES} bytes, got more.")
    head = _HEAD.match(data)
    if head is None:
        raise FormatError(f"{MANIFEST} must begin with its checksum; this is not a kanserve manifest.")
    if hashlib.sha256(data[head.end() :]).hexdigest().encode() != head[1]:
        raise IntegrityError(f"{MANIFEST} differs from its checksum: it is damaged. Publish the model again.")
    value = read_json(data, MANIFEST)
    if not isinstance(value, dict) or value.get("format") not in FORMATS:
        version = value.get("format") if isinstance(value, dict) else None
        raise FormatError(f"{MANIFEST} has format {str(version)[:20]}; this kanserve reads formats 1 to {FORMATS[-1]}.")
    try:
        manifest = _from_json(value)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise FormatError(f"{MANIFEST} lacks something or has it wrong: {reason(error)}.") from None
    if dumps(manifest) != data:
        raise FormatError(f"{MANIFEST} is not canonical: unknown or repeated keys, or another spelling of a value.")
    return manifest


def read_json(data: bytes, what: str) -> Any:
    """Parse JSON without NaN, infinity or repeated keys. Raises FormatError otherwise."""

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


def checksum(data: bytes) -> str:
    """The SHA-256 in hexadecimal, computed in parts: without OpenSSL, Python holds the GIL while hashing, and a large
    file would block all calls of a server that loads it."""
    digest, whole = hashlib.sha256(), memoryview(data)
    for start in range(0, len(data), _HASHED_AT_ONCE):
        digest.update(whole[start : start + _HASHED_AT_ONCE])
    return digest.hexdigest()


def check_file(path: str, data: bytes, entry: Entry) -> None:
    """Raise IntegrityError if a file's bytes do not match the manifest."""
    if len(data) != entry.size:
        raise IntegrityError(f"{path} must have {entry.size} bytes, got {len(data)}. Publish the model again.")
    if checksum(data) != entry.sha256:
        raise IntegrityError(f"{path} differs from its checksum: it is damaged. Publish the model again.")


def _check_manifest(manifest: Manifest) -> None:
    check_name(manifest.name)
    if manifest.precision not in get_args(Precision):
        raise FormatError(f"precision must be one of {get_args(Precision)}, got {manifest.precision!r:.40}.")
    if not manifest.inputs or not manifest.outputs:
        raise FormatError("A model has at least one input and one output.")
    if manifest.classes and len(manifest.classes) != len(manifest.outputs):
        raise FormatError(f"{len(manifest.outputs)} outputs need as many classes, got {len(manifest.classes)}.")
    _check_texts([*manifest.classes, *manifest.provenance, *manifest.provenance.values()])
    for variable in (*manifest.inputs, *manifest.outputs):
        _check_texts([variable.name, variable.unit, *variable.categories])
        if not variable.low <= variable.high:  # also for NaN
            raise FormatError("The range of a variable must have low ≤ high.")
    if (metrics := manifest.metrics) is not None:
        lengths = {len(metrics.r2), len(metrics.rmse), len(metrics.max_error)}
        if metrics.rows < 1 or lengths != {len(manifest.outputs)}:
            raise FormatError(f"Metrics need rows ≥ 1 and one number for each output, got {metrics}.")
    if any(len(interval.half_widths) != len(manifest.outputs) for interval in manifest.intervals):
        raise FormatError("A prediction interval has one half width for each output.")
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


def canonical(value: Any, what: str, indent: int | None = 1) -> bytes:
    """Serialize a value as JSON deterministically; without an indent, on one line."""
    separators = None if indent else (",", ":")
    try:
        text = json.dumps(value, sort_keys=True, indent=indent, separators=separators, allow_nan=False)
        return text.encode() + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise FormatError(f"{what} cannot be written as JSON: {str(error)[:100]}.") from None


def _to_json(manifest: Manifest) -> dict[str, Any]:
    extended = any(map(is_encoded, manifest.inputs)) or bool(manifest.intervals)
    scaled = any(interval.scales for interval in manifest.intervals)
    intervals = [interval.to_json() for interval in manifest.intervals]
    return {
        "format": 3 if scaled else 2 if extended else 1,
        "name": manifest.name,
        "precision": manifest.precision,
        "inputs": [variable_out(variable) for variable in manifest.inputs],
        "outputs": [variable_out(output) for output in manifest.outputs],
        "classes": list(manifest.classes),
        "metrics": metrics_out(manifest.metrics),
        "provenance": dict(manifest.provenance),
        "files": {path: {"sha256": file.sha256, "size": file.size} for path, file in manifest.files.items()},
        **({"intervals": intervals} if intervals else {}),
    }


def _from_json(value: dict[str, Any]) -> Manifest:
    """Read the known keys without conversion: `loads` then compares the canonical bytes, which detects all else."""
    metrics = value["metrics"]
    return Manifest(
        name=value["name"],
        precision=value["precision"],
        inputs=tuple(variable_in(variable) for variable in value["inputs"]),
        outputs=tuple(variable_in(variable) for variable in value["outputs"]),
        classes=tuple(value["classes"]),
        metrics=None
        if metrics is None
        else Metrics(
            rows=_integer(metrics["rows"]),
            r2=tuple(_number(metric) for metric in metrics["r2"]),
            rmse=tuple(_number(metric) for metric in metrics["rmse"]),
            max_error=tuple(_number(metric) for metric in metrics["max_error"]),
            accuracy=_number(metrics["accuracy"]),
        ),
        provenance=value["provenance"],
        files={path: Entry(entry["sha256"], _integer(entry["size"])) for path, entry in value["files"].items()},
        intervals=tuple(map(ConformalInterval.from_json, value.get("intervals", []))),
    )


def metrics_out(metrics: Metrics | None) -> dict[str, Any] | None:
    if metrics is None:
        return None
    return {
        "rows": metrics.rows,
        "r2": [_finite(value) for value in metrics.r2],
        "rmse": [_finite(value) for value in metrics.rmse],
        "max_error": [_finite(value) for value in metrics.max_error],
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
