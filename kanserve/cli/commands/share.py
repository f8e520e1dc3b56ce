"""kanserve share: a network as one HTML file, to look at and to move its sliders, without a server."""

from pathlib import Path
from typing import Annotated

import typer

from kanserve.cli import arguments
from kanserve.cli.commands.flag_types import Decimal, Target
from kanserve.errors import InputError


def share_network(
    model: Annotated[str, typer.Argument(help="A .safetensors file, a repository or a version's folder in it.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The HTML file.")] = Path("network.html"),
    target: Target = None,
    data: Annotated[
        Path | None, typer.Option(help="A table: its ranges, histograms and errors are shown, but no row of it.")
    ] = None,
    name: Annotated[str, typer.Option(help="The model of a repository.")] = "",
    decimal: Decimal = None,
) -> None:
    """Write a network as one HTML file with its picture, sliders and formula, to be opened offline, as from a mail.

    Example: kanserve share models/houses -o houses.html --data houses.csv
    """
    from dataclasses import replace

    from kanserve.studio.calls import Calls
    from kanserve.studio.opened_model import open_network
    from kanserve.studio.workspace import Workspace

    opened = open_network(model, name)
    assert opened.kan is not None
    if data is not None:
        opened = replace(opened, data=arguments.data_of(opened.kan, data, target, decimal))
    elif target:
        raise InputError("--target names a column of a table: give the table with --data.")
    workspace = Workspace(opened)
    try:
        page = Calls(workspace).shared_page()
    finally:
        workspace.close()
    out.write_text(page, "utf-8")
    print(f"{out}: {len(page.encode()) / 1000:.0f} kB, opens in any browser without a network")
