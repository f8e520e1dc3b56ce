"""Arguments and options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_FORMATS = "onnx_graph,c_source,numpy_source"

KanFile = Annotated[Path, typer.Argument(help="A network: the .safetensors file that 'kanserve fit' wrote.")]
TableFile = Annotated[Path, typer.Argument(help="A CSV or Parquet file with a header.")]
Target = Annotated[list[str] | None, typer.Option("--target", "-t", help="The column to learn; repeat for several.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts instead of tables.")]
Seed = Annotated[int, typer.Option(min=0, help="Equal seeds give equal networks.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on standard error.")]
Force = Annotated[bool, typer.Option("--force", "-f", help="Replace files that are there already.")]
Precision = Annotated[str, typer.Option(help="'double' or 'float': the type that the exports compute in.")]
