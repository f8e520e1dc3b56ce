"""Exporters: a network becomes files. Each exporter is a module of this folder with one function,

    export(kan: Kan, options: ExportOptions) -> Mapping[str, bytes]        paths inside the exporter's own folder

and needs no registration. Modules and folders whose names begin with an underscore are parts of exporters. Other
packages add theirs through the entry-point group `kanserve.exporters`; names of this folder take precedence.
"""

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import iter_modules
from typing import Protocol, cast

from kanserve.errors import ExportError, NotFoundError
from kanserve.network.export_options import ExportOptions
from kanserve.network.kan import Kan

GROUP = "kanserve.exporters"


class Exporter(Protocol):
    """The interface of an exporter module."""

    def export(self, kan: Kan, options: ExportOptions) -> Mapping[str, bytes]:
        """The network as files, equal bytes for equal networks. Raises ExportError if the format cannot express it."""
        ...


def names() -> tuple[str, ...]:
    """The names of all exporters, sorted."""
    return tuple(sorted({*_ours(), *(point.name for point in entry_points(group=GROUP))}))


def get(name: str) -> Exporter:
    """The exporter called `name`. Raises NotFoundError with the existing names."""
    if name in _ours():
        return cast(Exporter, import_module(f"{__name__}.{name}"))  # a module is an object with a function
    for point in entry_points(group=GROUP, name=name):
        loaded = point.load()
        if not callable(getattr(loaded, "export", None)):
            raise ExportError(f"The entry point {point.value!r} must be a module with export(kan, options).")
        return cast(Exporter, loaded)  # checked on the line above
    raise NotFoundError(f"No exporter is called {name!r}. There are: {', '.join(names())}.")


def _ours() -> tuple[str, ...]:
    return tuple(iter_module.name for iter_module in iter_modules(__path__) if not iter_module.name.startswith("_"))
