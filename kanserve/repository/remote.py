"""A model repository behind an fsspec URL: s3://bucket/models, gs://, abfs://, memory://.

Files are read into memory, and not used before their size and checksum match the manifest. Keys are untrusted: those
that are not named like a model, a version and a file are ignored or refused.

Publishing writes the manifest last, so that a version appears atomically. A version number is claimed by creating its
first file only if it does not exist, which S3 and most stores support: concurrent publishers get different versions. On
a store without that, the files of two publishers may mix; then the checksums differ, and readers refuse that version. A
killed publisher leaves a version without a manifest, which is invisible until `clean` removes it; its number is not
used again before that.
"""

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from kanserve.artifact import format, signing
from kanserve.artifact.format import MAX_MANIFEST_BYTES, Artifact
from kanserve.artifact.naming_rules import (
    FORMULA,
    MANIFEST,
    SIGNATURE,
    SIGNATURE_BYTES,
    check_name,
    check_version,
    folders_of,
)
from kanserve.artifact.signing import ModelVersion, Verifier
from kanserve.errors import (
    ConflictError,
    FormatError,
    InputError,
    IntegrityError,
    KanserveError,
    MissingDependencyError,
    NotFoundError,
    UnreachableError,
)
from kanserve.repository import source
from kanserve.repository.source import ATTEMPTS, Source, is_name

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey as Key

SECONDS = 30.0  # timeout of one request, for stores whose package supports timeouts
BYTES_PER_SECOND = 2**20  # the least transfer rate, by which the timeout is extended
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.:-]*)://")
_LOCAL = ("file", "local")
# The stores' names of listing fields that change with a file.
_MARKS = ("etag", "md5hash", "generation", "checksum", "mtime", "lastmodified", "last_modified", "updated", "created")
_EXTRAS = {"s3fs": "s3"}  # packages, and our extras that install them


def is_remote(repository: object) -> bool:
    """Whether a repository is a URL for fsspec, and not a folder.

    Parameters
    ----------
    repository : object
        A path or a URL; file:// is a folder.

    Returns
    -------
    bool
        True for s3://, gs://, https:// and others.

    Examples
    --------
    >>> import kanserve.repository
    >>> kanserve.repository.is_remote("s3://bucket/models"), kanserve.repository.is_remote("models")
    (True, False)
    """
    found = _URL.match(repository) if isinstance(repository, str) else None
    return found is not None and found[1].lower() not in _LOCAL


def model_in(url: str) -> tuple[str, str, int | None] | None:
    """Split a URL into repository, model name and version (None if it has no version). Returns None if the URL cannot
    be that of a model. Only the text is parsed, nothing is opened: s3://bucket/models/2 may also be a repository."""
    root, _, last = url.rstrip("/").rpartition("/")
    if source.is_version(last) and is_name((parts := root.rpartition("/"))[2]):
        root, last, version = parts[0], parts[2], int(last)
    else:
        version = None
    return (root, last, version) if is_name(last) and not root.endswith("/") else None


