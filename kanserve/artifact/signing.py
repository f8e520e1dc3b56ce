"""Signatures of models: Ed25519 over the bytes of the manifest, which holds the checksums of the other files.

    openssl genpkey -algorithm ed25519 -out private.pem
    openssl pkey -in private.pem -pubout -out public.pem

`sign` with the first, `trust` the second. format.py says where a signature is stored.

A signature is for a place: the name and version under which the model may be served. So someone who can write to a
repository but has no key cannot put another model there, nor an older version as a newer one. A signature without a
place is valid everywhere, for models that are mounted or copied elsewhere.
"""

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from kanserve.artifact.naming_rules import SIGNATURE, check_name, check_version
from kanserve.errors import InputError, InvalidNameError, MissingDependencyError, NotFoundError, SignatureError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

    from kanserve.artifact.format import Artifact

Path = str | os.PathLike[str]
ModelVersion = tuple[str, int]  # the name and the version that a model is served as

_MAX_KEY_BYTES = 2**16


@dataclass(frozen=True)
class Verifier:
    """The trusted public keys; `trust` makes one of files.

    Parameters
    ----------
    keys : tuple of Ed25519PublicKey
        A signature of any of them is accepted.

    Examples
    --------
    >>> import kanserve, tempfile
    >>> from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    >>> from kanserve.artifact import signing
    >>> key = Ed25519PrivateKey.generate()  # or signing.private_key("private.pem")
    >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
    >>> artifact = kanserve.compile(kan, ["numpy_source"], name="line")
    >>> models = tempfile.mkdtemp()
    >>> kanserve.publish(models, "line", artifact, key=key)
    1
    >>> kanserve.load_model(models, trusted=signing.Verifier((key.public_key(),))).predict([[0.5]]).tolist()
    [[2.0]]
    """

    keys: "tuple[Ed25519PublicKey, ...]"

    def check(self, manifest: bytes, signature: bytes | None, place: ModelVersion | None = None) -> None:
        """Refuse a signature that no trusted key made of these bytes.

        Parameters
        ----------
        manifest : bytes
            The content of manifest.json.
        signature : bytes or None
            The content of manifest.sig, None without one.
        place : (str, int), optional
            The name and version under which the model is served; a signature for every one is accepted too.

        Raises
        ------
        SignatureError
            The signature is missing, it is another key's, for another name or version, or the model was changed since.

        Examples
        --------
        >>> from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        >>> from kanserve.artifact import signing
        >>> key = Ed25519PrivateKey.generate()
        >>> verifier = signing.Verifier((key.public_key(),))
        >>> signature = signing.sign(b"manifest", key, ("houses", 1))
        >>> verifier.check(b"manifest", signature, ("houses", 1))
        >>> verifier.check(b"manifest", signature, ("houses", 2))
        Traceback (most recent call last):
        kanserve.errors.SignatureError: The model's signature is not by a trusted key, or ...
        """
        from cryptography.exceptions import InvalidSignature

        if signature is None:
            raise SignatureError(f"The model is not signed: it has no {SIGNATURE}. Sign it with 'kanserve sign'.")
        for key in self.keys:
            for location in {place, None}:
                try:
                    key.verify(signature, statement(manifest, location))
                except InvalidSignature:
                    continue
                return
        here = f"for another name or version than {place[0]}/{place[1]}" if place else "for a name and version only"
        raise SignatureError(
            f"The model's signature is not by a trusted key, or {here}, or the model was changed since. Sign it "
            "again, or trust the signer's key."
        )


def trust(paths: Iterable[Path]) -> Verifier:
    """A verifier for the public keys in PEM files.

    Parameters
    ----------
    paths : iterable of str or path
        Files as openssl writes them, one key in each.

    Returns
    -------
    Verifier
        For `kanserve.load_model`, `kanserve.repository.read` and others.

    Raises
    ------
    NotFoundError
        A file is not there.
    InputError
        No file is given, or one cannot be read or holds no public Ed25519 key.
    MissingDependencyError
        cryptography is not installed; it is in the extra `sign`.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from cryptography.hazmat.primitives import serialization as s
    >>> from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    >>> from kanserve.artifact import signing
    >>> key, folder = Ed25519PrivateKey.generate(), Path(tempfile.mkdtemp())
    >>> text = key.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo)
    >>> size = (folder / "public.pem").write_bytes(text)  # openssl pkey -in private.pem -pubout -out public.pem
    >>> len(signing.trust([folder / "public.pem"]).keys)
    1
    """
    keys = tuple(_public_key(path) for path in paths)
    if not keys:
        raise InputError("Requiring signatures needs at least one public key file.")
    return Verifier(keys)


