"""The `kanserve predict` command: predict the rows of a table with a network, a published model or a running server."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from kanserve.cli import arguments
from kanserve.cli.commands.flag_types import Decimal, Force, Json, TableFile
from kanserve.cli.commands.server_access import ServerAccess, ServerName, Tls, TlsCa, TlsCertificate, TlsKey, TokenFile
from kanserve.cli.terminal import finite, free, warn, write_whole


def predict_rows(
    model: Annotated[
        str, typer.Argument(help="A .safetensors file, a model's or a version's folder, or host:port/name[/version].")
    ],
    table: TableFile,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A CSV file; default: standard output.")] = None,
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
    """Predict the rows of a table with a network, a published model or a running server.

    The table needs the columns that the model uses; others are ignored.

    For a classifier, the output is the class and the probability of each class. Rows outside the range of the training
    data are counted on standard error, with the inputs that are.

    Example: kanserve predict localhost:8001/houses new.csv --out prices.csv

    Example: kanserve predict models.example:8001/houses new.csv --tls-ca ca.pem --token-file planner.token
    """
    from kanserve.data import table_files as tables

    access = ServerAccess(tls, tls_ca, tls_certificate, tls_key, server_name, token_file)
    predictor = arguments.predictor(model, access)
    rows = tables.read_rows(table, predictor.inputs, predictor.unused, predictor.categories, decimal=decimal)
    if out is not None:
        free(out, force, reads=[table, Path(model)])
    columns, outside = predictor.predict(rows)
    if outside:
        warn(outside)
    if as_json:
        print(json.dumps(finite(columns)))  # JSON has no NaN: a row without an answer is null
        return
    lines = [columns, *zip(*columns.values(), strict=True)]
    text = "".join(",".join(arguments.field(value) for value in line) + "\n" for line in lines)
    if out is None:
        sys.stdout.write(text)
    else:
        write_whole(out, lambda part: part.write_text(text))
