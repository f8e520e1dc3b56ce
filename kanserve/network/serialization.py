"""A network as one safetensors file: a JSON header and the arrays, without code.

Tensors are named `layers.{l}.{field}` and `{input,output}_{shift,scale}`. The header's only entry, `kan` (the order of
several would be undefined), is a SHA-256 of the rest of the entry and of all tensors, a space, and JSON: the format's
version, variables, classes, and per layer its order, base, extrapolation and the names of its functions (the tensor
`layers.{l}.functions` holds indices into them, -1 for none). Infinite ranges are null in the JSON. The checksum keeps a
damaged file from loading as another network.

Version 1 has every tensor. In version 2 layers lack `affine` where it is `neutral_affine`, as it is without functions.
In version 3, which only networks with them have, inputs may have a `fill_value`, `categories` and `category_values`,
and layers may lack `affine` too. A network that knows which rows it was fitted to has their hashes in the tensor
`fitted_rows`, in every version, and a mean of networks has the file of each in a tensor `members.{number}`. Inputs may
have `bin_edges` and `bin_counts` in every version. Readers that do not know these tensors and keys pass them over. A
member has no members itself, so that a file cannot nest deeply.
"""

import hashlib
import json
import math
import os
import struct
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as _load_tensors
from safetensors.numpy import save as _save_tensors

from kanserve.errors import FormatError, NetworkError, NotFoundError, reason
from kanserve.network.encoding import encodes
from kanserve.network.kan import Kan, Layer, Variable, require_kan
from kanserve.network.layer import neutral_affine

VERSION, COMPACT, ENCODED = 1, 2, 3
MEMBER = "members."  # the names of the tensors that hold the networks of a mean begin so
_LONGEST_NAME = 10_000
_LOOKED_AT = 8  # bytes
_LARGEST = sys.float_info.max
_ARRAYS = (
    "knots",
    "coefficients",
    "base_weight",
    "affine",
    "subnode_scale",
    "subnode_bias",
    "arity",
    "node_scale",
    "node_bias",
)
_AFFINES = ("input_shift", "input_scale", "output_shift", "output_scale")


def dumps(kan: Kan, *, compact: bool = False) -> bytes:
    """The network's bytes; equal networks fitted to the same rows give equal bytes. `compact` leaves out neutral
    affines, a third of a network of splines; earlier versions of kanserve cannot read that."""
    tensors: dict[str, np.ndarray[Any, Any]] = {name: getattr(kan, name) for name in _AFFINES}
    layers = []
    for number, layer in enumerate(kan.layers):
        names = sorted(set(layer.functions.ravel().tolist()) - {""})
        index = {name: position for position, name in enumerate(names)} | {"": -1}
        tensors |= {f"layers.{number}.{name}": getattr(layer, name) for name in _ARRAYS}
        if compact and layer.affine.tobytes() == neutral_affine(*layer.functions.shape).tobytes():
            del tensors[f"layers.{number}.affine"]
        tensors[f"layers.{number}.functions"] = np.vectorize(index.__getitem__, otypes=[np.int16])(layer.functions)
        layers.append(
            {"order": layer.order, "base": layer.base, "extrapolation": layer.extrapolation, "functions": names}
        )
    if len(kan.fitted_rows):
        tensors["fitted_rows"] = kan.fitted_rows
    for number, member in enumerate(kan.members):
        tensors[f"{MEMBER}{number}"] = np.frombuffer(dumps(replace(member, members=()), compact=compact), np.uint8)
    whole = all(f"layers.{number}.affine" in tensors for number in range(len(layers)))
    header = {
        "version": ENCODED if encodes(kan) else VERSION if whole else COMPACT,
        "inputs": [variable_out(variable) | _bins_out(variable) for variable in kan.inputs],
        "outputs": [variable_out(output) for output in kan.outputs],
        "classes": list(kan.classes),
        "layers": layers,
    }
    text = json.dumps(header, ensure_ascii=True, sort_keys=True, allow_nan=False)
    ordered = {name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}
    return _save_tensors(ordered, metadata={"kan": f"{checksum(text, ordered)} {text}"})


