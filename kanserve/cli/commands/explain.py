"""The `kanserve explain` command: how much each input contributes to the predictions of a table's rows."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from kanserve.cli import arguments
from kanserve.cli.commands.flag_types import Decimal, Force, Json, KanFile, TableFile
from kanserve.cli.terminal import finite, free, printable, write_whole


def explain_rows(
    kan_file: KanFile,
    table: TableFile,
    data: Annotated[
        Path | None,
        typer.Option(help="Rows, such as the training rows, with whose mean prediction the rows are compared."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="A CSV file of all rows; default: the first are printed.")
    ] = None,
    decimal: Decimal = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Say how much each input contributes to the predictions of a table's rows: Shapley values, which add up to them.

    Without --data, predictions are compared with their mean over samples of the training range. Of two classes the
    log-odds of the second are explained, of more each class's score minus the mean score.

    Example: kanserve explain houses.safetensors new.csv --data houses.csv
    """
    from kanserve.analysis import explain
    from kanserve.data import table_files as tables

    kan = arguments.network(kan_file)
    names = [variable.name for variable in kan.inputs]
    unused, known = arguments.find_unused_inputs(kan), arguments.categories_of(kan.inputs)
    rows = tables.read_rows(table, names, unused, known, decimal=decimal)
    background = None if data is None else tables.read_rows(data, names, unused, known, decimal=decimal)
    if out is not None:
        free(out, force, reads=[kan_file, table, *([data] if data else [])])
    found = explain(kan, rows, background)
    if out is None and not as_json:
        print(printable(str(found)))
        return
    count, outputs = len(rows), len(found.outputs)
    columns: dict[str, list[Any]] = {
        "output": list(found.outputs) * count,
        "prediction": found.predictions.ravel().tolist(),
        "base": found.base.tolist() * count,
    }
    # Apart, since an input may have the name of one of these.
    parts = dict(zip(names, found.values.reshape(count * outputs, -1).T.tolist(), strict=True))
    if out is not None:
        lines = [(*columns, *parts), *zip(*columns.values(), *parts.values(), strict=True)]
        text = "".join(",".join(arguments.field(value) for value in line) + "\n" for line in lines)
        write_whole(out, lambda part: part.write_text(text, encoding="utf-8"))
    if as_json:
        print(json.dumps({**finite(columns), "contributions": finite(parts)}))
