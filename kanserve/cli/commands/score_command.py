"""kanserve score: how good a network is on held-out samples."""

from pathlib import Path
from typing import Annotated

import typer

from kanserve.cli import arguments
from kanserve.cli.commands.flag_types import Json, KanFile, Target
from kanserve.cli.terminal import listed, show, warn


def score_network(
    kan_file: KanFile,
    table: Annotated[Path, typer.Argument(help="Samples with their answers, a CSV or Parquet file with a header.")],
    target: Target = None,
    as_json: Json = False,
) -> None:
    """Score a network on samples that it was not trained on: R² and RMSE of each output, or accuracy and cross-entropy.

    Samples outside the range of the training data are counted on standard error.

    Example: kanserve score simple.safetensors held_out.csv
    """
    from kanserve import train
    from kanserve.network import serialization
    from kanserve.network.training_range import outside

    kan = serialization.load(kan_file)
    data = arguments.held_out(kan, table, target)
    found = train.score(kan, data)
    if beyond := int(outside(kan, data.x).sum()):
        warn(f"{beyond} of {len(data)} rows are outside the range of the training data")
    if found.accuracy is not None:
        show({"rows": len(data), "accuracy": found.accuracy, "cross_entropy": found.loss}, as_json)
        return
    outputs = [
        {"output": variable.name, "r2": r2, "rmse": rmse}
        for variable, r2, rmse in zip(kan.outputs, found.r2, found.rmse, strict=True)
    ]
    if as_json:
        show({"rows": len(data), "outputs": outputs}, True)
    else:
        listed(outputs, False)
