"""Where packages find what shows their objects, which is built on top of them.

`kanserve` fills the table when it is imported, so that no package names one above it.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

_HOMES: dict[str, str] = {}


def register(homes: Mapping[str, str]) -> None:
    """Register display functions as "module:function"; they are imported when first used."""
    _HOMES.update(homes)


def display(name: str) -> Callable[..., Any]:
    """The display function with this name."""
    module, _, function = _HOMES[name].partition(":")
    found: Callable[..., Any] = getattr(import_module(module), function)
    return found
