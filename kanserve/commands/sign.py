"""`kanserve sign`: vouch for a published version, whose bytes stay as they are."""

from pathlib import Path
from typing import Annotated

import typer

from kanserve.artifact import directory, format, signing
from kanserve.artifact.names import SIGNATURE
from kanserve.commands.parameters import Force, Json
from kanserve.terminal import show


def sign_version(
    folder: Annotated[Path, typer.Argument(help="A published version's folder: models/NAME/VERSION.")],
    key: Annotated[Path, typer.Option(help="Your private Ed25519 key, a PEM file.")],
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Sign a published version, after checking that it is whole.

    Keys are openssl's: 'openssl genpkey -algorithm ed25519 -out private.pem' makes one, and
    'openssl pkey -in private.pem -pubout -out public.pem' the key that servers are given.

    Example: kanserve sign models/houses/1 --key private.pem
    """
    secret = signing.private_key(key)
    artifact = directory.read(folder)
    signature = signing.sign(format.dumps(artifact.manifest), secret)
    directory.add_signature(folder, signature, replace=force)
    absolute = folder.absolute()
    show(
        {"model": absolute.parent.name, "version": absolute.name, "signature": str(folder / SIGNATURE)},
        as_json,
        after=["kanserve", "serve", str(absolute.parent.parent), "--require-signature", "public.pem"],
    )
