"""Artifacts on disk: written atomically; read once, only below their folder, and verified. Files are written into a
hidden folder beside the target, the manifest last, and synced; then the folder is renamed. A killed writer leaves a
hidden `.<token>.part` folder, which readers ignore and `repository.clean` removes."""

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path

from kanserve.artifact import format, signing
from kanserve.artifact.format import MAX_MANIFEST_BYTES, Artifact
from kanserve.artifact.naming_rules import MANIFEST, SIGNATURE, SIGNATURE_BYTES, folders_of
from kanserve.artifact.signing import Verifier
from kanserve.errors import (
    ConflictError,
    FormatError,
    InputError,
    IntegrityError,
    NotFoundError,
    UnreachableError,
)

PART = ".part"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# O_NONBLOCK, so that opening a FIFO returns and its type can be refused.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# Bytes: kernels without preemption let nothing else run on the core until a whole read is copied.
_READ_AT_ONCE = 2**18
_READERS = 0o055  # the rights of the group and of others to read a folder
_ENTER = 0o111
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def write(path: str | os.PathLike[str], artifact: Artifact) -> None:
    """Write an artifact as a new folder, whole or not at all.

    `kanserve.publish` writes one as a version of a repository.

    Parameters
    ----------
    path : str or path
        The folder, which must not exist; its parent must.
    artifact : Artifact
        As `kanserve.compile` makes it.

    Raises
    ------
    NotFoundError
        The folder to write into is missing.
    ConflictError
        The folder is there already.

    Examples
    --------
    >>> import kanserve, kanserve.artifact, pathlib, tempfile
    >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
    >>> folder = pathlib.Path(tempfile.mkdtemp()) / "line"
    >>> kanserve.artifact.write(folder, kanserve.compile(kan, ["numpy_source"], name="line"))
    >>> kanserve.artifact.read(folder).manifest.name
    'line'
    """
    target = Path(path)
    if not target.parent.is_dir():
        raise NotFoundError(f"The folder {os.fspath(target.parent)!r} to write into does not exist.")
    _refuse_existing(target)
    with stage(target.parent, artifact) as folder:
        place(folder, target)


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files as a new folder, atomically: into a temporary folder next to it, which is then renamed."""
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        for path, data in files.items():
            (part / path).parent.mkdir(parents=True, exist_ok=True)
            (part / path).write_bytes(data)
        part.rename(folder)
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be written: {error.strerror or error}.") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextmanager
def stage(parent: Path, artifact: Artifact, *, shared: bool = False) -> Iterator[Path]:
    """Write the artifact to a hidden folder in `parent`, complete and synced; removed at the end unless `place` moved
    it. `shared`: everybody who may read `parent` may read the artifact, whatever this process's umask."""
    folder = parent / f".{secrets.token_hex(8)}{PART}"
    below = sorted({parent for path in artifact.files for parent in folders_of(path)})
    try:
        for below_folder in ["", *below]:
            (folder / below_folder).mkdir()
        for path, data in artifact.files.items():
            _write_file(folder / path, data)
        for below_folder in below:
            sync_folder(folder / below_folder)
        if artifact.signature is not None:
            _write_file(folder / SIGNATURE, artifact.signature)
        _write_file(folder / MANIFEST, format.dumps(artifact.manifest))
        if shared:
            for written in (folder, *folder.rglob("*")):
                share(written, parent)
        sync_folder(folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def share(path: Path, like: Path) -> None:
    """Give group and others the read permission that they have on the folder `like`, and its group if this user and the
    file system allow that."""
    if os.name != "posix":
        return
    wanted, there = like.stat(), path.stat()
    if wanted.st_gid != there.st_gid:
        with suppress(OSError):  # this user is not a member of that group
            os.chown(path, -1, wanted.st_gid)
    readers = wanted.st_mode & (_READERS if stat.S_ISDIR(there.st_mode) else _READERS & ~_ENTER)
    if readers & ~there.st_mode:
        with suppress(OSError):  # a file system without such rights
            path.chmod(stat.S_IMODE(there.st_mode) | readers)


def place(folder: Path, target: Path) -> None:
    """Rename a staged folder to its target. Raises ConflictError if the target exists, even if only just created."""
    _refuse_existing(target)
    try:
        # Renaming onto a folder with files fails, so of two writers one wins and the other gets ConflictError.
        os.rename(folder, target)
    except OSError as error:
        if not os.path.lexists(target):
            raise
        raise ConflictError(f"{os.fspath(target)!r} exists already ({error.strerror}).") from None
    sync_folder(target.parent)


def add_signature(path: str | os.PathLike[str], signature: bytes, *, replace: bool = False) -> None:
    """Put a signature into a version's folder, atomically. Raises ConflictError if there is one, unless `replace`. The
    temporary file is next to the folder: inside, readers would find a file that is not in the manifest."""
    folder = Path(path)
    if not replace and os.path.lexists(folder / SIGNATURE):
        raise ConflictError(f"{os.fspath(folder)!r} is signed already. Replace the signature with --force.")
    put_files(folder, {SIGNATURE: signature}, folder.absolute().parent)


def put_files(folder: Path, files: Mapping[str, bytes], staging: Path) -> None:
    """Put files into a folder atomically, replacing those of the same name; `staging` holds the temporary folder."""
    part = staging / f".{secrets.token_hex(8)}{PART}"
    try:
        part.mkdir()
        for name, data in files.items():
            _write_file(part / name, data)
            share(part / name, folder)
            os.replace(part / name, folder / name)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    sync_folder(folder)


def read(
    path: str | os.PathLike[str], trusted: Verifier | None = None, place: signing.ModelVersion | None = None
) -> Artifact:
    """The artifact of a folder, with its checksums verified.

    Parameters
    ----------
    path : str or path
        The folder.
    trusted : Verifier, optional
        One of its keys must have signed the manifest, for this place or for every place.
    place : (str, int), optional
        The model and the version that the signature is for; by default NAME/VERSION at the end of the path.

    Returns
    -------
    Artifact
        Its files, in memory.

    Raises
    ------
    NotFoundError
        The folder is missing.
    ArtifactError
        It holds no artifact, is damaged (IntegrityError), or is not signed as it must be (SignatureError).
    UnreachableError
        It cannot be read now.

    Examples
    --------
    >>> import kanserve, kanserve.artifact, pathlib, tempfile
    >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
    >>> folder = pathlib.Path(tempfile.mkdtemp()) / "line"
    >>> kanserve.artifact.write(folder, kanserve.compile(kan, ["numpy_source"], name="line"))
    >>> kanserve.artifact.read(folder).backends
    ('numpy_source',)
    """
    try:
        root = os.open(path, _FOLDER)
    except FileNotFoundError:
        raise NotFoundError(f"The folder {os.fspath(path)!r} does not exist.") from None
    except NotADirectoryError:
        raise FormatError(f"{os.fspath(path)!r} is not a folder; an artifact is one.") from None
    except OSError as error:
        raise UnreachableError(unreadable(f"The folder {os.fspath(path)!r}", error)) from None
    try:
        return read_at(root, trusted, place or signing.place_of(path))
    finally:
        os.close(root)


def unreadable(what: str, error: OSError) -> str:
    """Describe for clients why something cannot be read, without the path."""
    words = f"{what} cannot be read: {error.strerror or type(error).__name__}."
    return f"{words} Its permissions exclude the user that reads it." if isinstance(error, PermissionError) else words


def read_at(root: int, trusted: Verifier | None = None, place: signing.ModelVersion | None = None) -> Artifact:
    """Read the artifact in an open folder: the manifest, then the listing, then each listed file once. With `trusted`,
    one of its keys must have signed the manifest for this or every place (SignatureError), which is checked before
    parsing. File system errors, which may be temporary, raise UnreachableError."""
    data = _read_file(root, MANIFEST, MAX_MANIFEST_BYTES)
    signature = _read_signature(root)
    if trusted is not None:
        trusted.check(data, signature, place)
    manifest = format.loads(data)
    folders = {folder for path in manifest.files for folder in folders_of(path)}
    _check_listing(root, {MANIFEST, SIGNATURE, *manifest.files}, folders)
    files = {path: _read_file(root, path, entry.size) for path, entry in manifest.files.items()}
    return Artifact(manifest, files, signature)  # which checks them all


def open_folder(parent: int, name: str) -> int:
    """Open a folder inside an open folder without following links. Raises OSError like `os.open`."""
    return os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=parent)


