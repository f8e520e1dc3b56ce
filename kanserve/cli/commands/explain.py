"""The `kanserve explain` command: how much each input contributes to the predictions of a table's rows."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from kanserve.cli import arguments
from kanserve.cli.commands.flag_types import Decimal, Force, Json, TableFile
from kanserve.cli.commands.server_access import ServerAccess, ServerName, Tls, TlsCa, TlsCertificate, TlsKey, TokenFile
from kanserve.cli.terminal import finite, free, printable, write_whole


def explain_rows(
    model: Annotated[
        str, typer.Argument(help="A .safetensors file, a model's or a version's folder, or host:port/name[/version].")
    ],
    table: TableFile,
    data: Annotated[
        Path | None,
        typer.Option(help="Rows, such as the training rows, with whose mean prediction the rows are compared."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="A CSV file of all rows; default: the first are printed.")
    ] = None,
    decimal: Decimal = None,
    tls: Tls = False,
    tls_ca: TlsCa = None,
    tls_certificate: TlsCertificate = None,
    tls_key: TlsKey = None,
    server_name: ServerName = "",
    token_file: TokenFile = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Say how much each input contributes to the predictions of a table's rows: Shapley values, which add up to them.

    Without --data, and by a server, predictions are compared with their mean over rows that are spread as the training
    rows are. Of two classes the log-odds of the second are explained, of more each class's score minus the mean score.

    Example: kanserve explain houses.safetensors new.csv --data houses.csv

    Example: kanserve explain localhost:8001/houses new.csv
    """
    from kanserve.data import table_files as tables

    access = ServerAccess(tls, tls_ca, tls_certificate, tls_key, server_name, token_file)
    predictor = arguments.predictor(model, access)
    names, unused, known = predictor.inputs, predictor.unused, predictor.categories
    rows = tables.read_rows(table, names, unused, known, decimal=decimal)
    background = None if data is None else tables.read_rows(data, names, unused, known, decimal=decimal)
    if out is not None:
        free(out, force, reads=[Path(model), table, *([data] if data else [])])
    found = predictor.explain(rows, background)
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
