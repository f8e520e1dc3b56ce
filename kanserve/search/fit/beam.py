"""Replace the curves of a fitted tree by named functions, the most certain first, with a joint refit after each.

This is a small beam search: each state has a few names for its two most certain curves. A greedy choice would fail
where two functions look alike on one curve and only the joint refit distinguishes them.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from kanserve.search.fit.candidates import Offer, offers
from kanserve.search.fit.training import FittedNetwork, SearchSamples, judged, refined
from kanserve.search.fit.workers import ahead
from kanserve.search.search_settings import SEARCH
from kanserve.search.trees.to_network import network
from kanserve.search.trees.trees import Curve, Node, Product, Sum, exchanged, is_symbolic, price, text
from kanserve.simplification.edge_candidates import LIBRARY
from kanserve.simplification.sensitivity import samples

OFFERS = (5, 3)


@dataclass(frozen=True, eq=False)
class BeamState:
    fitted: FittedNetwork
    score: float


def named(
    start: FittedNetwork, rows: SearchSamples, library: tuple[str, ...] = LIBRARY, *, noisy: bool = False
) -> list[FittedNetwork]:
    """The tree with a name on every curve: the best few that a beam search finds, best first, or the exact one.

    `noisy`: whether the error of the splines is the noise of the rows, not that of their grids, so that they are closer
    to the law than to the rows.
    """
    settings = SEARCH.get()
    states = [BeamState(start, 0.0)]
    done: list[BeamState] = []
    while states:
        children: dict[str, BeamState] = {}
        splines = [_splines(state.fitted, rows, library, noisy) for state in states]
        offered = ahead([step for steps in splines for step in steps.values()])
        for state, steps in zip(states, splines, strict=True):
            grown = _children(state.fitted, {curve: next(offered)() for curve in steps})
            for taken in ahead([partial(_fitted, tree, rows, settings.beam_refit_steps) for tree in grown]):
                child = taken()
                if child is None:
                    continue
                key = text(child.fitted.tree)
                if key not in children or child.score < children[key].score:
                    children[key] = child
                if is_symbolic(child.fitted.tree) and child.fitted.error < settings.training_exact_error:
                    return [child.fitted]
        fittest = sorted(children.values(), key=lambda state: state.score)[: settings.beam_width]
        done += [state for state in fittest if is_symbolic(state.fitted.tree)]
        states = [state for state in fittest if not is_symbolic(state.fitted.tree)]
        if states and min(state.fitted.error for state in states) > settings.beam_hopeless_error:
            break
    last = [
        state
        for state in (_fitted(state.fitted.tree, rows, settings.beam_last_steps) for state in done)
        if state is not None
    ]
    return [state.fitted for state in sorted(last, key=lambda state: state.score)]


def _fitted(tree: Node, rows: SearchSamples, steps: int) -> BeamState | None:
    net = network(tree, rows.x.shape[1], scale=rows.scale)
    candidate = judged(refined(net, rows, steps), rows)
    if not np.isfinite(candidate.error):
        return None
    return BeamState(
        candidate,
        float(np.log10(candidate.error + 1e-13)) + SEARCH.get().beam_complexity_weight * price(candidate.tree),
    )


def _splines(
    one: FittedNetwork, rows: SearchSamples, library: tuple[str, ...], noisy: bool
) -> dict[Curve, Callable[[], list[Offer]]]:
    """The curves without a name, with what gives the offers for each."""
    found = {place: sample for place, sample in samples(one.net.kan, rows.x, np.array([rows.spread])).items()}
    floor = 1e-9 + 0.1 * one.error
    factors, traded = _lone_factors(one.tree)
    return {
        curve: partial(
            offers,
            curve,
            found[place],
            floor,
            library,
            factor=curve in factors,
            traded=curve in traded,
            deep=len(one.net.places) == 1,
            noisy=noisy,
        )
        for curve, place in one.net.places.items()
        if place in found and curve.symbolic is None
    }


def _children(one: FittedNetwork, offered: Mapping[Curve, list[Offer]]) -> Iterator[Node]:
    """The trees with one more name: a few for the most certain curve, fewer for the second."""
    ranked = sorted((pair for pair in offered.items() if pair[1]), key=lambda pair: pair[1][0].rank)
    for (curve, curve_offers), count in zip(ranked, OFFERS, strict=False):
        best = curve_offers[0].rank
        for offer in curve_offers[:count]:
            if offer.rank <= best + SEARCH.get().candidates_rank_margin:
                yield exchanged(one.tree, curve, offer.curve)


def _lone_factors(tree: Node) -> tuple[set[Curve], set[Curve]]:
    """The curves that are factors of a product on their own, and those of them whose product is a term of a sum."""
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