class Remote(Source):
    """A repository at a URL. `options` are passed to its file system; others come from the environment."""

    def __init__(self, url: str, trusted: Verifier | None = None, options: Mapping[str, Any] | None = None) -> None:
        self._trusted = trusted
        self._files, self._root = _open(url, options or {})

    def look(self) -> Mapping[str, Mapping[int, str]]:
        found: dict[str, dict[int, str]] = {}
        for key, details in self._details().items():
            name, version = (*key.split("/"), "")[:2]
            if is_name(name) and source.is_version(version) and key == f"{name}/{version}/{MANIFEST}":
                found.setdefault(name, {})[int(version)] = _mark(details)
        return {name: dict(sorted(versions.items())) for name, versions in sorted(found.items())}

    def look_at(self, name: str) -> Mapping[int, str]:
        found: dict[int, str] = {}
        for key, details in self._details(check_name(name)).items():
            version = key.split("/")[0]
            if source.is_version(version) and key == f"{version}/{MANIFEST}":
                found[int(version)] = _mark(details)
        if not found:
            raise source.no_model(name)
        return dict(sorted(found.items()))

    def read(self, name: str, version: int) -> Artifact:
        folder = f"{check_name(name)}/{check_version(version)}"
        try:
            return self._read(folder, self._listing(folder), (name, version))
        except NotFoundError:
            raise source.no_version(name, version) from None

    def publish(self, name: str, artifact: Artifact, version: int | None = None, key: "Key | None" = None) -> int:
        """Add a version: files first, then the manifest. Raises ConflictError if the number is taken."""
        check_name(name)
        taken = {parts[0] for parts in (key.split("/") for key in self._listing(name))}
        for _ in range(ATTEMPTS):
            number = source.next_version(taken) if version is None else check_version(version)
            if str(number) in taken or not self._put(f"{name}/{number}/{FORMULA}", artifact.files[FORMULA]):
                if version is not None:
                    raise source.exists(name, version)
                taken.add(str(number))
                continue
            manifest = format.dumps(artifact.manifest)
            signature = artifact.signature if key is None else signing.sign(manifest, key, (name, number))
            last = {} if signature is None else {SIGNATURE: signature}
            last[MANIFEST] = manifest
            for path, data in (*artifact.files.items(), *last.items()):
                if path != FORMULA and not self._put(f"{name}/{number}/{path}", data):
                    raise ConflictError(f"Another publisher wrote into version {number} of {name!r}. Publish another.")
            return number
        raise source.too_many(name)

    def add_card(self, name: str, files: Mapping[str, bytes]) -> None:
        """Write the files of a model card next to the versions, replacing older ones."""
        for file, data in files.items():
            self._ask(self._files.pipe_file, f"{check_name(name)}/{file}", data, size=len(data))

    def clean(self, older_than: float) -> int:
        """Remove versions without a manifest that are untouched for `older_than` seconds. Returns how many."""
        begun: dict[tuple[str, str], list[str]] = {}
        for key in self._listing():
            name, _, rest = key.partition("/")
            version, _, file = rest.partition("/")
            if is_name(name) and source.is_version(version) and file:
                begun.setdefault((name, version), []).append(key)
        removed = 0
        for (name, version), keys in begun.items():
            if f"{name}/{version}/{MANIFEST}" not in keys and min(map(self._age, keys)) >= older_than:
                for key in keys:
                    self._ask(self._files.rm_file, key)
                removed += 1
        return removed

    def _read(self, folder: str, sizes: Mapping[str, int | None], place: ModelVersion) -> Artifact:
        if MANIFEST not in sizes:
            raise NotFoundError("The manifest is missing.")
        data = self._get(folder, MANIFEST, sizes, MAX_MANIFEST_BYTES)
        signature = self._get(folder, SIGNATURE, sizes, SIGNATURE_BYTES) if SIGNATURE in sizes else None
        if self._trusted is not None:
            self._trusted.check(data, signature, place)
        manifest = format.loads(data)
        _check_listing(sizes, manifest.files)
        files = {path: self._get(folder, path, sizes, entry.size) for path, entry in manifest.files.items()}
        return Artifact(manifest, files, signature)  # which checks them all

    def _listing(self, folder: str = "") -> Mapping[str, int | None]:
        """The keys below a folder and their sizes, or None if the store does not tell."""
        return {key: detail.get("size") for key, detail in self._details(folder).items()}

    def _details(self, folder: str = "") -> Mapping[str, Mapping[str, Any]]:
        """The keys below a folder, without those that escape it, and the store's details of each."""
        start = f"{self._root}/{folder}/" if folder else f"{self._root}/"
        self._files.invalidate_cache()
        found = self._ask(self._files.find, folder, detail=True)
        return {key.removeprefix(start): details for key, details in found.items() if key.startswith(start)}

    def _get(self, folder: str, path: str, sizes: Mapping[str, int | None], limit: int) -> bytes:
        """Download a file. Raises IntegrityError, without downloading all, if it has more than `limit` bytes."""
        size = sizes[path]
        if size == 0:
            return b""  # stores refuse range requests of empty files
        if size is None or size <= limit:
            # One byte more, to detect a file that has grown.
            data = self._ask(self._files.cat_file, f"{folder}/{path}", size=limit, start=0, end=limit + 1)
            size = len(data)
            if size <= limit:
                return bytes(data)
        raise IntegrityError(f"{path} may have {limit} bytes, it has {size}. Publish the model again.")

    def _put(self, key: str, data: bytes) -> bool:
        """Create a file. Returns False if it exists, on stores that support such a check."""
        put = self._files._pipe_file if self._files.async_impl else self._files.pipe_file
        how: dict[str, Any] = {"mode": "create"} if "mode" in inspect.signature(put).parameters else {}
        try:
            self._ask(self._files.pipe_file, key, data, size=len(data), **how)
        except ConflictError:
            return False
        return True

    def _age(self, key: str) -> float:
        """Seconds since a file was written; 0 if the store does not tell."""
        written = self._ask(self._files.modified, key, timed=False)
        if not isinstance(written, datetime):
            return 0.0
        return (datetime.now(UTC) - (written if written.tzinfo else written.replace(tzinfo=UTC))).total_seconds()

    def _ask(
        self, method: Callable[..., Any], key: str, *arguments: Any, size: int = 0, timed: bool = True, **options: Any
    ) -> Any:
        """Call the store for a key, with a timeout, and convert its errors. Only the class of a store's error is passed
        on, since its text may contain secrets."""
        if self._files.async_impl and timed:
            options["timeout"] = SECONDS + size / BYTES_PER_SECOND
        try:
            return method(f"{self._root}/{key}" if key else self._root, *arguments, **options)
        except FileNotFoundError:
            raise NotFoundError("The file or its bucket does not exist.") from None
        except FileExistsError:
            raise ConflictError("There is such a file in the repository already.") from None
        except PermissionError:
            raise UnreachableError("The repository refuses access. Check its credentials and their rights.") from None
        except TimeoutError:
            raise UnreachableError("The repository did not answer in time. Try again.") from None
        except KanserveError:
            raise
        except Exception as error:  # of a third-party package; its text may contain secrets
            raise UnreachableError(f"The repository cannot be reached ({type(error).__name__:.60}).") from None


