"""The `kanserve report` command: an HTML page about a network, evaluated on samples."""

from pathlib import Path
from typing import Annotated

import typer

from kanserve.cli import arguments
from kanserve.cli.commands.flag_types import Decimal, Force, KanFile, TableFile, Target
from kanserve.cli.terminal import free, write_whole


def write_report(
    kan_file: KanFile,
    table: TableFile,
    target: Target = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The HTML file.")] = Path("report.html"),
    decimal: Decimal = None,
    force: Force = False,
) -> None:
    """Write a page about a network, on samples that it was not trained on: scores, effects of inputs, single rows.

    The page needs no other file and no server, and follows the reader's light or dark setting.

    Example: kanserve report houses.safetensors held_out.csv --out report.html
    """
    from kanserve.analysis import report

    kan = arguments.network(kan_file)
    data = arguments.read_held_out(kan, table, target, decimal)
    free(out, force, reads=[kan_file, table])
    page = report(kan, data)
    write_whole(out, lambda part: part.write_text(page, encoding="utf-8"))
