"""`kanserve sign`: vouch for a published version, whose bytes stay as they are."""

from pathlib import Path
from typing import Annotated

import typer

from kanserve.artifact import directory, format, signing
from kanserve.artifact.naming_rules import SIGNATURE
from kanserve.cli.commands.flag_types import Force, Json
from kanserve.cli.terminal import show
from kanserve.errors import InputError


def sign_version(
    folder: Annotated[Path, typer.Argument(help="A published version's folder: models/NAME/VERSION.")],
    key: Annotated[Path, typer.Option(help="Your private Ed25519 key, a PEM file.")],
    anywhere: Annotated[
        bool, typer.Option("--anywhere", help="It may be served under every name and number, not under its own alone.")
    ] = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Sign a published version for its name and number, after checking that it is whole.

    Keys are openssl's: 'openssl genpkey -algorithm ed25519 -out private.pem' makes one, and
    'openssl pkey -in private.pem -pubout -out public.pem' the key that servers are given.

    Example: kanserve sign models/houses/1 --key private.pem
    """
    secret = signing.private_key(key)
    artifact = directory.read(folder)
    place = None if anywhere else signing.place_of(folder)
    if place is None and not anywhere:
        raise InputError(
            f"{str(folder)!r} is no NAME/VERSION of a repository, for which a signature is. Say --anywhere where it is "
            "to hold for every name and number."
        )
    signature = signing.sign(format.dumps(artifact.manifest), secret, place)
    directory.add_signature(folder, signature, replace=force)
    absolute = folder.absolute()
    show(
        {"model": absolute.parent.name, "version": absolute.name, "signature": str(folder / SIGNATURE)},
        as_json,
        after=["kanserve", "serve", str(absolute.parent.parent), "--require-signature", "public.pem"],
    )