def checksum(text: str, tensors: Mapping[str, np.ndarray[Any, Any]]) -> str:
    """The SHA-256 in hexadecimal of the JSON, and of every tensor's name, type, shape and bytes."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\n{name} {tensor.dtype.str} {tensor.shape}\n".encode())
        digest.update(np.ascontiguousarray(tensor).tobytes())
    return digest.hexdigest()


def loads(data: bytes) -> Kan:
    """Read a network from bytes. Raises FormatError if they are not a valid network."""
    try:
        header, tensors = _unpack(data)
        version = header["version"]
        if version not in (VERSION, COMPACT, ENCODED):
            raise FormatError(
                f"The network has format version {version!r}; this kanserve reads versions {VERSION} to {ENCODED}."
            )
        for number in range(len(header["layers"]) if version != VERSION else 0):
            neutral = neutral_affine(*tensors[f"layers.{number}.functions"].shape)
            tensors.setdefault(f"layers.{number}.affine", neutral)
        layers = tuple(_layer_in(number, fields, tensors) for number, fields in enumerate(header["layers"]))
        kan = Kan(
            layers=layers,
            inputs=tuple(variable_in(variable) for variable in header["inputs"]),
            outputs=tuple(variable_in(variable) for variable in header["outputs"]),
            classes=tuple(str(name) for name in header["classes"]),
            fitted_rows=_hashes_in(tensors),
            members=_members_in(tensors),
            **{name: tensors[name] for name in _AFFINES},
        )
        if encodes(kan) is not (version == ENCODED):
            raise FormatError(f"Format version {ENCODED} is of networks with fill values or categories, and only that.")
        return kan
    except FormatError:
        raise
    except NetworkError as error:
        raise FormatError(f"The file's arrays do not make a network: {error}") from None
    except (
        SafetensorError,
        ValueError,
        KeyError,
        TypeError,
        IndexError,
        OverflowError,
        struct.error,
        RecursionError,
    ) as error:
        if data and b"\0" not in data[:_LOOKED_AT]:  # a header of safetensors begins with its length
            raise FormatError(
                "This is not a kanserve network but text, such as a table: give the .safetensors file that "
                "'kanserve fit' or kanserve.save wrote."
            ) from None
        raise FormatError(f"This is not a kanserve network (a 'kan' header in safetensors): {reason(error)}.") from None


def _unpack(data: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray[Any, Any]]]:
    """The header and the arrays. Raises FormatError if they do not match their checksum."""
    tensors = _load_tensors(data)
    (size,) = struct.unpack("<Q", data[:8])
    metadata = json.loads(data[8 : 8 + size])["__metadata__"]
    digest, _, text = metadata["kan"].partition(" ")
    if checksum(text, tensors) != digest:
        raise FormatError("The network's file differs from its checksum: it is damaged. Make it again.")
    return json.loads(text), tensors


def save(kan: Kan, path: str | os.PathLike[str]) -> None:
    """Write the network to one file, atomically.

    Parameters
    ----------
    kan : Kan
        The network.
    path : str or path
        The file, by convention *.safetensors; an existing file is replaced.

    Raises
    ------
    NotFoundError
        The folder of the file is not there.

    Examples
    --------
    >>> import kanserve, tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "kan.safetensors"
    >>> kanserve.save(kanserve.create([2, 1]), path)
    >>> kanserve.load(path).shape
    (2, 1)
    """
    require_kan(kan)
    write_atomically(Path(path), dumps(kan))


def write_atomically(target: Path, data: bytes) -> None:
    """Write to a temporary file in the same folder, then rename it."""
    if not target.parent.is_dir():
        raise NotFoundError(f"The folder {str(target.parent)!r} does not exist. Make it first, or choose another.")
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def load(path: str | os.PathLike[str]) -> Kan:
    """Read a network from one file; NotFoundError or FormatError.

    Parameters
    ----------
    path : str or path
        A file that `save` wrote.

    Returns
    -------
    Kan
        The network.

    Raises
    ------
    NotFoundError
        The file is missing.
    FormatError
        It holds no network, or is damaged.

    Examples
    --------
    >>> import kanserve, tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "kan.safetensors"
    >>> kanserve.save(kanserve.create([2, 1]), path)
    >>> kanserve.load(path)
    Kan(2-1, 2 edges, inputs x1, x2)
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise NotFoundError(f"The file {os.fspath(path)!r} does not exist.") from None
    except IsADirectoryError:
        raise FormatError(f"{os.fspath(path)!r} is a folder; a network is one .safetensors file.") from None
    return loads(data)


