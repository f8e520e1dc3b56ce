"""Find a law by its shape: try network shapes from small to large until one with a name on every curve is the law."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from kanserve.data.row_weights import root_mean_square
from kanserve.network.evaluate import evaluate
from kanserve.network.kan import Symbolic
from kanserve.search.fit.beam import BEAM_WIDTH, name_curves
from kanserve.search.fit.description_length import most_informative
from kanserve.search.fit.problem import Search, SearchProblem, is_exact, noise_alone, settles
from kanserve.search.fit.training import (
    OF_ONE_INPUT,
    SMOOTH_LAW,
    WAVY_LAW,
    WAVY_OF_ONE_INPUT,
    Array,
    FittedNetwork,
    Grid,
    SearchSamples,
    finer,
    judge,
    refine_network,
    train_tree,
)
from kanserve.search.regression.link_functions import Link
from kanserve.search.regression.surrogates import Surrogate, far_from_polynomial
from kanserve.search.trees.compose import scale
from kanserve.search.trees.nodes import Curve, Node, Sum, price, text
from kanserve.search.trees.shapes import Shape, levels, tree
from kanserve.search.trees.to_network import network, take_back

# Random starts of a shape without a curve of a node. On one seed, the prototype needed 1 to 3.
STARTS = 3
CURVE_STARTS = 6  # random starts of a shape with a curve of a node, which has local minima
# Error of a low-degree polynomial, relative to the outputs' spread, above which the law needs finer grids.
WAVY_ERROR = 0.1
# Held-out error on the coarse grid, relative to the spread, up to which a shape gets a finer grid.
PROMISING_ERROR = 2e-2
PROMISING_RATIO = 1.3  # the same limit relative to the best surrogate's error; the larger limit counts
# With one input, a training error, relative to the spread, below which a finer grid is tried in any case.
LEARNED_ERROR = 0.1
CERTAIN_ERROR = 1e-4  # held-out error, relative to the spread, below which a shape is named at once
CONVERGING_ERROR = 1e-2  # held-out error, relative to the spread, below which a converging shape is named
CLOSE_ERROR = 2e-3  # held-out error, relative to the spread, below which a shape need not converge
CONVERGING_RATIO = 0.4  # a shape converges if its error on the fine grid is below this times the coarse one's
TRIED_AFTER_LEVEL = 4  # number of uncertain shapes to name after each level, the simplest first
OTHER_LINKS = 2  # links to try besides the identity; with one input, all are tried
AS_GOOD_RATIO = 1.15  # among laws within this factor of the least held-out error, the information criterion decides

LOW_DEGREES = {1: 8, 2: 6, 3: 5}
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


def by_shapes(problem: SearchProblem, search: Search) -> FittedNetwork | None:
    """The first law that solves the problem, else the best one. An exact law ends the search at once; one that leaves
    only noise after its level, whose best law by the information criterion is taken."""
    rows = search.rows(problem)
    known = problem.surrogates
    least = known[0].error * float(np.sqrt(np.mean(problem.y**2))) / rows.spread
    promising = max(PROMISING_ERROR, PROMISING_RATIO * least)
    plan = _Plan(rows, _links(known, problem.inputs), promising, search)
    every: list[FittedNetwork] = []
    for number, level in enumerate(levels(problem.inputs)):
        settled: list[FittedNetwork] = []
        for found in plan.name_level(number, level):
            search.keep(found, problem)
            every.append(found)
            if settles(found, problem):
                if found.error < problem.exact:
                    return found
                settled.append(found)
        if settled:
            return most_informative(settled, problem, search)
        if search.over():
            break
    least = min((found.held for found in every), default=np.inf)
    as_good = [found for found in every if found.held <= AS_GOOD_RATIO * least]
    return most_informative(as_good, problem, search)


@dataclass(frozen=True, eq=False)
class _Plan:
    """Rows, the link functions to try, and the error below which a shape is fitted on a finer grid."""

    rows: SearchSamples
    links: Sequence[Link]
    promising: float
    search: Search

    def name_level(self, number: int, level: Sequence[Shape]) -> Iterator[FittedNetwork]:
        """Name the curves of the shapes that fit well: certain shapes at once, the others afterwards, best first."""
        waiting: list[_Promising] = []
        for shape in self._fitting(number, level):
            if shape.names is not None:
                yield from self._log_each(shape.names)
            elif shape.certain:
                yield from self._name_shapes([shape])
            else:
                waiting.append(shape)
        # Errors under different links are in different units: among equal shapes, the identity link goes first.
        waiting.sort(key=lambda shape: (price(shape.fitted.tree), shape.link.name != "identity", shape.fitted.held))
        yield from self._name_shapes(waiting[:TRIED_AFTER_LEVEL])

    def _fitting(self, number: int, level: Sequence[Shape]) -> Iterator["_Promising"]:
        """The shapes whose fitted splines may be right, for each link. With one input they are already named."""
        steps = []
        for place, link in enumerate(self.links):
            linked = self._apply_link(link)
            grid = _grid(linked)
            for column, shape in enumerate(level):
                if link.name == "identity" or shape[0] != "curve":
                    seed = (self.search.seed, number, place, column)
                    fit = partial(_fit_shape, shape, linked, grid, self.promising, seed)
                    steps.append(partial(_promising, fit, link, self.rows, linked, self.search.library))
        for taken in self.search.ahead(steps):
            if self.search.over():
                return
            fitted, promising = taken()
            if fitted is not None:
                self.search.log(f"  {text(fitted.fine.tree)} {fitted.coarse.held:.1e} {fitted.fine.held:.1e}")
            if promising is not None:
                yield promising

    def _name_shapes(self, shapes: Sequence["_Promising"]) -> Iterator[FittedNetwork]:
        """Named trees for these shapes, as laws of the outputs themselves."""
        steps = [
            partial(_names, shape, self.rows, self._apply_link(shape.link), self.search.library) for shape in shapes
        ]
        for taken in self.search.ahead(steps):
            if self.search.over():
                return
            yield from self._log_each(taken())

    def _log_each(self, names: Sequence[FittedNetwork]) -> Iterator[FittedNetwork]:
        for found in names:
            self.search.log(f"    -> {found.error:.1e} {text(found.tree)}")
            yield found

    def _apply_link(self, link: Link) -> SearchSamples:
        if link.name == "identity":
            return self.rows
        return replace(self.rows, y=link.forward(self.rows.y), held_y=link.forward(self.rows.held_y))


@dataclass(frozen=True, eq=False)
class _Promising:
    """A shape with splines fitted to the linked outputs. `noisy`: its residuals are only noise; `names`: its named
    trees, if they were looked for."""

    fitted: FittedNetwork
    link: Link
    noisy: bool
    names: list[FittedNetwork] | None = None

    @property
    def certain(self) -> bool:
        return self.fitted.held < CERTAIN_ERROR


@dataclass(frozen=True, eq=False)
class _Fitted:
    """A shape fitted on both grids, the fit that may be right, and whether its residuals are only noise."""

    coarse: FittedNetwork
    fine: FittedNetwork
    chosen: FittedNetwork | None
    noisy: bool


def _promising(
    fit: Callable[[], _Fitted | None], link: Link, rows: SearchSamples, linked: SearchSamples, library: tuple[str, ...]
) -> tuple[_Fitted | None, _Promising | None]:
    """Run a fit, and describe its shape if it may be right. A certain shape of one input is named at once."""
    fitted = fit()
    if fitted is None or fitted.chosen is None:
        return fitted, None
    promising = _Promising(fitted.chosen, link, fitted.noisy)
    if rows.x.shape[1] == 1 and promising.certain:
        promising = replace(promising, names=_names(promising, rows, linked, library))
    return fitted, promising


def _fit_shape(
    shape: Shape, rows: SearchSamples, grid: Grid, promising: float, place: tuple[int, ...]
) -> _Fitted | None:
    """Fit a shape's splines to the rows; None if a finer grid is not worth while. The random starts are seeded by the
    shape's `place`, so they do not depend on earlier fits."""
    coarse = train_tree(tree(shape), rows, grid[0], _starts(shape), promising, np.random.default_rng(place))
    if not _worth_refining(coarse, rows, promising):
        return None
    coarse = replace(coarse, net=take_back(coarse.net, coarse.net.kan))
    fine = finer(coarse, rows, grid[1])
    converging = fine.held < CONVERGING_ERROR and fine.held < CONVERGING_RATIO * coarse.held
    if converging or fine.held < CLOSE_ERROR or rows.x.shape[1] == 1:
        return _Fitted(coarse, fine, fine, noise_alone(fine, rows.x, rows.y, rows.weights))
    noisy = next((fit for fit in (coarse, fine) if noise_alone(fit, rows.x, rows.y, rows.weights)), None)
    return _Fitted(coarse, fine, noisy, noisy is not None)


