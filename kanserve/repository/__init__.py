"""A model repository: models, each with numbered versions, each an artifact.

    <root>/<name>/<version>/manifest.json ...
    <root>/<name>/card-<version>.md            what people want to know of it (`model_cards`)

The root is a folder (`local`) or an fsspec URL, as s3://bucket/models (`remote`). Versions are published atomically and
never changed. Anything that is not named like a model or a version is ignored.
"""

import logging
import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kanserve.artifact.format import Artifact
from kanserve.artifact.naming_rules import check_name, check_version
from kanserve.artifact.signing import Verifier
from kanserve.errors import InputError, KanserveError
from kanserve.network.kan import Kan, way_to_kan
from kanserve.network.parameter_names import names_parameters
from kanserve.repository import local
from kanserve.repository.local import Folder, OneModel, OneVersion
from kanserve.repository.remote import Remote, is_remote
from kanserve.repository.source import Source

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = ["Source", "clean", "is_remote", "names", "open", "publish", "read", "versions"]

Root = str | os.PathLike[str]


@names_parameters(data="Compile with these rows: publish(repository, name, kanserve.compile(kan, data=...)).")
def publish(
    repository: Root,
    name: str,
    model: Kan | Artifact,
    version: int | None = None,
    key: "Ed25519PrivateKey | None" = None,
    *,
    card: bool = True,
) -> int:
    """Add a version of a model, by default the next, and return its number; ConflictError when it is there already.

    Concurrent publishers each get a different next version. A missing root is created. For URLs see
    `remote.Remote.publish`. With a `key` the version is signed for its name and number. Without one, an existing
    signature is copied, which is only valid here if it was made for every name and number.

    Beside the version, its model card is written, as card-1.md with the picture card-1.svg (`kanserve.model_card`):
    formula, ranges, metrics and provenance, with the intended use left to fill in. A card that cannot be written is a
    warning; the version is there then.

    Parameters
    ----------
    repository : str or path
        A folder, made where it is missing, or a URL such as s3://bucket/models.
    name : str
        The model's name.
    model : Kan or Artifact
        A network, which is compiled with the defaults of `kanserve.compile`; or the result of that call, which takes
        formats, and unseen rows for errors and prediction intervals.
    version : int, optional
        By default the next one.
    key : Ed25519PrivateKey, optional
        Signs the version.
    card : bool, default=True
        Whether to write the model card.

    Returns
    -------
    int
        The version's number.

    Raises
    ------
    ConflictError
        The version is there already.
    InvalidNameError
        The name is not allowed for a model.

    Examples
    --------
    >>> import kanserve, tempfile
    >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
    >>> folder = tempfile.mkdtemp()
    >>> kanserve.publish(folder, "line", kanserve.compile(kan, ["numpy_source"]))
    1
    >>> kanserve.publish(folder, "line", kan)
    2
    """
    check_name(name)
    if version is not None:
        check_version(version)
    if isinstance(model, Kan):
        # By name, since the compiler is built on repositories.
        artifact = import_module("kanserve.artifact_compiler").compile(model, name=name)
    elif isinstance(model, Artifact):
        artifact = model
    else:
        raise InputError(
            f"publish takes a network or the result of kanserve.compile(kan), got a {type(model).__name__}: "
            f'publish("models", "houses", kan).{way_to_kan(model)}'
        )
    remote = Remote(str(repository)) if is_remote(repository) else None
    if remote is not None:
        number = remote.publish(name, artifact, version, key)
    else:
        number = local.publish(local.path(repository), name, artifact, version, key)
    if card:
        _write_card(remote or local.path(repository), name, artifact, number, signed=key is not None)
    return number


def _write_card(place: "Remote | Path", name: str, artifact: Artifact, version: int, *, signed: bool) -> None:
    """Write the card of a published version. If that fails, the version stays published."""
    from kanserve.repository.model_cards import card_of  # formulas and pictures: a server needs neither

    try:
        made = card_of(artifact, name, version, signed=signed)
        if isinstance(place, Remote):
            place.add_card(name, made.files())
        else:
            made.save(place / name)
    except (KanserveError, OSError) as error:
        logging.getLogger("kanserve").warning("Version %d of %r has no model card: %s", version, name, error)


def names(repository: Root) -> tuple[str, ...]:
    """The models that have a version, sorted.

    Parameters
    ----------
    repository : str or path
        The repository: a folder, or a URL of a store.

    Returns
    -------
    tuple of str
        Their names.

    Examples
    --------
    >>> import kanserve, kanserve.repository, tempfile
    >>> models = tempfile.mkdtemp()
    >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
    >>> kanserve.publish(models, "line", kanserve.compile(kan, ["numpy_source"]))
    1
    >>> kanserve.repository.names(models)
    ('line',)
    """
    return _many(repository).names()


