"""Replace the curves of a fitted tree by named functions, the most certain first, with a joint refit after each. It is
a small beam search over a few functions for the two most certain curves, since two functions may look alike on one
curve until the joint refit."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from kanserve.search.fit.candidates import Offer, offers
from kanserve.search.fit.problem import is_exact
from kanserve.search.fit.training import FittedNetwork, SearchSamples, judge, refine_network
from kanserve.search.fit.workers import ahead
from kanserve.search.trees.nodes import Curve, Node, Product, Sum, exchange, is_symbolic, price, text
from kanserve.search.trees.to_network import network
from kanserve.simplification.edge_candidates import LIBRARY
from kanserve.simplification.sensitivity import samples

# States kept after each step, and laws kept of noisy rows. Prototype's value; greedy search lost 1 law of 30.
BEAM_WIDTH = 3
# Steps of the joint refit after each name. Prototype's value; a single step lost two laws of 30.
REFIT_STEPS = 12
LAST_STEPS = 60  # steps of the last refit, when every curve has a name
COMPLEXITY_WEIGHT = 0.012  # penalty for a unit of complexity, in powers of ten of the error
# The beam search stops if the errors of all unfinished states, relative to the spread, are above this.
HOPELESS_ERROR = 0.2
# Offers whose rank, in powers of ten of the error, is worse than the best by more than this are dropped.
CANDIDATES_RANK_MARGIN = 1.3

OFFERS = (5, 3)


@dataclass(frozen=True, eq=False)
class BeamState:
    fitted: FittedNetwork
    score: float


def name_curves(
    start: FittedNetwork, rows: SearchSamples, library: tuple[str, ...] = LIBRARY, *, noisy: bool = False
) -> list[FittedNetwork]:
    """Name every curve of a tree by beam search: the best few results, best first, or the exact one. `noisy`: the
    splines' error is noise in the rows rather than a coarse grid, so the splines are closer to the law than the rows
    are."""
    states = [BeamState(start, 0.0)]
    done: list[BeamState] = []
    while states:
        children: dict[str, BeamState] = {}
        splines = [_splines(state.fitted, rows, library, noisy) for state in states]
        offered = ahead([step for steps in splines for step in steps.values()])
        for state, steps in zip(states, splines, strict=True):
            grown = _children(state.fitted, {curve: next(offered)() for curve in steps})
            for taken in ahead([partial(_fit_state, tree, rows, REFIT_STEPS) for tree in grown]):
                child = taken()
                if child is None:
                    continue
                key = text(child.fitted.tree)
                if key not in children or child.score < children[key].score:
                    children[key] = child
                if is_symbolic(child.fitted.tree) and is_exact(child.fitted):
                    return [child.fitted]
        fittest = sorted(children.values(), key=lambda state: state.score)[:BEAM_WIDTH]
        done += [state for state in fittest if is_symbolic(state.fitted.tree)]
        states = [state for state in fittest if not is_symbolic(state.fitted.tree)]
        if states and min(state.fitted.error for state in states) > HOPELESS_ERROR:
            break
    last = [state for state in (_fit_state(state.fitted.tree, rows, LAST_STEPS) for state in done) if state is not None]
    return [state.fitted for state in sorted(last, key=lambda state: state.score)]


def _fit_state(tree: Node, rows: SearchSamples, steps: int) -> BeamState | None:
    net = network(tree, rows.x.shape[1], scale=rows.scale)
    candidate = judge(refine_network(net, rows, steps), rows)
    if not np.isfinite(candidate.error):
        return None
    return BeamState(candidate, float(np.log10(candidate.error + 1e-13)) + COMPLEXITY_WEIGHT * price(candidate.tree))


def _splines(
    fitted: FittedNetwork, rows: SearchSamples, library: tuple[str, ...], noisy: bool
) -> dict[Curve, Callable[[], list[Offer]]]:
    """For each curve without a name, a function that computes the offers for it."""
    found = {place: sample for place, sample in samples(fitted.net.kan, rows.x, np.array([rows.spread])).items()}
    floor = 1e-9 + 0.1 * fitted.error
    factors, traded = _lone_factors(fitted.tree)
    return {
        curve: partial(
            offers,
            curve,
            found[place],
            floor,
            library,
            factor=curve in factors,
            traded=curve in traded,
            deep=len(fitted.net.places) == 1,
            noisy=noisy,
        )
        for curve, place in fitted.net.places.items()
        if place in found and curve.symbolic is None
    }


def _children(fitted: FittedNetwork, offered: Mapping[Curve, list[Offer]]) -> Iterator[Node]:
    """Replace one curve by a named function: a few offers for the most certain curve, fewer for the second."""
    ranked = sorted((pair for pair in offered.items() if pair[1]), key=lambda pair: pair[1][0].rank)
    for (curve, curve_offers), count in zip(ranked, OFFERS, strict=False):
        best = curve_offers[0].rank
        for offer in curve_offers[:count]:
            if offer.rank <= best + CANDIDATES_RANK_MARGIN:
                yield exchange(fitted.tree, curve, offer.curve)


def _lone_factors(tree: Node) -> tuple[set[Curve], set[Curve]]:
    """The curves that stand alone as a factor of a product, and those of them whose product is a term of a sum."""
    factors: set[Curve] = set()
    traded: set[Curve] = set()
    waiting: list[tuple[Node, bool]] = [(tree, False)]
    while waiting:
        node, beside = waiting.pop()
        if isinstance(node, Product):
            lone = {factor.parts[0] for factor in node.factors if len(factor.parts) == 1}
            factors |= lone
            traded |= lone if beside else set()
        for node_sum in (node,) if isinstance(node, Sum) else node.factors:
            waiting += [
                (curve.of, len(node_sum.parts) > 1) for curve in node_sum.parts if not isinstance(curve.of, int)
            ]
    return factors, traded
