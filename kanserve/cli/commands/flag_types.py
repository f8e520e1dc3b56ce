"""Arguments and options shared by several commands."""

from pathlib import Path
from typing import Annotated, Literal

import typer

import kanserve_exporters
from kanserve.network.export_options import Precision as PrecisionName

DEFAULT_FORMATS = "onnx_graph,c_source,numpy_source"

KanFile = Annotated[Path, typer.Argument(help="A network: the .safetensors file that 'kanserve fit' wrote.")]
TableFile = Annotated[Path, typer.Argument(help="A CSV or Parquet file with a header.")]
Target = Annotated[list[str] | None, typer.Option("--target", "-t", help="The column to learn; repeat for several.")]
Inputs = Annotated[list[str] | None, typer.Option("--input", "-i", help="An input column; default: all.")]
Decimal = Annotated[
    Literal[".", ","] | None,
    typer.Option(help="The decimal mark of numbers in a CSV file that may be read in two ways, such as 1,234 alone."),
]
HoldOut = Annotated[
    float,
    typer.Option(
        min=0,
        max=0.9,
        help="Keep this share of the table's rows unseen; give 'fit', 'simplify' and 'publish' the same.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts instead of tables.")]
Seed = Annotated[int, typer.Option(min=0, help="Equal seeds give equal networks.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on standard error.")]
Force = Annotated[bool, typer.Option("--force", "-f", help="Replace existing files.")]
Precision = Annotated[PrecisionName, typer.Option(help="The type that the exports compute in.")]

Hessian = Annotated[bool, typer.Option("--hessian", help="C: also the first and second derivatives.")]


def complete_formats(incomplete: str) -> list[str]:
    """Shell completions of a comma-separated list of formats whose last item is incomplete."""
    before, comma, _ = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in kanserve_exporters.names() if name not in before.split(",")]


Formats = Annotated[
    str,
    typer.Option(
        "--formats",
        metavar="FORMAT,...",
        help=f"Formats, comma-separated, of {', '.join(kanserve_exporters.names())}.",
        autocompletion=complete_formats,
    ),
]
