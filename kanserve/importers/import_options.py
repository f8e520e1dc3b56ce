"""The options of an import: what a checkpoint does not store, as given, and checked."""

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


def checked(options: Choices) -> Options:
    """The choices as options; InputError for a wrong type or range."""
    known = Choices.__optional_keys__
    if unknown := sorted(set(options) - known):
        raise InputError(f"The options of an import are {', '.join(sorted(known))}; got {', '.join(unknown)}.")
    base, denominator = options.get("base"), options.get("denominator")
    tolerance = options.get("tolerance", Options.tolerance)
    for name, known_values in (("base", BASES), ("basis", POLYNOMIALS), ("squash", SQUASHES)):
        if options.get(name) is not None and options.get(name) not in known_values:
            raise InputError(f"{name} is one of {', '.join(known_values)}; got {options.get(name)!r}.")
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
        options.get("basis"),
        _numbers(options.get("parameters", ())),
        options.get("squash"),
    )


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