def _layer_in(number: int, header: dict[str, Any], tensors: dict[str, np.ndarray[Any, Any]]) -> Layer:
    names = np.array([*(str(name) for name in header["functions"]), ""])
    index = tensors[f"layers.{number}.functions"]
    if index.dtype.kind != "i" or (index < -1).any():
        raise FormatError("The indices of functions must be integers from -1 up.")
    if type(header["order"]) is not int or tensors[f"layers.{number}.arity"].dtype.kind != "i":
        raise FormatError("The order of a layer and the arity of its nodes must be integers.")
    return Layer(
        functions=names[index],
        order=header["order"],
        base=header["base"],
        extrapolation=header["extrapolation"],
        **{name: tensors[f"layers.{number}.{name}"] for name in _ARRAYS},
    )


def _hashes_in(tensors: Mapping[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, np.dtype[np.uint64]]:
    hashes = tensors.get("fitted_rows", np.empty(0, np.uint64))
    if hashes.dtype != np.uint64:
        raise FormatError("The hashes of the fitted rows must be whole numbers of 64 bits.")
    return hashes


def _members_in(tensors: Mapping[str, np.ndarray[Any, Any]]) -> tuple[Kan, ...]:
    count = sum(name.startswith(MEMBER) for name in tensors)
    files = [tensors[f"{MEMBER}{number}"].tobytes() for number in range(count)]
    for file in files:  # before one is read, since each level of a nested file would be held in memory
        if any(name.startswith(MEMBER) for name in _load_tensors(file)):
            raise FormatError("A member of this mean of networks has members itself, which kanserve does not write.")
    return tuple(map(loads, files))


def variable_out(variable: Variable) -> dict[str, Any]:
    """A variable as JSON data, here and in the other files of an artifact; infinite ends of its range become null."""
    low, high = (float(end) if math.isfinite(end) else None for end in (variable.low, variable.high))
    entry: dict[str, Any] = {"name": variable.name, "unit": variable.unit, "low": low, "high": high}
    if variable.fill_value is not None:
        entry["fill_value"] = float(variable.fill_value)
    if variable.categories:
        entry |= {
            "categories": list(variable.categories),
            "category_values": list(map(float, variable.category_values)),
        }
    return entry


def variable_in(entry: Any) -> Variable:
    """Read a variable from the JSON of `variable_out`. Raises FormatError, KeyError or TypeError if it is invalid."""
    name, unit = entry["name"], entry["unit"]
    if not (isinstance(name, str) and isinstance(unit, str) and len(name) + len(unit) <= _LONGEST_NAME):
        raise FormatError(f"The name and unit of a variable are texts of at most {_LONGEST_NAME} characters together.")
    if not all(end is None or _is_number(end) for end in (entry["low"], entry["high"])):
        raise FormatError("The range of a variable must be finite numbers or null.")
    return Variable(
        name,
        unit,
        -math.inf if entry["low"] is None else float(entry["low"]),
        math.inf if entry["high"] is None else float(entry["high"]),
        *_encoding_in(entry),
        *_bins_in(entry),
    )


def _bins_out(variable: Variable) -> dict[str, Any]:
    """The bins of the training rows, which only the network's own file has: older readers pass them over."""
    if not variable.bin_counts:
        return {}
    return {"bin_edges": list(map(float, variable.bin_edges)), "bin_counts": list(map(int, variable.bin_counts))}


def _bins_in(entry: Any) -> tuple[tuple[float, ...], tuple[int, ...]]:
    edges, counts = entry.get("bin_edges", []), entry.get("bin_counts", [])
    if not (isinstance(edges, list) and isinstance(counts, list) and all(map(_is_number, edges))):
        raise FormatError("The bin_edges of a variable must be a list of finite numbers.")
    if not all(type(count) is int for count in counts):
        raise FormatError("The bin_counts of a variable must be a list of whole numbers.")
    return tuple(map(float, edges)), tuple(counts)


def _encoding_in(entry: Any) -> tuple[float | None, tuple[str, ...], tuple[float, ...]]:
    fill, categories, numbers = (entry.get(part) for part in ("fill_value", "categories", "category_values"))
    for part in (categories, numbers):
        if part is not None and not (isinstance(part, list) and part):
            raise FormatError("The categories of a variable, and their numbers, are lists that are not empty.")
    words, values = categories or (), numbers or ()
    if not all(map(_is_number, [*values, 0.0 if fill is None else fill])):
        raise FormatError("The fill value of a variable, and those of its categories, must be finite numbers.")
    if not all(isinstance(word, str) and len(word) <= _LONGEST_NAME for word in words):
        raise FormatError(f"The categories of a variable are texts of at most {_LONGEST_NAME} characters each.")
    return None if fill is None else float(fill), tuple(words), tuple(map(float, values))


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= _LARGEST
