"""A model repository in a folder, in which a version is published by a rename. Entries that are hidden, links, or not
named like a model or a version are ignored; the root itself may be a link."""

import logging
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from kanserve.artifact import directory, format, signing
from kanserve.artifact.format import Artifact
from kanserve.artifact.naming_rules import MANIFEST, check_name, check_version
from kanserve.artifact.signing import Verifier
from kanserve.errors import ConflictError, FormatError, InputError, NotFoundError, UnreachableError
from kanserve.repository import source
from kanserve.repository.source import ALL_VERSIONS, ATTEMPTS, Fault, Source, is_name

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey as Key

_STALE = re.compile(rf"\.[0-9a-f]{{16}}{re.escape(directory.PART)}")
_SHARED = (0o050, 0o005)  # what the group, or others, need to read a folder
_SCHEMES = ("file://", "local://")


class Folder(Source):
    """A folder of models, each a folder of numbered versions."""

    def __init__(self, root: Path, trusted: Verifier | None = None) -> None:
        self._root = root
        self._trusted = trusted

    def look(self) -> Mapping[str, Mapping[int, str]]:
        with _readable("The repository's folder"):
            names = sorted(filter(is_name, _folders(self._root)))
        found = {name: _versions(self._root / name) for name in names}
        return {name: versions for name, versions in found.items() if versions}

    def look_at(self, name: str) -> Mapping[int, str]:
        found = _versions(self._root / check_name(name))
        if not found:
            raise source.no_model(name)
        if fault := found.get(ALL_VERSIONS):
            raise UnreachableError(f"The versions of {name!r} are not known: {fault}")
        return found

    def read(self, name: str, version: int) -> Artifact:
        return _read(self._root, (check_name(name), str(check_version(version))), self._trusted, (name, version))


class OneModel(Source):
    """A folder with the numbered versions of one model, as a platform mounts it, or inside a larger repository."""

    def __init__(self, root: Path, name: str = "", trusted: Verifier | None = None) -> None:
        self._root = root
        self._trusted = trusted
        self._name = check_name(name or Path(os.path.abspath(root)).name)

    def look(self) -> Mapping[str, Mapping[int, str]]:
        with _readable("The repository's folder"):
            found = _numbers(self._root)
        return {self._name: found} if found else {}

    def look_at(self, name: str) -> Mapping[int, str]:
        found = self.look().get(check_name(name))
        if not found:
            raise source.no_model(name)
        return found

    def read(self, name: str, version: int) -> Artifact:
        if check_name(name) != self._name:
            raise source.no_version(name, version)
        return _read(self._root, (str(check_version(version)),), self._trusted, (name, version))


class OneVersion(Source):
    """A folder that is itself an artifact, as a platform mounts it for one model: its version 1."""

    def __init__(self, root: Path, name: str = "", trusted: Verifier | None = None) -> None:
        self._root = root
        self._trusted = trusted
        # A mounted folder does not show its published name and number; it is served as version 1 of this name.
        self._place = signing.place_of(root) or ((name, 1) if name else None)
        self._name = check_name(name or directory.read(root, trusted, self._place).manifest.name)

    def look(self) -> Mapping[str, Mapping[int, str]]:
        mark = _mark(self._root / MANIFEST)
        if not mark:
            raise NotFoundError("The repository's folder no longer holds a manifest.")
        return {self._name: {1: mark}}

    def look_at(self, name: str) -> Mapping[int, str]:
        if check_name(name) != self._name:
            raise source.no_model(name)
        return self.look()[name]

    def read(self, name: str, version: int) -> Artifact:
        if check_version(version) not in self.versions(name):
            raise source.no_version(name, version)
        return directory.read(self._root, self._trusted, self._place)


def path(root: str | os.PathLike[str]) -> Path:
    """The folder of a path or a file:// URL."""
    text = os.fspath(root)
    for scheme in _SCHEMES:
        text = text.removeprefix(scheme)
    if not text:
        raise InputError("A repository is a folder or a URL, got an empty text.")
    return Path(text)


def is_version(root: Path) -> bool:
    """Whether a folder is itself an artifact. Raises UnreachableError if that cannot be read."""
    with _readable(f"The folder {os.fspath(root)!r}"):
        return bool(_look(root / MANIFEST))


def is_model(root: Path) -> bool:
    """Whether a folder contains versions, and no models."""
    with suppress(NotFoundError), _readable(f"The folder {os.fspath(root)!r}"):
        return bool(_numbers(root)) and not Folder(root).index()
    return False