def _worth_refining(coarse: FittedNetwork, rows: SearchSamples, promising: float) -> bool:
    """Whether to fit on a finer grid. With one input, a small training error or noisy residuals are enough: the
    held-out rows may miss waves."""
    if coarse.held <= promising:
        return True
    return rows.x.shape[1] == 1 and (coarse.error < LEARNED_ERROR or noise_alone(coarse, rows.x, rows.y, rows.weights))


def _names(
    shape: _Promising, rows: SearchSamples, linked: SearchSamples, library: tuple[str, ...]
) -> list[FittedNetwork]:
    """Name the curves of a shape. Returns laws of the outputs themselves, without the link."""
    laws = []
    every = name_curves(shape.fitted, linked, library, noisy=shape.noisy)
    for found in every[: BEAM_WIDTH if shape.noisy else 1]:
        found = replace(found, net=network(scale(found.tree, linked.scale), rows.x.shape[1]))
        laws.append(found if shape.link.name == "identity" else _of_outputs(found, shape.link, rows))
    return laws


def _of_outputs(law: FittedNetwork, link: Link, rows: SearchSamples) -> FittedNetwork:
    """Turn a law of link(y) into a law of y by applying the link's inverse; refit it unless exact. The error before
    refitting uses `link.inverse` on the law's values, since evaluating the converted formula may leave a domain by
    rounding, as in arcsin(n·sin t)."""
    net = network(apply_inverse_link(law.tree, link), rows.x.shape[1])

    def error(x: Array, y: Array, weights: Array | None) -> float:
        return root_mean_square(link.inverse(evaluate(law.net.kan, x)[:, 0]) - y, weights) / rows.spread

    with np.errstate(all="ignore"):
        held = error(rows.held_x, rows.held_y, rows.held_weights)
        found = FittedNetwork(net, error(rows.x, rows.y, rows.weights), held)
    if is_exact(found):
        return found
    return min(found, judge(refine_network(net, rows, 40), rows), key=lambda candidate: candidate.error)