def _open(url: str, options: Mapping[str, Any]) -> tuple[Any, str]:
    """The file system of a URL, and the path in it."""
    try:
        import fsspec
    except ImportError:
        raise MissingDependencyError("fsspec", "remote") from None
    scheme = url.split("://")[0].lower()
    if "::" in url:
        raise InputError("A repository's URL names one place, as s3://bucket/models; got one with '::' in it.")
    try:
        made, path = fsspec.core.url_to_fs(url, use_listings_cache=False, skip_instance_cache=True, **options)
    except ImportError:
        package = _package(scheme)
        raise MissingDependencyError(package, _EXTRAS.get(package, "")) from None
    except Exception as error:  # of a third-party package; its text may contain the URL's credentials
        raise InputError(
            f"The repository {scheme}://... cannot be opened ({type(error).__name__:.60}). "
            "Give a URL that fsspec knows, as s3://bucket/models."
        ) from None
    root = str(path).rstrip("/")
    if not root or ".." in root.split("/"):
        raise InputError("A repository's URL names a bucket or a folder, as s3://bucket/models.")
    return made, root


def _package(scheme: str) -> str:
    from fsspec.registry import known_implementations

    known = known_implementations.get(scheme, {})
    return str(known.get("class", scheme)).split(".")[0]


def _check_listing(there: Iterable[str], files: Iterable[str]) -> None:
    """Raise FormatError if there is an extra file, or one is missing."""
    # Some tools create an empty file for a folder, with a slash at the end of its key.
    folders = {f"{folder}/" for path in files for folder in folders_of(path)} | {""}
    for path in sorted(set(there) - {MANIFEST, SIGNATURE, *files, *folders}):
        raise FormatError(f"The artifact holds {ascii(path)[:120]}, which its manifest does not list.")
    for path in sorted(set(files) - set(there)):
        raise FormatError(f"The artifact lacks the file {path}.")


def _mark(details: Mapping[str, Any]) -> str:
    """A text that changes when a file is replaced, from the store's listing; "" if the listing lacks such a field."""
    known = {name.lower(): value for name, value in details.items()}
    return " ".join(str(known[name]) for name in (*_MARKS, "size") if known.get(name) is not None)
