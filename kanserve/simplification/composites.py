"""Functions of functions for one edge, where no single named function matches: 1/sqrt(1 - z²), 1/(e^z - 1). Either the
outer function is inverted and the inner one searched in the table; or the inner one is a square about the natural
centre, or a power where z is a logarithm, and the outer one is searched; or a power of z is divided out, as in z·e^-z
and sin(z)/z, and the other factor is searched."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from kanserve.network.functions import FUNCTIONS
from kanserve.network.kan import Symbolic
from kanserve.simplification.edge_candidates import (
    EDGE_CANDIDATES_COMPLEXITY_WEIGHT,
    Array,
    Samples,
    candidates,
    candidates_of_each,
    within_domain,
)

COMPOSITES_LAYER_COMPLEXITY = 0.5  # complexity of the second layer of a composite, in units of the table of functions
# Least weight of a point, and least size of a power that is a factor, each relative to its largest.
LEAST_WEIGHT = 1e-12
CANDIDATES_EACH = 2  # candidates to keep for each outer function, inner function or power

INNER = ("x^2", "sin", "cosh", "exp", "log", "1/x", "1/x^2", "sqrt", "1/sqrt")
POWERS = ("x", "x^2", "x^3", "1/x", "1/x^2")
TIMES = ("exp", "log", "sin", "gaussian", "1/x", "sqrt", "tanh", "cosh", "sinh", "x^2")
"""The powers of z that may be a factor, and the functions that the other factor may be."""

_Pair = tuple[Callable[[Array], Array], Callable[[Array], Array]]
_UNDONE: dict[str, _Pair] = {
    "1/x": (lambda v: 1 / v, lambda t: -1 / t**2),
    "1/x^2": (lambda v: 1 / np.sqrt(v), lambda t: -2 / t**3),
    "sqrt": (lambda v: v * v, lambda t: 0.5 / np.sqrt(t)),
    "1/sqrt": (lambda v: 1 / (v * v), lambda t: -0.5 / t**1.5),
    "exp": (np.log, np.exp),
    "log": (np.exp, lambda t: 1 / t),
    "x^2": (np.sqrt, lambda t: 2 * t),
}
"""The inverse of each outer function that is tried, and the function's derivative, in terms of the inner value."""
_POSITIVE = ("sqrt", "1/sqrt")
"""Outer functions whose values are positive, so that they are inverted only at positive values."""


@dataclass(frozen=True)
class Composite:
    """A named function of a product of named functions, with error and rank as in `Candidate`. `held` lists which of a,
    b, c, d of the outer function are redundant and fixed, `inner_held` those of each inner function."""

    outer: Symbolic
    inner: tuple[Symbolic, ...]
    held: tuple[int, ...]
    inner_held: tuple[tuple[int, ...], ...]
    error: float
    rank: float


def composites(
    samples: Samples, floor: float, library: Sequence[str], *, level: float = 0.0, rates: Sequence[float] = ()
) -> list[Composite]:
    """Composites of the allowed functions that fit the samples, best rank first. `level` is the outer constant d. For
    `rates` r, where the input is a logarithm, e^(r·z) is a simple power."""
    if not (0 < samples.half < np.inf and np.isfinite(samples.values).all() and np.isfinite(samples.weights).all()):
        return []
    found = [
        *_outer_undone(samples, floor, library, level),
        *_propose_known_inner(samples, floor, library, rates),
        *_times_a_power(samples, floor, library, level),
    ]
    return sorted(found, key=lambda composite: composite.rank)


