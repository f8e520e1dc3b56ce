"""Find a law by its shape: shapes in order of size, until one with a name on every curve settles the problem."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from kanserve.ir import Symbolic
from kanserve.reference import evaluate
from kanserve.search.beam import named
from kanserve.search.joining import scaled
from kanserve.search.levels import levels
from kanserve.search.links import Link
from kanserve.search.networks import network, taken_back
from kanserve.search.problem import Problem, Search, noise_alone, settles
from kanserve.search.shapes import Shape, tree
from kanserve.search.surrogates import Surrogate, surrogates
from kanserve.search.training import (
    EXACT,
    OF_ONE_INPUT,
    SMOOTH_LAW,
    WAVY_LAW,
    Array,
    Fitted,
    Grid,
    Rows,
    finer,
    judged,
    refined,
    trained,
)
from kanserve.search.trees import Curve, Node, Sum, curves, price, text

STARTS = 3
WAVY = 5e-2
"""Relative error of the best surrogate: above it the law has waves, or bends, that coarse grids cannot follow."""
PROMISING, NEAR = 2e-2, 1.3
SURE, CONVERGING, CLOSE = 1e-4, 1e-2, 2e-3
FALLING = 0.4
TRIED_AFTER_LEVEL = 4
OTHER_LINKS = 2
INVERSES = {
    "square": "sqrt",
    "sqrt": "x^2",
    "log": "exp",
    "reciprocal": "1/x",
    "reciprocal square": "1/sqrt",
    "sin": "arcsin",
    "tan": "arctan",
    "exp": "log",
    "asin": "sin",
    "atanh": "tanh",
}


def by_shapes(one: Problem, search: Search) -> Fitted | None:
    """The first law that settles the problem, else the best there is.

    A law that is exact ends the search at once, one that leaves only noise at the end of its level, when the simplest
    of those is known.
    """
    rows = search.rows(one)
    known = surrogates(one.x, one.y)
    least = known[0].error * float(np.sqrt(np.mean(one.y**2))) / rows.spread
    wavy = WAVY_LAW if known[0].error > WAVY else SMOOTH_LAW
    plan = _Plan(rows, _links(known), max(PROMISING, NEAR * least), OF_ONE_INPUT if one.inputs == 1 else wavy, search)
    best: Fitted | None = None
    for level in levels(one.inputs):
        settled: list[Fitted] = []
        for found in plan.named_of(level):
            search.keep(found, one)
            best = found if best is None or found.held < best.held else best
            if found.error < one.exact:
                return found
            if settles(found, one):
                settled.append(found)
        if settled:
            return min(settled, key=lambda each: information(each, len(one.x)))
        if search.over():
            break
    return best


@dataclass(frozen=True, eq=False)
class _Plan:
    """Rows, links to try, the error that makes a shape worth a finer grid, and the two grids."""

    rows: Rows
    links: Sequence[Link]
    promising: float
    grid: Grid
    search: Search

    def named_of(self, level: Sequence[Shape]) -> Iterator[Fitted]:
        """The shapes of a level that fit, with names: the sure ones at once, then the most promising."""
        waiting: list[tuple[Fitted, Link]] = []
        for fitted, link, sure in self._fitting(level):
            if sure:
                yield from self._named(fitted, link)
            else:
                waiting.append((fitted, link))
        for fitted, link in sorted(waiting, key=lambda pair: (price(pair[0].tree), pair[0].held))[:TRIED_AFTER_LEVEL]:
            if self.search.over():
                return
            yield from self._named(fitted, link)

    def _fitting(self, level: Sequence[Shape]) -> Iterator[tuple[Fitted, Link, bool]]:
        """Shapes with their splines fitted, and whether that is sure: those that may be right, through each link."""
        for link in self.links:
            rows = self._linked(link)
            for shape in level:
                if self.search.over():
                    return
                if link.name != "identity" and shape[0] == "curve":
                    continue
                coarse = trained(tree(shape), rows, self.grid[0], STARTS, self.search.generator)
                if coarse.held > self.promising:
                    continue
                coarse = replace(coarse, net=taken_back(coarse.net, coarse.net.kan))
                fine = finer(coarse, rows, self.grid[1])
                self.search.log(f"  {link.name} {text(fine.tree)} {coarse.held:.1e} {fine.held:.1e}")
                converging = fine.held < CONVERGING and fine.held < FALLING * coarse.held
                if converging or fine.held < CLOSE:
                    yield fine, link, fine.held < SURE
                    continue
                noisy = next((each for each in (coarse, fine) if noise_alone(each, rows.x, rows.y)), None)
                if noisy is not None:
                    yield noisy, link, False

    def _linked(self, link: Link) -> Rows:
        if link.name == "identity":
            return self.rows
        return replace(self.rows, y=link.forward(self.rows.y), held_y=link.forward(self.rows.held_y))

    def _named(self, fitted: Fitted, link: Link) -> Iterator[Fitted]:
        """The tree with names, of the answers themselves; nothing where there are none."""
        linked = self._linked(link)
        found = named(fitted, linked, self.search.library)
        if found is None:
            return
        self.search.log(f"    -> {found.error:.1e} {text(found.tree)}")
        found = replace(found, net=network(scaled(found.tree, linked.scale), self.rows.x.shape[1]))
        yield found if link.name == "identity" else self._of_answers(found, link)

    def _of_answers(self, one: Fitted, link: Link) -> Fitted:
        """The law of the answers from that of what the link makes of them, refitted where that is not exact.

        Judged by the link's own inverse: arcsin(n·sin t) may meet 1 + 1e-16.
        """
        rows = self.rows
        net = network(unlinked(one.tree, link), rows.x.shape[1])

        def error(x: Array, y: Array) -> float:
            given = link.inverse(evaluate(one.net.kan, x)[:, 0])
            return float(np.sqrt(np.mean((given - y) ** 2))) / rows.spread

        with np.errstate(all="ignore"):
            found = Fitted(net, error(rows.x, rows.y), error(rows.held_x, rows.held_y))
        if found.error < EXACT:
            return found
        return min(found, judged(refined(net, rows, 40), rows), key=lambda each: each.error)


def unlinked(node: Node, link: Link) -> Node:
    """link⁻¹ of a tree."""
    if link.name == "identity":
        return node
    return Sum((Curve(node, Symbolic(INVERSES[link.name], 1.0, 0.0, float(link.sign), 0.0)),))


def information(one: Fitted, rows: int) -> float:
    """How well a law describes so many rows for what it says: a Bayesian information criterion with its complexity."""
    constants = sum(2 + (curve.symbolic is None) for curve in curves(one.tree))
    return rows * float(np.log(one.error)) + 0.5 * float(np.log(rows)) * constants + price(one.tree)


def _links(known: Sequence[Surrogate]) -> list[Link]:
    """The identity and the two others through which a polynomial fits best."""
    plain = next(one for one in known if one.link.name == "identity")
    others = [one.link for one in known if one.link.name != "identity" and one.error < 1.5 * plain.error + 1e-12]
    return [plain.link, *others[:OTHER_LINKS]]
