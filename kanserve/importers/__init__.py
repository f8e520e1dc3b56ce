"""Import networks that other libraries trained, from files or live models, without importing the library.

    checkpoint = read(path)                      # arrays by the library's names, and plain settings
    importer = the one whose `matches` is true   # by names and shapes alone
    conversion = importer.convert(checkpoint)    # a Kan that computes the same, and notes

What kanserve cannot represent raises CheckpointError with the place and the reason; nothing is approximated silently.
"""

import math
import os
from collections.abc import Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any, Literal, TypedDict, Unpack, get_args

from kanserve.errors import CheckpointError, InputError, NetworkError
from kanserve.importers.arrays import arrays_of, shown
from kanserve.importers.checkpoint_files import read
from kanserve.importers.conversion import Checkpoint, Conversion, Options
from kanserve.network.kan import Base, Kan

Library = Literal["pykan", "efficient-kan", "fast-kan", "inkan", "jaxkan"]
LIBRARIES: tuple[Library, ...] = get_args(Library)
BASES: tuple[str, ...] = get_args(Base)
Source = str | os.PathLike[str] | Mapping[str, Any] | object
"""A path, arrays by name (a state_dict), or the live model."""


class Choices(TypedDict, total=False):
    """Options for what a checkpoint does not store; see `conversion.Options`."""

    inputs: Sequence[str]
    outputs: Sequence[str]
    base: Base | None
    denominator: float | None
    tolerance: float


def from_checkpoint(source: Source, library: str = "", **options: Unpack[Choices]) -> Conversion:
    """The network that another library trained, with notes on what was left out, guessed or refitted.

    The other library is not needed. docs/from-pykan.md says what each library's import does and does not take.

    Parameters
    ----------
    source : path, mapping of str to array or tensor, or model
        A file (of torch, .safetensors, .npz, or pykan's checkpoint), arrays or tensors by name (a state_dict), or the
        live model, which knows what its file lacks.
    library : {"pykan", "efficient-kan", "fast-kan", "inkan", "jaxkan"}, optional
        By default it is recognised by the names and shapes of the arrays.
    inputs, outputs : sequence of str, optional
        Names of the inputs and outputs.
    base : {"silu", "identity", "zero"}, optional
        The activation beside the splines, where it is not stored.
    denominator : float, optional
        The width of radial functions, where it is not stored: exp(-((x - centre)/denominator)²).
    tolerance : float, default=1e-6
        Where edges are refitted, the largest error of the outputs relative to the largest output, and of each edge
        relative to its largest value; above 0 and below 1.

    Returns
    -------
    Conversion
        `kan`, `library`, `notes`, and in `refitted` whether the network is approximate, within the tolerance.

    Raises
    ------
    CheckpointError
        The checkpoint is damaged, of no known library, or has what kanserve cannot represent; the message has the
        place.
    InputError
        An option is unknown or out of range, or the source is none of these.
    MissingDependencyError
        torch or pyyaml is not installed, which some files need.
    OSError
        A file cannot be opened.

    Examples
    --------
    >>> import kanserve, numpy as np
    >>> layer = {"grid": [[-3, -1, 1, 3]], "spline_weight": [[[-1, 1]]], "base_weight": [[0]]}
    >>> state = {f"layers.0.{name}": np.array(values, float) for name, values in layer.items()}
    >>> found = kanserve.from_checkpoint(state, inputs=["a"])
    >>> found.library, found.kan
    ('efficient-kan', Kan(1-1, 1 edges, inputs a))
    >>> found.notes
    ('The base activation is not stored: taken to be silu.',)
    """
    chosen = checked(options)
    if library and library not in LIBRARIES:
        raise InputError(f"library is one of {', '.join(LIBRARIES)}; got {library!r}.")
    return convert(checkpoint_of(source), library, chosen)


def from_pykan(source: Source, **options: Unpack[Choices]) -> Kan:
    """The network of a pykan checkpoint, by the name passed to `saveckpt`, or of a live model.

    It reads what pykan 0.2 writes. A state_dict alone is enough if no edge has a named function and no node is a
    product; otherwise the settings are needed too.

    Parameters
    ----------
    source : path, mapping of str to array or tensor, or model
        The checkpoint's name, such as "model/0.1", the arrays of a state_dict, or the live model.
    **options
        `inputs`, `outputs`, `base`, `denominator` and `tolerance`, as in `from_checkpoint`.

    Returns
    -------
    Kan
        The same network, with pykan's extrapolation (zero).

    Raises
    ------
    CheckpointError, InputError, MissingDependencyError, OSError
        As in `from_checkpoint`.

    Examples
    --------
    >>> import kanserve, numpy as np
    >>> state = {"act_fun.0.grid": [[-3, -1, 1, 3]], "act_fun.0.coef": [[[-1, 1]]], "act_fun.0.mask": [[1]]}
    >>> state |= {"act_fun.0.scale_base": [[0]], "act_fun.0.scale_sp": [[1]]}
    >>> state |= {"symbolic_fun.0.mask": [[0]], "symbolic_fun.0.affine": [[[1, 0, 1, 0]]]}
    >>> state |= {"subnode_scale_0": [1], "subnode_bias_0": [0], "node_scale_0": [1], "node_bias_0": [2]}
    >>> kan = kanserve.from_pykan({name: np.array(values, float) for name, values in state.items()})
    >>> kan([[0.5]]).tolist()
    [[2.5]]
    """
    return from_checkpoint(source, "pykan", **options).kan


