"""Checkpoints: a fit's results so far, in one file that is always complete, so that a killed fit can resume.

The file is safetensors: networks as the bytes of `serialization.dumps`, and the arrays of an optimizer. The header's
only entry, `checkpoint`, is a SHA-256 of the rest of the entry and of all tensors, a space, and JSON: the format's
version, the fit's arguments and data (the fingerprint), and whether the fit is finished. No code in the file is run.

A fit computes the same numbers with and without checkpoints, so a resumed fit ends with the same network, bit for bit,
wherever it was killed. A new file replaces the old one only once it is on disk: a fit killed while writing leaves the
old file, and a hidden `.part` file that the next write overwrites.
"""

import hashlib
import json
import os
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as _load_tensors
from safetensors.numpy import save as _save_tensors

from kanserve import __version__
from kanserve.artifact.directory import sync_folder
from kanserve.data.dataset import Dataset
from kanserve.errors import ConflictError, FormatError, NotFoundError
from kanserve.network.kan import Kan
from kanserve.network.serialization import checksum, dumps, loads
from kanserve.train.fit_settings import Settings

Array = NDArray[np.float64]

SHARE = 0.05  # of a fit's time that writing may take
HASHED_AT_ONCE = 2**16  # rows

VERSION = 2
_KAN, _ARRAY = "kan.", "array."


@dataclass(eq=False)
class Checkpoint:
    """The results of a fit so far, by name. Nothing is written if `path` is None."""

    path: Path | None = None
    fingerprint: Mapping[str, str] = field(default_factory=dict)
    kans: dict[str, bytes] = field(default_factory=dict)
    arrays: dict[str, Array] = field(default_factory=dict)
    finished: bool = False
    written: float = -np.inf
    took: float = 0.0

    @property
    def due(self) -> bool:
        """Whether enough time has passed to write the file again."""
        return self.path is not None and time.monotonic() - self.written >= self.took / SHARE

    def holds(self, name: str) -> bool:
        return name in self.kans

    def kan(self, name: str) -> Kan:
        return loads(self.kans[name])

    def recall(self, name: str, make: Callable[[], Kan]) -> Kan:
        """Read the network of this name from the checkpoint, or make it with `make` and store it."""
        if self.path is None:
            return make()
        if not self.holds(name):
            self.kans[name] = dumps(make())
            if self.due:
                self.write()
        return self.kan(name)

    def keep(self, kans: Mapping[str, Kan], arrays: Mapping[str, Array]) -> None:
        """Write these, in place of everything stored before."""
        self.kans = {name: dumps(kan) for name, kan in kans.items()}
        self.arrays = dict(arrays)
        self.write()

    def finish(self, kan: Kan) -> None:
        """Store the result, so that repeating the same fit returns it at once."""
        if self.path is not None:
            self.finished = True
            self.keep({"result": kan}, {})

    def write(self) -> None:
        if self.path is not None:
            before = time.monotonic()
            _write(self.path, _bytes(self))
            self.written = time.monotonic()
            self.took = self.written - before


def resume_or_begin(path: str | os.PathLike[str] | None, fingerprint: Mapping[str, str]) -> Checkpoint:
    """The checkpoint in the file, or a new one; nothing is written if the path is None. Raises FormatError for an
    invalid file, ConflictError for another fit's checkpoint."""
    if path is None:
        return Checkpoint()
    name, target = os.fspath(path), Path(path)
    if not target.parent.is_dir():
        raise NotFoundError(f"The folder {os.fspath(target.parent)!r} for the checkpoint does not exist.")
    if target.is_dir():
        raise ConflictError(f"{name!r} is a folder; a checkpoint is one file. Choose another name.")
    if not target.exists():
        fresh = Checkpoint(target, fingerprint)
        fresh.write()  # so that a folder without write access fails now, not after hours
        return fresh
    found = _read(target)
    different = sorted(key for key in {*fingerprint, *found.fingerprint} if not _same(key, fingerprint, found))
    if different:
        raise ConflictError(
            f"The checkpoint {name!r} is of another fit: {', '.join(different)} differ. "
            "Give the arguments and data that it was begun with, choose another file, or remove this one."
        )
    return found


def fingerprint(kan: Kan, data: Dataset, validation: float | Dataset, settings: Settings) -> dict[str, str]:
    """Everything on which the result of a fit depends, as text and checksums."""
    return {
        "the version of kanserve": __version__,
        "the network": hashlib.sha256(dumps(kan)).hexdigest(),
        "the data": _digest(data),
        "validation": _digest(validation) if isinstance(validation, Dataset) else repr(validation),
        **{name: repr(value) for name, value in vars(settings).items()},
    }


def _same(key: str, wanted: Mapping[str, str], found: Checkpoint) -> bool:
    return wanted.get(key) == found.fingerprint.get(key)


def _digest(data: Dataset) -> str:
    digest = hashlib.sha256(repr((data.inputs, data.outputs, data.classes)).encode())
    for array in (data.x, data.y, data.weights):
        if array is not None:
            digest.update(repr(array.shape).encode())
            for start in range(0, len(array), HASHED_AT_ONCE):
                digest.update(array[start : start + HASHED_AT_ONCE].tobytes())
    return digest.hexdigest()


def _bytes(checkpoint: Checkpoint) -> bytes:
    tensors: dict[str, NDArray[Any]] = {
        _ARRAY + name: np.ascontiguousarray(checkpoint.arrays[name]) for name in checkpoint.arrays
    }
    tensors |= {_KAN + name: np.frombuffer(data, np.uint8) for name, data in checkpoint.kans.items()}
    header = {"version": VERSION, "fingerprint": dict(checkpoint.fingerprint), "finished": checkpoint.finished}
    text = json.dumps(header, ensure_ascii=True, sort_keys=True)
    return _save_tensors(tensors, metadata={"checkpoint": f"{checksum(text, tensors)} {text}"})


def _read(path: Path) -> Checkpoint:
    name = os.fspath(path)
    try:
        data = path.read_bytes()
        tensors = _load_tensors(data)
        (size,) = struct.unpack("<Q", data[:8])
        digest, _, text = json.loads(data[8 : 8 + size])["__metadata__"]["checkpoint"].partition(" ")
        header = json.loads(text)
        whole = checksum(text, tensors) == digest
        version = header["version"]
        known, finished = dict(header["fingerprint"]), bool(header["finished"])
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, struct.error, RecursionError):
        raise FormatError(
            f"{name!r} is not a checkpoint, or a damaged one. Remove it, and the fit begins anew; or choose another "
            "file."
        ) from None
    if not whole:
        raise FormatError(f"The checkpoint {name!r} differs from its checksum: it is damaged. Remove it to begin anew.")
    if version != VERSION:
        raise FormatError(f"The checkpoint {name!r} has format version {version!r}; this kanserve reads {VERSION}.")
    return Checkpoint(
        path,
        known,
        {key.removeprefix(_KAN): tensor.tobytes() for key, tensor in tensors.items() if key.startswith(_KAN)},
        {key.removeprefix(_ARRAY): tensor for key, tensor in tensors.items() if key.startswith(_ARRAY)},
        finished,
    )


def _write(path: Path, data: bytes) -> None:
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    sync_folder(path.parent)
