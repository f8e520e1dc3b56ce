"""Findings as one safetensors file: facts as JSON in the header, networks and samples as tensors, and no code.

The tensors are `kan.{k}`, the bytes of `serialization.dumps` of formula k, and `x` and `y`, the samples that the
formulas were fitted to. The header's only entry, `findings`, is a SHA-256 of the rest of the entry and of all tensors,
a space, and JSON. Findings of several outputs are a safetensors file too: the tensors `findings.{k}` are the bytes of
such files, and the header's entry `outputs` is their names as JSON.
"""

import json
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as _load_tensors
from safetensors.numpy import save as _save_tensors

from kanserve.data.dataset import Dataset
from kanserve.errors import ConflictError, FormatError, InputError, NotFoundError, reason
from kanserve.network.kan import Kan
from kanserve.network.serialization import checksum, dumps, loads, write_atomically

Hashes = NDArray[np.uint64]
VERSION = 1
# What reading damaged bytes raises.
_DAMAGED = SafetensorError, ValueError, KeyError, TypeError, AttributeError, InputError, struct.error, RecursionError


@dataclass(frozen=True, eq=False)
class StoredFindings:
    """The content of a findings file: facts of the search, and the facts and the network of each formula."""

    facts: Mapping[str, Any]
    formulas: Sequence[Mapping[str, Any]]
    kans: Sequence[Kan]
    data: Dataset


def write_findings(path: str | os.PathLike[str], stored: StoredFindings) -> None:
    """Write the file atomically. Raises NotFoundError if the folder is missing, ConflictError if it is a folder."""
    write_atomically(check_path(path), _bytes_of(stored))


def write_findings_by_output(path: str | os.PathLike[str], stored: Mapping[str, StoredFindings], rows: Hashes) -> None:
    """Like `write_findings`, for several outputs. `rows` are the hashes of the rows that all were fitted to."""
    tensors: dict[str, NDArray[Any]] = {"rows": rows.view(np.int64)}
    for number, findings in enumerate(stored.values()):
        tensors[f"findings.{number}"] = np.frombuffer(_bytes_of(findings), np.uint8)
    write_atomically(check_path(path), _save_tensors(tensors, metadata={"outputs": json.dumps(list(stored))}))


def _bytes_of(stored: StoredFindings) -> bytes:
    data = stored.data
    tensors: dict[str, NDArray[Any]] = {"x": np.ascontiguousarray(data.x), "y": np.ascontiguousarray(data.y)}
    for number, kan in enumerate(stored.kans):
        tensors[f"kan.{number}"] = np.frombuffer(dumps(kan), np.uint8)
    if data.weights is not None:
        tensors["weights"] = data.weights
    header = {
        "version": VERSION,
        "facts": dict(stored.facts),
        "formulas": [dict(formula) for formula in stored.formulas],
        "inputs": list(data.inputs),
        "outputs": list(data.outputs),
    }
    text = json.dumps(header, ensure_ascii=True, sort_keys=True, allow_nan=False)
    return _save_tensors(tensors, metadata={"findings": f"{checksum(text, tensors)} {text}"})


def read_findings(path: str | os.PathLike[str]) -> StoredFindings:
    """Read a findings file. Raises NotFoundError if missing, FormatError if damaged or not of this version."""
    return _read_stored(_content(path), os.fspath(path))


def read_findings_by_output(path: str | os.PathLike[str]) -> tuple[dict[str, StoredFindings], Hashes]:
    """Like `read_findings`, for several outputs; also returns the hashes of the rows that all were fitted to."""
    name, content = os.fspath(path), _content(path)
    try:
        tensors = _load_tensors(content)
        outputs = json.loads(_metadata(content)["outputs"])
        parts = {str(output): tensors[f"findings.{number}"].tobytes() for number, output in enumerate(outputs)}
        rows = tensors["rows"].view(np.uint64)
    except _DAMAGED as error:
        raise FormatError(
            f"{name!r} holds no findings of several outputs, or is damaged ({reason(error)}). FindingsByOutput.save "
            "writes such files; Findings.load reads those of one output."
        ) from None
    return {output: _read_stored(part, name) for output, part in parts.items()}, rows


def _content(path: str | os.PathLike[str]) -> bytes:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise NotFoundError(f"There is no file {os.fspath(path)!r}.") from None
    except IsADirectoryError:
        raise FormatError(
            f"{os.fspath(path)!r} is a folder; findings are one file, which Findings.save writes."
        ) from None


def _metadata(content: bytes) -> dict[str, str]:
    (size,) = struct.unpack("<Q", content[:8])
    found: dict[str, str] = json.loads(content[8 : 8 + size])["__metadata__"]
    return found


def _read_stored(content: bytes, name: str) -> StoredFindings:
    try:
        tensors = _load_tensors(content)
        digest, _, text = _metadata(content)["findings"].partition(" ")
        if checksum(text, tensors) != digest:
            raise FormatError(f"The findings {name!r} differ from their checksum: the file is damaged.")
        header = json.loads(text)
        if header["version"] != VERSION:
            raise FormatError(
                f"The findings {name!r} have format version {header['version']!r:.40}; this kanserve reads {VERSION}."
            )
        formulas = [dict(formula) for formula in header["formulas"]]
        inputs, outputs = (tuple(str(name) for name in header[kind]) for kind in ("inputs", "outputs"))
        data = Dataset(tensors["x"], tensors["y"], inputs, outputs, weights=tensors.get("weights"))
        kans = [loads(tensors[f"kan.{number}"].tobytes()) for number in range(len(formulas))]
        return StoredFindings(dict(header["facts"]), formulas, kans, data)
    except _DAMAGED as error:
        raise FormatError(
            f"{name!r} holds no findings, or is damaged ({reason(error)}). Findings.save writes such files."
        ) from None


def check_path(path: str | os.PathLike[str]) -> Path:
    """Check that a file can be written at this path."""
    target = Path(path)
    if not target.parent.is_dir():
        raise NotFoundError(f"There is no folder {os.fspath(target.parent)!r} to write {target.name!r} into.")
    if target.is_dir():
        raise ConflictError(f"{os.fspath(path)!r} is a folder; findings are one file. Choose another name.")
    return target
