"""The interface through which a server reads models, and which names in a listing are models and versions."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Protocol

from kanserve.artifact.format import Artifact
from kanserve.artifact.naming_rules import check_name, check_version
from kanserve.errors import ConflictError, InvalidNameError, NotFoundError

ATTEMPTS = 100  # of a publisher to claim a version number that no other publisher takes
ALL_VERSIONS = 0  # in a listing, stands for the versions of a model whose folder cannot be listed


class Fault(str):
    """Replaces the mark of a version: the reason why it, or its model's folder, cannot be read now."""

    __slots__ = ()


class Source(Protocol):
    """A repository of models and versions, as `kanserve.repository.open` gives it.

    Every method raises NotFoundError where the repository is missing, UnreachableError where it cannot be read.

    Examples
    --------
    >>> import kanserve, kanserve.repository, tempfile
    >>> models = tempfile.mkdtemp()
    >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
    >>> kanserve.publish(models, "line", kanserve.compile(kan, ["numpy_source"], name="line"))
    1
    >>> source = kanserve.repository.open(models)
    >>> source.versions("line")
    (1,)

    The examples of its methods go on with it.
    """

    def look(self) -> Mapping[str, Mapping[int, str]]:
        """Every model that has a version, sorted, with its versions, oldest first; in one scan.

        The text (mark) of a version changes when its manifest is replaced; it is empty if the store cannot tell, and a
        Fault if that version cannot be read. A model whose folder cannot be listed has {ALL_VERSIONS: Fault}.

        Returns
        -------
        mapping of str to mapping of int to str
            The marks of the versions, by model and version.

        Raises
        ------
        NotFoundError
            The repository is missing.
        UnreachableError
            It cannot be read.

        Examples
        --------
        >>> list(source.look()["line"])
        [1]
        """

    def look_at(self, name: str) -> Mapping[int, str]:
        """The versions of one model and their marks, as `look` has them.

        Parameters
        ----------
        name : str
            The model's name.

        Returns
        -------
        mapping of int to str
            The mark of each version, oldest first.

        Raises
        ------
        NotFoundError
            The repository is missing, or has no version of the model.
        UnreachableError
            It cannot be read.

        Examples
        --------
        >>> list(source.look_at("line"))
        [1]
        """

    def read(self, name: str, version: int) -> Artifact:
        """The artifact of a version, verified.

        Parameters
        ----------
        name : str
            The model's name.
        version : int
            Its version.

        Returns
        -------
        Artifact
            The version's files.

        Raises
        ------
        NotFoundError
            The repository is missing, or has no such version.
        UnreachableError
            It cannot be read.
        ArtifactError
            The version is damaged, or its signature is not trusted.

        Examples
        --------
        >>> source.read("line", 1).manifest.name
        'line'
        """

    def index(self) -> Mapping[str, tuple[int, ...]]:
        """The models and their versions, without marks, and without models that cannot be listed.

        Returns
        -------
        mapping of str to tuple of int
            The versions of each model, oldest first.

        Raises
        ------
        NotFoundError
            The repository is missing.
        UnreachableError
            It cannot be read.

        Examples
        --------
        >>> source.index()
        {'line': (1,)}
        """
        return {name: tuple(versions) for name, versions in self.look().items() if ALL_VERSIONS not in versions}

    def names(self) -> tuple[str, ...]:
        """The models that have a version, sorted.

        Returns
        -------
        tuple of str
            Names.

        Raises
        ------
        NotFoundError
            The repository is missing.
        UnreachableError
            It cannot be read.

        Examples
        --------
        >>> source.names()
        ('line',)
        """
        return tuple(self.index())

    def versions(self, name: str) -> tuple[int, ...]:
        """The versions of a model, oldest first.

        Parameters
        ----------
        name : str
            The model's name.

        Returns
        -------
        tuple of int
            Version numbers.

        Raises
        ------
        NotFoundError
            The repository is missing, or has no version of the model.
        UnreachableError
            It cannot be read.

        Examples
        --------
        >>> source.versions("line")
        (1,)
        """
        return tuple(self.look_at(name))


def is_name(text: str) -> bool:
    with suppress(InvalidNameError):
        return bool(check_name(text))
    return False


def is_version(text: str) -> bool:
    with suppress(InvalidNameError):
        return bool(check_version(text))
    return False


def next_version(taken: Iterable[str]) -> int:
    """The largest number that is taken, by a version or any other entry, plus one."""
    return check_version(max((int(text) for text in taken if is_version(text)), default=0) + 1)


def no_model(name: str) -> NotFoundError:
    return NotFoundError(f"The repository has no model {name!r:.80}.")


def no_version(name: str, version: int) -> NotFoundError:
    return NotFoundError(f"The repository has no version {version} of {name!r}.")


def exists(name: str, version: int) -> ConflictError:
    return ConflictError(f"Version {version} of {name!r} exists already; versions never change. Publish another.")


def too_many(name: str) -> ConflictError:
    return ConflictError(f"{ATTEMPTS} other publishers added versions of {name!r} at the same time. Try again.")