def from_efficient_kan(source: Source, **options: Unpack[Choices]) -> Kan:
    """The network of efficient-kan's state_dict, its file, or a live model.

    The activation beside the splines is not in the file: it is silu unless `base` or a live model says otherwise.

    Parameters
    ----------
    source : path, mapping of str to array or tensor, or model
        The file, the arrays of the state_dict, or the live model.
    **options
        `inputs`, `outputs`, `base`, `denominator` and `tolerance`, as in `from_checkpoint`.

    Returns
    -------
    Kan
        The same network, exactly.

    Raises
    ------
    CheckpointError, InputError, MissingDependencyError, OSError
        As in `from_checkpoint`.

    Examples
    --------
    >>> import kanserve, numpy as np
    >>> layer = {"grid": [[-3, -1, 1, 3]], "spline_weight": [[[-1, 1]]], "base_weight": [[0]]}
    >>> state = {f"layers.0.{name}": np.array(values, float) for name, values in layer.items()}
    >>> kanserve.from_efficient_kan(state)([[0.5]]).tolist()
    [[0.5]]
    """
    return from_checkpoint(source, "efficient-kan", **options).kan


def from_fast_kan(source: Source, **options: Unpack[Choices]) -> Kan:
    """The network of fast-kan's state_dict, its file, or a live model.

    Its Gaussians are refitted by splines, within `tolerance`. Neither their denominator nor the activation beside them
    is in the file: they are the distance of the centres and silu unless an option or a live model says otherwise.

    Parameters
    ----------
    source : path, mapping of str to array or tensor, or model
        The file, the arrays of the state_dict, or the live model.
    **options
        `inputs`, `outputs`, `base`, `denominator` and `tolerance`, as in `from_checkpoint`.

    Returns
    -------
    Kan
        The network; its outputs differ by at most `tolerance`, relative to the largest.

    Raises
    ------
    CheckpointError, InputError, MissingDependencyError, OSError
        As in `from_checkpoint`.

    Examples
    --------
    >>> import kanserve, numpy as np
    >>> state = {"rbf.grid": np.array([-1.0, 0.0, 1.0]), "spline_linear.weight": np.array([[0.0, 1.0, 0.0]])}
    >>> kanserve.from_fast_kan(state)([[0.0], [1.0]]).round(3).tolist()  # exp(-x²)
    [[1.0], [0.368]]
    """
    return from_checkpoint(source, "fast-kan", **options).kan


def from_inkan(source: Source, **options: Unpack[Choices]) -> Kan:
    """The network of inkan's state_dict, its file, or a live model.

    The activation beside the splines is not in the file: it is silu unless `base` or a live model says otherwise.
    Surfaces of two inputs (`dim=2`) are refused.

    Parameters
    ----------
    source : path, mapping of str to array or tensor, or model
        The file, the arrays of the state_dict, or the live model.
    **options
        `inputs`, `outputs`, `base`, `denominator` and `tolerance`, as in `from_checkpoint`.

    Returns
    -------
    Kan
        The same network; exactly, except that the file of a double model may give its grid with 7 digits only.

    Raises
    ------
    CheckpointError, InputError, MissingDependencyError, OSError
        As in `from_checkpoint`.

    Examples
    --------
    >>> import kanserve, numpy as np
    >>> layer = {"grid_starts": [-7, -5, -3, -1], "weight": [[-3, -1, 1, 3, 0]]}
    >>> state = {f"layers.0.{name}": np.array(values, float) for name, values in layer.items()}
    >>> kanserve.from_inkan(state)([[0.5]]).tolist()
    [[0.5]]
    """
    return from_checkpoint(source, "inkan", **options).kan


def from_jaxkan(source: Source, **options: Unpack[Choices]) -> Kan:
    """The network of jaxkan's arrays, their file, or a live model, of spline or radial layers.

    jaxkan writes no files: the head of kanserve/importers/jaxkan.py has the lines that do. The Gaussians of radial
    layers are refitted by splines, within `tolerance`.

    Parameters
    ----------
    source : path, mapping of str to array or tensor, or model
        The .npz file that these lines write, its arrays, or the live model.
    **options
        `inputs`, `outputs`, `base`, `denominator` and `tolerance`, as in `from_checkpoint`.

    Returns
    -------
    Kan
        The same network: exactly for spline layers, within `tolerance` for radial ones.

    Raises
    ------
    CheckpointError, InputError, MissingDependencyError, OSError
        As in `from_checkpoint`.

    Examples
    --------
    >>> import kanserve, numpy as np
    >>> layer = {"grid": [[-3, -1, 1, 3]], "c_basis": [[[-1, 1]]]}
    >>> state = {f"layers.0.{name}": np.array(values, float) for name, values in layer.items()}
    >>> kanserve.from_jaxkan(state)([[0.5]]).tolist()
    [[0.5]]
    """
    return from_checkpoint(source, "jaxkan", **options).kan


