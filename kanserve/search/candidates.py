"""What a spline of a tree may be called: named functions, a function of a function, and what a product leaves open.

A spline is known only up to what the tree around it can undo. In a product a factor's constant may be another term's;
under a curve the power of a factor is free. So beside the functions that look like the spline there are those that
would look like it after such a change.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from kanserve.functions import FUNCTIONS
from kanserve.ir import Symbolic
from kanserve.search.trees import IDENTITY, OFFSET_PRICE, Array, Curve, Product, Sum
from kanserve.simplification.edges import (
    COMPLEXITY_WEIGHT,
    Candidate,
    Samples,
    candidates,
    candidates_of_each,
    within_domain,
)

OUTER = ("1/x", "1/x^2", "sqrt", "1/sqrt", "exp", "log", "x^2")
INNER = ("x^2", "sin", "cosh", "exp", "log", "1/x", "1/x^2", "sqrt")
TIMES = ("exp", "log", "sin", "gaussian", "1/x", "sqrt", "tanh", "cosh", "sinh", "x^2")
TWO_LAYERS_PRICE = 0.5
NEAR = 1.3
"""In powers of ten: an offer that is this much worse than the best is not made."""


@dataclass(frozen=True, eq=False)
class Offer:
    """A curve that could stand in a spline's place, its error in units of the answers' spread, and its rank."""

    curve: Curve
    error: float
    rank: float


def offers(
    curve: Curve,
    samples: Samples,
    floor: float,
    library: tuple[str, ...],
    *,
    factor: bool = False,
    traded: bool = False,
    deep: bool = False,
) -> list[Offer]:
    """The best first.

    `factor`: whether the curve alone is a factor of a product. `traded`: whether that product is a term beside others,
    so that f(a) + g(a)·h(b) is f(a) - k·g(a) + g(a)·(h(b) + k): h is then offered without its constant too. `deep`:
    whether what takes longest is worth it, as where this is the only curve.
    """
    found = [_offer(curve, one) for one in candidates(samples, floor, library)]
    if factor:
        found += _without_constant(curve, samples, floor, library)
    if traded:
        found += [_constant_dropped(one) for one in found if one.curve.symbolic and one.curve.symbolic.d != 0]
    best = min((one.error for one in found), default=np.inf)
    if best > 20 * floor:
        found += _of_two_layers(curve, samples, floor)
        found += _times_a_power(curve, samples, floor, deep)
        found += _plus_a_line(curve, samples, floor)
    return sorted(found, key=lambda one: one.rank)


def _offer(curve: Curve, one: Candidate) -> Offer:
    return Offer(replace(curve, symbolic=one.symbolic, knots=None, coefficients=None), one.error, one.rank)


def _constant_dropped(one: Offer) -> Offer:
    assert one.curve.symbolic is not None
    symbolic = replace(one.curve.symbolic, d=0.0)
    gained = COMPLEXITY_WEIGHT * OFFSET_PRICE
    return replace(one, curve=replace(one.curve, symbolic=symbolic, without_constant=True), rank=one.rank - gained)


def _without_constant(curve: Curve, samples: Samples, floor: float, library: tuple[str, ...]) -> Iterator[Offer]:
    """c·f(a·z + b) with d = 0: the functions whose constant is small anyway, fitted again without it."""
    for name in library:
        for b in _natural_places(name, samples):
            with np.errstate(all="ignore"):
                shape = FUNCTIONS[name].numpy(samples.z + b)
            if (
                not np.isfinite(shape).all()
                or not within_domain(name, np.array([samples.low + b]), np.array([samples.high + b]))[0]
            ):
                continue
            weights = samples.weights
            norm = float(weights @ shape**2)
            if norm == 0:
                continue
            c = float(weights @ (shape * samples.values)) / norm
            error = float(np.sqrt(np.mean(weights * (c * shape - samples.values) ** 2)))
            symbolic = Symbolic(name, 1.0, b, c, 0.0)
            rank = float(np.log10(error + floor)) + COMPLEXITY_WEIGHT * (FUNCTIONS[name].complexity - OFFSET_PRICE)
            new = replace(curve, symbolic=symbolic, knots=None, coefficients=None, without_constant=True)
            yield Offer(new, error, rank)


def _natural_places(name: str, samples: Samples) -> tuple[float, ...]:
    return (-samples.natural,) if name in ("x", "x^2", "x^3", "x^4", "1/x", "1/x^2", "sqrt", "1/sqrt", "abs") else ()


_INVERSES: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "1/x": (lambda v: 1 / v, lambda t: -1 / t**2),
    "1/x^2": (lambda v: 1 / np.sqrt(v), lambda t: -2 / t**3),
    "sqrt": (lambda v: v * v, lambda t: 0.5 / np.sqrt(t)),
    "1/sqrt": (lambda v: 1 / (v * v), lambda t: -0.5 / t**1.5),
    "exp": (np.log, np.exp),
    "log": (np.exp, lambda t: 1 / t),
    "x^2": (np.sqrt, lambda t: 2 * t),
}


def _of_two_layers(curve: Curve, samples: Samples, floor: float) -> Iterable[Offer]:
    """f(g(z)) without a constant outside: 1/sqrt(1 - z^2), 1/(e^z - 1), sqrt(1 + sin z), z^p as e^(p·log z)."""
    outer, values, weights = [], [], []
    for name in OUTER:
        for sign in (1.0, -1.0):
            inverse, slope = _INVERSES[name]
            with np.errstate(all="ignore"):
                t = inverse(sign * samples.values)
                weight = samples.weights * slope(t) ** 2
            if np.isfinite(t).all() and np.isfinite(weight).all() and (weight > 0).any():
                outer.append((name, sign))
                values.append(t)
                weights.append(np.maximum(weight, 1e-12 * weight.max()))
    if not outer:
        return []
    found = []
    each = candidates_of_each(samples, np.array(values), np.array(weights), floor, INNER)
    for (name, sign), inside in zip(outer, each, strict=True):
        for one in inside[:2]:
            inner = replace(curve, symbolic=one.symbolic, knots=None, coefficients=None)
            new = Curve(Sum((inner,)), Symbolic(name, 1.0, 0.0, sign, 0.0), without_constant=True)
            price = COMPLEXITY_WEIGHT * (FUNCTIONS[name].complexity + TWO_LAYERS_PRICE)
            found.append(Offer(new, one.error, one.rank + price))
    return found


def _times_a_power(curve: Curve, samples: Samples, floor: float, deep: bool) -> Iterable[Offer]:
    """z^p·g(z): z·e^-z, sin(z)/z. The parts are splines of the same input, so only names tell them apart."""
    t = samples.z - samples.natural
    if (t == 0).any():
        return []
    powers = [("x", t), ("x^2", t**2), ("1/x", 1 / t), ("x^3", t**3), ("1/x^2", t**-2.0)]
    values = np.array([samples.values / each for _, each in powers])
    weights = np.array([samples.weights * each**2 for _, each in powers])
    each = candidates_of_each(samples, values, weights, floor, TIMES)
    found = []
    for k, (name, _) in enumerate(powers):
        rest = [_offer(curve, one) for one in each[k][:2]]
        if deep:
            rest += _of_two_layers(curve, replace(samples, values=values[k], weights=weights[k]), floor)
        factor = Symbolic(name, 1.0, -samples.natural, 1.0, 0.0)
        first = Sum((replace(curve, symbolic=factor, knots=None, coefficients=None, without_constant=True),))
        price = COMPLEXITY_WEIGHT * (FUNCTIONS[name].complexity + TWO_LAYERS_PRICE)
        for one in rest:
            new = Curve(Product((first, Sum((one.curve,)))), IDENTITY)
            found.append(Offer(new, one.error, one.rank + price))
    return found


def _plus_a_line(curve: Curve, samples: Samples, floor: float) -> Iterable[Offer]:
    """g(z) + s·z: what is left of the curve after its best line, by functions of which that line is taken too."""
    shares = samples.weights / samples.weights.sum()
    u = samples.u - shares @ samples.u
    line = samples.values @ (shares * u) / (shares @ u**2)
    best = []
    for one in candidates(replace(samples, values=samples.values - line * u), floor, TIMES)[:3]:
        name, a, b = one.symbolic.function, one.symbolic.a, one.symbolic.b
        columns = np.stack([FUNCTIONS[name].numpy(a * samples.z + b), samples.z, np.ones_like(u)], axis=1)
        root = np.sqrt(samples.weights)[:, None]
        (c, slope, d), *_ = np.linalg.lstsq(root * columns, root[:, 0] * samples.values, rcond=1e-13)
        error = float(np.sqrt(np.mean(samples.weights * (columns @ (c, slope, d) - samples.values) ** 2)))
        terms = (Symbolic(name, a, b, float(c), float(d)), Symbolic("x", 1.0, 0.0, float(slope), 0.0))
        parts = tuple(replace(curve, symbolic=term, knots=None, coefficients=None) for term in terms)
        price = COMPLEXITY_WEIGHT * (FUNCTIONS[name].complexity + 1 + TWO_LAYERS_PRICE)
        best.append(Offer(Curve(Sum(parts), IDENTITY), error, float(np.log10(error + floor)) + price))
    return best
