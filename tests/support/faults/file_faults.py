"""Errors of the operating system, raised by the functions of `os` for chosen paths: of a disk, of a network, and of
permissions, which do not hold for tests that run as root.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

FUNCTIONS = ("scandir", "listdir", "stat", "lstat", "open", "fstat", "read", "readlink")
IS_DIR = "is_dir"  # of the entries that scandir gives

Operation = tuple[str, str]  # a function, and the path that it is for


class FileFaults:
    """Records the operations on paths below a root, and fails those that are chosen."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.seen: dict[Operation, int] = {}
        self._root = os.path.realpath(root)
        self._fails: Callable[[Operation], bool] = lambda _: False
        self._number = 0
        self._readlink = os.readlink
        for name in FUNCTIONS:
            patch.setattr(os, name, self._watched(name, getattr(os, name)))

    @contextmanager
    def failing(self, fails: Callable[[Operation], bool], number: int) -> Iterator[None]:
        """Fail these operations with an error number."""
        self._fails, self._number = fails, number
        try:
            yield
        finally:
            self._fails = lambda _: False

    def met(self, name: str, path: str) -> None:
        if path == self._root or path.startswith(f"{self._root}/"):
            operation = name, os.path.relpath(path, self._root)
            self.seen[operation] = self.seen.get(operation, 0) + 1
            if self._fails(operation):
                raise OSError(self._number, os.strerror(self._number), path)

    def _watched(self, name: str, function: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            path = self._path(arguments[0] if arguments else ".", options.get("dir_fd"))
            self.met(name, path)
            made = function(*arguments, **options)
            return _Entries(made, path, self) if name == "scandir" else made

        return call

    def _path(self, place: Any, parent: int | None) -> str:
        if isinstance(place, int):
            return str(self._readlink(f"/proc/self/fd/{place}"))
        within = "" if parent is None else self._readlink(f"/proc/self/fd/{parent}")
        return os.path.join(within, os.fsdecode(place))


class _Entries:
    """What scandir gives, with entries that may fail."""

    def __init__(self, entries: Any, path: str, faults: FileFaults) -> None:
        self._entries, self._path, self._faults = entries, path, faults

    def __enter__(self) -> "_Entries":
        return self

    def __exit__(self, *_: object) -> None:
        self._entries.close()

    def __iter__(self) -> Iterator[Any]:
        return (_Entry(entry, os.path.join(self._path, entry.name), self._faults) for entry in self._entries)


class _Entry:
    def __init__(self, entry: Any, path: str, faults: FileFaults) -> None:
        self._entry, self._path, self._faults, self.name = entry, path, faults, entry.name

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        self._faults.met(IS_DIR, self._path)
        return bool(self._entry.is_dir(follow_symlinks=follow_symlinks))
