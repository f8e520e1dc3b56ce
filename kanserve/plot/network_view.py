"""The data for pictures of a network: shares of the signal, and for each edge its curve, its data and its knots."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from kanserve.network.edge_names import node_name, subnode_names
from kanserve.network.encoding import without_encoding
from kanserve.network.evaluate import Rows, activations, as_rows, edges
from kanserve.network.kan import Kan
from kanserve.network.signal_shares import signal_shares
from kanserve.network.training_range import finite_rows, has_range, ranges

Array = NDArray[np.float64]

CURVE_POINTS = 49
DENSITY_BINS = 24
MOST_VALUES = 10_000_000  # edge values that the samples are computed from
FEWEST_ROWS, MOST_ROWS = 60, 500  # of the training range
ROWS = 10_000  # of given samples


@dataclass(frozen=True, eq=False)
class EdgeView:
    """An edge for a picture: its names, state, curve and data in a unit square. `function`: "" for a free spline.
    `curve` (2, P): NaN if not finite. `density` (B,): samples along the axis, at most 1. `knots`: positions. `trained`:
    where training samples were, (0, 1) if everywhere or unknown."""

    layer: int
    subnode: int
    input: int
    source: str
    target: str
    function: str
    share: float
    curve: Array
    density: Array
    knots: Array
    trained: tuple[float, float]

    @property
    def label(self) -> str:
        return self.function or "s(x)"


class NetworkView:
    """A network evaluated on samples. `values` are the inputs (N, I) of each layer, `shares` those of the signal."""

    def __init__(self, kan: Kan, data: Rows | None = None) -> None:
        self.kan = kan
        rows = finite_rows(kan, sample_size(kan)) if data is None else as_rows(kan, data)
        size = MOST_VALUES // max(layer.subnodes * layer.inputs for layer in kan.layers)
        most = min(max(size, FEWEST_ROWS), ROWS)
        if len(rows) > most:
            rows = rows[np.linspace(0, len(rows) - 1, most).astype(int)]
        self.shares = signal_shares(kan, rows)
        with np.errstate(all="ignore"):
            values = activations(kan, rows)[:-1]
        finite = np.isfinite(values[-1]).all(axis=1)
        self.values: tuple[Array, ...] = tuple(v[finite] for v in values)
        self.alive = tuple(layer.alive for layer in kan.layers)
        self.snapped = tuple(layer.symbolic_mask for layer in kan.layers)

    @cached_property
    def limits(self) -> tuple[Array, ...]:
        """The smallest and largest value of each layer's inputs (2, I); never equal."""
        return tuple(limits_of(v) for v in self.values)

    @cached_property
    def curves(self) -> tuple[Array, ...]:
        """The curves of all edges of each layer (P, O, I), scaled to 0 to 1, over the range of their input."""
        made = []
        for layer, limits in zip(self.kan.layers, self.limits, strict=True):
            y = edges(layer, np.linspace(limits[0], limits[1], CURVE_POINTS))
            y[~np.isfinite(y)] = np.nan
            with np.errstate(all="ignore"):
                low, high = np.fmin.reduce(y), np.fmax.reduce(y)
                height = high - low
                made.append(np.where(height > 1e-12 * np.abs(high), (y - low) / height, np.where(np.isnan(y), y, 0.5)))
        return tuple(made)

    @cached_property
    def densities(self) -> tuple[Array, ...]:
        """The densities (B, I) of each layer's inputs along their range, at most 1."""
        return tuple(_density(v, limits) for v, limits in zip(self.values, self.limits, strict=True))

    @cached_property
    def trained(self) -> tuple[Array, NDArray[np.bool_]]:
        """The training range (I, 2) of each encoded input, and whether it is known."""
        kan = without_encoding(self.kan)
        return ranges(kan), has_range(kan)

    def edge(self, layer: int, j: int, i: int) -> EdgeView:
        own, (low, high) = self.kan.layers[layer], self.limits[layer][:, i]
        place = own.functions[j, i]
        spline = bool(own.spline_mask[j, i])
        inner = own.knots[i][own.order : len(own.knots[i]) - own.order] if spline else np.empty(0)
        knots = (inner - low) / (high - low)
        return EdgeView(
            layer=layer,
            subnode=j,
            input=i,
            source=node_name(self.kan, layer, i),
            target=self._targets[layer][j],
            function=f"{place}+s(x)" if place and spline else str(place),
            share=float(self.shares.edges[layer][j, i]),
            curve=np.stack([np.linspace(0, 1, CURVE_POINTS), self.curves[layer][:, j, i]]),
            density=self.densities[layer][:, i],
            knots=knots[(knots > -1e-9) & (knots < 1 + 1e-9)],
            trained=self._training_span(i) if layer == 0 else (0.0, 1.0),
        )

    def largest(self, count: int) -> list[list[tuple[int, int, int]]]:
        """The places of up to `count` edges with the largest shares, equally many of each layer if possible."""
        sizes = [int(alive.sum()) for alive in self.alive]
        quota, left = [0] * len(sizes), count
        for position, layer in enumerate(sorted(range(len(sizes)), key=sizes.__getitem__)):
            quota[layer] = min(sizes[layer], left // (len(sizes) - position))
            left -= quota[layer]
        found = []
        for layer, (shares, alive) in enumerate(zip(self.shares.edges, self.alive, strict=True)):
            order = np.argsort(-np.where(alive, shares, -1.0), axis=None, kind="stable")[: quota[layer]]
            found.append([(layer, int(j), int(i)) for j, i in zip(*np.unravel_index(order, alive.shape), strict=True)])
        return found

    def signal(self, places: list[tuple[int, int, int]]) -> float:
        """The share of the signal that passes through these edges, averaged over the layers."""
        return sum(float(self.shares.edges[layer][j, i]) for layer, j, i in places) / len(self.kan.layers)

    def input_range(self, i: int) -> tuple[float, float] | None:
        """The training range of an input in its own units, or of its categories' numbers; None if unknown."""
        spans, is_known = self.trained
        return (float(spans[i, 0]), float(spans[i, 1])) if is_known[i] else None

    def _training_span(self, i: int) -> tuple[float, float]:
        span = self.input_range(i)
        if span is None:
            return 0.0, 1.0
        ends = sorted((end - float(self.kan.input_shift[i])) / float(self.kan.input_scale[i]) for end in span)
        low, high = self.limits[0][:, i]
        first, last = ((end - low) / (high - low) for end in ends)
        return float(min(max(first, 0.0), 1.0)), float(max(min(last, 1.0), 0.0))

    @cached_property
    def _targets(self) -> tuple[tuple[str, ...], ...]:
        return tuple(subnode_names(self.kan, depth) for depth in range(len(self.kan.layers)))


def sample_size(kan: Kan) -> int:
    """How many samples to compute the shares with; fewer for a large network, where they suffice."""
    largest = max(layer.subnodes * layer.inputs for layer in kan.layers)
    return int(min(MOST_ROWS, max(FEWEST_ROWS, MOST_VALUES // 4 // largest)))


def limits_of(values: Array) -> Array:
    """The minimum and maximum (2, I) of values (N, I), moved apart if equal up to rounding."""
    if not len(values):
        return np.tile([[-1.0], [1.0]], (1, values.shape[1]))
    low, high = values.min(axis=0), values.max(axis=0)
    wide = high - low > 1e-12 * np.maximum(np.abs(low), np.abs(high))
    around = np.maximum(0.5, 1e-6 * np.abs(low))
    return np.stack([np.where(wide, low, low - around), np.where(wide, high, low + around)])


def _density(values: Array, limits: Array) -> Array:
    """Counts in bins, smoothed a little, at most 1."""
    rows, inputs = values.shape
    with np.errstate(all="ignore"):
        places = np.nan_to_num((values - limits[0]) / (limits[1] - limits[0]))  # NaN of a range that overflows
        bins = np.clip(places * DENSITY_BINS, 0, DENSITY_BINS - 1).astype(int)
    flat = bins + DENSITY_BINS * np.arange(inputs)
    counts = np.bincount(flat.ravel(), minlength=DENSITY_BINS * inputs).reshape(inputs, DENSITY_BINS).T.astype(float)
    padded = np.pad(counts, ((1, 1), (0, 0)), mode="edge")
    smooth = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
    result: Array = smooth / np.maximum(smooth.max(axis=0), 1e-12) if rows else smooth
    return result
