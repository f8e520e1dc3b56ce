"""Close knots where the targets jump along an input: even grids smooth a jump over a whole interval. At a jump the
mean residuals to the left and to the right differ as much in narrow windows as in wide ones; where a smooth curve is
underfitted, the difference shrinks with the window. A spline of order k may jump where k + 1 knots are close
together."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kanserve.data.dataset import Dataset
from kanserve.network.kan import Kan, Layer
from kanserve.train.constant_guard import scores
from kanserve.train.grids import regrid, with_interior_knots
from kanserve.train.losses import LossFunction

Array = NDArray[np.float64]

JUMPS_ROWS = 50_000  # enough to look for jumps
LEAST_WINDOW = 50  # rows on either side of a place; the windows double
MOST_WINDOW = 0.05  # share of the rows
# Standard errors by which the means on both sides differ: 4 to 5 is the largest of all places without a jump.
CERTAIN = 8.0
SHARP = 0.6  # of the difference in a window that is left in a quarter of it: 1 at a jump, a quarter of a smooth curve
OF_AN_INPUT = 5  # places that are looked at, at most
ROUNDING = 1e-12  # of the sum of squares: less is rounding
SHARE_BESIDE = 4000  # one of so many rows on either side of a jump is between its knots
LEAST_WIDTH = 1e-6  # of the range of an input, between the outermost of the knots at a jump
MOST_WIDTH = 1e-3


def with_jumps(kan: Kan, rows: Dataset, loss: LossFunction) -> Kan | None:
    """Insert knots where the residuals on these rows jump, without changing the function; None if they do not jump."""
    first = kan.layers[0]
    slopes, _ = loss.slopes(scores(kan, rows.x), loss.answers(kan, rows.y))
    if not np.isfinite(slopes).all():
        return None
    interiors = _interiors(first)
    found = False
    for i in np.flatnonzero(first.spline_mask.any(axis=0)):
        values = (rows.x[:, i] - kan.input_shift[i]) / kan.input_scale[i]
        for jump in jumps_of(values, slopes):
            interiors[i], found = _with_close_knots(interiors[i], jump, first.order), True
    if not found:
        return None
    wider = with_interior_knots(first, interiors, max(map(len, interiors)) - 1)
    return replace(kan, layers=(wider, *kan.layers[1:]))


def regrid_with_jumps(kan: Kan, intervals: int, more: int, x: Array | None = None) -> Kan:
    """Refine the grids with `regrid`, keeping the range of the first layer. That layer gets `more` extra intervals; if
    `more` is not 0, its knots do not move."""
    finer = regrid(kan, x, intervals, keep_first=True)
    if more == 0:
        return finer
    first = kan.layers[0]
    return replace(finer, layers=(with_interior_knots(first, _interiors(first), intervals + more), *finer.layers[1:]))


def jumps_of(values: Array, slopes: Array) -> Iterator[tuple[float, float]]:
    """Find where residuals (N, Q) jump along the values (N,) of an input. Yields the place and the width of the gap
    between the nearest rows, most certain first."""
    order = np.argsort(values, kind="stable")
    v, r = values[order], slopes[order] / np.maximum(np.abs(slopes).max(axis=0), np.finfo(np.float64).tiny)
    # Sums and sums of squares (N+1, Q) of the rows before each place
    none = np.zeros((1, r.shape[1]))
    sums, squares = (np.concatenate([none, power.cumsum(axis=0)]) for power in (r, r * r))
    between = np.concatenate([[False], v[1:] > v[:-1], [False]])
    certain, windows = np.zeros(len(sums)), np.zeros(len(sums), np.int64)
    window = LEAST_WINDOW
    while window <= MOST_WINDOW * len(v):
        inner = slice(window, len(sums) - window)
        found = _standard_errors(sums, squares, window).max(axis=1) * between[inner]
        better = window + np.flatnonzero(found > certain[inner])
        certain[better], windows[better] = found[better - window], window
        window *= 2
    beside = max(1, len(v) // SHARE_BESIDE)
    for _ in range(OF_AN_INPUT):
        place = int(certain.argmax())
        if certain[place] < CERTAIN:
            return
        window = int(windows[place])
        if _is_sharp(sums[place - window : place + window + 1]):
            width = v[min(place + beside, len(v)) - 1] - v[max(place - beside, 0)]
            yield float(v[place - 1] + v[place]) / 2, float(width)
        certain[max(place - window, 0) : place + window] = 0.0


def _standard_errors(sums: Array, squares: Array, window: int) -> Array:
    """The difference between the means of the rows before and after each place, in standard errors (.., Q)."""
    parts = sums[window:] - sums[:-window]
    within = squares[2 * window :] - squares[: -2 * window] - (parts[window:] ** 2 + parts[:-window] ** 2) / window
    least = np.maximum(ROUNDING * squares[-1], np.finfo(np.float64).tiny)
    return np.asarray(np.abs(_differences(sums, window)) / np.sqrt(np.maximum(within, least)))


def _differences(sums: Array, window: int) -> Array:
    """The sum (.., Q) of the `window` values after each place, minus the sum of those before it."""
    return np.asarray(sums[2 * window :] - 2 * sums[window : len(sums) - window] + sums[: -2 * window])


def _is_sharp(sums: Array) -> bool:
    """Whether the means on both sides of the middle differ in a quarter of these rows nearly as much as in all."""
    window = len(sums) // 2
    narrow = max(window // 4, 1)
    wide = _differences(sums, window)[0] / window
    close = _differences(sums[window - narrow : window + narrow + 1], narrow)[0] / narrow
    at = int(np.abs(wide).argmax())
    return bool(close[at] / wide[at] > SHARP)


def _with_close_knots(interior: Array, jump: tuple[float, float], order: int) -> Array:
    """Add order + 1 close knots at a jump to the interior knots."""
    place, gap = jump
    low, high = interior[0], interior[-1]
    width = float(np.clip(gap, LEAST_WIDTH * (high - low), MOST_WIDTH * (high - low)))
    close = [
        knot
        for knot in place + width * np.linspace(-0.5, 0.5, order + 1)
        if low < knot < high and np.abs(interior - knot).min() > width / 10
    ]
    return np.union1d(interior, close)


def _interiors(layer: Layer) -> list[Array]:
    return [knots[layer.order : -layer.order] for knots in layer.knots]
