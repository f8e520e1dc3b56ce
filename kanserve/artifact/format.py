"""The artifact format, versions 1 and 2: one trained model as a folder of verified files.

    <repository>/<name>/<version>/
        manifest.json         what the model is; SHA-256 and size of every other file except the signature
        manifest.sig          optional: a signature of the manifest, which covers the other files
        kan.safetensors       the network (serialization.py), in the compact form if that saves a megabyte
        formula.json          {"formulas": from kanserve.formula.to_json, "metrics" and "evidence": see below}
        golden.safetensors    golden rows: x (N, inputs) and the outputs y (N, outputs) of a correct backend, float64
        <kind>/...            the files that the exporter <kind> makes and the backend <kind> loads

Files
- The folder holds exactly the files that the manifest lists, manifest.json, manifest.sig, and their parent folders: an
  unlisted file would be unchecked. Every file outside a <kind> folder is named above and, except the signature, must
  exist.
- A path is relative, of at most 4 names joined by "/", each `[A-Za-z0-9_][A-Za-z0-9._-]{0,99}`: so not "..",
  no absolute path, no hidden file, no option that a shell or compiler might read. <kind> is `[a-z][a-z0-9_]{0,62}`.
- No two paths differ only in case, and none is the folder of another: a folder can be copied to any file system.
- Only regular files and folders; no link (its target may change), FIFO, socket or device. A hard link is a regular file
  with the right bytes and is accepted (backups make them).
- At most 256 files of 256 MiB, 1 GiB in all, a manifest of 1 MiB: checked before anything is allocated.

manifest.json
- Canonical JSON, so that a model has exactly one manifest and a reader can refuse any other bytes (duplicate keys,
  other forms of a number, trailing bytes): ASCII, keys sorted, indented by one space, numbers as Python's repr, no NaN
  or Infinity, a newline at the end.
- Its second line is the SHA-256 of all bytes after that line (`tail -n +3 manifest.json | sha256sum`), so that a
  flipped bit is found before JSON is parsed. ("checksum" sorts before every other key.)
- `format` is 1, or 2 if an input has a fill value or categories, or there are `intervals`, or 3 if these have `scales`.
  A reader refuses other versions and unknown keys.
- `name` matches `[a-z0-9][a-z0-9_-]{0,62}`: the name that the model was compiled with. The model is served under the
  name of the repository's folder; the two may differ, so a model can be published under a second name.
- `precision`: "double" or "float", the type that the backends compute in.
- `inputs`, `outputs`: name, unit, low and high of each; null for an unknown range; in format 2 of inputs also
  `fill_value`, `categories` and `category_values`, where they have them. `classes`: empty, or the outputs of
  a classifier. They repeat kan.safetensors for programs that read only JSON, and must agree with it.
- `metrics`: null, or rows, r2, rmse, max_error per output and accuracy; null for a number that is not finite.
- `intervals`, only if there are any: level (a probability) and half_widths, one for each output; a new value is within
  answer ± half width with that probability. In format 3 also scales, where the half width depends on the answer: for
  each output pairs of an answer and the factor of the half width there, linear between and constant beyond, or none.
- `provenance`: text to text, for people: versions, data, notes. No code depends on it.
- `files`: path to sha256 (64 lower-case hexadecimal digits) and size in bytes.

manifest.sig
- An Ed25519 signature (RFC 8032): exactly its 64 bytes. It names no key: a reader tries the keys that it trusts.
- It signs the line "kanserve model NAME version NUMBER\n" followed by manifest.json's bytes, and is valid only if the
  model is served under that name and version: else an older signed version, or another model, could replace a newer
  one. Or it signs manifest.json's bytes alone, and is valid everywhere. `openssl pkeyutl -verify -rawin` checks both.
- The manifest cannot list it, since it is made from the manifest; it is the only file that can be added to a version.
- A reader that requires a signature checks it before it parses anything; without keys it only has to be 64 bytes.

formula.json has no expressions of a network whose formulas are too large to be read: `tree` and `variables` are then []
and each text is empty. It may have `evidence`, for each output: `constants` (value, text, standard_error or null: not
determined), `sigma`, `degrees` (null without data), at most 1000 `alternatives`: formulas with complexity, rmse,
validation_rmse.

A version is a positive integer without leading zeros, at most 999999999. A checksum proves that a file is intact, not
that it is safe: sources and libraries in <kind> folders are code; load them only from people you trust.
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
from kanserve.network.conformal_intervals import ConformalInterval
from kanserve.network.export_options import Precision
from kanserve.network.kan import Kan

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

_COMPACT_BYTES = 2**20  # of affines, which a compact network of splines lacks


@dataclass(frozen=True, eq=False)
class Artifact:
    """A manifest and the bytes of its files, which always agree with the manifest's checksums.

    Parameters
    ----------
    manifest : Manifest
        The description of the model.
    files : mapping of str to bytes
        By their paths, such as "kan.safetensors" and "numpy_source/line.py".
    signature : bytes, optional
        Of the manifest's bytes, unverified: `kanserve.artifact.signing` checks it.

    Raises
    ------
    FormatError
        The manifest and the files have different paths, or the signature has another length.
    IntegrityError
        A file differs from its checksum.

    Examples
    --------
    >>> import kanserve
    >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
    >>> artifact = kanserve.compile(kan, ["numpy_source"], name="line")
    >>> list(artifact.files)
    ['kan.safetensors', 'formula.json', 'golden.safetensors', 'numpy_source/line.py']
    >>> artifact.backends, artifact.formulas["formulas"][0]["text"], artifact.evidence
    (('numpy_source',), '2*x + 1', [])
    """

    manifest: Manifest
    files: Mapping[str, bytes]
    signature: bytes | None = None  # of the manifest's bytes, unverified; see `signing`

    def __post_init__(self) -> None:
        object.__setattr__(self, "files", MappingProxyType(dict(self.files)))
        for path in sorted(set(self.files) ^ set(self.manifest.files)):
            raise FormatError(f"The manifest and the files differ: {path!r} is in one of them only.")
        for path, data in self.files.items():
            check_file(path, data, self.manifest.files[path])
        if self.signature is not None and len(self.signature) != SIGNATURE_BYTES:
            raise FormatError(f"{SIGNATURE} must have {SIGNATURE_BYTES} bytes, got {len(self.signature)}.")

    def __reduce__(self) -> tuple[Any, ...]:
        return Artifact, (self.manifest, dict(self.files), self.signature)  # which checks the checksums again

    def _repr_html_(self) -> str:
        from kanserve.plot.notebook import artifact_page  # only notebooks need it

        return artifact_page(self.manifest, self.files, self.kan())

    @property
    def backends(self) -> tuple[str, ...]:
        """The formats that it contains: "c_source", "onnx_graph", ..."""
        return tuple(sorted({path.split("/")[0] for path in self.files if "/" in path}))

    def part(self, kind: str) -> Mapping[str, bytes]:
        """The files of one kind.

        Parameters
        ----------
        kind : str
            One of `backends`.

        Returns
        -------
        mapping of str to bytes
            The files by their paths inside its folder.

        Raises
        ------
        NotFoundError
            There are none.

        Examples
        --------
        >>> import kanserve
        >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
        >>> artifact = kanserve.compile(kan, ["numpy_source"], name="line")
        >>> list(artifact.part("numpy_source"))
        ['line.py']
        """
        files = {path[len(kind) + 1 :]: data for path, data in self.files.items() if path.startswith(f"{kind}/")}
        if not files:
            raise NotFoundError(f"The model has no {kind!r}; it has: {', '.join(self.backends) or 'no backend'}.")
        return files

    def kan(self) -> Kan:
        """The network.

        Returns
        -------
        Kan
            As it was compiled.

        Raises
        ------
        FormatError
            The manifest does not match it.

        Examples
        --------
        >>> import kanserve
        >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
        >>> artifact = kanserve.compile(kan, ["numpy_source"], name="line")
        >>> artifact.kan().shape
        (1, 1)
        """
        return self._kan

    @cached_property
    def _kan(self) -> Kan:
        kan = serialization.loads(self.files[KAN])
        says = (self.manifest.inputs, self.manifest.outputs, self.manifest.classes)
        if says != (kan.inputs, kan.outputs, kan.classes):
            raise FormatError("The manifest's inputs, outputs or classes are not those of the network.")
        return kan

    @cached_property
    def formulas(self) -> Any:
        """The formulas as data, one per output in "formulas"; `formula.from_json` reads them."""
        return self._formula["formulas"]

    @property
    def evidence(self) -> list[Any]:
        """The evidence for each output's formula, for `uncertainty_report.from_json`, empty without one.

        Raises
        ------
        FormatError
            There is another number of entries than of outputs.
        """
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
        """The golden rows, by which backends are checked.

        Returns
        -------
        tuple of ndarray
            Rows x of shape (n, n_inputs), and the reference outputs y of shape (n, n_outputs).

        Raises
        ------
        FormatError
            They are not of this network.

        Examples
        --------
        >>> import kanserve
        >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
        >>> artifact = kanserve.compile(kan, ["numpy_source"], name="line")
        >>> x, y = artifact.golden()
        >>> x.shape[1], y.shape[1]
        (1, 1)
        """
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
    intervals: Sequence[ConformalInterval] = (),
) -> Artifact:
    """Assemble the artifact of a network; `parts` are the exporters' files, with paths that begin with the format."""
    written = {"formulas": formulas, "metrics": metrics_out(metrics), "evidence": evidence}
    x, y = (np.ascontiguousarray(array, np.float64) for array in golden)
    # Earlier servers cannot read compact networks, so only large ones are written so.
    compact = sum(layer.affine.nbytes for layer in kan.layers) > _COMPACT_BYTES
    files = {
        KAN: serialization.dumps(kan, compact=compact),
        FORMULA: canonical(written, FORMULA, indent=None),
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
        intervals=tuple(intervals),
    )
    return Artifact(manifest, files)
