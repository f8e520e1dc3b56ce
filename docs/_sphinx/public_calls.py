"""The public calls, and their parameters: what the page of parameters lists, and what the test of names reads."""

import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

API = Path(__file__).parents[1] / "reference" / "api"
ENTRY = re.compile(r"^\.\. auto(?!summary)\w+:: (kanserve\.\S+)$", re.MULTILINE)


@cache
def public_calls() -> dict[str, inspect.Signature]:
    """The functions of the reference, the classes that callers make, and the methods of all classes, by their names.

    Data classes and exceptions are made by kanserve, so that their fields are no parameters. The samples are an
    exception: `kanserve.Dataset`.
    """
    return {name: inspect.signature(call) for name, call in sorted(_calls())}


def _calls() -> Iterator[tuple[str, Callable[..., Any]]]:
    for page in sorted(API.glob("*.rst")):
        for name in ENTRY.findall(page.read_text("utf-8")):
            module, _, last = name.rpartition(".")
            found = getattr(importlib.import_module(module), last)
            if not inspect.isclass(found):
                if callable(found):
                    yield name, found
            elif not issubclass(found, Exception):
                if name == "kanserve.Dataset" or not is_dataclass(found):
                    yield name, found
                yield from _methods(name, found)


def _methods(owner: str, found: type) -> Iterator[tuple[str, Callable[..., Any]]]:
    for name in dir(found):
        function = inspect.getattr_static(found, name)
        function = getattr(function, "__func__", function)
        if not name.startswith("_") and inspect.isfunction(function) and function.__module__.startswith("kanserve"):
            yield f"{owner}.{name}", function


def parameters(signature: inspect.Signature) -> list[inspect.Parameter]:
    """The parameters that a caller may give by name."""
    nameless = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return [
        one for one in signature.parameters.values() if one.name not in ("self", "cls") and one.kind not in nameless
    ]


def parameter_table() -> Iterator[str]:
    """A row for each public call, with its parameters in order; those with a default are in brackets."""
    yield "| call | parameters; those in brackets have a default |\n|---|---|"
    for name, signature in public_calls().items():
        words = [f"`{one.name}`" if one.default is one.empty else f"[`{one.name}`]" for one in parameters(signature)]
        open_ended = any(one.kind is one.VAR_KEYWORD for one in signature.parameters.values())
        yield f"| {{py:obj}}`{name}` | {', '.join(words + ['further options'] * open_ended)} |"
