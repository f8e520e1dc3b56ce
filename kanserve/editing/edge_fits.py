"""Fit one edge: the closest named function, and the closest spline to a named function."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kanserve.editing.session_data import SessionData
from kanserve.errors import InputError
from kanserve.network.edge_names import EdgeIndex, edge_names
from kanserve.network.evaluate import edge
from kanserve.network.functions import function as row_of
from kanserve.network.kan import Kan, Layer, Spline, Symbolic, Zero
from kanserve.network.splines import fit_coefficients, span, uniform_knots
from kanserve.simplification.activations import values
from kanserve.simplification.edge_candidates import Samples, candidates
from kanserve.simplification.sensitivity import samples
from kanserve.train.grids import regrid

Array = NDArray[np.float64]

EQUAL = 1e-4  # largest error of a spline that replaces a function, relative to the edge's range of values
ROUNDING = 1e-9  # error of such a spline that rounding explains, relative to the largest value
EDGE_FITS_MOST_INTERVALS = 64  # of a spline that replaces a function, or that a user asks for
POINTS = 8  # per coefficient of such a spline
MOST_NUMBERS = 1e7  # edge values of a layer on the rows that an edge is sampled from
FEWEST_ROWS = 200  # of such a sample, whatever MOST_NUMBERS says


@dataclass(frozen=True)
class Fit:
    """The closest fit of one named function to an edge, its R², and its rank (lower is better)."""

    symbolic: Symbolic
    r2: float
    rank: float


def require_alive(kan: Kan, place: EdgeIndex) -> None:
    """Raise InputError if the edge is zero."""
    depth, j, i = place
    if isinstance(kan.layers[depth].edge(j, i), Zero):
        raise InputError(f"The edge {edge_names(kan)[place]} is zero: it was never there, or was taken out.")


def points(kan: Kan, place: EdgeIndex, rows: SessionData) -> Samples:
    """The edge on the training rows, weighted by its effect on the outputs."""
    require_alive(kan, place)
    depth, j, i = place
    layer = kan.layers[depth]
    # Only edges with a spline are sampled, so a named function is replaced by a spline, and its own values put back.
    bent = kan if layer.spline_mask[j, i] else freed(kan, place, rows)
    largest = max(layer.subnodes * layer.inputs for layer in kan.layers)
    some = rows.judge.learn.sample(max(FEWEST_ROWS, int(MOST_NUMBERS / largest)), rows.seed)
    found = samples(bent, some.x, rows.judge.spread, place).get(place)
    if found is None:
        raise InputError(f"The edge {edge_names(kan)[place]} gives 0 on all of the rows; take it out with zero.")
    low, high = _reach(kan, place, rows)
    return replace(found, values=edge(layer, j, i, found.z), low=low, high=high)


def closest(found: Samples, function: str, error: float) -> Fit | None:
    """The closest c·f(a·u + b) + d to the points; None if all fits leave the domain of f, or all points coincide.
    `error` is the network's: fits with less than a tenth of it rank by the simplicity of the function."""
    row_of(function)
    if found.low == found.high:
        return None
    offered = candidates(found, 1e-9 + 0.1 * error, (function,))
    return None if not offered else Fit(offered[0].symbolic, _r2(offered[0].symbolic, found), offered[0].rank)


def _r2(symbolic: Symbolic, found: Samples) -> float:
    """The weighted R² of the function; for a constant edge, 1 if the function equals it, else 0."""
    missed = symbolic.c * row_of(symbolic.function).numpy(symbolic.a * found.z + symbolic.b) + symbolic.d - found.values
    variance = float(found.weights @ (found.values - np.average(found.values, weights=found.weights)) ** 2)
    lost = float(found.weights @ missed**2)
    return 1 - lost / variance if variance > 0 else float(lost == 0)


def freed(kan: Kan, place: EdgeIndex, rows: SessionData, intervals: int | None = None) -> Kan:
    """Replace an edge's named function by a spline, accurate to a ten-thousandth of its range of values. The layer's
    intervals are halved until the grid is fine enough, or reaches `intervals` or 64; its other splines stay the same
    functions. The range is that of the data, or of the input's other splines."""
    depth, j, i = place
    layer = kan.layers[depth]
    if isinstance(layer.edge(j, i), Spline):
        raise InputError(f"The edge {edge_names(kan)[place]} is a free spline already.")
    require_alive(kan, place)
    low, high = _reach(kan, place, rows)
    if low == high:
        low, high = low - max(1.0, abs(low)), high + max(1.0, abs(high))
    others = np.delete(layer.spline_mask[:, i], j).any()
    ends = span(layer.knots[i], layer.order) if others else (low, high)
    count = layer.intervals
    while True:
        finer = regrid(Kan((layer,)), None, count).layers[0]
        knots = finer.knots[i] if others else uniform_knots(*ends, count, layer.order)
        u = np.linspace(max(low, ends[0]), min(high, ends[1]), POINTS * (count + layer.order))
        wanted = edge(layer, j, i, u)
        u, wanted = u[np.isfinite(wanted)], wanted[np.isfinite(wanted)]
        if not len(u):
            raise InputError(f"The edge {edge_names(kan)[place]} is finite nowhere on the data.")
        changed = _with_spline(finer, j, i, knots, fit_coefficients(u, wanted, knots, layer.order))
        missed = np.abs(edge(changed, j, i, u) - wanted).max()
        enough = EQUAL * np.ptp(wanted) + ROUNDING * np.abs(wanted).max()
        good = missed <= enough if intervals is None else count >= intervals
        if good or 2 * count > max(EDGE_FITS_MOST_INTERVALS, layer.intervals):
            return replace(kan, layers=(*kan.layers[:depth], changed, *kan.layers[depth + 1 :]))
        count *= 2


def _reach(kan: Kan, place: EdgeIndex, rows: SessionData) -> tuple[float, float]:
    """The range of an edge's input on all rows on which the network is finite."""
    every = values(kan, rows.judge.x)
    v = every[place[0]][np.isfinite(every[-1]).all(axis=1), place[2]]
    if not len(v):
        raise InputError("The network is finite on none of the rows.")
    return float(v.min()), float(v.max())


def _with_spline(layer: Layer, j: int, i: int, knots: Array, coefficients: Array) -> Layer:
    every, own, weights = np.array(layer.knots), np.array(layer.coefficients), np.array(layer.base_weight)
    functions, affine = np.array(layer.functions), np.array(layer.affine)
    every[i], own[j, i], weights[j, i] = knots, coefficients, 0.0
    functions[j, i], affine[j, i] = "", (1.0, 0.0, 1.0, 0.0)
    return replace(layer, knots=every, coefficients=own, base_weight=weights, functions=functions, affine=affine)
