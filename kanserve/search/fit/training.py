"""Fit the splines of a shape: several random starts on a few rows, the best of them on all rows, then on a finer grid.
On noise-free data the right shape has an error ten to a thousand times smaller than a wrong one, if one of the starts
converges."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kanserve.data.row_weights import deviation, root_mean_square
from kanserve.network.evaluate import edges, evaluate, nodes, subnodes
from kanserve.network.kan import Kan
from kanserve.network.splines import extend_knots, uniform_knots
from kanserve.search.regression import budget
from kanserve.search.trees.nodes import Node
from kanserve.search.trees.to_network import ORDER, Network, network, take_back
from kanserve.train.grids import regrid, set_ranges
from kanserve.train.lm.levenberg_marquardt import refine
from kanserve.train.lm.parameter_vector import Constant

Array = NDArray[np.float64]

Grid = tuple[int, int]

START_ROWS = 240  # rows for random starts, at most, unless the number of coefficients requires more
TRAINING_ROWS_PER_COEFFICIENT = 5  # rows per spline coefficient for random starts
START_STEPS = 8  # steps of a random start, before and again after its grids move
BEST_STEPS = 30  # steps of the best start on all training rows, twice, each after its grids move
FINE_STEPS = 40  # steps on the fine grid
SMOOTHING = 1e-8  # weight of the penalty on squared second differences of coefficients, on coarse grids
FINE_SMOOTHING = 1e-10  # the same on fine grids
START_NOISE = 0.15  # standard deviation of the noise in a random start's coefficients
# Distance of quantiles from an even grid, relative to the range, above which the knots move halfway there.
CROWDED_DISTANCE = 0.15
TRUSTED_SHARE = 0.97  # share of the held-out rows that count; the worst few measure how splines extrapolate
HOPELESS_ERROR_RATIO = 10.0  # error of the best start, relative to a promising error, above which a shape is given up
HELD_OUT_ROWS = 40  # samples of which some are held out; with fewer, formulas are validated by leave-one-out errors
"""Intervals of the coarse and of the fine grid."""
SMOOTH_LAW: Grid = 5, 12
WAVY_LAW: Grid = 12, 30
OF_ONE_INPUT: Grid = 20, 40
WAVY_OF_ONE_INPUT: Grid = 80, 160
FAR = 6.0, 60.0
"""Bounds of the ratio of an input's largest to its smallest value for geometric knots: it reaches far towards 0, but
not so far that this is by chance."""


@dataclass(frozen=True, eq=False)
class SearchSamples:
    """Inputs (N, d) and outputs (N,), split into training and held-out rows. Weights are None if all are equal."""

    x: Array
    y: Array
    held_x: Array
    held_y: Array
    weights: Array | None = None
    held_weights: Array | None = None

    @property
    def scale(self) -> float:
        return root_mean_square(self.y, self.weights) or 1.0

    @property
    def spread(self) -> float:
        return deviation(self.y, self.weights) or 1.0

    def first(self, count: int) -> "SearchSamples":
        """The first `count` training rows, and all held-out rows."""
        weights = None if self.weights is None else self.weights[:count]
        return replace(self, x=self.x[:count], y=self.y[:count], weights=weights)


def split(x: Array, y: Array, seed: int, weights: Array | None = None) -> SearchSamples:
    """Hold out a fifth of the rows at random, or none if there are few."""
    if len(x) < HELD_OUT_ROWS:
        return SearchSamples(x, y, x, y, weights, weights)
    order = np.random.default_rng(seed).permutation(len(x))
    held, learn = np.split(order, [len(x) // 5])
    own, others = (None, None) if weights is None else (weights[learn], weights[held])
    return SearchSamples(x[learn], y[learn], x[held], y[held], own, others)


@dataclass(frozen=True, eq=False)
class FittedNetwork:
    """A network fitted to rows, and its root mean square errors relative to the spread of the outputs."""

    net: Network
    error: float
    held: float
    sure: bool = True
    """Whether it is the law, if it leaves only noise; otherwise it may come close to it, and rivals are looked for."""
    rivals: tuple[Node, ...] = ()
    """Other laws that describe the rows nearly as well."""

    @property
    def tree(self) -> Node:
        return self.net.tree


def judge(net: Network, rows: SearchSamples) -> FittedNetwork:
    """Compute the errors of a network. The held-out error omits the worst rows, which tell how splines extrapolate."""
    error = _error(net.kan, rows)
    squares = _squares(net.kan, rows.held_x, rows.held_y)
    least = np.argsort(squares, kind="stable")[: max(1, int(len(squares) * TRUSTED_SHARE))]
    weights = None if rows.held_weights is None else rows.held_weights[least]
    held = float(np.sqrt(np.average(squares[least], weights=weights)))
    return FittedNetwork(net, error / rows.spread, held / rows.spread)


def _error(kan: Kan, rows: SearchSamples) -> float:
    return float(np.sqrt(np.average(_squares(kan, rows.x, rows.y), weights=rows.weights)))


def _squares(kan: Kan, x: Array, y: Array) -> Array:
    """The squared errors (N,), infinite where the network's output is not finite."""
    with np.errstate(all="ignore"):
        squares = (evaluate(kan, x)[:, 0] - y) ** 2
    return np.where(np.isfinite(squares), squares, np.inf)