def _check_listing(root: int, files: set[str], folders: set[str]) -> None:
    """Raise FormatError if the folder contains anything but these files and folders."""
    for folder in ["", *sorted(folders)]:
        handle = _open_below(root, folder)
        try:
            with _readable(f"The folder {folder or '.'}"), os.scandir(handle) as entries:
                for entry in entries:
                    path = f"{folder}/{entry.name}" if folder else entry.name
                    if path not in files and path not in folders:
                        raise FormatError(f"The artifact holds {ascii(path)[:120]}, which its manifest does not list.")
        finally:
            os.close(handle)


def _read_signature(root: int) -> bytes | None:
    try:
        with _readable(SIGNATURE):
            os.stat(SIGNATURE, dir_fd=root, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return _read_file(root, SIGNATURE, SIGNATURE_BYTES)


def _read_file(root: int, path: str, limit: int) -> bytes:
    """Read a regular file below `root`, of at most `limit` bytes."""
    *folders, name = path.split("/")
    folder = _open_below(root, "/".join(folders))
    try:
        handle = os.open(name, _FILE, dir_fd=folder)
    except FileNotFoundError:
        raise FormatError(f"The artifact lacks the file {path}.") from None
    except OSError as error:
        raise _fault(path, "a regular file", error) from None
    finally:
        os.close(folder)
    try:
        with _readable(path):
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise FormatError(f"{path} must be a regular file.")
            if status.st_size > limit:
                raise IntegrityError(
                    f"{path} may have {limit} bytes, it has {status.st_size}. Publish the model again."
                )
            # One byte more, so that a file that grows meanwhile is noticed.
            return _read_up_to(handle, status.st_size + 1)
    finally:
        os.close(handle)


def _read_up_to(handle: int, left: int) -> bytes:
    whole = BytesIO()
    while left > 0 and (chunk := os.read(handle, min(left, _READ_AT_ONCE))):
        left -= whole.write(chunk)
    return whole.getvalue()


def _open_below(root: int, path: str) -> int:
    """Open a folder below `root`; every part of the path must be a folder, not a link."""
    handle = os.dup(root)
    for name in path.split("/") if path else ():
        try:
            below = open_folder(handle, name)
        except FileNotFoundError:
            raise FormatError(f"The artifact lacks the folder {path}.") from None
        except OSError as error:
            raise _fault(path, "a folder", error) from None
        finally:
            os.close(handle)
        handle = below
    return handle


def _fault(path: str, must_be: str, error: OSError) -> FormatError | UnreachableError:
    """The error for a failed open: either it is something else (such as a link or socket), or it is unreadable now."""
    if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.ENXIO):
        return FormatError(f"{path} must be {must_be}: {error.strerror}.")
    return UnreachableError(unreadable(path, error))


@contextmanager
def _readable(what: str) -> Iterator[None]:
    """Convert file system errors to UnreachableError; FileNotFoundError stays."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UnreachableError(unreadable(what, error)) from None


def _refuse_existing(target: Path) -> None:
    if os.path.lexists(target):
        raise ConflictError(f"{os.fspath(target)!r} exists already. Choose another, or remove it first.")


def _write_file(path: Path, data: bytes) -> None:
    handle = os.open(path, _NEW, 0o666)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(handle, view) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(path: Path) -> None:
    """Wait until files created or renamed in a folder are on disk."""
    handle = os.open(path, _FOLDER)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
