"""Detect which library a checkpoint belongs to, and convert it with that library's importer."""

import os
from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import Any, Literal, get_args

from kanserve.data.near_names import first_names
from kanserve.errors import CheckpointError, InputError, NetworkError
from kanserve.importers.arrays import arrays_of, clip_key
from kanserve.importers.checkpoint_files import read
from kanserve.importers.conversion import Checkpoint, Conversion, Options

Library = Literal[
    "pykan", "efficient-kan", "fast-kan", "inkan", "jaxkan", "polynomial-kan", "fourier-kan", "rational-kan"
]
LIBRARIES: tuple[Library, ...] = get_args(Library)
Source = str | os.PathLike[str] | Mapping[str, Any] | object
"""A path, arrays by name (a state_dict), or the live model."""


def checkpoint_of(source: Source) -> Checkpoint:
    """The checkpoint in a path, a mapping or a live model."""
    match source:
        case Checkpoint():
            return source
        case str() | os.PathLike():
            return read(source)
        case Mapping():
            return Checkpoint(arrays_of(source, "the state_dict"), name="the state_dict")
        case _:
            return _live(source)


def convert(checkpoint: Checkpoint, library: str, options: Options) -> Conversion:
    """Convert a checkpoint to a network. If `library` is empty, it is detected from the names of the arrays."""
    found = _matching(checkpoint)
    if not found and {"layers.0.coefficients", "input_shift"} <= set(checkpoint.arrays):
        how = "kanserve.from_torch reads it" if "structure" in checkpoint.arrays else "use it as it is"
        raise CheckpointError(f"{checkpoint.name} is a network of kanserve's own already: {how}.")
    if not found or (library and library not in found):
        wanted = library or f"any of {', '.join(LIBRARIES)}"
        like = f"; it looks like one of {found[0]}" if found else f": its arrays are {_first(checkpoint)}"
        raise CheckpointError(f"{checkpoint.name} is not a checkpoint of {wanted}{like}.")
    if not library and len(found) > 1:
        raise CheckpointError(f"{checkpoint.name} may be of {' or '.join(found)}; say which library it is of.")
    try:
        return importer(library or found[0]).convert(checkpoint, options)  # type: ignore[no-any-return] # by its name
    except NetworkError as error:
        raise CheckpointError(f"{checkpoint.name}: {error}") from None


def importer(library: str) -> ModuleType:
    """The importer module of a library, with `matches`, `convert` and possibly `live`."""
    return import_module(f"kanserve.importers.{library.replace('-', '_')}")


def _live(model: Any) -> Checkpoint:
    for wrapper in ("module", "_orig_mod"):  # DataParallel and torch.compile wrap the module
        if type(model).__module__.startswith("torch."):
            model = getattr(model, wrapper, model)
    if any(parent.__module__.partition(".")[0] == "jaxkan" for parent in type(model).__mro__):
        return _ask("jaxkan", model)
    # Recognised by attributes, not by package: people keep copies of these libraries.
    if hasattr(model, "act_fun") and hasattr(model, "symbolic_fun"):
        return _ask("pykan", model)
    state = getattr(model, "state_dict", None)
    if not callable(state) or isinstance(model, type):
        raise InputError(
            f"A network comes from a path, from arrays by name or from a live model; got {type(model).__name__}."
        )
    name = f"the {type(model).__name__}"
    checkpoint = Checkpoint(arrays_of(state(), name), name=name)
    found = _matching(checkpoint)
    return _ask(found[0], model) if found and hasattr(importer(found[0]), "live") else checkpoint


def _ask(library: str, model: Any) -> Checkpoint:
    """The checkpoint of a live model, which has more information than its arrays."""
    found: Checkpoint = importer(library).live(model)
    return found


def _matching(checkpoint: Checkpoint) -> list[str]:
    return [name for name in LIBRARIES if importer(name).matches(checkpoint)]


def _first(checkpoint: Checkpoint) -> str:
    names = list(checkpoint.arrays)
    return first_names([clip_key(name) for name in names], 4)
