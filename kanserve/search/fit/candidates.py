"""Candidates for a spline of a tree: named functions, functions of functions, and variants that a product allows. A
spline is known only up to changes that the tree around it can undo: in a product, the constant of a factor may belong
to another term; under a curve, the power of a factor is free. So candidates match the spline before or after such a
change."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from kanserve.network.functions import FUNCTIONS
from kanserve.network.kan import Symbolic
from kanserve.network.powers import power_name
from kanserve.search.structure.factors import round_to_fraction
from kanserve.search.structure.shifted_power import power_and_constant
from kanserve.search.trees.nodes import IDENTITY, Curve, Product, Sum
from kanserve.simplification.composites import COMPOSITES_LAYER_COMPLEXITY, POWERS, TIMES, Composite, composites
from kanserve.simplification.edge_candidates import (
    EDGE_CANDIDATES_COMPLEXITY_WEIGHT,
    EDGE_CANDIDATES_OFFSET_COMPLEXITY,
    Candidate,
    Samples,
    candidates,
    within_domain,
)

# Distances within which the exponent of a power that a spline may be is rounded: to a fraction of a denominator up to
# 4, and to a longer number. The exact exponent is tried as well.
POWER_OF_SPLINE_SNAP = (2e-2, 5e-3)


@dataclass(frozen=True, eq=False)
class Offer:
    """A curve that could replace a spline, its error in units of the outputs' spread, and its rank (least is best)."""

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
    noisy: bool = False,
) -> list[Offer]:
    """The offers for a curve, best first. `factor`: it is a lone factor of a product. `traded`: that product is a term
    of a sum, so the constant may belong to another term, and is also left out. `deep`: also try the slowest candidates.
    `noisy`: the curve's error is about a tenth of the network's error, else about all of it."""
    found = [_offer(curve, candidate) for candidate in candidates(samples, floor, library)]
    if factor:
        found += _without_constant(curve, samples, floor, library)
    if traded:
        found += [_drop_constant(offer) for offer in found if offer.curve.symbolic and offer.curve.symbolic.d != 0]
    best = min((offer.error for offer in found), default=np.inf)
    if best > (3 if noisy else 20) * floor:
        found += _powers(curve, samples, floor, constant=True)
        found += _powers(curve, samples, floor, constant=False) if factor else ()
        found += [_compose(curve, composite) for composite in composites(samples, floor, library)]
        found += _times_a_power(curve, samples, floor, library) if deep else ()
        found += _plus_a_line(curve, samples, floor, library)
    return sorted(found, key=lambda offer: offer.rank)


def _offer(curve: Curve, candidate: Candidate) -> Offer:
    return Offer(
        replace(curve, symbolic=candidate.symbolic, knots=None, coefficients=None), candidate.error, candidate.rank
    )


def _drop_constant(offer: Offer) -> Offer:
    assert offer.curve.symbolic is not None
    symbolic = replace(offer.curve.symbolic, d=0.0)
    gained = EDGE_CANDIDATES_COMPLEXITY_WEIGHT * EDGE_CANDIDATES_OFFSET_COMPLEXITY
    return replace(
        offer, curve=replace(offer.curve, symbolic=symbolic, without_constant=True), rank=offer.rank - gained
    )


def _without_constant(curve: Curve, samples: Samples, floor: float, library: tuple[str, ...]) -> Iterator[Offer]:
    """Offers c·f(z + b) without a constant d, for the natural places b of each function."""
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
            rank = float(np.log10(error + floor)) + EDGE_CANDIDATES_COMPLEXITY_WEIGHT * (
                FUNCTIONS[name].complexity - EDGE_CANDIDATES_OFFSET_COMPLEXITY
            )
            new = replace(curve, symbolic=symbolic, knots=None, coefficients=None, without_constant=True)
            yield Offer(new, error, rank)


