"""The functions that show objects in notebooks, registered by name when `kanserve` is imported, so that lower packages
need not import the packages that draw."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

_HOMES: dict[str, str] = {}


def register(homes: Mapping[str, str]) -> None:
    """Register display functions as "module:function"; they are imported when first used."""
    _HOMES.update(homes)


def display(name: str) -> Callable[..., Any]:
    module, _, function = _HOMES[name].partition(":")
    found: Callable[..., Any] = getattr(import_module(module), function)
    return found