def apply_inverse_link(node: Node, link: Link) -> Node:
    if link.name == "identity":
        return node
    return Sum((Curve(node, Symbolic(INVERSES[link.name], 1.0, 0.0, float(link.sign), 0.0)),))


def _starts(shape: Shape) -> int:
    """Curves of curves have local minima, so they get more random starts."""
    return CURVE_STARTS if "curve" in repr(shape) else STARTS


def _grid(rows: SearchSamples) -> Grid:
    """Use finer grids if the law has waves or sharp bends."""
    inputs = rows.x.shape[1]
    wavy = far_from_polynomial(rows.x, rows.y, LOW_DEGREES.get(inputs, 4)) > WAVY_ERROR * rows.spread
    if inputs == 1:
        return WAVY_OF_ONE_INPUT if wavy else OF_ONE_INPUT
    return WAVY_LAW if wavy else SMOOTH_LAW


def _links(known: Sequence[Surrogate], inputs: int) -> list[Link]:
    """The identity, and the two other links with the best polynomial fit; with one input, all links."""
    plain = next(surrogate for surrogate in known if surrogate.link.name == "identity")
    if inputs == 1:
        return [plain.link, *(surrogate.link for surrogate in known if surrogate.link.name != "identity")]
    others = [
        surrogate.link
        for surrogate in known
        if surrogate.link.name != "identity" and surrogate.error < 1.5 * plain.error + 1e-12
    ]
    return [plain.link, *others[:OTHER_LINKS]]
