"""Who vouches for a model: Ed25519 signatures over the bytes of its manifest, which holds the checksums of the rest.

    openssl genpkey -algorithm ed25519 -out private.pem
    openssl pkey -in private.pem -pubout -out public.pem

`sign` with the first, `trust` the second. format.py says where a signature is kept.

A signature is of a place: the name and the number under which the model may be served. Who can write to a repository
but has no key can put no other model there, and no older version as a newer one. One that is of no place holds at
every place: of what is to be mounted or copied elsewhere, and as all were at first.
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
    """The keys that are trusted."""

    keys: "tuple[Ed25519PublicKey, ...]"

    def check(self, manifest: bytes, signature: bytes | None, place: ModelVersion | None = None) -> None:
        """SignatureError unless one of the keys made this signature of these bytes, for that place or for every one."""
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
            f"The model's signature is by no key that is trusted, or {here}, or the model was changed since. Sign it "
            "again, or trust the key of who signed it."
        )


def trust(paths: Iterable[Path]) -> Verifier:
    """The verifier of PEM files of public keys; InputError or NotFoundError when one cannot be used."""
    keys = tuple(_public_key(path) for path in paths)
    if not keys:
        raise InputError("To demand signatures takes a file of a public key at least.")
    return Verifier(keys)


def private_key(path: Path) -> "Ed25519PrivateKey":
    """The key of a PEM file, as openssl writes it; InputError or NotFoundError when it cannot be used."""
    serialization = _serialization()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = _loaded(path, lambda data: serialization.load_pem_private_key(data, None), "a private")
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(f"{os.fspath(path)!r} is the private key of another kind; it must be Ed25519.")
    return key


def sign(manifest: bytes, key: "Ed25519PrivateKey", place: ModelVersion | None = None) -> bytes:
    """The signature of a manifest's bytes, for a place or for every one: what manifest.sig holds."""
    return key.sign(statement(manifest, place))


def signed(artifact: "Artifact", key: "Ed25519PrivateKey", place: ModelVersion | None = None) -> "Artifact":
    """The artifact with our signature in place of the one that it may have."""
    from kanserve.artifact import format

    return replace(artifact, signature=sign(format.dumps(artifact.manifest), key, place))


def statement(manifest: bytes, place: ModelVersion | None) -> bytes:
    """What is signed. No manifest begins as the first line of a place does, so that none is taken for the other."""
    return manifest if place is None else f"kanserve model {place[0]} version {place[1]}\n".encode() + manifest


def place_of(folder: Path) -> ModelVersion | None:
    """The place of a version's folder in a repository, NAME/VERSION; None where it is not called so."""
    parts = os.path.abspath(folder).split(os.sep)
    with suppress(InvalidNameError):
        return check_name(parts[-2]), check_version(parts[-1])
    return None


def _public_key(path: Path) -> "Ed25519PublicKey":
    serialization = _serialization()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    key = _loaded(path, serialization.load_pem_public_key, "a public")
    if not isinstance(key, Ed25519PublicKey):
        raise InputError(f"{os.fspath(path)!r} is the public key of another kind; it must be Ed25519.")
    return key


def _serialization() -> Any:
    """The package's module (Any, as a module is)."""
    try:
        from cryptography.hazmat.primitives import serialization
    except ImportError:
        raise MissingDependencyError("cryptography", "sign") from None
    return serialization


def _loaded(path: Path, load: Callable[[bytes], Any], kind: str) -> Any:
    """The key of a file, of any algorithm (Any: the package has a class for each)."""
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
