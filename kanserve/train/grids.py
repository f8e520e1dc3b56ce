"""Grid updates: set every layer's grids to the range of its inputs, or refine them, keeping the function.

On a grid that contains every old knot, the new spline equals the old one exactly. On any other grid it is the
least-squares fit to the old one at points spread over the new range. Layers change from first to last, each on the
outputs of the changed layers before it.

The first layer begins with even knots, or with closer ones where most values of an input are: the values of an income
or a count lie in a small part of their range, where an even grid has one interval for nearly all rows. Such an input
has its knots near the quantiles of its values; finer grids divide these intervals. Equal values count once: many zeros
need no fine grid there.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import comb

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kanserve.data.dataset import Dataset
from kanserve.errors import DataError, NetworkError
from kanserve.network import evaluate
from kanserve.network.encoding import encode
from kanserve.network.kan import Kan, Layer
from kanserve.network.splines import design, extend_knots, fit_coefficients, pieces, span, uniform_knots

Array = NDArray[np.float64]

PAD = 0.02  # of the width, added on either side of hidden ranges; the first layer's grid is exactly the data's range
NARROW = 1e-9  # a range narrower than this, relative to its values, is a constant
WIDE = 1e-6  # half-width of a constant's range, at least, relative to its value
POINTS = 4  # of the refit, per coefficient
AT_ONCE = 2**14  # rows: of 200,000 the edges of [10, 10, 1] alone would take 160 MB
RIDGE = 1e-22  # of the refit: just enough to solve it where a basis function of an uneven grid has no point
FIRST_ROWS = 20_000  # enough to place knots by
# Times the range of the middle nine tenths from which on an input has uneven knots: 1.1 for a uniform distribution, 2
# to 2.5 for a normal one, 2.4 to 3.5 for an exponential one, of 1000 to 20,000 rows.
CROWDED = 4.0
SHARE = 0.9  # of the quantiles in the knots; the rest is an even grid, which keeps them apart


def set_ranges(kan: Kan, x: ArrayLike, keep_first: bool = False) -> Kan:
    """Set every grid to the range of its input on raw rows x (N, inputs), except, with `keep_first`, the first layer's.
    Hidden ranges get 2 % more on either side; a constant input a half-width of 1, or a millionth of its value if that
    is more."""
    return _along(kan, x, None, keep_first)


def regrid(kan: Kan, x: ArrayLike | None, intervals: int, keep_first: bool = False) -> Kan:
    """Move the network to grids with this many intervals; ranges are set to rows x, or kept if x is None, and with
    `keep_first` kept for the first layer. Uneven grids stay as uneven; fewer intervals lose detail."""
    if intervals < 1:
        raise NetworkError(f"A grid needs at least one interval, got {intervals}.")
    if x is None:
        return replace(kan, layers=tuple(_move(layer, _spans(layer), intervals) for layer in kan.layers))
    return _along(kan, x, intervals, keep_first)


def with_interior_knots(layer: Layer, interiors: Sequence[Array], intervals: int) -> Layer:
    """The same function on grids with these interior knots, which contain the old ones, and this many intervals: if
    there are fewer, the widest are halved."""
    grids, coefficients = [], np.empty((layer.subnodes, layer.inputs, intervals + layer.order))
    for i, given in enumerate(interiors):
        interior = given.tolist()
        while len(interior) < intervals + 1:
            widest = int(np.argmax(np.diff(interior)))
            interior.insert(widest + 1, (interior[widest] + interior[widest + 1]) / 2)
        knots = extend_knots(np.array(interior), layer.order)
        same = len(knots) == layer.knots.shape[1] and np.array_equal(
            interior, layer.knots[i][layer.order : -layer.order]
        )
        knots = layer.knots[i] if same else knots
        coefficients[:, i] = layer.coefficients[:, i] if same else insert(layer, i, knots)
        grids.append(knots)
    return replace(layer, knots=np.stack(grids), coefficients=coefficients)


def _along(kan: Kan, x: ArrayLike, intervals: int | None, keep_first: bool) -> Kan:
    rows = evaluate.as_rows(kan, x)
    layers: list[Layer] = []
    with np.errstate(all="ignore"):
        v = (encode(kan, rows) - kan.input_shift) / kan.input_scale
        for index, layer in enumerate(kan.layers):
            v = v[np.isfinite(v).all(axis=1)]
            if len(v) == 0:
                raise DataError("Ranges need at least one row that the network is finite on; it is finite on none.")
            kept = keep_first and index == 0
            ranges = _spans(layer) if kept else _ranges(v, PAD if index else 0.0)
            layers.append(_move(layer, ranges, intervals or layer.intervals))
            if index < len(kan.layers) - 1:
                parts = np.split(v, range(AT_ONCE, len(v), AT_ONCE))
                v = np.concatenate([_after(layers[-1], part) for part in parts])
    return replace(kan, layers=tuple(layers))


def _after(layer: Layer, v: Array) -> Array:
    """The nodes (N, Q) of a layer at its inputs (N, I)."""
    return evaluate.nodes(layer, evaluate.subnodes(layer, evaluate.edges(layer, v)))


def _ranges(v: Array, pad: float) -> Array:
    """The range (I, 2) of each column of v (N, I): its minimum and maximum, widened by the fraction `pad`."""
    low, high = v.min(axis=0), v.max(axis=0)
    constant = high - low <= NARROW * np.maximum(np.abs(low), np.abs(high)) + np.finfo(np.float64).tiny
    margin = np.where(constant, np.maximum(1.0, WIDE * np.abs(low)), pad * (high - low))
    return np.stack([low - margin, high + margin], axis=1)


def _spans(layer: Layer) -> Array:
    return np.array([span(row, layer.order) for row in layer.knots])


def _move(layer: Layer, ranges: Array, intervals: int) -> Layer:
    """Refit the layer on grids over these ranges (I, 2)."""
    spans = _spans(layer)
    if intervals == layer.intervals and np.allclose(ranges, spans, rtol=1e-12, atol=0):
        return layer
    moved = [_move_input(layer, i, ranges[i], intervals) for i in range(layer.inputs)]
    coefficients = np.stack([pair[1] for pair in moved], axis=1)
    # An edge whose coefficients are all 0 stays at exactly 0, without rounding errors.
    coefficients = np.where((layer.coefficients != 0).any(axis=2)[:, :, None], coefficients, 0.0)
    return replace(layer, knots=np.stack([pair[0] for pair in moved]), coefficients=coefficients)


def _move_input(layer: Layer, i: int, wanted: Array, intervals: int) -> tuple[Array, Array]:
    """Knots of input i over the range `wanted` (2,), and its splines' refitted coefficients (O, intervals + k)."""
    old, order = layer.knots[i], layer.order
    low, high = span(old, order)
    start, end = float(wanted[0]), float(wanted[1])
    places = np.linspace(0, layer.intervals, intervals + 1)
    interior = np.interp(places, np.arange(layer.intervals + 1), old[order:-order])
    if np.allclose([start, end], [low, high], rtol=1e-12, atol=1e-12 * (high - low)):
        knots = extend_knots(interior, order)
        if intervals % layer.intervals == 0:
            return knots, insert(layer, i, knots)
    else:
        interior = start + (interior - low) / (high - low) * (end - start)
        interior[0], interior[-1] = start, end
        knots = extend_knots(interior, order)
    points = np.linspace(knots[order], knots[-order - 1], POINTS * (intervals + order))
    values = design(points, old, order, layer.extrapolation) @ layer.coefficients[:, i].T
    return knots, fit_coefficients(points, values, knots, order, RIDGE).T


