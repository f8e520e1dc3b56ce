"""The commands `kanserve publish`, `sign` and `card`: publish a version of a model, sign it, write its model card."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kanserve.artifact import directory, format, signing
from kanserve.artifact.naming_rules import MANIFEST, SIGNATURE, check_name
from kanserve.cli import arguments
from kanserve.cli.commands.export import refuse_unused, warn_not_compared
from kanserve.cli.commands.flag_types import (
    DEFAULT_FORMATS,
    Decimal,
    Force,
    Formats,
    Hessian,
    HoldOut,
    Json,
    Precision,
    Target,
)
from kanserve.cli.terminal import free, show
from kanserve.errors import ConflictError, InputError, NotFoundError

if TYPE_CHECKING:
    from kanserve.artifact.format import Artifact


def publish_network(
    kan_file: Annotated[
        Path,
        typer.Argument(help="A network's .safetensors file; or a version's folder, which is published again as it is."),
    ],
    # A str, because a Path would turn s3://bucket into s3:/bucket.
    repository: Annotated[str, typer.Argument(help="The folder or URL that 'kanserve serve' serves; made if missing.")],
    name: Annotated[str, typer.Option(help="The model's name: lower case, digits, - and _.")],
    data: Annotated[
        Path | None, typer.Option(help="A table of unseen rows, for r², errors and prediction intervals.")
    ] = None,
    target: Target = None,
    hold_out: HoldOut = 0.0,
    decimal: Decimal = None,
    formats: Formats = DEFAULT_FORMATS,
    precision: Precision = "double",
    hessian: Hessian = False,
    sign: Annotated[Path | None, typer.Option(help="Sign it with this private Ed25519 key, a PEM file.")] = None,
    note: Annotated[
        list[str] | None, typer.Option(help="Provenance for people, as 'intended use=prices of houses'; repeatable.")
    ] = None,
    card: Annotated[bool, typer.Option(help="Write a model card beside the version.")] = True,
    as_json: Json = False,
) -> None:
    """Compile a network and publish it atomically as the next version of a model.

    Example: kanserve publish simple.safetensors models --name houses --data held_out.csv

    Example: kanserve publish models/houses/1 models --name houses
    """
    from kanserve import repository as repositories
    from kanserve.artifact.manifest import INTERVALS
    from kanserve.artifact_compiler import compile as compile_kan
    from kanserve.network.export_options import ExportOptions

    check_name(name)
    wanted, options, provenance = arguments.names(formats), ExportOptions(hessian=hessian), notes(note)
    refuse_unused(options, wanted)
    if Path(repository).is_file():
        raise ConflictError(f"{repository} is there already and is no folder; a repository is one.")
    key = None if sign is None else signing.private_key(sign)
    if hold_out and data is None:
        raise InputError("--hold-out says which rows of --data are unseen: give --data too.")
    if (kan_file / MANIFEST).exists():
        plain = not (data or provenance) and (formats, precision, hessian) == (DEFAULT_FORMATS, "double", False)
        artifact, wanted = _version_again(kan_file, plain), ()
    else:
        kan = arguments.network(kan_file)
        rows = None if data is None else arguments.unseen_rows(arguments.data_of(kan, data, target, decimal), hold_out)
        artifact = compile_kan(
            kan, wanted, name=name, precision=precision, options=options, data=rows, provenance=provenance
        )
    version = repositories.publish(repository, name, artifact, key=key, card=card)
    warn_not_compared(wanted, artifact.manifest.provenance)
    trust = ["--trust-remote-code"] if repositories.is_remote(repository) else []
    after = ["kanserve", "serve", repository, *(["--require-signature", "public.pem"] if key is not None else trust)]
    model = f"{repository.rstrip('/')}/{name}"
    show(
        {
            "model": name,
            "version": version,
            "folder": f"{model}/{version}",
            **({"card": f"{model}/card-{version}.md"} if card else {}),
            **{key: text for key, text in artifact.manifest.provenance.items() if key == INTERVALS},
        },
        as_json,
        after=after,
    )


def _version_again(folder: Path, plain: bool) -> "Artifact":
    """The version in a folder, to be published unchanged. Raises InputError unless its options are `plain`."""
    if not plain:
        raise InputError(f"{folder} is a version, published again as it is: only --name, --sign and --card apply.")
    return directory.read(folder)


def notes(given: list[str] | None) -> dict[str, str]:
    """Parse notes such as "intended use=prices of houses"."""
    pairs = [text.partition("=") for text in given or ()]
    for key, mark, text in pairs:
        if not (key.strip() and mark and text.strip()):
            raise InputError(
                f"--note takes a name and a text, as in 'intended use=prices of houses'; got {key + mark + text!r:.80}."
            )
    return {key.strip(): text.strip() for key, _, text in pairs}


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


def write_card(
    # A str, because a Path would turn s3://bucket into s3:/bucket.
    path: Annotated[str, typer.Argument(help="A version's folder, a model's folder, a repository, or a URL of one.")],
    name: Annotated[str | None, typer.Option(help="The model, where the repository has several.")] = None,
    version: Annotated[int | None, typer.Option(help="Its version; default: the newest.")] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="A folder for the card and its picture; default: standard output."),
    ] = None,
    force: Force = False,
) -> None:
    """Write the model card of a published model: formula, picture, ranges, metrics, intended use, provenance.

    'kanserve publish' writes it beside the version; this makes it anew, also for a model that has none.

    Example: kanserve card models/houses --out docs
    """
    from kanserve.runtime.model import model_card

    card = model_card(path, name, version)
    if out is None:
        print(card.text, end="")
        return
    if not out.is_dir():
        raise NotFoundError(f"There is no folder {str(out)!r} to write the card into.")
    for file in card.files():
        free(out / file, force)
    for written in card.save(out):
        print(written)
