"""kanserve route: aliases of versions, and which part of the requests each version of a served model gets."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from kanserve.cli import arguments
from kanserve.cli.commands.flag_types import Json
from kanserve.cli.terminal import show
from kanserve.errors import InputError


def change_route(
    routes: Annotated[Path, typer.Argument(metavar="ROUTES_FILE", help="The JSON file of 'kanserve serve --routes'.")],
    model: Annotated[str, typer.Argument(help="The model's name.")],
    alias: Annotated[
        str, typer.Option("--alias", "-a", help="Versions by alias, as in stable=3,canary=4: then houses@canary is 4.")
    ] = "",
    weights: Annotated[
        str,
        typer.Option("--weights", "-w", help="Weights by alias or version, as in stable=90,canary=10; of no others."),
    ] = "",
    as_json: Json = False,
) -> None:
    """Name versions of a model, and say which part of the requests without a version each gets; or show that.

    The file is replaced as a whole. Servers read it within a second, and answer what is under way with the version that
    it began with.

    Example: kanserve route routes.json houses --alias stable=3,canary=4 --weights stable=90,canary=10

    Example: kanserve route routes.json houses --weights stable=100
    """
    from kanserve.serve.models.routes import change_routes

    versions = {name: _number("--alias", value) for name, value in _pairs("--alias", alias, "stable=3,canary=4")}
    shares = {name: _number("--weights", value) for name, value in _pairs("--weights", weights, "stable=90,canary=10")}
    show(change_routes(routes, model, {name: int(number) for name, number in versions.items()}, shares), as_json)


def _pairs(option: str, text: str, example: str) -> Iterable[tuple[str, str]]:
    return arguments.pairs(option, text, example).items() if text else ()


def _number(option: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or (option == "--alias" and number != int(number)):
        raise InputError(f"{option} wants {'versions' if option == '--alias' else 'numbers'}, got {text!r:.40}.")
    return number