def _powers(curve: Curve, samples: Samples, floor: float, *, constant: bool) -> Iterator[Offer]:
    """Offers c·t^p + d with a real exponent; t is the distance from the natural place, on one side of it."""
    sign = 1.0 if samples.low >= samples.natural else -1.0
    if samples.low < samples.natural < samples.high:
        return
    t = np.maximum(sign * (samples.z - samples.natural), 0.0)
    fitted = power_and_constant(t, samples.values, constant)
    if fitted is None:
        return
    exponent = fitted[0]
    for simple in dict.fromkeys((round_to_fraction(exponent, *POWER_OF_SPLINE_SNAP), exponent)):
        name = power_name(simple)
        if name is None or simple == round(simple):
            continue
        with np.errstate(all="ignore"):
            shape = FUNCTIONS[name].numpy(t)
            columns = np.stack([shape, np.ones_like(t)][: 1 + constant], axis=1)
        if not np.isfinite(columns).all():
            continue
        (c, *d), *_ = np.linalg.lstsq(columns, samples.values, rcond=1e-13)
        symbolic = Symbolic(name, sign, -sign * samples.natural, float(c), float(sum(d)))
        misses = columns @ (c, *d) - samples.values
        error = float(np.sqrt(np.mean(samples.weights * misses**2)))
        price = FUNCTIONS[name].complexity - EDGE_CANDIDATES_OFFSET_COMPLEXITY * (not constant)
        rank = float(np.log10(error + floor)) + EDGE_CANDIDATES_COMPLEXITY_WEIGHT * price
        new = replace(curve, symbolic=symbolic, knots=None, coefficients=None, without_constant=not constant)
        yield Offer(new, error, rank)


def _natural_places(name: str, samples: Samples) -> tuple[float, ...]:
    return (-samples.natural,) if name in ("x", "x^2", "x^3", "x^4", "1/x", "1/x^2", "sqrt", "1/sqrt", "abs") else ()


def _compose(curve: Curve, composite: Composite) -> Offer:
    inner = [Sum((replace(curve, symbolic=symbolic, knots=None, coefficients=None),)) for symbolic in composite.inner]
    node = inner[0] if len(inner) == 1 else Product(tuple(inner))
    return Offer(Curve(node, composite.outer, without_constant=True), composite.error, composite.rank)


def _times_a_power(curve: Curve, samples: Samples, floor: float, library: tuple[str, ...]) -> Iterator[Offer]:
    """Offers z^p·f(g(z)), as in x^3/(e^x - 1)."""
    t = samples.z - samples.natural
    for name in POWERS:
        if name not in library or (t == 0).any():
            continue
        shape = FUNCTIONS[name].numpy(t)
        rest = replace(samples, values=samples.values / shape, weights=samples.weights * shape**2)
        factor = replace(curve, symbolic=Symbolic(name, 1.0, -samples.natural, 1.0, 0.0), knots=None, coefficients=None)
        first = Sum((replace(factor, without_constant=True),))
        price = EDGE_CANDIDATES_COMPLEXITY_WEIGHT * (FUNCTIONS[name].complexity + COMPOSITES_LAYER_COMPLEXITY)
        for composite in composites(rest, floor, library):
            composed = _compose(curve, composite)
            yield Offer(
                Curve(Product((first, Sum((composed.curve,)))), IDENTITY), composite.error, composite.rank + price
            )


def _plus_a_line(curve: Curve, samples: Samples, floor: float, library: tuple[str, ...]) -> list[Offer]:
    """Offers g(z) + s·z: functions that fit the residual of the best line are refitted together with the line."""
    shares = samples.weights / samples.weights.sum()
    u = samples.u - shares @ samples.u
    line = samples.values @ (shares * u) / (shares @ u**2)
    others = tuple(name for name in TIMES if name in library)
    best = []
    for candidate in candidates(replace(samples, values=samples.values - line * u), floor, others)[:3]:
        name, a, b = candidate.symbolic.function, candidate.symbolic.a, candidate.symbolic.b
        columns = np.stack([FUNCTIONS[name].numpy(a * samples.z + b), samples.z, np.ones_like(u)], axis=1)
        root = np.sqrt(samples.weights)[:, None]
        (c, slope, d), *_ = np.linalg.lstsq(root * columns, root[:, 0] * samples.values, rcond=1e-13)
        error = float(np.sqrt(np.mean(samples.weights * (columns @ (c, slope, d) - samples.values) ** 2)))
        terms = (Symbolic(name, a, b, float(c), float(d)), Symbolic("x", 1.0, 0.0, float(slope), 0.0))
        parts = tuple(replace(curve, symbolic=term, knots=None, coefficients=None) for term in terms)
        price = EDGE_CANDIDATES_COMPLEXITY_WEIGHT * (FUNCTIONS[name].complexity + 1 + COMPOSITES_LAYER_COMPLEXITY)
        best.append(Offer(Curve(Sum(parts), IDENTITY), error, float(np.log10(error + floor)) + price))
    return best
