"""Read files of arrays: torch, safetensors and NumPy's .npz, told apart by their content. No code in a file is run
(torch reads with `weights_only`, NumPy without pickle), and declared sizes are checked against the file's length
first."""

import io
import math
import re
import struct
import warnings
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import CheckpointError, MissingDependencyError, reason
from kanserve.importers.arrays import SLACK, arrays_of, clip_key, with_article

_END_OF_ARCHIVE = b"PK\x05\x06"
_BEFORE_ARCHIVES = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"  # the first bytes of torch's legacy format
_SAFE_TORCH = [2, 6]  # before it, `weights_only` could be made to run code (CVE-2025-32434)
_PACKED = 16  # the largest compression ratio, apart from the slack
_SAFETENSORS = {
    **{"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1"},
    **{"U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?"},
}
_SAVE_THE_STATE = "save the numbers alone, torch.save(model.state_dict(), path), and give that"


def parse(data: bytes, name: str) -> dict[str, NDArray[Any]]:
    """The arrays in a file's bytes. Raises CheckpointError, with the file's `name`, for an unknown format."""
    if not data:
        raise CheckpointError(f"{name} is empty.")
    if data[:4] == b"PK\x03\x04":
        entries = _entries(data, name)
        if entries and all(entry.filename.endswith(".npy") for entry in entries):
            return arrays_of(_npz(data, entries, name), name)
        return _torch(data, name, entries)
    if data[8:9] == b"{":
        return arrays_of(_safetensors(data, name), name)
    if data.startswith(_BEFORE_ARCHIVES):
        return _torch(data, name)
    if data[:1] == b"\x80":
        raise CheckpointError(f"{name} is a pickle of Python objects, which is never loaded; {_SAVE_THE_STATE}.")
    if data[:6] == b"\x93NUMPY":
        raise CheckpointError(f"{name} is one array without a name; save all of them with numpy.savez.")
    if data[:8] == b"\x89HDF\r\n\x1a\n":
        raise CheckpointError(f"{name} is HDF5, which is not read; save the arrays with numpy.savez.")
    if b"\0" not in data[:1000]:
        raise CheckpointError(
            f"{name} is text, such as a table, and no checkpoint: give a torch file, .safetensors, .npz or pykan's "
            "checkpoint; kanserve.read_table and 'kanserve fit' read tables."
        )
    raise CheckpointError(
        f"{name} is damaged or of no kind that is read: a torch file, .safetensors, .npz or pykan's checkpoint."
    )


def _entries(data: bytes, name: str) -> list[zipfile.ZipInfo]:
    """The entries of an archive. Their unpacked size must be plausible for the file."""
    # The directory must end the file, as torch and NumPy write it, so that every reader sees the same one.
    if data[-22:-18] != _END_OF_ARCHIVE or data[-2:] != b"\0\0":
        raise CheckpointError(f"{name} is cut off or damaged: its archive has no end. Copy or save it again.")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
    # What zipfile raises for a directory that is damaged, split over disks, or of features that it does not know.
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error, OSError) as error:
        raise CheckpointError(f"{name} is a damaged archive: {reason(error)}.") from None
    names = [entry.filename for entry in entries]
    if len(set(names)) < len(names):
        raise CheckpointError(f"{name} is a damaged archive: it has an entry twice.")
    packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    most = len(data) * (_PACKED if packed else 1) + (SLACK if packed else 0)
    if (total := sum(entry.file_size for entry in entries)) > most:
        raise CheckpointError(f"{name} has {len(data)} bytes and would unpack to {total}: it is not a checkpoint.")
    return entries


def _npz(data: bytes, entries: list[zipfile.ZipInfo], name: str) -> dict[str, NDArray[Any]]:
    found = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for entry in entries:
            key = entry.filename.removesuffix(".npy")
            try:
                values = archive.read(entry)
            except Exception as error:  # a damaged entry may raise anything in zipfile and the decompressors
                raise CheckpointError(f"{name}: {clip_key(key)} is damaged: {reason(error)}.") from None
            found[key] = _npy(values, key, name)
    return found


