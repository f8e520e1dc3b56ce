"""The `kanserve share` command: a network as one HTML file with sliders, which needs no server."""

from pathlib import Path
from typing import Annotated

import typer

from kanserve.cli.commands.flag_types import Decimal, Force, Target
from kanserve.cli.commands.studio import opened_network
from kanserve.cli.terminal import free, write_whole


def share_network(
    model: Annotated[str, typer.Argument(help="A .safetensors file, a repository or a version's folder in it.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The HTML file.")] = Path("network.html"),
    target: Target = None,
    data: Annotated[
        Path | None, typer.Option(help="A table: its ranges, histograms and errors are shown, but no row of it.")
    ] = None,
    name: Annotated[str, typer.Option(help="The model of a repository.")] = "",
    decimal: Decimal = None,
    force: Force = False,
) -> None:
    """Write a network as one HTML file with its picture, sliders and formula, to be opened offline, as from a mail.

    Example: kanserve share models/houses -o houses.html --data houses.csv
    """
    from kanserve.studio.calls import Calls
    from kanserve.studio.workspace import Workspace

    opened = opened_network(model, name, data, target, decimal)
    free(out, force, reads=[Path(model), *([] if data is None else [data])])
    workspace = Workspace(opened)
    try:
        page = Calls(workspace).shared_page()
    finally:
        workspace.close()
    write_whole(out, lambda part: part.write_text(page, encoding="utf-8"))
    print(f"{out}: {len(page.encode()) / 1000:.0f} kB, opens in any browser without a network")
