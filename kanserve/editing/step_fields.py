"""Convert the fields of steps, from a caller or a file, to plain Python values. Raises InputError if that fails."""

from collections.abc import Sequence
from math import inf, isfinite
from typing import Any, Literal

import numpy as np

from kanserve.errors import InputError

Tolerance = float | Literal["auto"]

LONGEST = 30_000  # characters of a string, enough for an edge name made of two variables
MOST_TEXTS = 100_000  # strings in one field of a step


def to(step: object, **values: Any) -> None:
    """Set fields of a frozen step, from its __post_init__."""
    for name, value in values.items():
        object.__setattr__(step, name, value)


def text(value: Any, what: str) -> str:
    """Validate Unicode text."""
    if not isinstance(value, str) or len(value) > LONGEST:
        raise InputError(f"{what} is a text of at most {LONGEST} characters, got {value!r:.80}.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InputError(f"{what} must be Unicode text, got {value!a:.80}.") from None
    return str(value)


def texts(value: Any, what: str) -> tuple[str, ...]:
    """Validate a sequence of strings; a single string is refused."""
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) > MOST_TEXTS:
        raise InputError(f"{what} are texts in a tuple or a list, {MOST_TEXTS} at most, got {value!r:.80}.")
    return tuple(text(item, what) for item in value)


def number(value: Any, what: str, least: float = -inf) -> float:
    """Validate a finite number, of Python or NumPy."""
    plain = isinstance(value, int | float | np.number) and not isinstance(value, bool | np.complexfloating)
    try:
        result = float(value) if plain else inf
    except OverflowError:
        result = inf
    if not isfinite(result) or result < least:
        bound = f" of {least:g} or more" if least > -inf else ""
        raise InputError(f"{what} is a finite number{bound}, got {value!r:.80}.")
    return result


def whole_number(value: Any, what: str, least: int, most: int) -> int:
    """Validate an integer from `least` to `most`."""
    plain = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not plain or not least <= value <= most:
        raise InputError(f"{what} is a whole number from {least} to {most}, got {value!r:.80}.")
    return int(value)


def truth(value: Any, what: str) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise InputError(f"{what} is True or False, got {value!r:.80}.")
    return bool(value)


def tolerance(value: Any) -> Tolerance:
    """Validate the tolerance of a simplification: a number of at least 0, or "auto"."""
    return "auto" if isinstance(value, str) and value == "auto" else number(value, "tolerance (unless 'auto')", 0.0)