def _npy(data: bytes, key: str, name: str) -> NDArray[Any]:
    stream = io.BytesIO(data)
    try:
        major, _ = np.lib.format.read_magic(stream)
        header = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
        shape, columns_first, dtype = header(stream)
    except Exception:  # the header is a Python literal; a damaged one may raise anything in the parser
        raise CheckpointError(f"{name}: the header of {clip_key(key)} is damaged.") from None
    if dtype.hasobject:
        raise CheckpointError(f"{name}: {clip_key(key)} holds Python objects, which are never loaded; save numbers.")
    values = data[stream.tell() :]
    if dtype.itemsize * math.prod(shape) != len(values):
        raise CheckpointError(
            f"{name}: {clip_key(key)} has {len(values)} bytes, and its shape {shape} needs {dtype.itemsize}·"
            f"{math.prod(shape)}: it is damaged."
        )
    return np.frombuffer(values, dtype).reshape(shape, order="F" if columns_first else "C")


def _safetensors(data: bytes, name: str) -> dict[str, NDArray[Any]]:
    from safetensors import SafetensorError, deserialize

    try:
        tensors = deserialize(data)  # type: ignore[no-untyped-call] # checks shapes, types and offsets against the file
    except (SafetensorError, ValueError, OverflowError) as error:
        raise CheckpointError(f"{name} is a damaged safetensors file: {reason(error)}.") from None
    found = {}
    for key, facts in tensors:
        if facts["dtype"] == "BF16":  # the upper half of a float32
            array = (np.frombuffer(facts["data"], "<u2").astype(np.uint32) << 16).view(np.float32)
        elif facts["dtype"] in _SAFETENSORS:
            array = np.frombuffer(facts["data"], _SAFETENSORS[facts["dtype"]])
        else:
            raise CheckpointError(f"{name}: {clip_key(key)} has the type {facts['dtype']}; wanted real numbers.")
        found[key] = array.reshape(facts["shape"])
    return found


def _torch(data: bytes, name: str, entries: list[zipfile.ZipInfo] | None = None) -> dict[str, NDArray[Any]]:
    if entries is not None and not any(entry.filename.endswith("data.pkl") for entry in entries):
        raise CheckpointError(f"{name} is an archive of neither torch nor NumPy.")
    try:
        import torch
    except ImportError:
        raise MissingDependencyError("torch", "import") from None
    if [int(part) for part in re.findall(r"\d+", torch.__version__)[:2]] < _SAFE_TORCH:
        raise MissingDependencyError("torch>=2.6", "import")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about its own older file formats
            loaded = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except MemoryError:
        raise CheckpointError(f"{name} is damaged: it asks for more memory than there is.") from None
    except Exception as error:  # a damaged or hostile pickle may raise anything in torch's reader
        raise CheckpointError(_refusal(str(error) or type(error).__name__, name)) from None
    if not isinstance(loaded, Mapping):
        raise CheckpointError(
            f"{name} holds {with_article(type(loaded).__name__)}, not a state_dict; {_SAVE_THE_STATE}."
        )
    return arrays_of(loaded, name, most=len(data) + SLACK)


def _refusal(text: str, name: str) -> str:
    """kanserve's message for an error of torch."""
    if "TorchScript" in text:
        return f"{name} is a compiled program (TorchScript), which is never loaded; {_SAVE_THE_STATE}."
    if found := re.search(r"GLOBAL ([A-Za-z_][\w.]{0,100})", text):
        return f"{name} holds Python objects ({found[1]}), which are never loaded; {_SAVE_THE_STATE}."
    _, _, said = text.partition("(Could this")[0].rpartition("WeightsUnpickler error:")
    return f"{name} is cut off or damaged, or no torch file: {reason(said)}."
