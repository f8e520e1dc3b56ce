"""The `kanserve score` command: a network's scores on held-out samples, or predictions for a file of any size."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kanserve.cli import arguments
from kanserve.cli.commands.flag_types import Decimal, Force, Json, Quiet, Target
from kanserve.cli.terminal import free, print_rows, show, warn, write_whole
from kanserve.errors import InputError

if TYPE_CHECKING:
    from kanserve.batch import BatchPredictor, FilePredictions


def score_network(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="[KAN_FILE] TABLE",
            help="A network (.safetensors) and samples with their answers, a CSV or Parquet file with a header. With "
            "--model only the file to predict.",
        ),
    ],
    target: Target = None,
    as_json: Json = False,
    # A str, because a Path would turn s3://bucket into s3:/bucket.
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Predict the file with this model, a folder or a URL.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="With --model: a .parquet or CSV file; default: standard output.")
    ] = None,
    keep: Annotated[
        list[str] | None, typer.Option("--keep", help="With --model: a column of the file to keep; repeat for several.")
    ] = None,
    keep_all: Annotated[bool, typer.Option("--keep-all", help="With --model: keep all columns of the file.")] = False,
    outside: Annotated[
        bool, typer.Option("--outside", help="With --model: a column that says which rows are outside the range.")
    ] = False,
    gradient: Annotated[
        bool, typer.Option("--gradient", help="With --model: columns of the outputs' derivatives by the inputs.")
    ] = False,
    interval: Annotated[
        float | None, typer.Option("--interval", help="With --model: columns of prediction intervals of this level.")
    ] = None,
    prefix: Annotated[str, typer.Option(help="With --model: what the names of the new columns begin with.")] = "",
    decimal: Decimal = None,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Score a network on samples that it was not trained on: R² and RMSE of each output, or accuracy and cross-entropy.

    With --model: predict a CSV or Parquet file of any size in constant memory with a published model. --out gets its
    name when it is complete.

    Samples outside the range of the training data are counted on standard error.

    Example: kanserve score simple.safetensors held_out.csv

    Example: kanserve score rows.parquet --model models/houses --out prices.parquet
    """
    if model is None:
        given = {
            "--out": out,
            "--keep": keep,
            "--keep-all": keep_all,
            "--outside": outside,
            "--gradient": gradient,
            "--interval": interval is not None,
            "--prefix": prefix,
        }
        if wrong := [name for name, value in given.items() if value]:
            raise InputError(f"{wrong[0]} needs --model, the model that predicts the file.")
        if len(files) != 2:
            raise InputError(f"Give a network and a table, or a table and --model; got {len(files)} files.")
        _score(files[0], files[1], target, decimal, as_json)
        return
    if len(files) != 1:
        raise InputError(f"With --model, give one file to predict; got {len(files)}.")
    if target:
        raise InputError("--target is for scoring a network; with --model nothing is compared.")
    if decimal:
        raise InputError("--decimal is for scoring a network; --model reads numbers with a decimal point.")
    if as_json and out is None:
        raise InputError("--json needs --out: without it the rows go to standard output.")
    from kanserve.batch import BatchPredictor

    columns: bool | Sequence[str] = True if keep_all else keep or False
    predictor = BatchPredictor(
        model, outside=outside, gradient=gradient, interval=interval, keep=columns, prefix=prefix
    )
    _predict(predictor, files[0], out, force=force, quiet=quiet, as_json=as_json)


def _score(
    kan_file: Path, table: Path, target: list[str] | None, decimal: Literal[".", ","] | None, as_json: bool
) -> None:
    from kanserve import train
    from kanserve.network.fitted_rows import share_of_fitted_rows, too_many_seen
    from kanserve.network.training_range import describe_outside

    kan = arguments.network(kan_file)
    data = arguments.read_held_out(kan, table, target, decimal)
    found = train.score(kan, data)
    if outside := describe_outside(kan, data.x):
        warn(outside)
    seen = share_of_fitted_rows(kan, data)
    if too_many_seen(seen):
        warn(f"the network was fitted to {seen:.0%} of these rows, so expect a worse score on new ones")
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
        print_rows(outputs, False)


def _predict(
    predictor: "BatchPredictor", table: Path, out: Path | None, *, force: bool, quiet: bool, as_json: bool
) -> None:
    from kanserve.batch import predict_file

    assert predictor.schema  # an error of the model or its columns comes before one of the file
    if out is None:
        with _progress(quiet) as report:
            found = predict_file(predictor, table, sys.stdout.buffer, progress=report)
        sys.stdout.flush()
    else:
        free(out, force, reads=[table])
        results: list[FilePredictions] = []
        with _progress(quiet) as report:
            write_whole(out, lambda part: results.append(predict_file(predictor, table, part, progress=report)))
        (found,) = results
        facts = {"file": str(out), "rows": found.rows, "outside": found.outside, "not finite": found.not_finite}
        show(facts, as_json)
    if found.outside:
        warn(f"{found.outside} of {found.rows} rows are outside the range of the training data")


@contextmanager
def _progress(quiet: bool) -> "Iterator[Callable[[float, FilePredictions], None] | None]":
    """The progress callback for `predict_file`: a bar on standard error if that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, highlight=False)
    if quiet or not console.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.fields[rows]:,} rows"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=1.0, rows=0)
        yield lambda share, found: bar.update(task, completed=share, rows=found.rows)