def private_key(path: Path) -> "Ed25519PrivateKey":
    """The private key of a PEM file.

    Parameters
    ----------
    path : str or path
        A file as openssl writes it, not encrypted.

    Returns
    -------
    Ed25519PrivateKey
        For `sign`, `signed` and `kanserve.publish`.

    Raises
    ------
    NotFoundError
        The file is not there.
    InputError
        It cannot be read, is encrypted, or holds no private Ed25519 key.
    MissingDependencyError
        cryptography is not installed; it is in the extra `sign`.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from cryptography.hazmat.primitives import serialization as s
    >>> from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    >>> from kanserve.artifact import signing
    >>> key, folder = Ed25519PrivateKey.generate(), Path(tempfile.mkdtemp())
    >>> text = key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())
    >>> size = (folder / "private.pem").write_bytes(text)  # openssl genpkey -algorithm ed25519 -out private.pem
    >>> len(signing.private_key(folder / "private.pem").sign(b"manifest"))
    64
    """
    serialization = _serialization()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = _load(path, lambda data: serialization.load_pem_private_key(data, None), "a private")
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(f"{os.fspath(path)!r} is the private key of another kind; it must be Ed25519.")
    return key


def sign(manifest: bytes, key: "Ed25519PrivateKey", place: ModelVersion | None = None) -> bytes:
    """The signature of a manifest's bytes.

    Parameters
    ----------
    manifest : bytes
        The content of manifest.json.
    key : Ed25519PrivateKey
        As `private_key` reads it.
    place : (str, int), optional
        The name and version to be valid for; by default every one.

    Returns
    -------
    bytes
        The content of manifest.sig: 64 bytes.

    Examples
    --------
    >>> from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    >>> from kanserve.artifact import signing
    >>> len(signing.sign(b"manifest", Ed25519PrivateKey.generate(), ("houses", 1)))
    64
    """
    return key.sign(statement(manifest, place))


def signed(artifact: "Artifact", key: "Ed25519PrivateKey", place: ModelVersion | None = None) -> "Artifact":
    """The artifact with a signature, in place of one that it may have.

    Parameters
    ----------
    artifact : Artifact
        As `kanserve.compile` makes it.
    key : Ed25519PrivateKey
        As `private_key` reads it.
    place : (str, int), optional
        The name and version to be valid for; by default every one.

    Returns
    -------
    Artifact
        The same files and the signature.

    Examples
    --------
    >>> import kanserve
    >>> from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    >>> from kanserve.artifact import signing
    >>> key = Ed25519PrivateKey.generate()  # or signing.private_key("private.pem")
    >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
    >>> artifact = kanserve.compile(kan, ["numpy_source"], name="line")
    >>> len(signing.signed(artifact, key, ("line", 1)).signature)
    64
    """
    from kanserve.artifact import format

    return replace(artifact, signature=sign(format.dumps(artifact.manifest), key, place))


def statement(manifest: bytes, place: ModelVersion | None) -> bytes:
    """The bytes to sign. No manifest starts like the first line of a place, so the two forms cannot be confused."""
    return manifest if place is None else f"kanserve model {place[0]} version {place[1]}\n".encode() + manifest


def place_of(folder: Path) -> ModelVersion | None:
    """The place NAME/VERSION of a version's folder in a repository; None if the path has another form."""
    parts = os.path.abspath(folder).split(os.sep)
    with suppress(InvalidNameError):
        return check_name(parts[-2]), check_version(parts[-1])
    return None


def _public_key(path: Path) -> "Ed25519PublicKey":
    serialization = _serialization()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    key = _load(path, serialization.load_pem_public_key, "a public")
    if not isinstance(key, Ed25519PublicKey):
        raise InputError(f"{os.fspath(path)!r} is the public key of another kind; it must be Ed25519.")
    return key


def _serialization() -> Any:
    """The serialization module of cryptography."""
    try:
        from cryptography.hazmat.primitives import serialization
    except ImportError:
        raise MissingDependencyError("cryptography", "sign") from None
    return serialization


def _load(path: Path, load: Callable[[bytes], Any], kind: str) -> Any:
    name = os.fspath(path)
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_KEY_BYTES)
    except FileNotFoundError:
        raise NotFoundError(f"There is no key file {name!r}.") from None
    except OSError as error:
        raise InputError(f"The key file {name!r} cannot be read: {error.strerror}.") from None
    if b"PRIVATE KEY-----" in data and kind == "a public":
        raise InputError(
            f"{name!r} holds a private key; keep it from the server. Give the public one: "
            "openssl pkey -in private.pem -pubout -out public.pem"
        )
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        return load(data)
    except TypeError:
        raise InputError(f"The key in {name!r} is encrypted. Decrypt it first: openssl pkey -in ... -out ...") from None
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InputError(f"{name!r} is not a PEM file of {kind} Ed25519 key ({type(error).__name__}).") from None
