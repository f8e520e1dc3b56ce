"""The edges from one input of a layer on small cells of its range, with proven bounds on each. On a cell centre ±
radius an edge is its value and slope at the centre, the rest of its spline as a polynomial, and an interval bound on
the second derivative of the base function and the named functions. Where that bound is infinite, as for √x at 0, bounds
of the values are used."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import ExportError
from kanserve.formula.expressions.intervals import Interval, intervals
from kanserve.network.evaluate import edge_slopes, edges, single_input
from kanserve.network.expression import PRIMITIVES, steps
from kanserve.network.functions import FUNCTIONS
from kanserve.network.layer import Layer
from kanserve.network.own_functions import by_values
from kanserve.network.splines import about, pieces

Array = NDArray[np.float64]

PARTS = 64  # of a range, on each of which the second derivatives of functions are bounded: 0.1 ms a part and function
KINKS = ("abs", "sign")  # primitives whose derivatives do not tell of their kink or jump at 0
CHOICES = ("where", "less", "less_equal", "minimum", "maximum")  # nor do these, of kinks anywhere


@dataclass(frozen=True, eq=False)
class Cells:
    """The edges to O subnodes on C cells of the input range."""

    centres: Array  # (C,)
    radii: Array  # (C,)
    values: Array  # (C, O), at the centres
    slopes: Array  # (C, O), at the centres
    polynomials: Array  # (O, C, k+1), of the splines about the centres
    bends: Array  # (C, O), bounds on the second derivative of what is no spline
    low: Array  # (C, O), bounds on the values
    high: Array  # (C, O)

    @cached_property
    def steepest(self) -> Array:
        """Bounds (O,) on the absolute slope."""
        bend = self.bends + _bend(self.polynomials, self.radii).T
        with np.errstate(invalid="ignore"):
            found = np.nan_to_num(np.abs(self.slopes) + self.radii[:, None] * bend, nan=np.inf, posinf=np.inf)
        return np.asarray(found.max(axis=0))

    def change(self, by: float) -> Array:
        """How far two values (O,) can be apart whose inputs, both in the range, differ by at most `by`."""
        by_slope = by * self.steepest
        if np.isfinite(by_slope).all():
            return np.asarray(np.minimum(by_slope, self.high.max(axis=0) - self.low.min(axis=0)))
        width = int(np.ceil(by / (2 * self.radii.min()))) + 1
        if width >= len(self.radii):
            return np.asarray(np.minimum(by_slope, self.high.max(axis=0) - self.low.min(axis=0)))
        highest = np.lib.stride_tricks.sliding_window_view(self.high, width, axis=0).max(axis=-1)
        lowest = np.lib.stride_tricks.sliding_window_view(self.low, width, axis=0).min(axis=-1)
        return np.asarray(np.minimum(by_slope, (highest - lowest).max(axis=0)))

    def error(self, polynomials: Array) -> Array:
        """Bounds (O,) on the error of cubic splines for the edges, as polynomials (O, C, 4) about the centres."""
        apart = self.polynomials - np.pad(polynomials, ((0, 0), (0, 0), (0, self.polynomials.shape[2] - 4)))
        powers = self.radii[:, None] ** np.arange(apart.shape[2])  # (C, k+1)
        rest = (
            np.einsum("ocm,cm->co", np.abs(apart[..., 2:]), powers[:, 2:]) + self.bends * self.radii[:, None] ** 2 / 2
        )
        at_centre = np.abs(self.values - polynomials[..., 0].T)
        smooth = at_centre + np.abs(self.slopes - polynomials[..., 1].T) * self.radii[:, None] + rest
        around = np.einsum("ocm,cm->co", np.abs(polynomials[..., 1:]), powers[:, 1:4])
        middle = polynomials[..., 0].T
        by_values = np.maximum(self.high - middle + around, middle + around - self.low)
        return np.asarray(np.minimum(np.nan_to_num(smooth, nan=np.inf, posinf=np.inf), by_values).max(axis=0))


def cells_of(layer: Layer, i: int, factors: Array, ends: Sequence[float] | Array) -> Cells:
    """The edges from input i, times factors (O,), on cells between these ends and the knots of the splines.

    Raises
    ------
    ExportError
        An edge has no finite values there, or a function that was registered by its values.
    """
    alone = single_input(layer, i)
    low, high = float(ends[0]), float(ends[-1])
    local = pieces(alone.knots, alone.coefficients, layer.order, layer.extrapolation)
    breaks = local.breaks[0][(local.breaks[0] > low) & (local.breaks[0] < high)]
    bounds = np.unique(np.concatenate([np.asarray(ends), breaks, np.linspace(low, high, PARTS + 1)]))
    centres, radii = (bounds[1:] + bounds[:-1]) / 2, np.diff(bounds) / 2
    values = factors * edges(alone, centres[:, None])[:, :, 0]
    slopes = factors * edge_slopes(alone, centres[:, None])[:, :, 0]
    piece = np.searchsorted(local.breaks[0], centres, side="right")
    moved = about(local.coefficients[:, :, piece], (centres - local.origins[0, piece])[None])[:, 0]
    polynomials = factors[:, None, None] * np.pad(moved, ((0, 0), (0, 0), (0, max(0, 3 - layer.order))))
    bends = np.abs(factors) * _function_bends(alone, bounds)
    with np.errstate(invalid="ignore"):
        bend = bends + _bend(polynomials, radii).T
        spread = np.abs(slopes) * radii[:, None] + bend * radii[:, None] ** 2 / 2
        lowest, highest = values - spread, values + spread
    for cell, j in np.argwhere(~np.isfinite(spread)):
        ends_of_cell = sorted(factors[j] * np.array(_values(alone, int(j), bounds[cell], bounds[cell + 1])))
        lowest[cell, j], highest[cell, j] = ends_of_cell
    unbounded = ~(np.isfinite(lowest) & np.isfinite(highest))
    if unbounded.any():
        j = int(np.argwhere(unbounded)[0, 1])
        name = str(alone.functions[j, 0]) or "spline"
        raise ExportError(
            f"The edge {name} from input {i + 1} to sum {j + 1} of its layer has no bound between {low:.6g} and "
            f"{high:.6g}, where its input may lie: integers cannot hold it. Export in float or double."
        )
    return Cells(
        centres,
        radii,
        values,
        np.nan_to_num(slopes, posinf=np.inf, neginf=-np.inf),
        polynomials,
        bends,
        lowest,
        highest,
    )


def _bend(polynomials: Array, radii: Array) -> Array:
    """Bounds (O, C) on the second derivatives of polynomials (O, C, k+1) about the centres of cells."""
    powers = np.arange(2, polynomials.shape[2])
    weights = powers * (powers - 1) * radii[:, None] ** (powers - 2)
    return np.asarray(np.einsum("ocm,cm->oc", np.abs(polynomials[..., 2:]), weights))


def _function_bends(layer: Layer, bounds: Array) -> Array:
    """Bounds (C, O) on the second derivative of the base and the named functions of a layer with one input."""
    parts = np.linspace(bounds[0], bounds[-1], PARTS + 1)
    centres = (bounds[1:] + bounds[:-1]) / 2
    part = np.clip(np.searchsorted(parts, centres, side="right") - 1, 0, PARTS - 1)
    found = np.zeros((PARTS, layer.subnodes))
    if layer.base == "silu" and layer.base_weight.any():
        silu = [_bend_of_function("silu", (low, high)) for low, high in pairwise(parts)]
        found += np.outer(silu, np.abs(layer.base_weight[:, 0]))
    for j in np.flatnonzero(layer.functions[:, 0] != ""):
        name, (a, b, c, _) = str(layer.functions[j, 0]), layer.affine[j, 0]
        if by_values(name):
            raise ExportError(
                f"The function {name!r} was registered by its values, so nothing bounds it between the rows of a table "
                "of integers. Register it as a formula, or export in float or double."
            )
        for number, (low, high) in enumerate(pairwise(parts)):
            argument = sorted((a * low + b, a * high + b))
            found[number, j] += abs(c) * a * a * _bend_of_function(name, (argument[0], argument[1]))
    return found[part]


def _bend_of_function(name: str, span: Interval) -> float:
    """A bound on the absolute second derivative of a named function; infinite if none is known."""
    calls = [step for step in _steps(name, 0) if step[0] == "call"]
    if any(step[1] in CHOICES for step in calls):
        return float("inf")
    if any(step[1] in KINKS for step in calls):
        found = intervals(_steps(name, 0), {}, [span])
        if any(found[step[2]][0] <= 0 <= found[step[2]][1] for step in calls if step[1] in KINKS):
            return float("inf")
    low, high = intervals(_steps(name, 2), {}, [span])[-1]
    bound = max(abs(low), abs(high))
    return float("inf") if np.isnan(bound) else float(bound)


@cache
def _steps(name: str, order: int) -> Any:
    function = FUNCTIONS[name]
    return steps(function.slope_expression(order) if order else function.expression, PRIMITIVES)


def _values(layer: Layer, j: int, low: float, high: float) -> Interval:
    """Bounds on the values of the edge to subnode j of a layer with one input, by interval arithmetic alone."""
    name, (a, b, c, d) = str(layer.functions[j, 0]), layer.affine[j, 0]
    bottom, top = intervals(_steps(name, 0), {}, [(min(a * low, a * high) + b, max(a * low, a * high) + b)])[-1]
    ends = sorted((c * bottom + d, c * top + d))
    if layer.spline_mask[j, 0]:  # a sum of both: the spline is bounded by its values at the ends and its slopes
        plain = Layer(**{**vars(layer), "functions": np.full_like(layer.functions, "")})
        spline = cells_of(plain, 0, np.ones(layer.subnodes), np.array([low, high]))
        ends = [ends[0] + spline.low[:, j].min(), ends[1] + spline.high[:, j].max()]
    return float(ends[0]), float(ends[1])
