"""A model repository: a folder of models, each a folder of numbered versions, each an artifact.

    <root>/<name>/<version>/manifest.json ...

A version appears whole (a rename) and never changes. What is hidden, a link, or not named like a model or a version is
not there: the root may lie on a link, nothing below it may.
"""

import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kanserve.artifact import directory
from kanserve.artifact.format import Artifact
from kanserve.artifact.names import MANIFEST, check_name, check_version
from kanserve.errors import ConflictError, FormatError, InvalidNameError, NotFoundError

_ATTEMPTS = 100
_STALE = re.compile(rf"\.[0-9a-f]{{16}}{re.escape(directory.PART)}")


def publish(root: str | os.PathLike[str], name: str, artifact: Artifact, version: int | None = None) -> int:
    """Add a version of a model, by default the next, and return its number; ConflictError when it is there already.

    Of publishers who race for the next version each gets one of its own. The root is made where it is missing.
    """
    check_name(name)
    if version is not None:
        check_version(version)
    model = Path(root) / name
    model.mkdir(parents=True, exist_ok=True)
    directory.sync_folder(model.parent)
    if model.is_symlink():
        raise ConflictError(f"The model {name!r} is a link in its repository. Remove the link first.")
    with directory.staged(model, artifact) as folder:
        for _ in range(_ATTEMPTS):
            number = check_version(_next_version(model) if version is None else version)
            try:
                directory.place(folder, model / str(number))
            except ConflictError:
                if version is not None:
                    raise ConflictError(
                        f"Version {version} of {name!r} exists already; versions never change. Publish another."
                    ) from None
            else:
                return number
    raise ConflictError(f"{_ATTEMPTS} others published {name!r} at the same time. Try again.")


def names(root: str | os.PathLike[str]) -> tuple[str, ...]:
    """The models that have a version, sorted."""
    return tuple(name for name in sorted(_folders(root)) if _is_name(name) and _versions(Path(root) / name))


def versions(root: str | os.PathLike[str], name: str) -> tuple[int, ...]:
    """The versions of a model, oldest first; NotFoundError when it has none."""
    check_name(name)
    found = _versions(Path(root) / name)
    if not found:
        raise NotFoundError(f"There is no model {name!r} in the repository.")
    return found


def read(root: str | os.PathLike[str], name: str, version: int | None = None) -> Artifact:
    """The artifact of a version, by default the newest, verified: NotFoundError, FormatError or IntegrityError."""
    check_name(name)
    number = versions(root, name)[-1] if version is None else check_version(version)
    with _opened(root, name, str(number)) as folder:
        return directory.read_at(folder)


def clean(root: str | os.PathLike[str], older_than: float = 3600.0) -> int:
    """Remove what publishers who were killed left behind, untouched for `older_than` seconds; how many there were.

    Nobody who still writes is hurt: an artifact of the largest allowed size is written well within the hour.
    """
    removed = 0
    for name in filter(_is_name, _folders(root)):
        for part in filter(_STALE.fullmatch, _folders(Path(root) / name)):
            path = Path(root) / name / part
            with suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime >= older_than:
                    shutil.rmtree(path)
                    removed += 1
    return removed


@contextmanager
def _opened(root: str | os.PathLike[str], name: str, version: str) -> Iterator[int]:
    """An open handle of a version's folder; only the root itself may be reached over a link."""
    handles: list[int] = []
    try:
        handles.append(os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        for one in (name, version):
            handles.append(directory.open_folder(handles[-1], one))
        yield handles[-1]
    except FileNotFoundError:
        raise NotFoundError(f"There is no version {version} of {name!r} in the repository.") from None
    except NotADirectoryError:
        raise FormatError(f"Version {version} of {name!r} must be a folder, and not a link to one.") from None
    finally:
        for handle in handles:
            os.close(handle)


def _next_version(model: Path) -> int:
    """One more than every number that is taken, by whatever it is."""
    return max((int(one) for one in os.listdir(model) if _is_version(one)), default=0) + 1


def _versions(model: Path) -> tuple[int, ...]:
    if model.is_symlink() or not model.is_dir():
        return ()
    numbers = [one for one in _folders(model) if _is_version(one) and _is_file(model / one / MANIFEST)]
    return tuple(sorted(int(one) for one in numbers))


def _folders(path: str | os.PathLike[str]) -> list[str]:
    """The names of the folders in a folder, links to folders left out."""
    try:
        with os.scandir(path) as entries:
            return [one.name for one in entries if one.is_dir(follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError):
        raise NotFoundError(f"There is no folder {os.fspath(path)!r}.") from None


def _is_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def _is_name(text: str) -> bool:
    with suppress(InvalidNameError):
        return bool(check_name(text))
    return False


def _is_version(text: str) -> bool:
    with suppress(InvalidNameError):
        return bool(check_version(text))
    return False
