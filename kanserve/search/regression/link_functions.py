"""Link functions: transformations of the outputs before a surrogate is fitted, which undo a law's outermost function:
sqrt(a² + b²) is no polynomial, but its square is; the logarithm of u·v/(w·s) is a sum."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Elementwise = Callable[[Array], Array]

LINEAR_CORRELATION = 0.9995  # correlation with y from which a link is nearly linear and adds nothing
LEAST_OUTPUT = 1e-3  # least |y| for 1/y, relative to the median of |y|: smaller outputs would dominate the fit
LEAST_SIGNED_OUTPUT = 0.05  # the same where y changes sign: outputs that pass through 0 come closer than that
LARGEST_EXPONENT = 8.0  # largest |y| for the link exp(y)
LARGEST_ANGLE = 1.5  # largest |y| for the link tan(y), in radians
ATANH_LIMIT = 1 - 1e-12  # largest |y| for the link atanh(y), which is infinite at 1
NOISY_OUTSIDE_SHARE = 0.02  # share of the values at either end that may be anywhere, when links are chosen
NOISY_OUTSIDE = 0.05  # standard deviations by which others may be out of a link's domain
NOISY_INSIDE = 0.02  # standard deviations from its ends to which they are moved

_HALF_TURN = math.pi / 2


@dataclass(frozen=True)
class Link:
    """A link function g, its inverse on the outputs' branch, and its derivative. With sign -1 it is g(-y)."""

    name: str
    forward: Elementwise
    inverse: Elementwise
    slope: Elementwise
    applies: Callable[[Array], bool]
    sign: int = 1

    def __reduce__(self) -> tuple[Callable[[str, int], "Link"], tuple[str, int]]:
        """Pickle a link by its name, since lambdas cannot be pickled."""
        return _by_name, (self.name, self.sign)


def applicable(y: Array) -> tuple[Link, ...]:
    """The identity, then every link that is defined on all of y and not nearly linear there. If y is nowhere positive,
    links that need one sign are functions of -y (sign -1)."""
    kept = [IDENTITY]
    if y.max() == y.min():
        return tuple(kept)
    negative = bool(np.all(y <= 0))
    for link in _LINKS:
        candidate = _mirror(link) if negative and link.name in _ONE_SIGNED else link
        if candidate.applies(y) and _bends(candidate, y):
            kept.append(candidate)
    return tuple(kept)


def of_smooth_values(values: Array) -> Iterator[tuple[Link, Array]]:
    """For noisy outputs, given a smooth fit of them (N,): each link that is possible, with the values clipped into
    its domain (noise may take a few out of it). 1/y and 1/y² are left out, since quotients cover them."""
    few, spread = NOISY_OUTSIDE_SHARE, float(values.std())
    low, high = np.quantile(values, (few, 1 - few))
    for link in _LINKS:
        if link.name in ("reciprocal", "reciprocal square"):
            continue
        one_signed = link.name in _ONE_SIGNED
        candidate = _mirror(link) if one_signed and values.mean() < 0 else link
        largest = LARGEST_EXPONENT
        bounds = (-largest, largest) if link.name == "exp" else _BOUNDS.get(link.name, (0.0, np.inf))
        least, most = bounds if candidate.sign == 1 else (-bounds[1], -bounds[0])
        room = NOISY_OUTSIDE * spread
        if low < least - room or high > most + room:
            continue
        within = NOISY_INSIDE * spread
        moved = np.clip(values, least + within, most - within)
        if _bends(candidate, moved):
            yield candidate, moved


def _bends(link: Link, y: Array) -> bool:
    values = link.forward(y)
    if not np.all(np.isfinite(values)) or values.max() == values.min():
        return False
    return bool(abs(np.corrcoef(values, y)[0, 1]) < LINEAR_CORRELATION)


def _mirror(link: Link) -> Link:
    return Link(
        link.name,
        lambda y: link.forward(-y),
        lambda values: -link.inverse(values),
        lambda y: -link.slope(-y),
        lambda y: link.applies(-y),
        -1,
    )


def _by_name(name: str, sign: int) -> Link:
    link = next(link for link in (IDENTITY, *_LINKS) if link.name == name)
    return link if sign == 1 else _mirror(link)


def _not_negative(y: Array) -> bool:
    return bool(y.min() >= 0)


def _positive(y: Array) -> bool:
    return bool(y.min() > 0)


def _far_from_zero(y: Array) -> bool:
    least = LEAST_SIGNED_OUTPUT if y.min() < 0 < y.max() else LEAST_OUTPUT
    return bool(np.abs(y).min() > least * np.median(np.abs(y)))


def _within(y: Array, limit: float) -> bool:
    return bool(np.abs(y).max() <= limit)


IDENTITY = Link("identity", lambda y: y, lambda v: v, np.ones_like, lambda y: True)
RECIPROCAL = Link("reciprocal", lambda y: 1 / y, lambda v: 1 / v, lambda y: -1 / y**2, _far_from_zero)
_LINKS = (
    Link("square", np.square, lambda v: np.sqrt(np.maximum(v, 0)), lambda y: 2 * y, _not_negative),
    Link("sqrt", np.sqrt, np.square, lambda y: 0.5 / np.sqrt(np.maximum(y, 1e-300)), _not_negative),
    Link("log", np.log, lambda v: np.exp(np.minimum(v, 700)), lambda y: 1 / y, _positive),
    RECIPROCAL,
    Link(
        "reciprocal square",
        lambda y: y**-2.0,
        lambda v: 1 / np.sqrt(np.maximum(v, 1e-300)),
        lambda y: -2 * y**-3.0,
        lambda y: _positive(y) and _far_from_zero(y),
    ),
    Link("sin", np.sin, lambda v: np.arcsin(np.clip(v, -1, 1)), np.cos, lambda y: _within(y, _HALF_TURN)),
    Link("tan", np.tan, np.arctan, lambda y: 1 + np.tan(y) ** 2, lambda y: _within(y, LARGEST_ANGLE)),
    Link("exp", np.exp, lambda v: np.log(np.maximum(v, 1e-300)), np.exp, lambda y: _within(y, LARGEST_EXPONENT)),
    Link("asin", np.arcsin, np.sin, lambda y: 1 / np.sqrt(np.maximum(1 - y * y, 1e-24)), lambda y: _within(y, 1.0)),
    Link("atanh", np.arctanh, np.tanh, lambda y: 1 / (1 - y * y), lambda y: _within(y, ATANH_LIMIT)),
)
_ONE_SIGNED = ("square", "sqrt", "log", "reciprocal square")
_BOUNDS = {
    "sin": (-_HALF_TURN, _HALF_TURN),
    "tan": (-_HALF_TURN, _HALF_TURN),
    "asin": (-1.0, 1.0),
    "atanh": (-1.0, 1.0),
}
"""Of the outputs; those of other links are not negative."""
