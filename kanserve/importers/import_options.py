"""The options of an import, for what a checkpoint does not store, and their validation."""

import math
from collections.abc import Sequence
from typing import Any, TypedDict, get_args

from kanserve.errors import InputError
from kanserve.importers.conversion import Basis, Options, Squash
from kanserve.network.kan import Base

BASES: tuple[str, ...] = get_args(Base)
POLYNOMIALS: tuple[str, ...] = get_args(Basis)
SQUASHES: tuple[str, ...] = get_args(Squash)


class Choices(TypedDict, total=False):
    """Options for what a checkpoint does not store; see `conversion.Options`."""

    inputs: Sequence[str]
    outputs: Sequence[str]
    base: Base | None
    denominator: float | None
    tolerance: float
    basis: Basis | None
    parameters: Sequence[float]
    squash: Squash | None


def check_options(options: Choices) -> Options:
    """Validate the options. Raises InputError for a wrong type or range."""
    known = Choices.__optional_keys__
    if unknown := sorted(set(options) - known):
        raise InputError(f"The options of an import are {', '.join(sorted(known))}; got {', '.join(unknown)}.")
    for name, words in (("base", BASES), ("basis", POLYNOMIALS), ("squash", SQUASHES)):
        if options.get(name) is not None and options.get(name) not in words:
            raise InputError(f"{name} is one of {', '.join(words)}; got {options.get(name)!r}.")
    denominator, tolerance = options.get("denominator"), options.get("tolerance", Options.tolerance)
    if denominator is not None and not _positive(denominator):
        raise InputError(f"denominator is a number above 0; got {denominator!r}.")
    if not _positive(tolerance) or float(tolerance) >= 1:
        raise InputError(f"tolerance is a number above 0 and below 1; got {tolerance!r}.")
    return Options(
        _names("inputs", options.get("inputs", ())),
        _names("outputs", options.get("outputs", ())),
        options.get("base"),
        None if denominator is None else float(denominator),
        float(tolerance),
        options.get("basis"),
        _numbers(options.get("parameters", ())),
        options.get("squash"),
    )


def _names(kind: str, names: Sequence[str]) -> tuple[str, ...]:
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{kind} are names, as in ['mass', 'speed']; got {names!r}.")
    if len(set(names)) < len(names) or not all(names):
        raise InputError(f"The names of the {kind} must differ and not be empty; got {list(names)}.")
    return tuple(names)


def _positive(value: Any) -> bool:
    try:
        return math.isfinite(float(value)) and float(value) > 0
    except (TypeError, ValueError, OverflowError):
        return False


def _numbers(values: Any) -> tuple[float, ...]:
    try:
        found = tuple(float(value) for value in values)
        if isinstance(values, str) or not all(map(math.isfinite, found)):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"parameters are finite numbers, as in [0.5]; got {values!r}.") from None
    return found
