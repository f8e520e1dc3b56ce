"""`kanserve sign`: adds a signature to a published version, whose other files stay as they are."""

from pathlib import Path
from typing import Annotated

import typer

from kanserve.artifact import directory, format, signing
from kanserve.artifact.naming_rules import MANIFEST, SIGNATURE
from kanserve.cli.commands.flag_types import Force, Json
from kanserve.cli.terminal import show
from kanserve.errors import InputError, NotFoundError


def sign_version(
    folder: Annotated[Path, typer.Argument(help="A published version's folder: models/NAME/VERSION.")],
    key: Annotated[Path, typer.Option(help="Your private Ed25519 key, a PEM file.")],
    anywhere: Annotated[
        bool, typer.Option("--anywhere", help="Valid for every name and number, not only for its own.")
    ] = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Sign a published version for its name and number, after verifying it.

    Make a key with 'openssl genpkey -algorithm ed25519 -out private.pem', and its public key, which servers get, with
    'openssl pkey -in private.pem -pubout -out public.pem'.

    Example: kanserve sign models/houses/1 --key private.pem
    """
    secret = signing.private_key(key)
    if folder.is_dir() and not (folder / MANIFEST).exists():
        raise NotFoundError(f"{folder} is no version's folder: it has no {MANIFEST}. Give one, as models/houses/1.")
    artifact = directory.read(folder)
    place = None if anywhere else signing.place_of(folder)
    if place is None and not anywhere:
        raise InputError(
            f"{str(folder)!r} is not a NAME/VERSION folder of a repository. Give --anywhere for a signature that holds "
            "for every name and number."
        )
    signature = signing.sign(format.dumps(artifact.manifest), secret, place)
    directory.add_signature(folder, signature, replace=force)
    absolute = folder.absolute()
    show(
        {"model": absolute.parent.name, "version": absolute.name, "signature": str(folder / SIGNATURE)},
        as_json,
        after=["kanserve", "serve", str(absolute.parent.parent), "--require-signature", "public.pem"],
    )
