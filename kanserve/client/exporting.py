"""Receive exported sources from a server in parts, check them, and write them to a folder atomically."""

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kanserve.errors import ConflictError, FormatError, IntegrityError
from kanserve.v1 import formula_pb2 as pb

MOST_BYTES = 2**28
MOST_FILES = 256


class Received:
    """The files of a stream of parts. The server is not trusted: paths, sizes and checksums are checked."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._files: dict[str, bytes] = {}
        self._parts: list[bytes] = []
        self._path = ""
        self._bytes = 0

    def add(self, part: pb.ExportSourceResponse) -> None:
        """Add the next part. Raises FormatError for a bad path or too much data, IntegrityError for a bad checksum."""
        if not self._parts:
            self._begin(part.path)
        elif part.path != self._path:
            raise IntegrityError(f"The source is incomplete: {self._path!r} ends before its last part.")
        if not part.data and not part.last:
            raise FormatError("The server sends empty parts.")
        self._bytes += len(part.data)
        if self._bytes > MOST_BYTES:
            raise FormatError(f"A source may have {MOST_BYTES} bytes; the server sends more.")
        self._parts.append(part.data)
        if part.last:
            data = b"".join(self._parts)
            if len(data) != part.size or hashlib.sha256(data).hexdigest() != part.sha256:
                raise IntegrityError(f"{part.path!r} differs from its checksum. Ask again.")
            self._files[part.path] = data
            self._parts = []

    def files(self) -> Mapping[str, bytes]:
        """All files by path. Raises IntegrityError if the last one is incomplete."""
        if self._parts:
            raise IntegrityError(f"The source is incomplete: {self._path!r} ends before its last part.")
        return self._files

    def _begin(self, path: str) -> None:
        from kanserve.artifact.naming_rules import check_path, folders_of  # imported late, since it imports much

        check_path(f"{self._kind}/{path}")
        taken = {file.lower() for file in self._files}
        folders = {folder.lower() for known in self._files for folder in folders_of(known)}
        if path.lower() in taken | folders or taken & {folder.lower() for folder in folders_of(path)}:
            raise FormatError(f"The source has conflicting paths: {path!r}.")
        if len(self._files) >= MOST_FILES:
            raise FormatError(f"A source may have {MOST_FILES} files; the server sends more.")
        self._path = path


def receive(stream: Any, kind: str) -> Mapping[str, bytes]:
    """Receive all files of a stream of responses, and end it. Raises the errors of `Received.add`."""
    made = Received(kind)
    try:
        for part in stream:
            made.add(part)
        return made.files()
    finally:
        stream.cancel()


async def receive_async(stream: Any, kind: str) -> Mapping[str, bytes]:
    made = Received(kind)
    try:
        async for part in stream:
            made.add(part)
        return made.files()
    finally:
        stream.cancel()


def write(files: Mapping[str, bytes], folder: str | os.PathLike[str]) -> None:
    """Write files to a new or empty folder, atomically. Raises ConflictError if the folder contains files."""
    target = Path(folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = target.parent / f".{target.name}.{os.urandom(8).hex()}.part"
    staging.mkdir()
    try:
        for path, data in files.items():
            file = staging / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        try:
            staging.rename(target)
        except OSError:
            raise ConflictError(f"{target} is there already. Give a folder that is new or empty.") from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)