def _refine_kan(
    kan: Kan,
    rows: SearchSamples,
    steps: int,
    smooth: float,
    ridge: float = 1e-12,
    fixed: frozenset[Constant] = frozenset(),
) -> Kan:
    weights = rows.weights
    return refine(kan, rows.x, rows.y, weights=weights, steps=steps, smooth=smooth, ridge=ridge, fixed=fixed)


def refine_network(net: Network, rows: SearchSamples, steps: int) -> Network:
    """Take `steps` least-squares steps on the training rows."""
    budget.count_fit()
    kan = _refine_kan(net.kan, rows, steps, 0.0, 1e-14, net.fixed)
    return take_back(net, kan)


def train_tree(
    tree: Node, rows: SearchSamples, intervals: int, starts: int, promising: float, generator: np.random.Generator
) -> FittedNetwork:
    """Fit the splines of a tree to the rows, and return the best of several random starts. If even the best start is
    far above a promising error, it stops with infinite errors."""
    net = network(tree, rows.x.shape[1], intervals, rows.scale)
    count = max(START_ROWS, TRAINING_ROWS_PER_COEFFICIENT * (intervals + ORDER) * len(net.places))
    few = rows.first(count)
    runs = []
    for _ in range(starts):
        budget.count_fit()
        kan = _random_start(net, few.x, generator)
        kan = _refine_kan(kan, few, START_STEPS, SMOOTHING)
        kan = _refine_kan(set_ranges(kan, few.x), few, START_STEPS, SMOOTHING)
        runs.append((_error(kan, few), kan))
    error, best = min(runs, key=lambda run: run[0])
    if error > HOPELESS_ERROR_RATIO * promising * rows.spread:
        return FittedNetwork(net, np.inf, np.inf)
    for _ in range(2):
        ranged = set_ranges(best, rows.x)
        best = _refine_kan(ranged, rows, BEST_STEPS, SMOOTHING)
    return judge(replace(net, kan=best), rows)


def finer(fitted: FittedNetwork, rows: SearchSamples, intervals: int) -> FittedNetwork:
    """Refit on a finer grid, and write the parameters back into the tree."""
    budget.count_fit()
    kan = regrid(fitted.net.kan, rows.x, intervals)
    kan = _refine_kan(kan, rows, FINE_STEPS, FINE_SMOOTHING, ridge=1e-14, fixed=fitted.net.fixed)
    return judge(take_back(fitted.net, kan), rows)


def _random_start(net: Network, x: Array, generator: np.random.Generator) -> Kan:
    """Random splines on grids over their inputs' ranges: lines, parabolas and mixtures, plus a constant in products."""
    layers = []
    v = x
    products = {place[:2] for place in _in_products(net)}
    for n, layer in enumerate(net.kan.layers):
        low, high = v.min(axis=0), v.max(axis=0)
        pad = 0.02 * (high - low) + 1e-9 * (np.abs(low) + np.abs(high)) + 1e-300
        intervals = layer.intervals
        if n == 0:
            knots = np.stack([_knots(v[:, i], intervals) for i in range(v.shape[1])])
        else:
            knots = np.stack(
                [uniform_knots(a - e, b + e, intervals, ORDER) for a, b, e in zip(low, high, pad, strict=True)]
            )
        coefficients = np.array(layer.coefficients)
        for j, i in np.argwhere(layer.spline_mask):
            coefficients[j, i] = _random_spline(intervals + ORDER, (n, j) in products, generator)
        layer = replace(layer, knots=knots, coefficients=coefficients)
        layers.append(layer)
        v = nodes(layer, subnodes(layer, edges(layer, v)))
    return replace(net.kan, layers=tuple(layers))


def _knots(values: Array, intervals: int) -> Array:
    """Uniform knots. They are averaged with quantiles if the values crowd at one end, as ratios do, or with geometric
    knots if they reach far towards 0, where 1/x bends most."""
    even = np.linspace(values.min(), values.max(), intervals + 1)
    width = even[-1] - even[0]
    if not width > 0:
        pad = 1e-9 * abs(even[0]) + 1e-300
        return uniform_knots(float(even[0] - pad), float(even[-1] + pad), intervals, ORDER)
    crowded = np.quantile(values, np.linspace(0, 1, intervals + 1))
    near, far = sorted(np.abs(even[[0, -1]]))
    if np.abs(crowded - even).max() > CROWDED_DISTANCE * width:
        even = (even + crowded) / 2
    elif even[0] * even[-1] > 0 and FAR[0] < far / near < FAR[1]:
        even = (even + even[0] * (even[-1] / even[0]) ** np.linspace(0, 1, intervals + 1)) / 2
    return extend_knots(even, ORDER)


def _random_spline(count: int, factor: bool, generator: np.random.Generator) -> Array:
    t = np.linspace(-1, 1, count)
    match generator.integers(4):
        case 0 | 1:
            line, bend = 1.0, 0.0
        case 2:
            line, bend = 0.0, 1.0
        case _:
            line, bend = generator.normal(size=2)
    scale = generator.uniform(0.5, 1.2) * generator.choice([-1.0, 1.0])
    values: Array = scale * (line * t + bend * (1.5 * t * t - 0.5)) + START_NOISE * generator.normal(size=count)
    if factor:
        values += generator.uniform(-1, 1) + (generator.random() < 0.4)
    return values


def _in_products(net: Network) -> list[tuple[int, int, int]]:
    places = []
    for n, j, i in net.places.values():
        layer = net.kan.layers[n]
        arity = np.repeat(layer.arity, layer.arity)
        if arity[j] > 1:
            places.append((n, j, i))
    return places