def insert(layer: Layer, i: int, knots: Array) -> Array:
    """Insert knots: the coefficients (O, G+k) of input i's splines on a knot vector that contains all old knots. Each
    new coefficient is the blossom of a local polynomial (de Boor, A Practical Guide to Splines, 2001, chapter IX) at
    the inner knots of its basis function: Σ_r a_r·e_r(u_1, .., u_k) / C(k, r), with the polynomial's coefficients a_r
    and the elementary symmetric functions e_r."""
    order = layer.order
    count = len(knots) - order - 1
    low, high = span(layer.knots[i], order)
    # In units of the range: the third power of a width of 1e294 overflows.
    knots = (knots - low) / (high - low)
    old = (layer.knots[i] - low) / (high - low)
    local = pieces(old[None], layer.coefficients[:, i : i + 1], order, "linear")
    wide = np.array([n for n in range(order, count) if knots[n] < knots[n + 1]])
    coefficients = np.empty((layer.subnodes, count))
    for m in range(count):
        under = wide[np.abs(wide - m - order / 2).argmin()]
        middle = (knots[under] + knots[under + 1]) / 2
        piece = int(np.searchsorted(local.breaks[0], middle, side="right"))
        symmetric = np.zeros(order + 1)
        symmetric[0] = 1.0
        for u in knots[m + 1 : m + order + 1] - local.origins[0, piece]:
            symmetric[1:] += u * symmetric[:-1]
        shares = symmetric / [comb(order, r) for r in range(order + 1)]
        coefficients[:, m] = local.coefficients[:, 0, piece] @ shares
    return coefficients


def with_first_knots(kan: Kan, data: Dataset, intervals: int, seed: int) -> Kan:
    """Set the first layer's grids of a normalised network for these samples. Coefficients are placeholders, 1 or 0."""
    first = kan.layers[0]
    rows = data.sample(FIRST_ROWS, seed)
    even = uniform_knots(-1, 1, intervals, first.order)
    knots = np.tile(even, (first.inputs, 1))
    for i in range(first.inputs):
        values = (np.unique(rows.x[:, i]) - kan.input_shift[i]) / kan.input_scale[i]
        if is_crowded(values):
            knots[i] = _near_quantiles(values, intervals, first.order)
    coefficients = np.where(first.spline_mask[:, :, None], np.ones(intervals + first.order), 0.0)
    return replace(kan, layers=(replace(first, knots=knots, coefficients=coefficients), *kan.layers[1:]))


def is_crowded(values: Array) -> bool:
    """Whether the middle 90 % of the distinct values lie in a small part of their range."""
    low, high = np.quantile(values, [0.05, 0.95])
    return bool(np.ptp(values) > CROWDED * (high - low))


def _near_quantiles(values: Array, intervals: int, order: int) -> Array:
    places = np.linspace(0, 1, intervals + 1)
    even = np.linspace(-1, 1, intervals + 1)
    inner = SHARE * np.quantile(values, places) + (1 - SHARE) * even
    inner[0], inner[-1] = -1.0, 1.0  # the rows may be a sample
    return extend_knots(inner, order)
