"""Validate a function before it is added to the table of functions."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import InputError, reason
from kanserve.network.functions import Function
from kanserve.network.own_functions import Elementwise, OwnFunction

Array = NDArray[np.float64]

ROWS = 101  # numbers of its domain on which a function that a user registers is tried
STEP = 1e-5  # of the central differences that its derivative is compared with
SLOPE = 1e-4  # how far, relative to its size, a derivative may be from them
KINKS = 0.05  # of the numbers may lie at a kink, where central differences mean nothing
SAME = 1e-9  # how far values may be apart, relative, that are computed together and one by one

DOMAINS = {
    "": (-3.0, 3.0),
    "x >= 0": (0.0, 3.0),
    "x > 0": (0.01, 3.0),
    "x != 0": (0.01, 3.0),
    "-1 <= x <= 1": (-1.0, 1.0),
    "-1 < x < 1": (-0.99, 0.99),
}
"""The domains that a function may have, each with an interval on which it must be finite."""


def check_finite(row: Function, shown: str) -> None:
    """Raise InputError if a function is constant, or not finite somewhere in its domain."""
    x = np.linspace(*DOMAINS[row.domain], 101)
    with np.errstate(all="ignore"):
        values = row.numpy(x) + 0 * x
    if not np.isfinite(values).all():
        at = float(x[~np.isfinite(values)][0])
        raise InputError(
            f"{shown!r} is not finite at x = {at:.3g}. Say where it is, as domain, one of "
            f"{', '.join(repr(domain) for domain in DOMAINS if domain)}."
        )
    if not values.max() - values.min() > 0:
        raise InputError(f"{shown!r} is a constant; a function depends on x.")


def check_values(own: OwnFunction) -> None:
    """Raise InputError unless the callables map float64 arrays elementwise to arrays of the same shape."""
    for argument, function in (("numpy", own.numpy), ("derivative", own.derivative)):
        if function is None or isinstance(function, str):
            continue
        x = _inside(own.domain)
        whole = _call(function, x, argument)
        parts = np.concatenate([_call(function, x[:1], argument), _call(function, x[1:], argument)])
        if not np.allclose(parts, whole, rtol=SAME, atol=0, equal_nan=True):
            raise InputError(
                f"{argument}= gives other values where it is called with fewer numbers; each value must depend on its "
                "own x alone."
            )


def check_slope(own: OwnFunction, slope: Callable[[Array], Array]) -> None:
    """Raise InputError if a derivative differs from central differences of the values, except at kinks."""
    assert own.numpy is not None
    x = _inside(own.domain)
    step = STEP * np.maximum(1.0, np.abs(x))
    values = Elementwise(own.name, own.numpy, own.domain)
    with np.errstate(all="ignore"):
        wanted = (values(x + step) - values(x - step)) / (2 * step)
        got = np.asarray(slope(x), np.float64)
        size = np.abs(wanted) + np.median(np.abs(wanted)) + np.abs(values(x)).max() * SAME
        wrong = ~(np.abs(got - wanted) <= SLOPE * size)
    if wrong.mean() > KINKS:
        at = int(np.argmax(wrong))
        raise InputError(
            f"The derivative of {own.name!r} differs from its values: at x = {x[at]:.6g} it is {got[at]:.6g}, and "
            f"central differences give {wanted[at]:.6g}."
        )


def same_values(function: OwnFunction, other: OwnFunction) -> bool:
    """Whether the callables of two functions agree in the domain."""
    x = _inside(function.domain)
    for a, b in ((function.numpy, other.numpy), (function.derivative, other.derivative)):
        if not (callable(a) and callable(b)):
            if a != b:
                return False
        elif not np.array_equal(_call(a, x, "numpy"), _call(b, x, "numpy"), equal_nan=True):
            return False
    return callable(function.sympy) == callable(other.sympy)


def _inside(domain: str) -> Array:
    """Points in the domain that avoid round numbers, where piecewise functions have their kinks."""
    low, high = DOMAINS[domain]
    count = ROWS
    return low + (high - low) * (np.arange(count) + 0.41421) / count


def _call(function: Callable[[Array], Array], x: Array, argument: str) -> Array:
    given = x.copy()
    try:
        with np.errstate(all="ignore"):
            result: Any = function(given)
    except Exception as error:  # a user's function may raise anything
        raise InputError(
            f"{argument}= must take an array of numbers and give an array of the same shape, as NumPy's functions do, "
            f"but raised {type(error).__name__}: {reason(error)}. numpy.vectorize makes one of a function of a number."
        ) from error
    if not isinstance(result, np.ndarray) or result.shape != x.shape or result.dtype != np.float64:
        shape, kind = getattr(result, "shape", None), getattr(result, "dtype", type(result).__name__)
        raise InputError(
            f"{argument}= must give a float64 array of shape {x.shape} for one of that shape; got {kind} of shape "
            f"{shape}."
        )
    if not np.array_equal(given, x):
        raise InputError(f"{argument}= changes the array that it is given; it must leave it as it is.")
    return result
