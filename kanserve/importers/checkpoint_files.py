"""Read a checkpoint from its files: pykan's settings and state, or a single file of arrays."""

import os
import stat
from pathlib import Path

from kanserve.data.near_names import first_names
from kanserve.errors import CheckpointError, NotFoundError
from kanserve.importers import pykan_yaml, tensor_files
from kanserve.importers.conversion import Checkpoint

LARGEST = 2 << 30  # bytes of a file of arrays, which is read as a whole
SETTINGS, STATE, CACHE = "_config.yml", "_state", "_cache_data"


def read(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a checkpoint: a file of arrays, or a pykan checkpoint by its `saveckpt` name or either of its files. Raises
    CheckpointError if a file is something else, damaged or a folder; OSError if it cannot be opened."""
    path = Path(path)
    prefix = pykan_prefix(path)
    if prefix is not None:
        return _pykan(prefix)
    return Checkpoint(tensor_files.parse(contents(path, LARGEST), path.name), name=path.name)


def pykan_prefix(path: Path) -> Path | None:
    """The name passed to pykan's `saveckpt`, if the path is that name or one of its files, else None."""
    for ending in (SETTINGS, STATE, CACHE):
        if path.name.endswith(ending) and path.name != ending:
            return path.with_name(path.name.removesuffix(ending))
    if path.is_file() or not path.name:
        return None
    return path if any(_file(path, ending).exists() for ending in (SETTINGS, STATE)) else None


def _pykan(prefix: Path) -> Checkpoint:
    beside, state = _file(prefix, SETTINGS), _file(prefix, STATE)
    # The settings may be missing: the importer says whether it needs them.
    plain = pykan_yaml.parse(contents(beside, pykan_yaml.LARGEST), beside.name) if beside.exists() else {}
    return Checkpoint(
        tensor_files.parse(contents(state, LARGEST), state.name), plain, prefix.name if plain else state.name
    )


def _file(prefix: Path, ending: str) -> Path:
    return prefix.with_name(prefix.name + ending)


def contents(path: Path, largest: int) -> bytes:
    """Read a regular file. Raises CheckpointError if it has more than `largest` bytes."""
    # Non-blocking: opening a pipe without a writer would wait forever.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFoundError(f"The file {os.fspath(path)!r} does not exist.{_checkpoints_in(path.parent)}") from None
    try:
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            raise CheckpointError(
                f"{str(path)!r} is a folder; give a file: what torch saved, .safetensors, .npz or pykan's checkpoint."
                + _checkpoints_in(path)
            )
        if not stat.S_ISREG(found.st_mode):
            raise CheckpointError(f"{path.name} is a pipe or a device; give a file.")
        if found.st_size > largest:
            raise CheckpointError(f"{path.name} has {found.st_size} bytes; a file of this kind has at most {largest}.")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(found.st_size)
    finally:
        os.close(descriptor)


def _checkpoints_in(folder: Path) -> str:
    """A sentence for an error message that lists the newest pykan checkpoints in a folder; "" if there are none."""
    try:
        states = sorted(folder.glob(f"?*{STATE}"), key=lambda path: path.stat().st_mtime, reverse=True)
    except OSError:
        return ""
    names = [str(path.with_name(path.name.removesuffix(STATE))) for path in states]
    if not names:
        return ""
    return f" Checkpoints of pykan there are {first_names(list(map(repr, names)), 3, ', ...')}."
