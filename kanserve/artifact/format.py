"""The artifact: one trained model as a folder of files that are whole or refused. Format version 1.

    <repository>/<name>/<version>/
        manifest.json         what the model is; SHA-256 and size of every other file but one
        manifest.sig          that one, optional: who vouches for the manifest, and so for the rest
        kan.safetensors       the network itself (serialization.py)
        formula.json          {"formulas": what kanserve.formula.to_json gives, "metrics" and "evidence": see below}
        golden.safetensors    x (N, inputs) and y (N, outputs), float64: what a backend must answer
        <kind>/...            what the exporter <kind> made and the backend <kind> loads

Files
- The folder holds exactly the files that the manifest lists, manifest.json, manifest.sig, and the folders on the way to
  them: an unlisted file is one that nobody checked. Every file outside a <kind> folder is named above and, but for the
  signature, must be there.
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

manifest.sig
- An Ed25519 signature (RFC 8032), its 64 bytes and nothing else: there is no text to parse or to spell in two ways. It
  names no key: a reader tries those that it trusts, and what a file says of its own signer is worth nothing.
- It is of the line "kanserve model NAME version NUMBER\n" and then manifest.json's bytes, and holds where the model is
  served as that: else an old version that was signed, or another model, could be put in place of a new one. Or it is of
  manifest.json's bytes alone, and holds everywhere. `openssl pkeyutl -verify -rawin` checks both.
- The manifest cannot list it, since it is made from the manifest; it is the only file that may come to a version later.
- A reader that demands a signature checks it before it parses anything; without keys it only has to be 64 bytes.

formula.json may have `evidence`, for each output: `constants` (value, text, standard_error or null: not determined),
`sigma`, `degrees` (null without data), at most 1000 `alternatives`: formulas with complexity, rmse, validation_rmse.

A version is a positive integer without leading zeros, at most 999999999. A checksum proves that a file is whole, not
that it is friendly: source and libraries of <kind> folders are code, to be loaded only from those one trusts.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as _load_tensors
from safetensors.numpy import save as _save_tensors

from kanserve.artifact.manifest import (
    MAX_MANIFEST_BYTES,
    Entry,
    Manifest,
    Metrics,
    canonical,
    check_file,
    dumps,
    loads,
    metrics_out,
    read_json,
)
from kanserve.artifact.naming_rules import FORMULA, GOLDEN, KAN, SIGNATURE, SIGNATURE_BYTES
from kanserve.errors import FormatError, NotFoundError, reason
from kanserve.network import serialization
from kanserve.network.kan import Kan
from kanserve.options import Precision

__all__ = [
    "MAX_MANIFEST_BYTES",
    "Artifact",
    "Entry",
    "Manifest",
    "Metrics",
    "assemble",
    "check_file",
    "dumps",
    "loads",
    "read_json",
]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Artifact:
    """A manifest and the bytes of its files; there is none whose bytes differ from its manifest."""

    manifest: Manifest
    files: Mapping[str, bytes]
    signature: bytes | None = None  # of the manifest's bytes, by whomever; `signing` makes and checks it

    def __post_init__(self) -> None:
        object.__setattr__(self, "files", MappingProxyType(dict(self.files)))
        for path in sorted(set(self.files) ^ set(self.manifest.files)):
            raise FormatError(f"The manifest and the files differ: {path!r} is in one of them only.")
        for path, data in self.files.items():
            check_file(path, data, self.manifest.files[path])
        if self.signature is not None and len(self.signature) != SIGNATURE_BYTES:
            raise FormatError(f"{SIGNATURE} must have {SIGNATURE_BYTES} bytes, got {len(self.signature)}.")

    def __reduce__(self) -> tuple[Any, ...]:
        return Artifact, (self.manifest, dict(self.files), self.signature)  # and the checksums are checked again

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
            raise FormatError(f"{GOLDEN} cannot be read: {reason(error)}.") from None
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
    written = {"formulas": formulas, "metrics": metrics_out(metrics), "evidence": evidence}
    x, y = (np.ascontiguousarray(array, np.float64) for array in golden)
    files = {
        KAN: serialization.dumps(kan),
        FORMULA: canonical(written, FORMULA),
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