def publish(root: Path, name: str, artifact: Artifact, version: int | None, key: "Key | None") -> int:
    """`repository.publish` for a folder."""
    model, begun = root / name, not root.exists()
    root.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        model.mkdir()
        directory.share(model, root)
    directory.sync_folder(root)
    if model.is_symlink():
        raise ConflictError(f"The model {name!r} is a link in its repository. Remove the link first.")
    _warn_of_private(root, model, begun)
    with directory.stage(model, artifact, shared=True) as folder:
        for _ in range(ATTEMPTS):
            number = source.next_version(os.listdir(model)) if version is None else version
            if key is not None:
                signature = signing.sign(format.dumps(artifact.manifest), key, (name, number))
                directory.add_signature(folder, signature, replace=True)
            try:
                directory.place(folder, model / str(number))
            except ConflictError:
                if version is not None:
                    raise source.exists(name, version) from None
            else:
                return number
    raise source.too_many(name)


def clean(root: Path, older_than: float) -> int:
    """`repository.clean` for a folder."""
    removed = 0
    for name in filter(is_name, _folders(root)):
        with suppress(OSError):  # of another user, or removed in the meantime
            for part in filter(_STALE.fullmatch, _folders(root / name)):
                found = root / name / part
                if time.time() - found.stat().st_mtime >= older_than:
                    shutil.rmtree(found)
                    removed += 1
    return removed


@contextmanager
def _readable(what: str) -> Iterator[None]:
    """Convert OSError to UnreachableError."""
    try:
        yield
    except OSError as error:
        raise UnreachableError(directory.unreadable(what, error)) from None


@contextmanager
def _open(root: Path, *names: str) -> Iterator[int]:
    """Open a folder below a root; only the root may be a link. Raises FileNotFoundError."""
    handles: list[int] = []
    try:
        handles.append(os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        for name in names:
            handles.append(directory.open_folder(handles[-1], name))
        yield handles[-1]
    except NotADirectoryError:
        raise FormatError(f"{'/'.join(names)} must be a folder, and not a link to one.") from None
    finally:
        for handle in handles:
            os.close(handle)


def _warn_of_private(root: Path, model: Path, begun: bool) -> None:
    """Warn if only this user can read a new version, unless the repository existed (not `begun`) and is private too."""
    if os.name != "posix":
        return
    open_to_others = [any(folder.stat().st_mode & bits == bits for bits in _SHARED) for folder in (root, model)]
    if not all(open_to_others) and (begun or open_to_others[0]):
        private = model if open_to_others[0] else root
        logging.getLogger("kanserve").warning(
            "%s can be read by this user only: a server that runs as another user cannot load its models. Let the "
            "group read it, and what is published there follows: chmod -R g+rX %s",
            *(private, private),
        )


def _read(root: Path, names: tuple[str, ...], trusted: Verifier | None, place: signing.ModelVersion) -> Artifact:
    """Read the artifact in a folder below a root. Raises NotFoundError, ArtifactError or UnreachableError."""
    with _readable("Its folder"):
        try:
            with _open(root, *names) as folder:
                return directory.read_at(folder, trusted, place)
        except FileNotFoundError:
            raise source.no_version(*place) from None


def _versions(model: Path) -> dict[int, str]:
    """The versions of a model, oldest first; empty for a link or a missing folder."""
    try:
        if not stat.S_ISDIR(model.lstat().st_mode):
            return {}
        return _numbers(model)
    except (FileNotFoundError, NotFoundError):  # removed in the meantime
        return {}
    except OSError as error:
        return {ALL_VERSIONS: Fault(directory.unreadable("Its folder", error))}


def _numbers(model: Path) -> dict[int, str]:
    """The versions in a folder, oldest first, each with the mark of its manifest."""
    marks = {int(folder): _mark(model / folder / MANIFEST) for folder in _folders(model) if source.is_version(folder)}
    return {number: marks[number] for number in sorted(marks) if marks[number]}


def _folders(place: Path) -> list[str]:
    """The names of the folders in a folder, without links. Raises NotFoundError, or OSError if it cannot be listed."""
    try:
        with os.scandir(place) as entries:
            return [entry.name for entry in entries if _is_folder(entry)]
    except (FileNotFoundError, NotADirectoryError):
        raise NotFoundError(f"The folder {os.fspath(place)!r} does not exist.") from None


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    """Whether it is a folder; also True if that cannot be determined, since reading it then gives the reason."""
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return True


def _mark(place: Path) -> str:
    """Like `_look`, but returns a Fault instead of raising OSError if the path cannot be read."""
    try:
        return _look(place)
    except OSError as error:
        return Fault(directory.unreadable("It", error))


def _look(place: Path) -> str:
    """A text that changes when a regular file is replaced; "" for anything else. The inode is left out, since some
    network file systems change it for no reason."""
    try:
        status = place.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    return f"{status.st_mtime_ns} {status.st_ctime_ns} {status.st_size}" if stat.S_ISREG(status.st_mode) else ""
