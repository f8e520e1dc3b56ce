"""`kanserve card`: the model card of a published model, anew."""

from pathlib import Path
from typing import Annotated

import typer

from kanserve.cli.commands.flag_types import Force
from kanserve.cli.terminal import free
from kanserve.errors import InputError, NotFoundError


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


def notes(given: list[str] | None) -> dict[str, str]:
    """The notes in texts such as "intended use=prices of houses"."""
    pairs = [text.partition("=") for text in given or ()]
    for key, mark, text in pairs:
        if not (key.strip() and mark and text.strip()):
            raise InputError(
                f"--note takes a name and a text, as in 'intended use=prices of houses'; got {key + mark + text!r:.80}."
            )
    return {key.strip(): text.strip() for key, _, text in pairs}
