"""What callers may rely on: public names with their parameters, exceptions, and the command line's options.

python -m tests.support.public_api     after a release: what the last release promised
"""

import inspect
import json
from collections.abc import Iterable
from typing import Any

import kanserve
from kanserve import errors
from tests.support.paths import TESTS

RELEASED = TESTS / "unit" / "compatibility" / "public_api.json"
OPEN = "**"  # in a list of parameters: any other name is taken too


def names() -> dict[str, list[str]]:
    """The parameters of each public function and class, and of the public methods of classes."""
    found: dict[str, list[str]] = {}
    for name in sorted({*kanserve.__all__, "compile"}):
        value = getattr(kanserve, name)
        found[name] = parameters(value) if callable(value) else []
        if inspect.isclass(value) and not issubclass(value, Exception):
            for method, own in inspect.getmembers(value, callable):
                if not method.startswith("_"):
                    found[f"{name}.{method}"] = parameters(own)
    return found


def parameters(value: Any) -> list[str]:
    """The names that a caller may give; OPEN if any name is taken."""
    every = _signature(value)
    open_ended = any(one.kind is one.VAR_KEYWORD for one in every)
    named = [one.name for one in every if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL) and one.name != "self"]
    return named + [OPEN] * open_ended


def required(value: Any) -> list[str]:
    """The parameters without a default."""
    every = _signature(value)
    fixed = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return [one.name for one in every if one.default is one.empty and one.kind not in fixed and one.name != "self"]


def _signature(value: Any) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(value).parameters.values())
    except ValueError:  # of an exception
        return []


def exceptions() -> list[str]:
    """The exceptions, each with the public ones that it is."""
    own = [one for one in vars(errors).values() if inspect.isclass(one) and issubclass(one, Exception)]
    mine = [one for one in own if one.__module__ == errors.__name__]
    return sorted(f"{one.__name__}: {', '.join(base.__name__ for base in one.__mro__[1:-2])}" for one in mine)


def commands() -> dict[str, list[str]]:
    """The options and arguments of each command."""
    import typer

    from kanserve.cli.app import app

    def walk(command: Any, name: str) -> Iterable[tuple[str, list[str]]]:
        for sub, below in getattr(command, "commands", {}).items():
            yield from walk(below, f"{name} {sub}".strip())
        if not hasattr(command, "commands"):
            options = [text for one in command.params for text in (*one.opts, *one.secondary_opts)]
            yield name, sorted(options)

    return dict(walk(typer.main.get_command(app), ""))


def whole() -> dict[str, Any]:
    return {"names": names(), "exceptions": exceptions(), "commands": commands()}


if __name__ == "__main__":
    RELEASED.write_text(json.dumps(whole(), indent=1, sort_keys=True) + "\n")
    print(f"{RELEASED}: {len(names())} names, {len(exceptions())} exceptions, {len(commands())} commands")