def versions(repository: Root, name: str) -> tuple[int, ...]:
    """The versions of a model, oldest first.

    Parameters
    ----------
    repository : str or path
        The repository: a folder, or a URL of a store.
    name : str
        The model.

    Returns
    -------
    tuple of int
        Their numbers.

    Raises
    ------
    NotFoundError
        It has none.

    Examples
    --------
    >>> import kanserve, kanserve.repository, tempfile
    >>> models = tempfile.mkdtemp()
    >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
    >>> kanserve.publish(models, "line", kanserve.compile(kan, ["numpy_source"]))
    1
    >>> kanserve.repository.versions(models, "line")
    (1,)
    """
    check_name(name)
    return _many(repository).versions(name)


def read(repository: Root, name: str, version: int | None = None, trusted: Verifier | None = None) -> Artifact:
    """The artifact of a version, verified by its checksums.

    Parameters
    ----------
    repository : str or path
        The repository: a folder, or a URL of a store.
    name : str
        The model.
    version : int, optional
        By default the newest.
    trusted : Verifier, optional
        Refuses a version without a signature that it knows.

    Returns
    -------
    Artifact
        With the manifest and the files.

    Raises
    ------
    NotFoundError
        Unknown model or version.
    ArtifactError
        Files are missing or changed, or a signature is.
    UnreachableError
        The store does not answer.

    Examples
    --------
    >>> import kanserve, kanserve.repository, tempfile
    >>> models = tempfile.mkdtemp()
    >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
    >>> kanserve.publish(models, "line", kanserve.compile(kan, ["numpy_source"]))
    1
    >>> kanserve.repository.read(models, "line").kan().formula().text
    '2*x + 1'
    """
    check_name(name)
    if version is not None:
        check_version(version)
    source = _many(repository, trusted)
    return source.read(name, source.versions(name)[-1] if version is None else version)


def clean(repository: Root, older_than: float = 3600.0) -> int:
    """Remove incomplete versions of killed publishers, untouched for `older_than` seconds; returns how many.

    The default is safe for running publishers: an artifact of the largest allowed size is written well within an hour.

    Parameters
    ----------
    repository : str or path
        The repository: a folder, or a URL of a store.
    older_than : float, default=3600.0
        Seconds.

    Returns
    -------
    int
        How many were removed.

    Examples
    --------
    >>> import kanserve, kanserve.repository, tempfile
    >>> models = tempfile.mkdtemp()
    >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
    >>> kanserve.publish(models, "line", kanserve.compile(kan, ["numpy_source"]))
    1
    >>> kanserve.repository.clean(models)
    0
    """
    return (
        Remote(str(repository)).clean(older_than)
        if is_remote(repository)
        else local.clean(local.path(repository), older_than)
    )


def open(
    repository: Root, *, name: str = "", trusted: Verifier | None = None, options: Mapping[str, Any] | None = None
) -> Source:
    """Open a repository for reading. A folder with a manifest in its root is one version of one model: version 1 of
    `name`, or of the name in the manifest. A folder of versions is one model: `name`, or the folder's name.

    Models are not read yet.

    Parameters
    ----------
    repository : str or path
        The repository: a folder, or a URL of a store.
    name : str, optional
        The model's name, where the folder does not say it.
    trusted : Verifier, optional
        Reads only versions with a signature that it knows.
    options : mapping, optional
        Passed to the file system of a URL.

    Returns
    -------
    Source
        With `names()`, `versions(name)` and `read(name, version)`.

    Examples
    --------
    >>> import kanserve, kanserve.repository, tempfile
    >>> models = tempfile.mkdtemp()
    >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
    >>> kanserve.publish(models, "line", kanserve.compile(kan, ["numpy_source"]))
    1
    >>> tuple(kanserve.repository.open(models).names())
    ('line',)
    """
    if is_remote(repository):
        return Remote(str(repository), trusted, options)
    place = local.path(repository)
    if local.is_version(place):
        return OneVersion(place, name, trusted)
    return OneModel(place, name, trusted) if local.is_model(place) else Folder(place, trusted)


def _many(repository: Root, trusted: Verifier | None = None) -> Source:
    return Remote(str(repository), trusted) if is_remote(repository) else Folder(local.path(repository), trusted)
