"""Checkpoints that try to run something, to fill memory or to last for ever, and what became of each.

`python -m tests.support.faults.hostile_checkpoints FOLDER` writes and reads them in a process of its own, under an
audit hook, and prints a line of JSON for each: its name, the error, and what was done that reading a file does not
need.
"""

import io
import json
import os
import pickle
import struct
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kanserve import importers
from kanserve.errors import CheckpointError
from tests.support.paths import ROOT
from tests.support.peers import library_checkpoints

MARK = "was-run"  # the file that every payload would write
_LIBRARIES = ("kan", "inkan", "jaxkan", "efficient_kan", "fastkan", "evil")
_DEEDS: tuple[str, ...] = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "subprocess.",
    "pty.",
    "socket.",
    "ctypes.",
    "shutil.",
)
_DEEDS += ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod")
_DEEDS += ("os.putenv", "os.kill", "pickle.", "marshal.", "urllib.", "webbrowser.", "code.__new__")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Deeds:
    """What the process does while it is watched, beyond reading files."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.watching = False
        self.roots = tuple({sys.prefix, sys.base_prefix, str(ROOT)})
        sys.addaudithook(self._hear)

    def _hear(self, event: str, given: tuple[Any, ...]) -> None:
        if not self.watching:
            return
        if event.startswith(_DEEDS):
            self.seen.append(event)
        elif event == "open" and (any(c in str(given[1] or "") for c in "wax+") or (given[2] or 0) & _WRITING):
            self.seen.append(f"open {given[0]} to write")
        elif event == "import" and str(given[0]).partition(".")[0] in _LIBRARIES:
            self.seen.append(f"import {given[0]}")
        elif event == "exec" and not self._of_a_package(getattr(given[0], "co_filename", "")):
            self.seen.append("exec")
        # NumPy's headers are literals, which are parsed and not run.
        elif event == "compile" and given[1] != "<unknown>" and not self._of_a_package(str(given[1])):
            self.seen.append("compile")

    def _of_a_package(self, file: str) -> bool:
        """Whether code is of a module that is imported late, and not of a file."""
        return file.startswith((*self.roots, "<frozen"))


class Payload:
    """What pickle would run when it makes this."""

    def __init__(self, function: Any, *given: Any) -> None:
        self.call = function, given

    def __reduce__(self) -> Any:
        return self.call


def payloads() -> dict[str, Payload]:
    return {
        "system": Payload(os.system, f"touch {MARK}"),
        "eval": Payload(eval, f"open({MARK!r}, 'w')"),
        "exec": Payload(exec, f"open({MARK!r}, 'w')"),
        "open": Payload(open, MARK, "w"),
        "import": Payload(__import__, "evil"),
        "torch": Payload(torch.hub.load, ".", "evil"),
    }


def torch_bytes(given: Any, old: bool = False) -> bytes:
    stream = io.BytesIO()
    torch.save(given, stream, _use_new_zipfile_serialization=not old)
    return stream.getvalue()


def archive(entries: dict[str, bytes], packed: bool = False) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as file:
        for name, data in entries.items():
            file.writestr(name, data)
    return stream.getvalue()


def safetensors_bytes(header: Any, data: bytes = b"") -> bytes:
    text = json.dumps(header).encode() if not isinstance(header, bytes) else header
    return struct.pack("<Q", len(text)) + text + data


def state() -> dict[str, torch.Tensor]:
    return {name: torch.tensor(array) for name, array in library_checkpoints.ARRAYS["pykan"]().items()}


def settings_files() -> Iterator[tuple[str, bytes]]:
    """Settings of pykan that are something else."""
    good = library_checkpoints.settings()
    touch = f"['touch {MARK}']"
    for place, text in {
        "width": good.replace("width:", "width_:"),
        "base_fun_name": good.replace("base_fun_name: silu\n", ""),
        "mult_arity": good.replace("mult_arity: 2\n", ""),
        "symbolic.funs_name.0": good.replace("symbolic.funs_name.0", "names"),
    }.items():
        for kind, tag in {
            "apply": f"!!python/object/apply:os.system {touch}",
            "new": f"!!python/object/new:os.system {touch}",
            "popen": f"!!python/object/apply:subprocess.Popen [{touch}]",
            "eval": f"!!python/object/apply:builtins.eval [\"open('{MARK}', 'w')\"]",
            "name": "!!python/name:evil.name ''",
            "module": "!!python/module:evil ''",
            "object": "!!python/object:evil.Thing {a: 1}",
            "state": "!!python/object/new:type {state: !!python/tuple [a, b]}",
            "unknown": "!evil x",
            "binary": "!!binary gIWVKQ==",
            "set": "!!set {a, b}",
        }.items():
            yield f"{place} {kind}", f"{text}{place}: {tag}\n".encode()
    yield "root object", f"!!python/object/apply:os.system {touch}".encode()
    yield "a key that is an object", f"{good}? !!python/object/apply:os.system {touch}\n: 1\n".encode()
    laughs = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
    yield "a billion laughs", f"{good}a0: &a0 [lol]\n{laughs}".encode()
    yield "laughs as names", f"{good}a: &a {{}}\n? *a\n: 1\n".encode()
    yield "itself", f"{good}a: &a [*a]\n".encode()
    yield "an alias of nothing", f"{good}a: *b\n".encode()
    yield "deep", f"{good}a: {'[' * 100_000}".encode()
    yield "deep and closed", f"{good}a: {'[' * 500}{']' * 500}".encode()
    yield "deep names", f"{good}a: {'{a: ' * 5000}".encode()
    yield "deep blocks", f"{good}a:\n{''.join(' ' * n + '-' + chr(10) for n in range(1, 2000))}".encode()
    yield "a long number", f"{good}a: {'9' * 1_000_000}\n".encode()
    yield "a number of base sixty", f"{good}a: 1{':59' * 100_000}\n".encode()
    yield "a number too large", good.replace("k: 3", "k: 1e999").encode()
    yield "large", b"#" * (17 << 20)
    yield "twice", f"{good}k: 3\n".encode()
    yield "two documents", f"{good}---\n{good}".encode()
    yield "no text", b"\xff\xfe\x00\xd8" + bytes(range(200, 250))
    yield "control characters", good.encode() + b"a: \x00\x1b\n"
    yield "a bad bool", f"{good}a: !!bool x\n".encode()
    yield "a bad int", f"{good}a: !!int ''\n".encode()
    yield "an open quote", f'{good}a: "x\n'.encode()
    yield "a list", b"- 1\n"
    yield "a word", b"silu"
    yield "nothing", b""
    yield "the state", torch_bytes(state())
    for name, value in {"k": "k: 3", "grid": "grid: 3", "mult_arity": "mult_arity: 2"}.items():
        for wrong in ("-1", "10000000000", ".nan", "[]", "{}", "x", "null", "[[[3]]]", "true", "2020-01-01"):
            yield f"{name} is {wrong}", good.replace(value, f"{name}: {wrong}").encode()
    for wrong in ("[]", "x", "[[2, 0]]", "[[2, 0], [1000000000, 0]]", "[[-2, 4], [1, 0]]", "[2, null]", "{a: b}"):
        yield f"width is {wrong}", (good[: good.index("width:")] + f"width: {wrong}\n").encode()
    for wrong in ("anonymous", "evil", "'__import__(''os'')'", "3", "[sin]", "null", "''"):
        yield f"a function is {wrong}", good.replace("- - sin", f"- - {wrong}").encode()


def array_files() -> Iterator[tuple[str, bytes]]:
    """Files of arrays that are something else."""
    good = library_checkpoints.ARRAYS["pykan"]()
    for name, payload in payloads().items():
        for kind, given in {
            "alone": payload,
            "entry": {**state(), "x": payload},
            "key": {"state_dict": state(), "y": [payload]},
        }.items():
            yield f"torch {name} {kind}", torch_bytes(given)
            yield f"old torch {name} {kind}", torch_bytes(given, old=True)
            for protocol in (0, 2, 4):
                yield f"pickle {protocol} {name} {kind}", pickle.dumps(given, protocol)
            yield (
                f"pickle in an archive {name} {kind}",
                archive({"a/data.pkl": pickle.dumps(given), "a/version": b"3\n"}),
            )
        stream = io.BytesIO()
        np.savez(stream, **good, evil=np.array([payload], object))
        yield f"object array {name}", stream.getvalue()
        stream = io.BytesIO()
        np.save(stream, np.array([payload], object))
        yield f"one object array {name}", stream.getvalue()
    yield "a whole model", torch_bytes(torch.nn.Linear(2, 1))
    yield "a whole model, old", torch_bytes(torch.nn.Linear(2, 1), old=True)
    yield (
        "a compiled program",
        archive({"a/data.pkl": b"", "a/constants.pkl": b"\x80\x02).", "a/version": b"3\n", "a/code/a.py": b"x"}),
    )
    for name, given in {
        "a list": [1, 2],
        "a tensor": torch.zeros(3),
        "a number": 3,
        "nothing": {},
        "numbers": {"act_fun.0.coef": 3},
        "texts": {"act_fun.0.coef": "x" * 10_000},
        "numbers as names": {3: torch.zeros(2)},
        "tuples as names": {(1, 2): torch.zeros(2)},
        "names with lines": {"a\nb\x1b[31m" * 100: torch.zeros(2)},
        "sparse": {**state(), "act_fun.0.coef": torch.zeros(2, 1, 6).to_sparse()},
        "without data": {**state(), "act_fun.0.coef": torch.zeros(2, 1, 6, device="meta")},
        "complex": {**state(), "act_fun.0.coef": torch.zeros(2, 1, 6, dtype=torch.complex64)},
        "one number for billions": {**state(), "act_fun.0.coef": torch.zeros(1).expand(2, 10**9, 6)},
        "nested": {"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": {}}}}}}}}}}},
    }.items():
        yield name, torch_bytes(given)
    laughs: dict[str, Any] = {}
    for _ in range(8):
        laughs = dict.fromkeys(map(str, range(30)), laughs)
    yield "a billion entries", torch_bytes(laughs)
    itself: dict[str, Any] = {}
    itself["a"] = itself
    yield "an entry of itself", torch_bytes(itself)
    many = b"J\x00\x00\x00\x40"  # 2**30, as pickle writes it, where there was 64
    sixty_four = {"act_fun.0.coef": torch.zeros(64)}
    yield "old torch with four gigabytes", torch_bytes(sixty_four, old=True).replace(b"K\x40", many)
    with zipfile.ZipFile(io.BytesIO(torch_bytes(sixty_four))) as file:
        entries = {member.filename: file.read(member) for member in file.infolist()}
    larger = {name: data.replace(b"K\x40", many) if name.endswith(".pkl") else data for name, data in entries.items()}
    yield "torch with four gigabytes", archive(larger)
    zeros = bytes(200 << 20)
    yield "a bomb of NumPy", archive({"act_fun.0.coef.npy": zeros}, packed=True)
    yield "a bomb of torch", archive({"a/data.pkl": b"\x80\x02}.", "a/data/0": zeros}, packed=True)
    del zeros
    yield "entries that overlap", _overlapping()
    header = b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '<f8', 'fortran_order': False, 'shape': (%s,), }"
    for count in (b"1000000000000", b"-1", b"10**9", b"1" * 90, b"[].__class__"):
        text = header.replace(b"%s", count)
        yield f"a shape of {count.decode()}", archive({"a.npy": text[:10] + text[10:].ljust(118)[:118]})
    for kind in ("F64", "F8_E4M3", "C64", "X"):
        for shape in ([10**12], [1, 0], [2**62, 4], [-1]):
            facts = {"act_fun.0.coef": {"dtype": kind, "shape": shape, "data_offsets": [0, 8]}}
            yield f"safetensors of {shape} {kind}", safetensors_bytes(facts, bytes(8))
    yield "safetensors that say too much", struct.pack("<Q", 2**62) + b"{" + bytes(100)
    yield "safetensors of braces", safetensors_bytes(b"{" * 100_000)
    yield "empty", b""
    yield "one byte", b"P"
    yield "text", b"hello " * 100
    yield "HDF5", b"\x89HDF\r\n\x1a\n" + bytes(100)
    yield "an archive of others", archive({"a.txt": b"hello"})
    yield "an empty archive", archive({})


def _overlapping() -> bytes:
    """An archive in which many names stand for the same bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr("a/data.pkl", bytes(1 << 20))
        one = file.infolist()[0]
        for n in range(500):
            other = zipfile.ZipInfo(f"a/data/{n}")
            for name in ("header_offset", "compress_size", "file_size", "CRC", "compress_type"):
                setattr(other, name, getattr(one, name))
            file.filelist.append(other)
    return stream.getvalue()