def _outer_undone(samples: Samples, floor: float, library: Sequence[str], level: float) -> Iterator[Composite]:
    outer, values, weights = [], [], []
    for name, (inverse, slope) in _UNDONE.items():
        for sign in (1.0, -1.0) if name in library else ():
            with np.errstate(all="ignore"):
                v = sign * (samples.values - level)
                t = inverse(np.where(v > 0, v, np.nan) if name in _POSITIVE else v)
                weight = samples.weights * slope(t) ** 2
            if np.isfinite(t).all() and np.isfinite(weight).all() and (weight > 0).any():
                outer.append((name, sign))
                values.append(t)
                weights.append(np.maximum(weight, LEAST_WEIGHT * weight.max()))
    if not outer:
        return
    inner = tuple(name for name in INNER if name in library)
    offered = candidates_of_each(samples, np.array(values), np.array(weights), floor, inner)
    for (name, sign), best in zip(outer, offered, strict=True):
        for candidate in best[:CANDIDATES_EACH]:
            price = EDGE_CANDIDATES_COMPLEXITY_WEIGHT * (FUNCTIONS[name].complexity + COMPOSITES_LAYER_COMPLEXITY)
            outside = Symbolic(name, 1.0, 0.0, sign, level)
            held = (0, 1) if name == "log" else (0, 1, 2)
            yield Composite(outside, (candidate.symbolic,), held, ((),), candidate.error, candidate.rank + price)


def _propose_known_inner(
    samples: Samples, floor: float, library: Sequence[str], rates: Sequence[float]
) -> Iterator[Composite]:
    inner = [Symbolic("x^2", 1.0, -samples.natural, 1.0, 0.0)] if "x^2" in library else []
    inner += [Symbolic("exp", rate, 0.0, 1.0, 0.0) for rate in rates if "exp" in library]
    for inside in inner:
        ends = np.array([samples.low, samples.high, samples.natural])
        with np.errstate(all="ignore"):
            t, reach = (FUNCTIONS[inside.function].numpy(inside.a * z + inside.b) for z in (samples.z, ends))
        if inside.function == "exp" or not samples.low < samples.natural < samples.high:
            reach = reach[:2]
        if not (np.isfinite(t).all() and np.isfinite(reach).all() and within_domain("x", reach[:1], reach[1:2])[0]):
            continue
        order = np.argsort(t, kind="stable")
        moved = replace(
            samples,
            z=t[order],
            values=samples.values[order],
            weights=samples.weights[order],
            low=float(reach.min()),
            high=float(reach.max()),
            natural=0.0,
        )
        price = EDGE_CANDIDATES_COMPLEXITY_WEIGHT * (
            FUNCTIONS[inside.function].complexity + COMPOSITES_LAYER_COMPLEXITY
        )
        for candidate in candidates(moved, floor, library)[:CANDIDATES_EACH]:
            if candidate.symbolic.function != "x":
                yield Composite(candidate.symbolic, (inside,), (), ((2, 3),), candidate.error, candidate.rank + price)


def _times_a_power(samples: Samples, floor: float, library: Sequence[str], level: float) -> Iterator[Composite]:
    t = samples.z - samples.natural
    powers = [name for name in POWERS if name in library and within_domain(name, *(t[:1], t[-1:]))[0]]
    shapes = np.array([FUNCTIONS[name].numpy(t) for name in powers]).reshape(-1, len(t))
    far = (np.abs(shapes) > LEAST_WEIGHT * np.abs(shapes).max(axis=1, initial=0.0, keepdims=True)).all(axis=1)
    powers, shapes = [name for name, kept in zip(powers, far, strict=True) if kept], shapes[far]
    if not powers:
        return
    others = tuple(name for name in TIMES if name in library)
    offered_each = candidates_of_each(
        samples, (samples.values - level) / shapes, samples.weights * shapes**2, floor, others
    )
    for name, offered in zip(powers, offered_each, strict=True):
        price = EDGE_CANDIDATES_COMPLEXITY_WEIGHT * (FUNCTIONS[name].complexity + COMPOSITES_LAYER_COMPLEXITY)
        for candidate in offered[:CANDIDATES_EACH]:
            inner = Symbolic(name, 1.0, -samples.natural, 1.0, 0.0), candidate.symbolic
            outside = Symbolic("x", 1.0, 0.0, 1.0, level)
            yield Composite(outside, inner, (2,), ((1, 2, 3), ()), candidate.error, candidate.rank + price)
