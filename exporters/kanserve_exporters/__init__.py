"""Exporters: a network becomes files. Each is one module of this folder with one function,

    export(kan: Kan, options: ExportOptions) -> Mapping[str, bytes]        paths inside the exporter's own folder

and is found by looking: no registration. Modules whose names begin with an underscore are parts of exporters. Other
packages add theirs through the entry-point group `kanserve.exporters`; a name of this folder always means ours.
"""

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import iter_modules
from typing import Protocol, cast

from kanserve.errors import ExportError, NotFoundError
from kanserve.network.kan import Kan
from kanserve.options import ExportOptions

GROUP = "kanserve.exporters"


class Exporter(Protocol):
    """What a module must hold to be an exporter."""

    def export(self, kan: Kan, options: ExportOptions) -> Mapping[str, bytes]:
        """The network as files; ExportError when the format cannot express it. Equal networks give equal bytes."""
        ...


def names() -> tuple[str, ...]:
    """The exporters there are, sorted."""
    return tuple(sorted({*_ours(), *(point.name for point in entry_points(group=GROUP))}))


def get(name: str) -> Exporter:
    """The exporter called `name`; NotFoundError with the names there are."""
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