def damaged(data: bytes, seed: int, cuts: int, flips: int) -> Iterator[tuple[str, bytes]]:
    """A good file cut off at many lengths, and with bytes changed at random."""
    rng = np.random.default_rng(seed)
    for length in sorted({*range(0, 20), *rng.integers(0, len(data), cuts).tolist(), len(data) - 1}):
        yield f"cut at {length}", data[:length]
    for n in range(flips):
        changed = bytearray(data)
        for place in rng.integers(0, min(len(data), 4096 if n % 2 else len(data)), rng.integers(1, 4)):
            changed[place] = rng.integers(256)
        yield f"flipped {n}", bytes(changed)


def good_files() -> dict[str, bytes]:
    """One of each kind."""
    arrays = library_checkpoints.ARRAYS["efficient-kan"]()
    tensors = {name: torch.tensor(array) for name, array in arrays.items()}
    plain, packed = io.BytesIO(), io.BytesIO()
    np.savez(plain, **arrays)
    np.savez_compressed(packed, **arrays)
    import safetensors.numpy

    return {
        "torch": torch_bytes(tensors),
        "old torch": torch_bytes(tensors, old=True),
        "npz": plain.getvalue(),
        "packed npz": packed.getvalue(),
        "safetensors": safetensors.numpy.save(arrays),
    }