def checkpoint_of(source: Source) -> Checkpoint:
    """What a path, a mapping or a live model holds."""
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
    """The network of a checkpoint of the named library, or of the library whose arrays it has."""
    found = _matching(checkpoint)
    if not found and {"layers.0.coefficients", "input_shift"} <= set(checkpoint.arrays):
        how = "kanserve.from_torch reads it" if "structure" in checkpoint.arrays else "use it as it is"
        raise CheckpointError(f"{checkpoint.name} is a network of kanserve's own already: {how}.")
    if not found or (library and library not in found):
        wanted = library or f"any of {', '.join(LIBRARIES)}"
        like = f"; it looks like one of {found[0]}" if found else f": its arrays are {_first(checkpoint)}"
        raise CheckpointError(f"{checkpoint.name} is no checkpoint of {wanted}{like}.")
    if not library and len(found) > 1:
        raise CheckpointError(f"{checkpoint.name} may be of {' or '.join(found)}; say which library it is of.")
    try:
        return importer(library or found[0]).convert(checkpoint, options)  # type: ignore[no-any-return] # by its name
    except NetworkError as error:
        raise CheckpointError(f"{checkpoint.name}: {error}") from None


def importer(library: str) -> ModuleType:
    """The importer module of a library: `matches`, `convert` and perhaps `live`."""
    return import_module(f"kanserve.importers.{library.replace('-', '_')}")


def checked(options: Choices) -> Options:
    """The choices as options; InputError for a wrong type or range."""
    known = Choices.__optional_keys__
    if unknown := sorted(set(options) - known):
        raise InputError(f"The options of an import are {', '.join(sorted(known))}; got {', '.join(unknown)}.")
    base, denominator = options.get("base"), options.get("denominator")
    tolerance = options.get("tolerance", Options.tolerance)
    if base is not None and base not in BASES:
        raise InputError(f"base is one of {', '.join(BASES)}; got {base!r}.")
    if denominator is not None and not _positive(denominator):
        raise InputError(f"denominator is a number above 0; got {denominator!r}.")
    if not _positive(tolerance) or float(tolerance) >= 1:
        raise InputError(f"tolerance is a number above 0 and below 1; got {tolerance!r}.")
    names: dict[str, tuple[str, ...]] = {}
    for kind, given in (("inputs", options.get("inputs", ())), ("outputs", options.get("outputs", ()))):
        if isinstance(given, str) or not all(isinstance(name, str) for name in given):
            raise InputError(f"{kind} are names, as in ['mass', 'speed']; got {given!r}.")
        names[kind] = tuple(given)
        if len(set(names[kind])) < len(names[kind]) or not all(names[kind]):
            raise InputError(f"The names of the {kind} must differ and not be empty; got {list(given)}.")
    return Options(
        names["inputs"],
        names["outputs"],
        base,
        None if denominator is None else float(denominator),
        float(tolerance),
    )


def _positive(value: Any) -> bool:
    try:
        return math.isfinite(float(value)) and float(value) > 0
    except (TypeError, ValueError, OverflowError):
        return False


def _live(model: Any) -> Checkpoint:
    for wrapper in ("module", "_orig_mod"):  # DataParallel and torch.compile wrap the module
        if type(model).__module__.startswith("torch."):
            model = getattr(model, wrapper, model)
    if any(parent.__module__.partition(".")[0] == "jaxkan" for parent in type(model).__mro__):
        return _asked("jaxkan", model)
    # Recognised by attributes, not by package: people keep copies of these libraries.
    if hasattr(model, "act_fun") and hasattr(model, "symbolic_fun"):
        return _asked("pykan", model)
    state = getattr(model, "state_dict", None)
    if not callable(state) or isinstance(model, type):
        raise InputError(
            f"A network comes from a path, from arrays by name or from a live model; got {type(model).__name__}."
        )
    name = f"the {type(model).__name__}"
    checkpoint = Checkpoint(arrays_of(state(), name), name=name)
    found = _matching(checkpoint)
    return _asked(found[0], model) if found and hasattr(importer(found[0]), "live") else checkpoint


def _asked(library: str, model: Any) -> Checkpoint:
    """The checkpoint of a live model, which knows more than its arrays."""
    found: Checkpoint = importer(library).live(model)
    return found


def _matching(checkpoint: Checkpoint) -> list[str]:
    return [name for name in LIBRARIES if importer(name).matches(checkpoint)]


def _first(checkpoint: Checkpoint) -> str:
    names = list(checkpoint.arrays)
    return ", ".join(map(shown, names[:4])) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
