"""Files that an attacker or a bad disk could make of good ones, with right checksums where there are some.

Each function makes `count` of them, reads them, lets no error pass but the declared ones, and counts those.
"""

import copy
import hashlib
import json
import random
import struct
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from kanserve.artifact import Artifact, Entry, Manifest, format
from kanserve.errors import DataError, FormatError
from kanserve.formula import evaluate_tree, formulas, from_json, to_json
from kanserve.network import serialization
from kanserve.network.evaluate import evaluate
from tests.support.artifacts import sealed, small
from tests.support.networks.kans import classifier, mixed, one_edge, symbolic

JUNK: list[Any] = [
    *(None, True, -1, 0, 1, 2.5, 1e308, 10**400, 2**63, 2**31, "", "sin", "var", [], {}, [[]], {"a": 1}),
    *(float("nan"), "\0", "../../etc/passwd", "9**9**9", "\ud800"),
]


def mutated(data: Any, rng: random.Random, junk: list[Any] = JUNK) -> Any:
    """JSON data with one random place replaced, removed or doubled."""
    data = copy.deepcopy(data)
    places = []
    stack = [data]
    while stack:
        one = stack.pop()
        for key in one if isinstance(one, dict) else range(len(one)):
            places.append((one, key))
            if isinstance(one[key], dict | list):
                stack.append(one[key])
    owner, key = rng.choice(places)
    match rng.randrange(3):
        case 0:
            del owner[key]
        case 1:
            owner[key] = rng.choice(junk)
        case _:
            inside, where = rng.choice(places)
            owner[key] = copy.deepcopy(inside[where])
    return data


def trees(count: int, seed: int = 0) -> int:
    rng = random.Random(seed)
    x = np.random.default_rng(0).uniform(-1, 1, (3, 2))
    originals = [json.loads(json.dumps(to_json(formulas(kan)))) for kan in (symbolic(), mixed())]
    refused = 0
    for _ in range(count):
        data = rng.choice(originals)
        for _ in range(rng.choice((1, 1, 2))):
            data = mutated(data, rng)
        try:
            for formula in from_json(data):
                evaluate_tree(formula.tree, formula.tables, x)
        except (FormatError, DataError):
            refused += 1
    return refused


def manifests(count: int, seed: int = 1) -> int:
    """Bytes and values of manifests."""
    body, rng = format.dumps(small().manifest).split(b"\n", 2)[2], random.Random(seed)
    value = json.loads(b"{" + body)
    refused = 0
    for number in range(count):
        if number % 2:
            damaged = bytearray(body)
            for _ in range(rng.choice((1, 1, 2, 5))):
                _damage(damaged, body, rng)
        else:
            text = json.dumps(mutated(value, rng), sort_keys=True, indent=1)
            damaged = bytearray(text.removeprefix("{\n").encode() + b"\n")
        try:
            format.loads(sealed(bytes(damaged)))
        except FormatError:
            refused += 1
    return refused


def _damage(damaged: bytearray, body: bytes, rng: random.Random) -> None:
    if not damaged:
        return
    position = rng.randrange(len(damaged))
    match rng.randrange(3):
        case 0:
            damaged[position] = rng.choice(b'0123456789"{}[]:, \nnaex\\\x00\xff')
        case 1:
            del damaged[position : position + rng.randrange(1, 20)]
        case 2:
            damaged[position:position] = body[position - 30 : position]


def golden(count: int, seed: int = 2) -> int:
    """Headers of golden.safetensors; whatever is read has the shape that was promised."""
    artifact, rng = small(), random.Random(seed)
    refused = 0
    for _ in range(count):
        data = _damaged_header(artifact.files["golden.safetensors"], rng)
        entry = Entry(hashlib.sha256(data).hexdigest(), len(data))
        files = {**artifact.manifest.files, "golden.safetensors": entry}
        manifest = Manifest("model", artifact.manifest.inputs, artifact.manifest.outputs, files)
        try:
            x, y = Artifact(manifest, {**artifact.files, "golden.safetensors": data}).golden()
            assert x.shape[1] == y.shape[1] == 1 and x.dtype == y.dtype == np.float64
        except FormatError:
            refused += 1
    return refused


def networks(count: int, seed: int = 3) -> int:
    """Headers, values and arrays of kan.safetensors; whatever is read can be evaluated."""
    rng = random.Random(seed)
    originals = [serialization.dumps(kan) for kan in (one_edge(), symbolic(), mixed(), classifier())]
    refused = 0
    for number in range(count):
        data = rng.choice(originals)
        data = _damaged_header(data, rng) if number % 3 == 0 else _resealed(data, rng, arrays=number % 3 == 1)
        try:
            kan = serialization.loads(data)
        except FormatError:
            refused += 1
            continue
        with np.errstate(all="ignore"):
            evaluate(kan, np.full((1, len(kan.inputs)), 0.25))
    return refused


def _damaged_header(data: bytes, rng: random.Random) -> bytes:
    (size,) = struct.unpack("<Q", data[:8])
    damaged = bytearray(data)
    for _ in range(rng.choice((1, 2, 3))):
        damaged[rng.randrange(8 + size)] = (
            rng.choice(b'0123456789[]{}",:FUI') if rng.random() < 0.8 else rng.randrange(256)
        )
    return bytes(damaged)


def _resealed(data: bytes, rng: random.Random, arrays: bool) -> bytes:
    """With another value in its JSON or another array, and a right checksum."""
    (size,) = struct.unpack("<Q", data[:8])
    text = json.loads(data[8 : 8 + size])["__metadata__"]["kan"].partition(" ")[2]
    tensors = load(data)
    if arrays:
        name = rng.choice(sorted(tensors))
        tensors[name] = _another(tensors[name], rng)
        if rng.random() < 0.1:
            del tensors[name]
    else:
        text = json.dumps(mutated(json.loads(text), rng))
    text = text.replace("\\ud800", "?")  # which safetensors itself does not write
    return save(tensors, metadata={"kan": f"{serialization.checksum(text, tensors)} {text}"})


def _another(one: np.ndarray[Any, Any], rng: random.Random) -> np.ndarray[Any, Any]:
    match rng.randrange(6):
        case 0:
            kinds = ("f4", "f8", "i2", "i8", "u1", "?")
            with np.errstate(all="ignore"):
                return one.astype(rng.choice(kinds))
        case 1:
            return one.reshape(-1)
        case 2:
            return np.ascontiguousarray(one[..., :-1]) if one.ndim else one.reshape(1)
        case 3:
            return np.zeros((0, *one.shape[1:]), one.dtype)
        case 4:
            return np.concatenate([one, one]) if one.ndim else one
        case _:
            changed = one.copy()
            if changed.size:
                value = rng.choice((np.nan, np.inf, -1e308, 0.0, -1.0, 30_000.0))
                if changed.dtype.kind != "f" and not np.isfinite(value):
                    value = -7.0
                with np.errstate(all="ignore"):
                    changed.reshape(-1)[rng.randrange(changed.size)] = np.float64(value).astype(changed.dtype)
            return changed