def cases(folder: Path) -> Iterator[tuple[str, Path]]:
    """The name of each case, and the path that it is imported from; written just before it is needed."""
    path = folder / "checkpoint"
    for name, data in array_files():
        path.write_bytes(data)
        yield name, path
    for kind, data in good_files().items():
        for name, broken in damaged(data, 0, cuts=30, flips=60):
            path.write_bytes(broken)
            yield f"{kind} {name}", path
    prefix = folder / "model"
    library_checkpoints.save_pykan(prefix)
    for name, data in settings_files():
        Path(f"{prefix}_config.yml").write_bytes(data)
        yield f"settings: {name}", prefix
    for name, data in damaged(library_checkpoints.settings().encode(), 1, cuts=30, flips=60):
        Path(f"{prefix}_config.yml").write_bytes(data)
        yield f"settings: {name}", prefix
    Path(f"{prefix}_config.yml").write_text(library_checkpoints.settings())
    for name, data in array_files():
        Path(f"{prefix}_state").write_bytes(data)
        yield f"state: {name}", prefix
    yield from _places(folder, prefix)


def _places(folder: Path, prefix: Path) -> Iterator[tuple[str, Path]]:
    """What is no file, or not the one that it seems."""
    Path(f"{prefix}_state").unlink()
    yield "no state", prefix
    Path(f"{prefix}_state").mkdir()
    yield "a state that is a folder", prefix
    Path(f"{prefix}_config.yml").unlink()
    yield "settings that are not there", Path(f"{prefix}_config.yml")
    yield "a folder", folder
    yield "nothing there", folder / "absent"
    yield "below a file", folder / "checkpoint/x"
    yield "a long name", folder / ("x" * 5000)
    for name, target in {"loop": "loop", "dangling": "absent", "device": "/dev/zero", "to a folder": "."}.items():
        (folder / name).symlink_to(target)
        yield f"a link: {name}", folder / name
    os.mkfifo(folder / "pipe")
    yield "a pipe", folder / "pipe"
    (folder / "huge").touch()
    os.truncate(folder / "huge", 5 << 30)
    yield "a file of five gigabytes", folder / "huge"


