"""kanserve studio: a page on this machine to see, prune, snap, compare, export and publish a network."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kanserve.cli import arguments
from kanserve.cli.commands.flag_types import Decimal, Inputs, Seed, Target
from kanserve.cli.terminal import warn
from kanserve.errors import InputError, NotFoundError

if TYPE_CHECKING:
    from kanserve.data.number_texts import Decimal as DecimalMark
    from kanserve.studio.opened_model import Opened

_TABLES = (".csv", ".parquet", ".pq")


def open_studio(
    model: Annotated[
        str,
        typer.Argument(
            help="A .safetensors file, a repository or a version's folder in it, or a table to fit first; without it "
            "the page asks for a table."
        ),
    ] = "",
    target: Target = None,
    inputs: Inputs = None,
    data: Annotated[
        Path | None,
        typer.Option(help="A table: rows to judge and refit a network on, or rows that a fit does not see."),
    ] = None,
    name: Annotated[str, typer.Option(help="The model of a repository, or what is published is called.")] = "",
    repository: Annotated[str, typer.Option(help="Where to publish; default: the repository that was opened.")] = "",
    classify: Annotated[
        bool | None,
        typer.Option(
            "--classify/--no-classify", help="Whether --target has classes; default: text, or up to 10 whole values."
        ),
    ] = None,
    server: Annotated[str, typer.Option(help="host:port of a server whose versions of the model are shown.")] = "",
    hidden: Annotated[str, typer.Option(help="For a table: nodes of the hidden layers, as in '5' or '4,2'.")] = "5",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 0,
    allow_host: Annotated[str, typer.Option(help="Listen on this address instead of 127.0.0.1; needs TLS.")] = "",
    tls_certificate: Annotated[Path | None, typer.Option(help="A PEM file.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key, a PEM file.")] = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True,
    autosave: Annotated[
        bool, typer.Option("--autosave/--no-autosave", help="Keep networks and steps, not rows, to go on with them.")
    ] = True,
    decimal: Decimal = None,
    seed: Seed = 0,
) -> None:
    """Open a page on this machine to see, prune, snap, compare, export and publish a network, until Ctrl-C.

    Example: kanserve studio houses.csv
    """
    from dataclasses import replace

    from kanserve.artifact.naming_rules import check_name
    from kanserve.studio.autosave import state_folder
    from kanserve.studio.process import Studio, StudioSettings

    access = (allow_host or "127.0.0.1", port, tls_certificate, tls_key)
    state = state_folder() if autosave else None
    settings = StudioSettings(*access, server=server, browser=browser, seed=seed, state=state)
    if name:
        check_name(name)
    opened = _opened(model, name, target, inputs, classify, hidden, data, decimal)
    if repository:
        opened = replace(opened, repository=repository, name=name or opened.name or "model")
    Studio(opened, settings).run(_say)


def _opened(
    model: str,
    name: str,
    target: list[str] | None,
    inputs: list[str] | None,
    classify: bool | None,
    hidden: str,
    data: Path | None,
    decimal: "DecimalMark | None",
) -> "Opened":
    """What the argument names: a table with or without its target, nothing yet, or a network."""
    from kanserve.studio.opened_model import choose_table

    if Path(model).suffix.lower() in _TABLES and target:
        return _opened_table(Path(model), target, inputs, classify, hidden, data, decimal)
    elif not model or Path(model).suffix.lower() in _TABLES:
        if model and not Path(model).is_file():
            raise NotFoundError(f"The file {model!r} does not exist.")
        if inputs or data is not None or classify is not None:
            raise InputError("--input, --data and --classify beside a table need --target.")
        return choose_table(Path(model) if model else None)
    elif inputs:
        raise InputError("--input is for a table; a network has its inputs.")
    elif classify is not None:
        raise InputError("--classify is for a table; a network has its classes, or none.")
    else:
        return opened_network(model, name, data, target, decimal)


def _opened_table(
    table: Path,
    target: list[str],
    inputs: list[str] | None,
    classify: bool | None,
    hidden: str,
    unseen: Path | None,
    decimal: "DecimalMark | None",
) -> "Opened":
    """A table to fit, with rows that the fit does not see. Labels of classes are chosen as on the page."""
    from dataclasses import replace

    from kanserve.data import table_files as tables
    from kanserve.studio.opened_model import open_table

    kind: tables.Kind = "auto" if classify is None else "classification" if classify else "regression"
    rows = tables.read_table(table, target, inputs or (), kind, decimal=decimal)
    labels = tables.count_labels(rows.y) if classify is None and not rows.classes and len(target) == 1 else 0
    if labels:
        warn(f"{target[0]!r} has {labels} different whole values: classes. --no-classify learns them as numbers")
        rows = tables.read_table(table, target, inputs or (), "classification", decimal=decimal)
    alone = target[0] if len(target) == 1 else ""
    opened = replace(open_table(rows, table.stem, arguments.parse_hidden(hidden)), table=table, target=alone)
    if unseen is None:
        return opened
    known = opened.data
    assert known is not None
    held = tables.read_samples(
        unseen, target, known.inputs, known.classes, categories=known.categories, decimal=decimal
    )
    return replace(opened, unseen=held)


def opened_network(
    model: str, name: str, data: Path | None, target: list[str] | None, decimal: "DecimalMark | None"
) -> "Opened":
    """The network of a file or a repository, with the rows of a table if one is given."""
    from dataclasses import replace

    from kanserve.studio.opened_model import open_network

    opened = open_network(model, name)
    assert opened.kan is not None
    if data is not None:
        return replace(opened, data=arguments.data_of(opened.kan, data, target, decimal))
    if target:
        raise InputError("--target names a column of a table: give the table with --data.")
    return opened


def _say(address: str) -> None:
    print(f"The studio is at {address}\nThe address is its key: give it to nobody. Ctrl-C ends it.", flush=True)
    sys.stdout.flush()
