"""kanserve drift: whether the rows that a served model answers are spread as its training rows were."""

from typing import Annotated

import typer

from kanserve.cli import arguments
from kanserve.cli.commands.flag_types import Json
from kanserve.cli.commands.server_access import ServerAccess, ServerName, Tls, TlsCa, TlsCertificate, TlsKey, TokenFile
from kanserve.cli.terminal import print_rows, warn
from kanserve.errors import NotFoundError


def show_drift(
    model: Annotated[str, typer.Argument(help="A model of a server, host:port/name[/version].")],
    tls: Tls = False,
    tls_ca: TlsCa = None,
    tls_certificate: TlsCertificate = None,
    tls_key: TlsKey = None,
    server_name: ServerName = "",
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Compare the latest rows that a served model answered with its training rows, input by input.

    PSI is the population stability index: by custom 0.1 is a moderate change and 0.25 a large one. PSI above chance is
    what is left of it after the largest index that unchanged inputs have, for so many rows. Inputs in which that is
    over 0.1 have drifted.

    Example: kanserve drift localhost:8001/houses
    """
    address, name, version = arguments.parse_served(model)
    access = ServerAccess(tls, tls_ca, tls_certificate, tls_key, server_name, token_file)
    with access.client(address) as client:
        inputs = client.drift(name, version)
    if not inputs:
        raise NotFoundError(
            f"{name!r} does not know its training rows, or the server has --drift-rows 0. Compile the network with "
            "samples, data=, and publish it again."
        )
    lines = [
        {
            "input": drift.name,
            "rows": drift.rows,
            "psi": drift.psi,
            "psi_above_chance": drift.psi_above_chance,
            "outside": drift.outside,
            "drifted": drift.drifted,
        }
        for drift in inputs
    ]
    print_rows(lines, as_json)
    if drifted := [drift.name for drift in inputs if drift.drifted]:
        warn(f"drifted: {', '.join(drifted)}")