def main(folder: Path) -> None:
    """Print a line for each case."""
    os.chdir(folder)
    deeds = Deeds()
    for data in (*good_files().values(), b"", torch_bytes(torch.nn.Linear(1, 1))):  # whatever is imported late
        (folder / "first").write_bytes(data)
        _outcome(folder / "first")
    library_checkpoints.save_pykan(folder / "first_model")
    _outcome(folder / "first_model")
    for name, path in cases(folder):
        before, start = _peak(anew=True), time.process_time()
        deeds.watching = True
        kind, said = _outcome(path)
        deeds.watching = False
        facts = {
            "seconds": time.process_time() - start,
            "grown": _peak() - before,
            "held": before,
            "deeds": deeds.seen.copy(),
        }
        deeds.seen.clear()
        print(json.dumps({"name": name, "kind": kind, "said": said, **facts}), flush=True)


def _peak(anew: bool = False) -> int:
    """The most bytes that the process has had, from now on if `anew`; 0 where Linux does not say it."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    if anew:
        Path("/proc/self/clear_refs").write_text("5")
    (line,) = (one for one in status.read_text().splitlines() if one.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def _outcome(path: Path) -> tuple[str, str]:
    """What comes of it: "network", or the kind of error and what it says."""
    try:
        importers.from_checkpoint(path)
    except (CheckpointError, OSError) as error:
        return ("refused" if isinstance(error, CheckpointError) else "OSError"), str(error)
    except BaseException as error:  # whatever else there is, is what we look for
        return type(error).__name__, str(error)
    return "network", ""


if __name__ == "__main__":
    main(Path(sys.argv[1]))
